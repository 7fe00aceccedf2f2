//! `GET /tile/<L>/<N>[.p/<W>]` and `GET /tile/entries/<N>[.p/<W>]`.

use super::{BYTES, FOR_EVER, answer, ask};
use crate::accept;
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_audit::Tile;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

/// Largest bundle of entries: 256 headers of the largest size with their hashes.
const BUNDLE_LEN_MAX: usize = 256 * (2 + annals_core::HEADER_LEN_MAX + 32);

pub(crate) async fn tile(
    State(shared): State<Shared>,
    PathParts([path]): PathParts<1>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    accept::negotiate(&headers, &[BYTES])?;
    Parameters::of(&uri, &[])?;
    let malformed =
        |error: annals_audit::MalformedTilePath| Problem::malformed("invalid-tile", "Invalid tile", error.to_string());
    if let Some(path) = path.strip_prefix("entries/") {
        let bundle = Tile::parse_entries(path).map_err(malformed)?;
        let room = shared.bounds.answer(BUNDLE_LEN_MAX).await?;
        let entries = ask(&shared, move |notary| Ok(notary.tree().entries(bundle)?)).await?;
        let mut response = answer(BYTES, FOR_EVER, entries);
        room.keep(&mut response);
        return Ok(response);
    }
    let tile = Tile::parse(&path).map_err(malformed)?;
    let hashes = ask(&shared, move |notary| Ok(notary.tree().hashes(tile)?)).await?;
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
    Ok(answer(BYTES, FOR_EVER, bytes))
}
