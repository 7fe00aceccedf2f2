//! `GET /v1/proofs/inclusion` and `GET /v1/proofs/consistency`.

use super::checkpoints::covering;
use super::{FOR_EVER, NOT_AT_ALL, TEXT, answer, ask};
use crate::accept;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::state::Shared;
use annals_audit::{Hash, leaf_hash};
use annals_core::Position;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const JSON: &str = "application/json";

/// The proof that the event at a position is in the tree: of `size` leaves, else of the smallest signed checkpoint.
pub(crate) async fn inclusion(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let form = accept::negotiate(&headers, &[JSON, "text/plain"])?;
    let parameters = Parameters::of(&uri, &["position", "size"])?;
    let position = required(&parameters, "position")?;
    let size = parameters.parsed::<u64>("size", "a number of events")?;
    if form == "text/plain" {
        if size.is_some() {
            let detail =
                "a proof in a file is one for a signed checkpoint: leave out size, or ask for application/json";
            return Err(Problem::malformed("invalid-parameter", "Invalid parameter", detail));
        }
        let proof = ask(&shared, move |notary| {
            notary.tree().entry(position)?;
            let checkpoint = covering(notary, position.get())?;
            Ok(notary.tree().proof(position, checkpoint)?)
        });
        return Ok(answer(TEXT, FOR_EVER, proof.await?.to_string()));
    }
    let body = ask(&shared, move |notary| {
        let tree = notary.tree();
        // First, so that a position that does not exist is named, and nothing is signed for it.
        let entry = tree.entry(position)?;
        let (size, note) = match size {
            Some(size) => (size, None),
            None => {
                let note = notary.covering(position.get())?;
                (notary.size_of(&note)?, Some(note))
            }
        };
        tree.reach(size)?;
        let path = tree.inclusion_proof(position, size)?;
        Ok(json!({
            "position": position.to_string(),
            "size": size.to_string(),
            "root": tree.root_at(size)?.to_string(),
            "leaf": leaf_hash(&entry).to_string(),
            "entry": STANDARD.encode(entry),
            "proof": texts(&path),
            "checkpoint": note,
        }))
    });
    Ok(answer(JSON, NOT_AT_ALL, body.await?.to_string()))
}

/// The proof that the tree of `to` leaves begins with that of `from`.
pub(crate) async fn consistency(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    accept::json(&headers)?;
    let parameters = Parameters::of(&uri, &["from", "to"])?;
    let (from, to) = (required(&parameters, "from")?.get(), required(&parameters, "to")?.get());
    if from > to {
        let detail = format!("from={from} is more than to={to}: a log only grows");
        return Err(Problem::malformed("invalid-parameter", "Invalid parameter", detail));
    }
    let body = ask(&shared, move |notary| {
        let tree = notary.tree();
        tree.reach(to)?;
        Ok(json!({
            "from": from.to_string(),
            "to": to.to_string(),
            "from_root": tree.root_at(from)?.to_string(),
            "to_root": tree.root_at(to)?.to_string(),
            "proof": texts(&tree.consistency_proof(from, to)?),
        }))
    });
    Ok(answer(JSON, FOR_EVER, body.await?.to_string()))
}

fn required(parameters: &Parameters, name: &str) -> Result<Position, Problem> {
    if parameters.get(name).is_none() {
        let detail = format!("parameter {name} is missing: it is a number");
        return Err(Problem::malformed("invalid-parameter", "Invalid parameter", detail));
    }
    parameters.position(name)
}

fn texts(hashes: &[Hash]) -> Vec<Value> {
    hashes.iter().map(|hash| json!(hash.to_string())).collect()
}
