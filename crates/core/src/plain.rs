//! What serde says about input, in words that do not need Rust to be understood.

use std::fmt::Display;

/// What stands in front of a name of a Rust type in what serde says, and what is said instead. The longer come first.
const NAMED: [(&str, &str); 12] = [
    (
        "data did not match any variant of untagged enum ",
        "it has none of the known forms",
    ),
    ("unit struct ", "null"),
    ("tuple struct ", "a list"),
    ("tuple variant ", "a list"),
    ("newtype struct ", "its value"),
    ("newtype variant ", "its value"),
    ("struct variant ", "an object"),
    ("unit variant ", "its name alone"),
    ("internally tagged enum ", "an object"),
    ("adjacently tagged enum ", "an object"),
    ("struct ", "an object"),
    ("enum ", "one of its known values"),
];

/// Words of serde for what JSON calls otherwise, as they stand behind `expected `.
const WORDS: [(&str, &str); 17] = [
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number of 0 or more"),
    ("u64", "a whole number of 0 or more"),
    ("u128", "a whole number of 0 or more"),
    ("usize", "a whole number of 0 or more"),
    ("i8", "a whole number from -128 to 127"),
    ("i16", "a whole number from -32768 to 32767"),
    ("i32", "a whole number"),
    ("i64", "a whole number"),
    ("i128", "a whole number"),
    ("isize", "a whole number"),
    ("f32", "a number"),
    ("f64", "a number"),
    ("a borrowed string", "a string"),
    ("a map", "an object"),
    ("a sequence", "a list"),
];

/// What an error of serde says, without names of Rust types: `expected struct Money` becomes `expected an object`.
#[must_use]
pub fn plain_error(error: &impl Display) -> String {
    let said = error.to_string();
    let mut plain = String::with_capacity(said.len());
    let mut rest = said.as_str();
    while let Some((before, word)) = next_expected(rest) {
        plain.push_str(before);
        let (instead, left) = replaced(word);
        plain.push_str(instead);
        rest = left;
    }
    plain.push_str(rest);
    plain
        .replace("unknown variant `", "unknown value `")
        .replace("a tuple of size ", "a list of length ")
}

/// What stands up to the place where serde names what it expected, and what follows there.
fn next_expected(text: &str) -> Option<(&str, &str)> {
    let (untagged, _) = NAMED[0];
    let places = ["expected ", untagged].map(|mark| {
        let at = text.find(mark)?;
        // Of the one mark all is replaced, of the other what follows.
        Some(if mark == untagged { at } else { at + mark.len() })
    });
    let at = places.into_iter().flatten().min()?;
    Some(text.split_at(at))
}

/// What is said instead of the beginning of `word`, and what is left of it.
fn replaced(word: &str) -> (&str, &str) {
    for (mark, instead) in NAMED {
        let Some(after) = word.strip_prefix(mark) else { continue };
        let name = after.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '<' | '>')));
        let left = &after[name.unwrap_or(after.len())..];
        return (instead, without_count(left));
    }
    for (name, instead) in WORDS {
        let ends = |left: &&str| !left.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if let Some(left) = word.strip_prefix(name).filter(ends) {
            return (instead, left);
        }
    }
    ("", word)
}

/// Without the number of fields, which is nobody's business: a form is not written as a list of them.
fn without_count(text: &str) -> &str {
    let Some(after) = text.strip_prefix(" with ") else {
        return text;
    };
    let digits = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let left = digits
        .strip_prefix(" elements")
        .or_else(|| digits.strip_prefix(" element"));
    left.filter(|_| digits.len() < after.len()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only read")]
    enum Colour {
        Red,
        Mixed { parts: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only read")]
    enum Either {
        Number(u64),
        List(Vec<u64>),
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Parcel {
        weight: u32,
        count: Option<i64>,
        colour: Option<Colour>,
        either: Option<Either>,
        inner: Option<Box<Parcel>>,
        pair: Option<(u8, u8)>,
    }

    fn said(text: &str) -> String {
        let error = serde_json::from_str::<Parcel>(text).unwrap_err();
        plain_error(&error)
    }

    #[test]
    fn no_message_names_a_type_of_this_program() {
        for (text, says) in [
            ("[1]", "expected an object"),
            ("[]", "expected an object"),
            ("5", "expected an object"),
            (
                r#"{"weight":"1"}"#,
                r#"string "1", expected a whole number of 0 or more"#,
            ),
            (r#"{"weight":-1}"#, "expected a whole number of 0 or more"),
            (r#"{"weight":1,"count":1.5}"#, "expected a whole number"),
            (r#"{"weight":1,"inner":5}"#, "expected an object"),
            (
                r#"{"weight":1,"colour":"blue"}"#,
                "unknown value `blue`, expected `red` or `mixed`",
            ),
            (r#"{"weight":1,"colour":5}"#, "expected "),
            (r#"{"weight":1,"colour":{"mixed":5}}"#, "expected an object"),
            (r#"{"weight":1,"either":"x"}"#, "it has none of the known forms"),
            (r#"{"weight":1,"pair":[1]}"#, "expected a "),
            (r#"{"weight":1,"wings":2}"#, "unknown field `wings`"),
            (r#"{"count":1}"#, "missing field `weight`"),
        ] {
            let said = said(text);
            assert!(said.contains(says), "{text}: {said}");
            let names = [
                "Parcel", "Colour", "Either", "struct", "enum", "variant", "u8", "u32", "i64",
            ];
            for name in names {
                assert!(!said.contains(name), "{text}: {said}");
            }
        }
    }

    #[test]
    fn words_that_only_begin_like_a_name_are_left_alone() {
        for text in [
            "expected structure",
            "expected u640",
            "expected",
            "expected expected one",
            "",
        ] {
            assert_eq!(plain_error(&text), text);
        }
        assert_eq!(
            plain_error(&"expected struct A<B> with 1 element at line 1"),
            "expected an object at line 1"
        );
        assert_eq!(
            plain_error(&"expected u64, expected u8"),
            "expected a whole number of 0 or more, expected a whole number from 0 to 255"
        );
    }
}
