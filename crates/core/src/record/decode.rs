//! Reads headers back, borrowing every text from the bytes they are in. Malformed input is an error, never a panic.

use super::header::{CONTENT_TYPE_MSGPACK, EventIdRef, Fingerprint, HEADER_LEN_MAX, Header, PlaceInAppend};
use crate::Position;
use crate::event_id::TAGS_MAX;
use rmp::Marker;

/// Most extensions that one event may have.
pub const EXTENSIONS_MAX: usize = 64;

/// A record whose header cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record at position {position} is malformed: {detail}")]
pub struct MalformedRecord {
    /// Where the record stands; zero if that is not known.
    pub position: Position,
    /// What is wrong.
    pub detail: String,
}

impl MalformedRecord {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            position: Position::ZERO,
            detail: detail.into(),
        }
    }

    pub(super) fn at(mut self, position: Position) -> Self {
        self.position = position;
        self
    }
}

type Result<T> = std::result::Result<T, MalformedRecord>;

struct Cursor<'a> {
    rest: &'a [u8],
    /// How many fields were read.
    fields: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(MalformedRecord::new("the header ends too early")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| MalformedRecord::new("the header ends too early"))
    }

    fn marker(&mut self) -> Result<Marker> {
        Ok(Marker::from_u8(self.array::<1>()?[0]))
    }

    fn len(&mut self, expected: &str) -> Result<(Marker, usize)> {
        let marker = self.marker()?;
        // With each form the smallest length that does not fit into a shorter one.
        let (len, least) = match marker {
            Marker::FixStr(len) | Marker::FixArray(len) | Marker::FixMap(len) => (usize::from(len), 0),
            Marker::Bin8 => (usize::from(self.array::<1>()?[0]), 0),
            Marker::Str8 => (usize::from(self.array::<1>()?[0]), 32),
            Marker::Str16 | Marker::Bin16 => (usize::from(u16::from_be_bytes(self.array()?)), 256),
            Marker::Array16 | Marker::Map16 => (usize::from(u16::from_be_bytes(self.array()?)), 16),
            _ => return Err(MalformedRecord::new(format!("{expected} expected"))),
        };
        if len < least {
            return Err(MalformedRecord::new("a length that is not in its shortest form"));
        }
        Ok((marker, len))
    }

    /// Whether the next field has this name; it is then read.
    #[inline]
    fn field(&mut self, name: &[u8]) -> bool {
        match self.rest.strip_prefix(name) {
            Some(rest) => {
                self.rest = rest;
                self.fields += 1;
                true
            }
            None => false,
        }
    }

    #[inline]
    fn need(&mut self, name: &[u8]) -> Result<()> {
        if self.field(name) {
            return Ok(());
        }
        let name = String::from_utf8_lossy(name.get(1..).unwrap_or_default());
        Err(MalformedRecord::new(format!("field {name:?} expected")))
    }

    #[inline]
    fn optional_text(&mut self, name: &[u8]) -> Result<Option<&'a str>> {
        if self.field(name) {
            self.text().map(Some)
        } else {
            Ok(None)
        }
    }

    fn text(&mut self) -> Result<&'a str> {
        let (marker, len) = self.len("text")?;
        match marker {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 => self.utf8(len),
            _ => Err(MalformedRecord::new("text expected")),
        }
    }

    fn utf8(&mut self, len: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(len)?).map_err(|_| MalformedRecord::new("text that is not UTF-8"))
    }

    fn list(&mut self, max: usize) -> Result<usize> {
        match self.len("array")? {
            (Marker::FixArray(_) | Marker::Array16, len) if (1..=max).contains(&len) => Ok(len),
            _ => Err(MalformedRecord::new(format!("an array of 1 to {max} expected"))),
        }
    }

    fn map(&mut self, max: usize) -> Result<usize> {
        match self.len("map")? {
            (Marker::FixMap(_) | Marker::Map16, len) if (1..=max).contains(&len) => Ok(len),
            _ => Err(MalformedRecord::new(format!("a map of 1 to {max} expected"))),
        }
    }

    fn signed(&mut self) -> Result<i64> {
        // With each form the numbers that do not fit into a shorter one; negative ones have forms of their own.
        let (number, shortest) = match self.marker()? {
            Marker::FixPos(number) => (i64::from(number), true),
            Marker::FixNeg(number) => (i64::from(number), true),
            Marker::U8 => wide(u64::from(self.array::<1>()?[0]), 127)?,
            Marker::U16 => wide(u64::from(u16::from_be_bytes(self.array()?)), u8::MAX.into())?,
            Marker::U32 => wide(u64::from(u32::from_be_bytes(self.array()?)), u16::MAX.into())?,
            Marker::U64 => wide(u64::from_be_bytes(self.array()?), u32::MAX.into())?,
            Marker::I8 => below(i64::from(i8::from_be_bytes(self.array()?)), -32),
            Marker::I16 => below(i64::from(i16::from_be_bytes(self.array()?)), i8::MIN.into()),
            Marker::I32 => below(i64::from(i32::from_be_bytes(self.array()?)), i16::MIN.into()),
            Marker::I64 => below(i64::from_be_bytes(self.array()?), i32::MIN.into()),
            _ => return Err(MalformedRecord::new("a number expected")),
        };
        if !shortest {
            return Err(MalformedRecord::new("a number that is not in its shortest form"));
        }
        Ok(number)
    }

    fn unsigned(&mut self) -> Result<u64> {
        u64::try_from(self.signed()?).map_err(|_| MalformedRecord::new("a negative number"))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.signed()?).map_err(|_| MalformedRecord::new("a number out of range"))
    }

    fn id(&mut self) -> Result<EventIdRef<'a>> {
        match self.len("id")? {
            (Marker::FixStr(_) | Marker::Str8 | Marker::Str16, len) => self.utf8(len).map(EventIdRef::Text),
            (Marker::Bin8, 16) => self.array().map(EventIdRef::Uuid),
            _ => Err(MalformedRecord::new("an id is 16 bytes or text")),
        }
    }

    fn fingerprint(&mut self) -> Result<Fingerprint> {
        match self.len("fingerprint")? {
            (Marker::Bin8, 16) => self.array(),
            _ => Err(MalformedRecord::new("a fingerprint is 16 bytes")),
        }
    }
}

/// A number from a form for numbers above `shorter`, and whether it needs that form.
fn wide(number: u64, shorter: u64) -> Result<(i64, bool)> {
    let signed = i64::try_from(number).map_err(|_| MalformedRecord::new("a number out of range"))?;
    Ok((signed, number > shorter))
}

/// A number from a form for numbers below `shorter`, and whether it needs that form.
fn below(number: i64, shorter: i64) -> (i64, bool) {
    (number, number < shorter)
}

/// The name of a field as it stands in the bytes: a MessagePack text of less than 32 bytes.
macro_rules! name {
    ($name:literal) => {{
        const NAME: &[u8] = $name.as_bytes();
        const BYTES: [u8; NAME.len() + 1] = {
            let mut bytes = [0xa0 | NAME.len() as u8; NAME.len() + 1];
            let mut at = 0;
            while at < NAME.len() {
                bytes[at + 1] = NAME[at];
                at += 1;
            }
            bytes
        };
        &BYTES
    }};
}

impl<'a> Header<'a> {
    /// Decodes canonical header bytes; the error names what is wrong. Only the canonical order is read: bytes that could
    /// be written in two ways could be hashed in two ways.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > HEADER_LEN_MAX {
            return Err(MalformedRecord::new(format!(
                "a header of {} bytes, at most {HEADER_LEN_MAX}",
                bytes.len()
            )));
        }
        let mut cursor = Cursor { rest: bytes, fields: 0 };
        let fields = cursor.map(32)?;
        let mut header = Header::new("", 0, EventIdRef::Text(""), "", 0);
        header.read_always(&mut cursor)?;
        header.read_optional(&mut cursor)?;
        header.read_rest(&mut cursor)?;
        if !cursor.rest.is_empty() || cursor.fields != fields {
            let (read, next) = (cursor.fields, cursor.text().unwrap_or_default().to_owned());
            let detail = format!("{fields} fields announced, {read} read, then {next:?}: unknown or out of order");
            return Err(MalformedRecord::new(detail));
        }
        if header.stream.is_empty() || header.version == 0 || header.event_type.is_empty() {
            return Err(MalformedRecord::new("stream, version or type is empty"));
        }
        Ok(header)
    }

    fn read_always(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        cursor.need(name!("stream"))?;
        self.stream = cursor.text()?;
        cursor.need(name!("version"))?;
        self.version = cursor.unsigned()?;
        cursor.need(name!("id"))?;
        self.id = cursor.id()?;
        cursor.need(name!("type"))?;
        self.event_type = cursor.text()?;
        cursor.need(name!("schema"))?;
        self.schema = cursor.small()?;
        cursor.need(name!("recorded"))?;
        self.recorded = cursor.signed()?;
        Ok(())
    }

    fn read_optional(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        if cursor.field(name!("occurred")) {
            self.occurred = Some(cursor.signed()?);
        }
        if cursor.field(name!("tags")) {
            let count = cursor.list(TAGS_MAX)?;
            self.tags = (0..count).map(|_| cursor.text()).collect::<Result<_>>()?;
        }
        self.correlation = cursor.optional_text(name!("correlation"))?;
        self.causation = cursor.optional_text(name!("causation"))?;
        self.actor = cursor.optional_text(name!("actor"))?;
        self.key = cursor.optional_text(name!("key"))?;
        if cursor.field(name!("fingerprint")) {
            self.fingerprint = Some(cursor.fingerprint()?);
        }
        self.traceparent = cursor.optional_text(name!("traceparent"))?;
        Ok(())
    }

    fn read_rest(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        if cursor.field(name!("place")) {
            let numbers = cursor.list(2)?;
            let (index, count) = (cursor.small()?, cursor.small()?);
            self.place = PlaceInAppend { index, count };
            if numbers != 2 || count < 2 || !(1..=count).contains(&index) {
                return Err(MalformedRecord::new(format!(
                    "{index} of {count} is no place in an append"
                )));
            }
        }
        let content_type = cursor.optional_text(name!("content"))?;
        if content_type == Some(CONTENT_TYPE_MSGPACK) {
            return Err(MalformedRecord::new("a content type that is not written"));
        }
        self.content_type = content_type.unwrap_or(CONTENT_TYPE_MSGPACK);
        self.source = cursor.optional_text(name!("source"))?;
        self.dataschema = cursor.optional_text(name!("dataschema"))?;
        if cursor.field(name!("extensions")) {
            let count = cursor.map(EXTENSIONS_MAX)?;
            self.extensions = (0..count)
                .map(|_| Ok((cursor.text()?, cursor.text()?)))
                .collect::<Result<_>>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Header<'static> {
        let mut header = Header::new(
            "orders/ord-1",
            3,
            EventIdRef::Uuid([7; 16]),
            "OrderPlaced",
            1_700_000_000_000_000,
        );
        header.occurred = Some(-5);
        header.tags = vec!["order=ord-1", "email=a@b"];
        header.correlation = Some("c");
        header.causation = Some("d");
        header.actor = Some("ann");
        header.key = Some("k-1");
        header.fingerprint = Some([9; 16]);
        header.traceparent = Some("00-0-0-00");
        header.place = PlaceInAppend { index: 2, count: 3 };
        header.content_type = "application/json";
        header.source = Some("shop");
        header.dataschema = Some("urn:x");
        header.extensions = vec![("severity", "3")];
        header
    }

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        for header in [full(), Header::new("a/b", 1, EventIdRef::Text("x"), "T", 0)] {
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            assert_eq!(Header::decode(&bytes).unwrap(), header);
        }
    }

    #[test]
    fn a_header_that_is_cut_or_altered_is_refused_or_is_canonical() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert!(Header::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                if let Ok(header) = Header::decode(&altered) {
                    let mut again = Vec::new();
                    header.encode(&mut again);
                    assert_eq!(again, altered, "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_header_that_could_be_written_shorter_is_refused() {
        let mut bytes = Vec::new();
        Header::new("a/b", 5, EventIdRef::Text("x"), "T", -3).encode(&mut bytes);
        let with = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            [&bytes[..at], to, &bytes[at + from.len()..]].concat()
        };
        let longer = [
            with(b"version\x05", b"version\xcc\x05"),
            with(b"version\x05", b"version\xcd\x00\x05"),
            with(b"version\x05", b"version\xcf\0\0\0\0\0\0\0\x05"),
            with(b"recorded\xfd", b"recorded\xd0\xfd"),
            with(b"recorded\xfd", b"recorded\xd1\xff\xfd"),
            with(b"\xa3a/b", b"\xd9\x03a/b"),
            with(b"\x86\xa6stream", b"\xde\x00\x06\xa6stream"),
        ];
        for (number, longer) in longer.iter().enumerate() {
            assert!(Header::decode(longer).is_err(), "form {number}");
        }
        let mut more = bytes.clone();
        more[0] += 1;
        for absent in [
            &b"\xa4tags\x90"[..],
            b"\xa5place\x92\x01\x01",
            b"\xa5place\x92\x03\x02",
            b"\xa5place\x92\x00\x02",
            b"\xa7content\xb3application/msgpack",
            b"\xaaextensions\x80",
        ] {
            let header = [&more[..], absent].concat();
            assert!(Header::decode(&header).is_err(), "{}", String::from_utf8_lossy(absent));
        }
        assert!(Header::decode(&[&more[..], b"\xa5place\x92\x02\x02"].concat()).is_ok());
    }
}
