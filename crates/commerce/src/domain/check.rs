//! Rules that several aggregates share: ids, texts, methods. Each says what to write instead.

use annals_core::{Rejection, check_id};

/// Longest name, place or carrier in characters.
pub(crate) const NAME_LEN_MAX: usize = 200;
/// Longest reason or comment in characters.
pub(crate) const TEXT_LEN_MAX: usize = 5_000;

/// A rejection, for use with `?` and `ok_or_else`.
pub(crate) fn rejection(code: &'static str, message: impl Into<String>) -> Rejection {
    Rejection {
        code: code.into(),
        message: message.into(),
    }
}

/// Ids of the caller's that name streams, rows or tags later, so they obey the rule of stream ids already here.
pub(crate) fn check_reference(field: &str, id: &str) -> Result<(), Rejection> {
    check_id(id).map_err(|error| rejection("reference-invalid", format!("{field}: {error}")))
}

/// A text that may not be empty.
pub(crate) fn check_filled(field: &str, text: &str, length_max: usize) -> Result<(), Rejection> {
    if text.trim().is_empty() {
        return Err(rejection("text-missing", format!("{field} is empty: give it a text")));
    }
    check_length(field, text, length_max)
}

/// A text within its bound.
pub(crate) fn check_length(field: &str, text: &str, length_max: usize) -> Result<(), Rejection> {
    // Counting stops at the bound: the text may be a megabyte.
    if text.chars().take(length_max + 1).count() > length_max {
        let message = format!("{field} is longer than {length_max} characters: shorten it");
        return Err(rejection("text-too-long", message));
    }
    Ok(())
}
