//! The members of a CloudEvent's JSON object as they came, and JSON that is checked without being built.

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// Most members of one event.
const MEMBERS_MAX: usize = 64;

/// Names and raw values in the order they came, each name once.
pub(super) struct Attributes<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Attributes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CloudEvent, which is a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::with_capacity(8);
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format!("{name} stands there twice")));
                    }
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom(format!(
                            "an event has at most {MEMBERS_MAX} attributes"
                        )));
                    }
                    members.push((name, value));
                }
                Ok(Attributes(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Checks that a raw value can be read back by every reader: nesting, numbers and escapes within their limits. A raw
/// value alone is only known to have the outer form of JSON.
pub(super) fn check_json(raw: &RawValue) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    Readable.deserialize(&mut reader)
}

struct Readable;

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Readable)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Readable)?.is_some() {
            members.next_value_seed(Readable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> bool {
        check_json(serde_json::from_str(text).unwrap()).is_ok()
    }

    #[test]
    fn what_cannot_be_read_back_is_found() {
        assert!(check(r#"{"a":[1,-2,3.5,"x\n",null,true,{}]}"#));
        assert!(check(&format!("{}{}", "[".repeat(100), "]".repeat(100))));
        assert!(!check(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))));
        assert!(!check("1e999"));
        assert!(!check(r#""\ud800""#));
    }
}
