//! `POST /v1/commands/{aggregate}/{id}/{command}`: one command.

use crate::answer::Accepted;
use crate::events::refuse_condition;
use crate::failure::{ExpectedBy, command_problem};
use crate::headers::{WriteHeaders, content_type};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use crate::{accept, body};
use annals_commands::{CommandBody, CommandRequest};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Body;

/// The handler for the router, which decodes the path. Paths that need no decoding do not come here.
pub(crate) async fn execute(
    State(shared): State<Shared>,
    PathParts(command): PathParts<3>,
    // Taken as a whole: extractors of their own would copy the headers.
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    decide(&shared, command, &head, body).await
}

/// Decides a command that is called by aggregate, id and name.
pub(crate) async fn decide<B>(
    shared: &Shared,
    [category, id, command]: [String; 3],
    head: &Parts,
    body: B,
) -> Result<Response, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    Parameters::of(&head.uri, &[])?;
    accept::json(&head.headers)?;
    content_type(&head.headers, &["application/json"])?;
    refuse_condition(&head.headers)?;
    let write = WriteHeaders::read(&head.headers)?;
    let body = body::read(body, &shared.bounds).await?;
    let request = CommandRequest {
        category,
        id,
        command,
        body: CommandBody::Json(body.bytes.clone()),
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
