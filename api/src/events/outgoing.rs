//! Events that go out as CloudEvents JSON: the same as `annals_core::cloud_event`, written at once, so that JSON
//! payloads go out byte by byte as they came in.

use super::incoming::{is_json, is_text};
use crate::answer::push_json_text;
use annals_core::{CONTENT_TYPE_MSGPACK, RecordRef, to_json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use std::fmt::Write as _;

/// Writes one record as a CloudEvent of the log with this name. Writing to a String cannot fail.
pub(crate) fn write_event(out: &mut String, log_name: &str, record: &RecordRef<'_>) {
    let header = &record.header;
    let _ = write!(out, r#"{{"specversion":"1.0","id":"#);
    push_json_text(out, &header.id.to_string());
    out.push_str(r#","source":"#);
    match header.source {
        Some(source) => push_json_text(out, source),
        None => push_json_text(out, &format!("annals/{log_name}")),
    }
    member(out, "type", Some(header.event_type));
    member(out, "subject", Some(header.stream));
    let _ = write!(
        out,
        r#","time":"{}","recordedtime":"{}","position":"{}","streamversion":"{}","schemaversion":"{}""#,
        rfc3339(record.occurred_at()),
        rfc3339(record.recorded_at()),
        record.position,
        header.version,
        header.schema
    );
    member(out, "correlationid", Some(&record.correlation_id()));
    member(out, "causationid", header.causation);
    member(out, "actor", Some(header.actor.unwrap_or("anonymous")));
    member(out, "traceparent", header.traceparent);
    member(out, "dataschema", header.dataschema);
    if !header.tags.is_empty() {
        member(out, "tags", Some(&header.tags.join(",")));
    }
    for (name, value) in &header.extensions {
        out.push(',');
        push_json_text(out, name);
        out.push(':');
        if is_json_text(value) {
            out.push_str(value);
        } else {
            push_json_text(out, value);
        }
    }
    write_data(out, header.content_type, record.payload);
    out.push('}');
}

fn write_data(out: &mut String, content_type: &str, payload: &[u8]) {
    let typed = content_type == CONTENT_TYPE_MSGPACK;
    member(
        out,
        "datacontenttype",
        Some(if typed { "application/json" } else { content_type }),
    );
    if payload.is_empty() {
        return;
    }
    let text = std::str::from_utf8(payload);
    match text {
        _ if typed => {
            if let Some(data) = to_json(payload) {
                let _ = write!(out, r#","data":{data}"#);
            }
        }
        Ok(json) if is_json(content_type) => {
            if is_json_text(json) {
                let _ = write!(out, r#","data":{json}"#);
            }
        }
        Ok(text) if is_text(content_type) => member(out, "data", Some(text)),
        _ if is_json(content_type) => {}
        _ => member(out, "data_base64", Some(&BASE64_STANDARD.encode(payload))),
    }
}

/// Checked again although it was checked when it came in: an append may have come another way than over HTTP, and one
/// bad event must not make a page unreadable.
fn is_json_text(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn member(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        let _ = write!(out, r#","{name}":"#);
        push_json_text(out, value);
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::{EventIdRef, Header, Position, cloud_event};

    #[test]
    fn an_event_goes_out_as_core_says() {
        let mut header = Header::new(
            "orders/ord-1",
            3,
            EventIdRef::Text("e \"1\""),
            "Order\nPlaced",
            1_500_000_000_123_456,
        );
        header.occurred = Some(1_400_000_000_000_000);
        header.tags = vec!["order=1", "a=b"];
        header.causation = Some("cause");
        header.traceparent = Some("00-x");
        header.content_type = "application/json";
        header.source = Some("/shop");
        header.dataschema = Some("urn:x");
        header.extensions = vec![("mine", "\"text\""), ("count", "5")];
        for (content_type, payload) in [
            ("application/json", br#"{"a": 1.0}"#.as_slice()),
            ("application/msgpack", &[0x81, 0xa1, b'a', 0x01]),
            ("text/plain", b"hello \"there\""),
            ("Text/Plain", b"h\xff"),
            ("application/octet-stream", b"hello"),
            ("application/json", b"\xff"),
            ("application/json", b""),
            ("text/plain", b""),
            ("image/png", &[0xff, 0xd8, 0x00]),
        ] {
            header.content_type = content_type;
            let record = RecordRef {
                position: Position::new(7),
                header: header.clone(),
                header_bytes: &[],
                payload,
            };
            let mut out = String::new();
            write_event(&mut out, "bank", &record);
            let written: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(
                written,
                serde_json::Value::Object(cloud_event("bank", &record)),
                "{content_type}"
            );
        }
    }
}
