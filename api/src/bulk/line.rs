//! One line of a bulk request: how it is read and how it is answered.

use crate::answer::Accepted;
use crate::failure::{ExpectedBy, command_problem, too_large};
use crate::headers::rfc3339;
use crate::object::object;
use crate::problem::Problem;
use annals_commands::{CommandBody, CommandError, CommandOutcome, CommandRequest};
use annals_core::{APPEND_BYTES_MAX, Expected, Metadata, Version};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Longest line in bytes.
pub(super) const LINE_LEN_MAX: usize = APPEND_BYTES_MAX;
/// Path that the problems of lines name.
const INSTANCE: &str = "/v1/commands";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    aggregate: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    command: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    expected_version: Option<u64>,
    #[serde(borrow, default)]
    occurred_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    actor: Option<Cow<'a, str>>,
}

/// Reads a line. Who and why is taken from the headers of the request.
pub(crate) fn read(line: &Bytes, metadata: &Metadata) -> Result<CommandRequest, Problem> {
    let invalid = |detail: String| Problem::malformed("invalid-line", "Invalid line", detail);
    if line.trim_ascii().is_empty() {
        return Err(invalid("the line is blank: leave it out".into()));
    }
    let fields: Fields<'_> = object(line).map_err(|error| {
        invalid(format!(
            "the line is not a command: {error}; write {{\"aggregate\":…,\"id\":…,\"command\":…,\"data\":{{…}}}}"
        ))
    })?;
    let occurred_at = match fields.occurred_at {
        Some(text) => Some(
            rfc3339(&text)
                .ok_or_else(|| invalid("occurred_at: write it as RFC 3339, as in 2017-10-02T10:56:33Z".into()))?,
        ),
        None => None,
    };
    if fields.actor.is_some() {
        // Who it is will be what authentication says, once there is one; it is never what a line says.
        return Err(invalid(
            "actor: a line cannot say on whose behalf it is: leave it out, and send the header Annals-Actor with the request"
                .into(),
        ));
    }
    Ok(CommandRequest {
        category: fields.aggregate.into_owned(),
        id: fields.id.into_owned(),
        command: fields.command.into_owned(),
        body: CommandBody::Json(
            fields
                .data
                .map_or_else(Bytes::new, |data| line.slice_ref(data.get().as_bytes())),
        ),
        key: fields.key.map(Cow::into_owned),
        expected: match fields.expected_version {
            None => Expected::Any,
            Some(0) => Expected::None,
            Some(version) => Expected::Exact(Version::new(version)),
        },
        occurred_at,
        metadata: metadata.clone(),
    })
}

/// The problem of a line that is too long.
pub(super) fn too_long() -> Problem {
    too_large(format!("the line has more than {LINE_LEN_MAX} bytes: split it")).with("limit_bytes", LINE_LEN_MAX)
}

/// The problem of a body that broke off, in place of the lines that did not come.
pub(super) fn broken_off() -> Problem {
    Problem::malformed(
        "broken-body",
        "Broken body",
        "the body broke off here: send the lines from this one on again, those with a key are not done twice",
    )
}

/// The answer to a line that was a command.
pub(super) fn answer(number: u64, result: Result<CommandOutcome, CommandError>) -> Bytes {
    match result {
        Ok(outcome) => accepted(number, &outcome),
        Err(error) => failed(number, &command_problem(error, ExpectedBy::Line)),
    }
}

fn accepted(number: u64, outcome: &CommandOutcome) -> Bytes {
    let mut out = String::with_capacity(192);
    let _ = write!(out, r#"{{"line":{number},"status":200,"#);
    let accepted = Accepted {
        stream: &outcome.stream,
        version: outcome.version,
        position: outcome.position,
        events: &outcome.events,
        duplicate: outcome.duplicate,
    };
    accepted.write_members(&mut out);
    if outcome.duplicate {
        out.push_str(r#","duplicate":true"#);
    }
    out.push_str("}\n");
    out.into()
}

/// The answer to a line that failed.
pub(super) fn failed(number: u64, problem: &Problem) -> Bytes {
    let mut fields = problem.to_json(INSTANCE);
    fields.insert("line".into(), number.into());
    let mut out = serde_json::Value::Object(fields).to_string();
    out.push('\n');
    out.into()
}
