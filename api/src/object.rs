//! JSON objects that come in: nothing else in their place, and errors that name no types of this program.

use annals_core::plain_error;
use serde::Deserialize;

/// Reads an object. serde would take a list of its fields' values as well, which nobody means.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    match text.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(text).map_err(|error| plain_error(&error)),
        Some(_) => Err("a JSON object is expected here".to_owned()),
        None => Err("a JSON object is expected here, and there is nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn an_object_is_read_and_a_list_of_its_values_is_not() {
        assert_eq!(object::<Named>(br#" {"name":"ann"}"#).unwrap().name, "ann");
        for (text, says) in [
            (&b"[\"ann\"]"[..], "a JSON object is expected"),
            (b"\"ann\"", "a JSON object is expected"),
            (b" ", "there is nothing"),
            (b"{", "EOF"),
            (br#"{"name":5}"#, "expected a string"),
        ] {
            let said = object::<Named>(text).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
