//! Recorded events in the form the outside sees: CloudEvents 1.0 JSON (<https://github.com/cloudevents/spec>).

use crate::record::{CONTENT_TYPE_MSGPACK, RecordRef, is_json, is_text, payload_to_json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// A CloudEvent as a JSON object.
pub type CloudEventView = Map<String, Value>;

/// The record as a CloudEvent of the log `log_name`. Typed payloads are shown as JSON.
pub fn cloud_event(log_name: &str, record: &RecordRef<'_>) -> CloudEventView {
    let header = &record.header;
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| event.insert(name.to_owned(), value);
    put("specversion", json!("1.0"));
    put("id", json!(header.id.to_string()));
    put(
        "source",
        header
            .source
            .map_or_else(|| json!(format!("annals/{log_name}")), |source| json!(source)),
    );
    put("type", json!(header.event_type));
    put("subject", json!(header.stream));
    put("time", json!(rfc3339(record.occurred_at())));
    put("recordedtime", json!(rfc3339(record.recorded_at())));
    put("position", json!(record.position.to_string()));
    put("streamversion", json!(header.version.to_string()));
    put("schemaversion", json!(header.schema.to_string()));
    put("correlationid", json!(record.correlation_id()));
    let texts = [
        ("causationid", header.causation),
        ("actor", Some(header.actor.unwrap_or("anonymous"))),
        ("traceparent", header.traceparent),
        ("dataschema", header.dataschema),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    if !header.tags.is_empty() {
        put("tags", json!(header.tags.join(",")));
    }
    for (name, value) in &header.extensions {
        put(name, serde_json::from_str(value).unwrap_or_else(|_| json!(value)));
    }
    put_data(&mut event, record);
    event
}

fn put_data(event: &mut CloudEventView, record: &RecordRef<'_>) {
    let content_type = record.header.content_type;
    let shown = if content_type == CONTENT_TYPE_MSGPACK {
        "application/json"
    } else {
        content_type
    };
    event.insert("datacontenttype".into(), json!(shown));
    if record.payload.is_empty() {
        // CloudEvents: an event without data has no data member, whatever its content type.
        return;
    }
    let text = is_text(content_type) && std::str::from_utf8(record.payload).is_ok();
    if !text && content_type != CONTENT_TYPE_MSGPACK && !is_json(content_type) {
        // Also when the bytes happen to be UTF-8: whether an event has text or bytes is said by its content type.
        event.insert("data_base64".into(), json!(BASE64_STANDARD.encode(record.payload)));
    } else if let Some(data) = payload_to_json(content_type, record.payload) {
        event.insert("data".into(), data);
    }
}

/// RFC 3339 in UTC with microseconds where there are any.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
