//! Writes canonical headers: fixed order of fields, shortest form of numbers, what is absent is not written.

use super::header::{CONTENT_TYPE_MSGPACK, EventIdRef, Header, PlaceInAppend};
use rmp::encode as mp;

impl Header<'_> {
    /// Appends the canonical bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Writing into a Vec cannot fail: its error type has no values that can be reached.
        let _ = self.write(out);
    }

    fn fields(&self) -> u32 {
        let optional = [
            self.occurred.is_some(),
            !self.tags.is_empty(),
            self.correlation.is_some(),
            self.causation.is_some(),
            self.actor.is_some(),
            self.key.is_some(),
            self.fingerprint.is_some(),
            self.traceparent.is_some(),
            self.place != PlaceInAppend::ONLY,
            self.content_type != CONTENT_TYPE_MSGPACK,
            self.source.is_some(),
            self.dataschema.is_some(),
            !self.extensions.is_empty(),
        ];
        6 + optional.iter().filter(|present| **present).count() as u32
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), mp::ValueWriteError<std::io::Error>> {
        mp::write_map_len(out, self.fields())?;
        text(out, "stream", Some(self.stream))?;
        mp::write_str(out, "version")?;
        mp::write_uint(out, self.version)?;
        mp::write_str(out, "id")?;
        match self.id {
            EventIdRef::Uuid(bytes) => mp::write_bin(out, &bytes)?,
            EventIdRef::Text(id) => mp::write_str(out, id)?,
        }
        text(out, "type", Some(self.event_type))?;
        mp::write_str(out, "schema")?;
        mp::write_uint(out, u64::from(self.schema))?;
        mp::write_str(out, "recorded")?;
        mp::write_sint(out, self.recorded)?;
        if let Some(occurred) = self.occurred {
            mp::write_str(out, "occurred")?;
            mp::write_sint(out, occurred)?;
        }
        if !self.tags.is_empty() {
            mp::write_str(out, "tags")?;
            mp::write_array_len(out, self.tags.len() as u32)?;
            self.tags.iter().try_for_each(|tag| mp::write_str(out, tag))?;
        }
        text(out, "correlation", self.correlation)?;
        text(out, "causation", self.causation)?;
        text(out, "actor", self.actor)?;
        text(out, "key", self.key)?;
        if let Some(fingerprint) = self.fingerprint {
            mp::write_str(out, "fingerprint")?;
            mp::write_bin(out, &fingerprint)?;
        }
        text(out, "traceparent", self.traceparent)?;
        self.write_rest(out)
    }

    fn write_rest(&self, out: &mut Vec<u8>) -> Result<(), mp::ValueWriteError<std::io::Error>> {
        if self.place != PlaceInAppend::ONLY {
            mp::write_str(out, "place")?;
            mp::write_array_len(out, 2)?;
            mp::write_uint(out, u64::from(self.place.index))?;
            mp::write_uint(out, u64::from(self.place.count))?;
        }
        if self.content_type != CONTENT_TYPE_MSGPACK {
            text(out, "content", Some(self.content_type))?;
        }
        text(out, "source", self.source)?;
        text(out, "dataschema", self.dataschema)?;
        if !self.extensions.is_empty() {
            mp::write_str(out, "extensions")?;
            mp::write_map_len(out, self.extensions.len() as u32)?;
            for (name, value) in &self.extensions {
                text(out, name, Some(value))?;
            }
        }
        Ok(())
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: Option<&str>) -> Result<(), mp::ValueWriteError<std::io::Error>> {
    if let Some(value) = value {
        mp::write_str(out, name)?;
        mp::write_str(out, value)?;
    }
    Ok(())
}
