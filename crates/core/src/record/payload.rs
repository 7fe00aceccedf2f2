//! Payloads without their Rust types: MessagePack shown as JSON, and bytes with personal values left out.

use super::header::CONTENT_TYPE_MSGPACK;
use crate::personal;
use rmpv::ValueRef;
use serde_json::Value as Json;

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 128;
/// Deepest nesting of personal values in personal values that is read. Each holds MessagePack of its own, so that without a
/// bound a payload of a megabyte could nest a hundred thousand of them.
const PERSONAL_DEPTH_MAX: usize = 4;

/// A payload as JSON, by its content type: MessagePack and JSON are shown as they are, anything else as text if it is
/// UTF-8 and as base16 otherwise. `None` when the bytes are not what the content type says.
pub fn payload_to_json(content_type: &str, payload: &[u8]) -> Option<Json> {
    if content_type == CONTENT_TYPE_MSGPACK {
        return to_json(payload);
    }
    if is_json(content_type) {
        return serde_json::from_slice(payload).ok();
    }
    Some(Json::String(
        std::str::from_utf8(payload).map_or_else(|_| hex(payload), str::to_owned),
    ))
}

/// Whether a content type says JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Whether a content type says text.
pub(crate) fn is_text(content_type: &str) -> bool {
    content_type
        .trim_start()
        .get(..5)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("text/"))
}

/// MessagePack as JSON, without knowing the Rust type behind it. `None` when the bytes are malformed.
pub fn to_json(bytes: &[u8]) -> Option<Json> {
    read(bytes, PERSONAL_DEPTH_MAX)
}

fn read(mut bytes: &[u8], personal_depth: usize) -> Option<Json> {
    let value = rmpv::decode::read_value_ref_with_max_depth(&mut bytes, DEPTH_MAX).ok()?;
    bytes.is_empty().then(|| convert(&value, personal_depth))
}

fn convert(value: &ValueRef<'_>, personal_depth: usize) -> Json {
    match value {
        ValueRef::Nil => Json::Null,
        ValueRef::Boolean(value) => Json::Bool(*value),
        ValueRef::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => Json::Null,
        },
        ValueRef::F32(number) => f64::from(*number).into(),
        ValueRef::F64(number) => (*number).into(),
        ValueRef::String(text) => Json::String(text.as_str().unwrap_or_default().to_owned()),
        ValueRef::Binary(bytes) => Json::String(hex(bytes)),
        ValueRef::Array(items) => Json::Array(items.iter().map(|item| convert(item, personal_depth)).collect()),
        ValueRef::Map(entries) => {
            let entry = |(k, v): &(_, _)| (key(k, personal_depth), convert(v, personal_depth));
            Json::Object(entries.iter().map(entry).collect())
        }
        ValueRef::Ext(personal::EXTENSION_TYPE, bytes) => match personal::open(bytes) {
            Some(clear) => personal_depth
                .checked_sub(1)
                .and_then(|left| read(clear, left))
                .unwrap_or(Json::Null),
            None => Json::String(personal::ERASED.into()),
        },
        ValueRef::Ext(_, bytes) => Json::String(hex(bytes)),
    }
}

fn key(value: &ValueRef<'_>, personal_depth: usize) -> String {
    match value {
        ValueRef::String(text) => text.as_str().unwrap_or_default().to_owned(),
        other => convert(other, personal_depth).to_string(),
    }
}

/// The same MessagePack with every personal value replaced by nil: two commands that differ only in personal values
/// become the same bytes. Malformed bytes come back as they are.
pub fn without_personal(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let Ok(value) = rmpv::decode::read_value_ref_with_max_depth(&mut rest, DEPTH_MAX) else {
        return bytes.to_vec();
    };
    let mut out = Vec::with_capacity(bytes.len());
    match rmpv::encode::write_value_ref(&mut out, &strip(value)) {
        Ok(()) => out,
        Err(_) => bytes.to_vec(),
    }
}

fn strip(value: ValueRef<'_>) -> ValueRef<'_> {
    match value {
        ValueRef::Ext(personal::EXTENSION_TYPE, _) => ValueRef::Nil,
        ValueRef::Array(items) => ValueRef::Array(items.into_iter().map(strip).collect()),
        ValueRef::Map(entries) => ValueRef::Map(entries.into_iter().map(|(k, v)| (k, strip(v))).collect()),
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_values_nested_without_end_are_bounded() {
        let mut bytes = vec![0xc0];
        for _ in 0..100_000 {
            let mut outer = vec![0xc9];
            outer.extend_from_slice(&(bytes.len() as u32 + 1).to_be_bytes());
            outer.extend_from_slice(&[personal::EXTENSION_TYPE as u8, 0]);
            outer.append(&mut bytes);
            bytes = outer;
            if bytes.len() > 60_000 {
                break;
            }
        }
        assert_eq!(to_json(&bytes), Some(Json::Null));
        assert_eq!(to_json(&[0xc7, 2, 1, 0, 5]), Some(Json::from(5)));
    }
}
