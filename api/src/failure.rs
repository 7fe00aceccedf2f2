//! Errors of the inside as problems: which status, which name, which fields.

use crate::headers::{EPOCH, POSITION};
use crate::problem::Problem;
use annals_commands::CommandError;
use annals_core::{AppendError, EventLog, Expected, InvalidCommand, InvalidId, LogError, Position, StreamId, Version};
use axum::http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Where the caller said which version it expects: it decides the status when that does not hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedBy {
    /// `If-Match` or `If-None-Match`.
    Header,
    /// `expected_version` of a line.
    Line,
}

pub(crate) fn command_problem(error: CommandError, by: ExpectedBy) -> Problem {
    let text = error.to_string();
    match error {
        CommandError::UnknownAggregate { known, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-aggregate", "Unknown aggregate", text).with("known", known)
        }
        CommandError::InvalidId(error) => invalid_id(&error),
        CommandError::Invalid(InvalidCommand::Unknown { known, .. }) => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-command", "Unknown command", text).with("known", known)
        }
        CommandError::Invalid(_) => Problem::malformed("invalid-command", "Invalid command", text),
        CommandError::InvalidKey(_) => Problem::malformed("invalid-key", "Invalid idempotency key", text),
        CommandError::Rejected(rejection) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "rejected",
            "Rejected",
            rejection.message,
        )
        .with("code", rejection.code.into_owned()),
        CommandError::VersionConflict {
            stream,
            expected,
            actual,
        } => version_conflict(&stream, expected, actual, by),
        CommandError::Contended { stream, attempts } => {
            Problem::new(StatusCode::CONFLICT, "contended", "Contended", text)
                .with("stream", stream.as_str())
                .with("attempts", attempts)
        }
        CommandError::KeyReused { stream, key, position } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            "Idempotency key reused",
            text,
        )
        .with("stream", stream.as_str())
        .with("key", key)
        .with("position", position.to_string()),
        CommandError::Undecodable { stream, position, .. } | CommandError::UnknownEvent { stream, position, .. } => {
            tracing::error!(%stream, %position, error = text, "a recorded event cannot be read");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "undecodable-event",
                "Recorded event cannot be read",
                text,
            )
            .with("stream", stream.as_str())
            .with("position", position.to_string())
        }
        CommandError::Append(error) => append_problem(error, by),
        CommandError::Log(error) => log_problem(&error),
        _ => {
            tracing::error!(error = text, "a command could not be decided");
            Problem::internal()
        }
    }
}

pub(crate) fn append_problem(error: AppendError, by: ExpectedBy) -> Problem {
    let text = error.to_string();
    let unavailable = |name, title| Problem::new(StatusCode::SERVICE_UNAVAILABLE, name, title, text.clone());
    match error {
        AppendError::VersionConflict {
            stream,
            expected,
            actual,
        } => version_conflict(&stream, expected, actual, by),
        AppendError::KeyReused { .. } => command_problem(error.into(), by),
        AppendError::ConditionFailed { position, after } => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "append-condition-failed",
            "Append condition failed",
            text,
        )
        .with("position", position.to_string())
        .with("after", after.to_string()),
        AppendError::ConditionOutrun { .. } => {
            unavailable("overloaded", "Overloaded").retry_after(Duration::from_secs(1))
        }
        AppendError::Invalid(_) => Problem::malformed("invalid-append", "Invalid append", text),
        AppendError::TooLarge { bytes } => too_large(text).with("bytes", bytes),
        AppendError::Overloaded { retry_after } => unavailable("overloaded", "Overloaded").retry_after(retry_after),
        AppendError::StorageFull { free, reserve } => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "storage-full", "Storage full", text)
                .with("free_bytes", free)
                .with("reserve_bytes", reserve)
        }
        AppendError::ClockJumped { seconds } => unavailable("clock-jumped", "Clock jumped").with("seconds", seconds),
        AppendError::Log(error) => log_problem(&error),
        AppendError::Closed(_) => unavailable("log-closed", "Log closed").retry_after(Duration::from_secs(5)),
        AppendError::Unreachable(_) => {
            unavailable("log-unreachable", "Log out of reach").retry_after(Duration::from_secs(1))
        }
        AppendError::OutcomeUnknown(_) => {
            tracing::error!(error = text, "an append failed");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "outcome-unknown",
                "Outcome unknown",
                "the storage failed, whether the events were appended is unknown: once the server runs again, repeat the \
                 request with the same Idempotency-Key or event ids",
            )
        }
        _ => {
            tracing::error!(error = text, "an append failed");
            Problem::internal()
        }
    }
}

pub(crate) fn log_problem(error: &LogError) -> Problem {
    tracing::error!(%error, "the log cannot be read");
    match error {
        LogError::Damaged { position, .. } => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "log-damaged",
            "Log damaged",
            format!("the log is damaged at position {position}: stop the server and run `annals verify`"),
        )
        .with("position", position.to_string()),
        LogError::Unreachable(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "log-unreachable",
            "Log out of reach",
            error.to_string(),
        )
        .retry_after(Duration::from_secs(1)),
        _ => Problem::internal(),
    }
}

/// 400 for a position that the log has not reached. An answer would claim that there was nothing in between.
pub(crate) fn check_position<L: EventLog + ?Sized>(log: &L, after: Position) -> Result<(), Problem> {
    let head = log.head();
    if after <= head {
        return Ok(());
    }
    let detail = format!(
        "the log ends at position {head} and has nothing after {after}: it may have been restored, so compare its epoch \
         (GET /v1/log) with the one you read before, and if that differs begin again at after=0"
    );
    let problem = Problem::malformed("position-beyond-head", "Position beyond head", detail)
        .with("after", after.to_string())
        .with("head", head.to_string())
        .with_header(POSITION, HeaderValue::from(head.get()));
    Err(problem.with_header(EPOCH, crate::answer::tag(&log.epoch().to_string())))
}

pub(crate) fn invalid_id(error: &InvalidId) -> Problem {
    Problem::malformed("invalid-id", "Invalid id", error.to_string())
}

pub(crate) fn too_large(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
}

fn version_conflict(stream: &StreamId, expected: Expected, actual: Version, by: ExpectedBy) -> Problem {
    let (status, name, title) = match by {
        ExpectedBy::Header => (
            StatusCode::PRECONDITION_FAILED,
            "precondition-failed",
            "Precondition failed",
        ),
        ExpectedBy::Line => (StatusCode::CONFLICT, "version-conflict", "Version conflict"),
    };
    let (said, expected) = match expected {
        Expected::Any => ("any version".into(), Value::Null),
        Expected::None => ("version 0 (no events)".into(), json!(0)),
        Expected::Exact(version) => (format!("version {version}"), json!(version)),
    };
    let detail = format!("stream {stream} is at version {actual}, not at {said}: read it again and decide anew");
    Problem::new(status, name, title, detail)
        .with("stream", stream.as_str())
        .with("expected_version", expected)
        .with("actual_version", actual.get())
}

/// A read that could not be finished because its thread failed.
pub(crate) fn lost(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "a read failed");
    Problem::internal()
}
