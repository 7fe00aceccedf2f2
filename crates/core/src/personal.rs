//! Personal data inside events and commands: [`Personal`] marks a value as belonging to a person.
//!
//! In MessagePack the value stands in an extension of its own, so that it can be found without the Rust types: byte 0
//! names the algorithm, the rest is the value. Algorithm 0 is the value in clear (MessagePack); encrypted values and
//! their algorithm numbers come with erasure. In JSON the value stands as itself, an erased one as `"[erased]"`.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};
use std::fmt;

/// MessagePack extension type of a personal value.
pub(crate) const EXTENSION_TYPE: i8 = 1;
/// How an erased value is shown.
pub(crate) const ERASED: &str = "[erased]";
const ALGORITHM_CLEAR: u8 = 0;

/// A value that belongs to a person, or the fact that it was erased.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Personal<T>(Option<T>);

impl<T> Personal<T> {
    /// A personal value.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// A value that was erased.
    pub fn erased() -> Self {
        Self(None)
    }

    /// The value, unless it was erased.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The value, unless it was erased.
    pub fn into_inner(self) -> Option<T> {
        self.0
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Never shows the value: it would end up in a log file.
impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "[personal]" } else { ERASED })
    }
}

/// The MessagePack of a value in clear; `None` when it was erased.
pub(crate) fn open(extension: &[u8]) -> Option<&[u8]> {
    match extension.split_first() {
        Some((&ALGORITHM_CLEAR, clear)) => Some(clear),
        _ => None,
    }
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return match &self.0 {
                Some(value) => value.serialize(serializer),
                None => ERASED.serialize(serializer),
            };
        }
        let mut bytes = Vec::with_capacity(32);
        if let Some(value) = &self.0 {
            bytes.push(ALGORITHM_CLEAR);
            rmp_serde::encode::write_named(&mut bytes, value).map_err(S::Error::custom)?;
        }
        serializer.serialize_newtype_struct(
            rmp_serde::MSGPACK_EXT_STRUCT_NAME,
            &(EXTENSION_TYPE, Bytes::new(&bytes)),
        )
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Readable::<T>::deserialize(deserializer).map(|Readable(value)| Self(value));
        }
        let Extension((kind, bytes)) = Extension::deserialize(deserializer)?;
        if kind != EXTENSION_TYPE {
            return Err(D::Error::custom(format!("extension {kind} is not a personal value")));
        }
        let clear = open(&bytes)
            .map(rmp_serde::from_slice)
            .transpose()
            .map_err(D::Error::custom)?;
        Ok(Self(clear))
    }
}

#[derive(Deserialize)]
#[serde(rename = "_ExtStruct")]
struct Extension((i8, ByteBuf));

/// JSON shows an erased value as a text, whatever type the value had.
struct Readable<T>(Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Readable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.as_str() == Some(ERASED) {
            return Ok(Self(None));
        }
        T::deserialize(value)
            .map(|value| Self(Some(value)))
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{to_json, without_personal};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Person {
        name: Personal<String>,
        age: Option<Personal<u8>>,
        city: String,
    }

    fn person(name: &str) -> Person {
        Person {
            name: name.to_owned().into(),
            age: Some(40.into()),
            city: "Bern".into(),
        }
    }

    #[test]
    fn a_personal_value_survives_both_formats() {
        let ann = person("Ann");
        let packed = rmp_serde::to_vec_named(&ann).unwrap();
        assert_eq!(rmp_serde::from_slice::<Person>(&packed).unwrap(), ann);
        assert_eq!(
            serde_json::from_str::<Person>(r#"{"name":"Ann","age":40,"city":"Bern"}"#).unwrap(),
            ann
        );
        assert_eq!(
            to_json(&packed).unwrap(),
            serde_json::json!({"name":"Ann","age":40,"city":"Bern"})
        );
    }

    #[test]
    fn an_erased_value_says_so_in_both_formats() {
        let gone = Person {
            name: Personal::erased(),
            age: None,
            city: "Bern".into(),
        };
        let packed = rmp_serde::to_vec_named(&gone).unwrap();
        assert_eq!(rmp_serde::from_slice::<Person>(&packed).unwrap(), gone);
        assert_eq!(to_json(&packed).unwrap()["name"], ERASED);
        assert_eq!(
            serde_json::from_str::<Person>(r#"{"name":"[erased]","age":null,"city":"Bern"}"#).unwrap(),
            gone
        );
    }

    #[test]
    fn what_differs_only_in_personal_values_is_the_same_without_them() {
        let bytes = |name| without_personal(&rmp_serde::to_vec_named(&person(name)).unwrap());
        assert_eq!(bytes("Ann"), bytes("Bob"));
    }

    #[test]
    fn debug_never_shows_the_value() {
        assert!(!format!("{:?}", person("Ann")).contains("Ann"));
    }
}
