//! `GET /checkpoint` and `GET /v1/checkpoints`.

use super::{NOT_AT_ALL, TEXT, answer, ask};
use crate::accept;
use crate::parameters::{Parameters, wrong};
use crate::problem::Problem;
use crate::state::Shared;
use annals_audit::{Checkpoint, Note};
use annals_event_store::NotaryError;
use axum::extract::State;
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde_json::json;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// The latest signed checkpoint.
pub(crate) async fn checkpoint(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    accept::negotiate(&headers, &["text/plain"])?;
    Parameters::of(&uri, &[])?;
    let latest = ask(&shared, |notary| match notary.checkpoints().latest() {
        Some((_, note)) => Ok(Some(note)),
        // The first one comes when it is first asked for, so that nobody has to wait for it.
        None => {
            notary.tree().reach(notary.tree().log_head())?;
            notary.sign()
        }
    })
    .await?;
    let note = latest.ok_or_else(|| {
        let detail = "the log is empty, so there is nothing to sign: append an event first";
        Problem::new(StatusCode::NOT_FOUND, "no-checkpoint", "No checkpoint", detail)
    })?;
    Ok(answer(TEXT, NOT_AT_ALL, note))
}

/// All that were ever signed, page by page, the smallest first.
pub(crate) async fn checkpoints(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    accept::json(&headers)?;
    let parameters = Parameters::of(&uri, &["after", "limit"])?;
    let after = parameters.position("after")?.get();
    let what = format!("a number from 1 to {LIMIT_MAX}");
    let limit: usize = parameters.parsed("limit", &what)?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(wrong("limit", &limit.to_string(), &what));
    }
    let notes = ask(&shared, move |notary| notary.signed_after(after, limit)).await?;
    let mut last = None;
    let mut listed = Vec::with_capacity(notes.len());
    for note in &notes {
        let checkpoint = Note::parse(note)
            .ok()
            .and_then(|note| Checkpoint::parse(note.text()).ok());
        let size = checkpoint.map_or(0, |checkpoint| checkpoint.size);
        listed.push(json!({ "size": size.to_string(), "note": note }));
        last = Some(size);
    }
    let mut response = answer(
        "application/json",
        NOT_AT_ALL,
        json!({ "checkpoints": listed }).to_string(),
    );
    if let (Some(last), true) = (last, notes.len() == limit) {
        let next = format!("</v1/checkpoints?after={last}&limit={limit}>; rel=\"next\"");
        if let Ok(next) = HeaderValue::try_from(next) {
            response.headers_mut().insert(LINK, next);
        }
    }
    Ok(response)
}

/// The checkpoint that covers so many leaves: the smallest, or one that is signed now.
pub(super) fn covering(notary: &annals_event_store::Notary, size: u64) -> Result<Note, NotaryError> {
    let note = notary.covering(size)?;
    Note::parse(&note).map_err(|error| NotaryError::Io {
        dir: notary.dir().to_owned(),
        source: std::io::Error::other(error),
    })
}
