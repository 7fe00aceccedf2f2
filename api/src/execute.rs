//! `POST /v1/commands/{aggregate}/{id}/{command}`: one command.

use crate::answer::Accepted;
use crate::failure::{ExpectedBy, command_problem};
use crate::headers::{WriteHeaders, content_type};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use crate::{accept, body};
use annals_commands::{CommandBody, CommandRequest};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

pub(crate) async fn execute(
    State(shared): State<Shared>,
    PathParts([category, id, command]): PathParts<3>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    accept::json(&headers)?;
    content_type(&headers, &["application/json"])?;
    let write = WriteHeaders::read(&headers)?;
    let request = CommandRequest {
        category,
        id,
        command,
        body: CommandBody::Json(body::read(body).await?),
        key: write.key,
        expected: write.expected,
        occurred_at: write.occurred_at,
        metadata: write.metadata,
    };
    let outcome = shared.api.commands.execute(request).await;
    let outcome = outcome.map_err(|error| command_problem(error, ExpectedBy::Header))?;
    let accepted = Accepted {
        stream: &outcome.stream,
        version: outcome.version,
        position: outcome.position,
        events: &outcome.events,
        duplicate: outcome.duplicate,
    };
    Ok(accepted.into_response(&shared.epoch))
}
