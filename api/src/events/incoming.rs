//! CloudEvents that come in, checked and turned into events of the log.
//!
//! Attributes and their types: CloudEvents 1.0, <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>.

use super::attributes::{Attributes, check_json};
use super::condition::tag;
use crate::headers::rfc3339;
use crate::problem::Problem;
use annals_core::{CONTENT_TYPE_JSON, EVENT_ID_LEN_MAX, EventId, NewEvent, StreamId, TAGS_MAX, Tag, plain_error};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

/// Longest text of one attribute in bytes.
const TEXT_LEN_MAX: usize = 1024;
/// Most extensions that Annals does not know.
const EXTENSIONS_MAX: usize = 32;
/// Longest name of an extension in bytes.
const NAME_LEN_MAX: usize = 20;
/// Extensions that Annals writes by itself, with what to send instead.
const OWNED: [(&str, &str); 8] = [
    ("recordedtime", "the log sets it"),
    ("position", "the log sets it"),
    ("streamversion", "the log sets it; to expect one, send If-Match"),
    ("schemaversion", "the log sets it"),
    ("correlationid", "send the header Annals-Correlation-Id"),
    ("causationid", "send the header Annals-Causation-Id"),
    ("actor", "send the header Annals-Actor"),
    ("traceparent", "send the header traceparent"),
];

/// Reads the CloudEvents of a body: one object or, if `batch` allows it, an array of them.
pub(crate) fn read(body: &[u8], stream: &StreamId, shape: Shape) -> Result<Vec<NewEvent>, Problem> {
    let array = body.trim_ascii_start().first() == Some(&b'[');
    let malformed =
        |error: serde_json::Error| invalid(None, format!("the body cannot be read: {}", plain_error(&error)));
    let events = match (array, shape) {
        (true, Shape::Single) => {
            return Err(invalid(
                None,
                "an array is sent as application/cloudevents-batch+json".into(),
            ));
        }
        (false, Shape::Batch) => {
            return Err(invalid(
                None,
                "a batch is an array; a single event is sent as application/cloudevents+json".into(),
            ));
        }
        (true, _) => serde_json::from_slice::<Vec<Attributes<'_>>>(body).map_err(malformed)?,
        (false, _) => vec![serde_json::from_slice::<Attributes<'_>>(body).map_err(malformed)?],
    };
    if events.is_empty() {
        return Err(invalid(None, "the batch is empty: send at least one event".into()));
    }
    events
        .into_iter()
        .enumerate()
        .map(|(index, event)| one(event, stream).map_err(|detail| invalid(array.then_some(index), detail)))
        .collect()
}

/// What the content type says about the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Single,
    Batch,
    Either,
}

fn invalid(index: Option<usize>, detail: String) -> Problem {
    let problem = |detail| Problem::malformed("invalid-cloudevent", "Invalid CloudEvent", detail);
    match index {
        Some(index) => problem(format!("event {index} of the batch: {detail}")).with("index", index),
        None => problem(detail),
    }
}

/// An event that is being read.
struct Reading<'a> {
    event: NewEvent,
    specversion: Option<String>,
    content_type: Option<String>,
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

fn one(attributes: Attributes<'_>, stream: &StreamId) -> Result<NewEvent, String> {
    let mut reading = Reading {
        event: NewEvent::new("", Vec::new()),
        specversion: None,
        content_type: None,
        data: None,
        data_base64: None,
    };
    for (name, value) in attributes.0 {
        attribute(&mut reading, name, value, stream)?;
    }
    match reading.specversion.as_deref() {
        Some("1.0") => {}
        Some(other) => return Err(format!("specversion is {other:?}: only \"1.0\" is read")),
        None => return Err("specversion is missing: write \"specversion\":\"1.0\"".into()),
    }
    let (content_type, payload) = payload(reading.content_type, reading.data, reading.data_base64)?;
    let event = NewEvent {
        content_type: content_type.into(),
        payload,
        ..reading.event
    };
    match (&event.id, &event.source, event.event_type.as_ref()) {
        (None, ..) => Err("id is missing: give the event one, of at most 128 bytes".into()),
        (_, None, _) => Err("source is missing: name what the event comes from, as in \"/shop\"".into()),
        (.., "") => Err("type is missing: name what happened, as in \"OrderPlaced\"".into()),
        _ => Ok(event),
    }
}

fn attribute<'a>(
    reading: &mut Reading<'a>,
    name: String,
    value: &'a RawValue,
    stream: &StreamId,
) -> Result<(), String> {
    // CloudEvents: a member that is null is as if it were not there; data may be null.
    if value.get() == "null" && name != "data" {
        return Ok(());
    }
    let event = &mut reading.event;
    match name.as_str() {
        "specversion" => reading.specversion = Some(text(&name, value)?),
        "id" => {
            event.id =
                Some(EventId::parse(&bounded(&name, value, EVENT_ID_LEN_MAX)?).map_err(|error| error.to_string())?)
        }
        "source" => event.source = Some(text(&name, value)?),
        "type" => event.event_type = text(&name, value)?.into(),
        "subject" => {
            let subject = text(&name, value)?;
            if subject != stream.as_str() {
                return Err(format!(
                    "subject is {subject:?}, the stream is {stream}: leave it out or make it the same"
                ));
            }
        }
        "time" => {
            let time = text(&name, value)?;
            let time = rfc3339(&time).ok_or("time: write it as RFC 3339, as in 2017-10-02T10:56:33Z")?;
            event.occurred_at = Some(time);
        }
        "datacontenttype" => reading.content_type = Some(text(&name, value)?),
        "dataschema" => event.dataschema = Some(text(&name, value)?),
        "data" => reading.data = Some(value),
        "data_base64" => {
            let encoded = serde_json::from_str(value.get()).map_err(|_| "data_base64 is a text".to_owned())?;
            reading.data_base64 = Some(encoded);
        }
        "tags" => event.tags = tags(&text(&name, value)?)?,
        _ => extension(event, name, value)?,
    }
    Ok(())
}

fn text(name: &str, value: &RawValue) -> Result<String, String> {
    bounded(name, value, TEXT_LEN_MAX)
}

fn bounded(name: &str, value: &RawValue, len_max: usize) -> Result<String, String> {
    let text: String =
        serde_json::from_str(value.get()).map_err(|_| format!("{name} is a text: write it in quotes"))?;
    let valid = (1..=len_max).contains(&text.len()) && !text.chars().any(char::is_control);
    if valid {
        Ok(text)
    } else {
        Err(format!("{name} has 1 to {len_max} bytes without control characters"))
    }
}

fn tags(text: &str) -> Result<Vec<Tag>, String> {
    let tags: Vec<Tag> = text.split(',').map(|text| tag(text.trim())).collect::<Result<_, _>>()?;
    if tags.len() > TAGS_MAX {
        return Err(format!(
            "an event has at most {TAGS_MAX} tags, this one has {}",
            tags.len()
        ));
    }
    Ok(tags)
}

fn extension(event: &mut NewEvent, name: String, value: &RawValue) -> Result<(), String> {
    if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Err(format!("extension {name} belongs to Annals: leave it out, {instead}"));
    }
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !plain || !(1..=NAME_LEN_MAX).contains(&name.len()) {
        let shown: String = name.chars().take(80).collect();
        return Err(format!(
            "attribute {shown:?}: a name is 1 to {NAME_LEN_MAX} characters a-z and 0-9"
        ));
    }
    if event.extensions.len() == EXTENSIONS_MAX {
        return Err(format!(
            "an event has at most {EXTENSIONS_MAX} extensions: move the rest into data"
        ));
    }
    let raw = value.get();
    let simple = !raw.starts_with(['{', '[']) && raw.len() <= TEXT_LEN_MAX && check_json(value).is_ok();
    if !simple {
        return Err(format!(
            "extension {name} is a text, a number, true or false, of at most {TEXT_LEN_MAX} bytes"
        ));
    }
    event.extensions.push((name, raw.to_owned()));
    Ok(())
}

/// Content type and bytes of the payload. JSON is kept as it came.
fn payload(
    content_type: Option<String>,
    data: Option<&RawValue>,
    base64: Option<String>,
) -> Result<(String, Vec<u8>), String> {
    let content_type = content_type.unwrap_or_else(|| CONTENT_TYPE_JSON.to_owned());
    let json = is_json(&content_type);
    let payload = match (data, base64) {
        (Some(_), Some(_)) => return Err("data and data_base64 exclude each other: send one of them".into()),
        (None, None) => Vec::new(),
        (Some(data), None) if json => {
            check_json(data).map_err(|error| format!("data cannot be read: {error}"))?;
            data.get().as_bytes().to_vec()
        }
        (Some(data), None) => serde_json::from_str::<String>(data.get())
            .map_err(|_| format!("data of type {content_type} is a text, or bytes in data_base64"))?
            .into_bytes(),
        (None, Some(encoded)) => {
            let bytes = BASE64_STANDARD
                .decode(encoded)
                .map_err(|error| format!("data_base64: {error}"))?;
            if json {
                let raw: &RawValue =
                    serde_json::from_slice(&bytes).map_err(|error| format!("data_base64 is not JSON: {error}"))?;
                check_json(raw).map_err(|error| format!("data_base64 cannot be read: {error}"))?;
            }
            bytes
        }
    };
    if content_type.eq_ignore_ascii_case(annals_core::CONTENT_TYPE_MSGPACK) {
        let readable = payload.is_empty() || annals_core::to_json(&payload).is_some();
        return readable
            .then_some((content_type, payload))
            .ok_or_else(|| "data is not the MessagePack that datacontenttype says".into());
    }
    Ok((content_type, payload))
}

/// Whether a content type says JSON.
pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(CONTENT_TYPE_JSON) || essence.to_ascii_lowercase().ends_with("+json")
}

/// Whether a content type says text.
pub(super) fn is_text(content_type: &str) -> bool {
    content_type
        .trim_start()
        .get(..5)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("text/"))
}
