//! Content negotiation: which of the offered content types the caller takes.

use crate::problem::Problem;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};

/// Weight of a media range from 0 to 1,000, and how exactly it names the type.
type Weight = (u16, u8);

/// The first of the offered content types that the caller likes best. The first offer is the default.
pub(crate) fn negotiate<'a>(headers: &HeaderMap, offered: &[&'a str]) -> Result<&'a str, Problem> {
    let accepted: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let default = offered.first().copied().unwrap_or_default();
    if accepted.iter().all(|text| matches!(*text, "" | "*/*")) {
        return Ok(default);
    }
    let accepted = accepted.join(",");
    let mut best: Option<(&'a str, u16)> = None;
    for &offer in offered {
        let weight = weight_of(&accepted, offer);
        if weight > 0 && best.is_none_or(|(_, other)| weight > other) {
            best = Some((offer, weight));
        }
    }
    best.map(|(offer, _)| offer)
        .ok_or_else(|| not_acceptable(&accepted, offered))
}

fn weight_of(accepted: &str, offer: &str) -> u16 {
    let weights = accepted.split(',').filter_map(|range| weight_in(range, offer));
    // The most exact range decides; that is how a caller excludes one type of many.
    weights
        .max_by_key(|(_, exactness)| *exactness)
        .map_or(0, |(weight, _)| weight)
}

fn weight_in(range: &str, offer: &str) -> Option<Weight> {
    let mut parts = range.split(';');
    let name = parts.next()?.trim();
    let kind = offer.split('/').next().unwrap_or_default();
    let exactness = if name.eq_ignore_ascii_case(offer) {
        2
    } else if name
        .strip_suffix("/*")
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(kind))
    {
        1
    } else if name == "*/*" {
        0
    } else {
        return None;
    };
    let quality = parts.find_map(|part| part.trim().strip_prefix("q="));
    let weight = quality.map_or(1.0, |text| text.trim().parse::<f32>().unwrap_or(0.0));
    Some(((weight.clamp(0.0, 1.0) * 1000.0) as u16, exactness))
}

fn not_acceptable(accepted: &str, offered: &[&str]) -> Problem {
    let shown: String = accepted.chars().take(120).collect();
    Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "not-acceptable",
        "Not acceptable",
        format!(
            "none of {shown:?} is offered here: send Accept: {}",
            offered.join(" or ")
        ),
    )
    .with("offered", offered)
}

/// 406 unless the caller takes JSON.
pub(crate) fn json(headers: &HeaderMap) -> Result<(), Problem> {
    negotiate(headers, &["application/json", "application/problem+json"]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const OFFERED: [&str; 2] = ["application/json", "application/x-ndjson"];

    fn chosen(accept: &str) -> Option<&'static str> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        negotiate(&headers, &OFFERED).ok()
    }

    #[test]
    fn the_best_liked_offer_is_chosen() {
        assert_eq!(negotiate(&HeaderMap::new(), &OFFERED).unwrap(), OFFERED[0]);
        for (accept, offer) in [
            ("*/*", Some(OFFERED[0])),
            ("application/*", Some(OFFERED[0])),
            ("application/x-ndjson", Some(OFFERED[1])),
            ("application/json;q=0.5, application/x-ndjson", Some(OFFERED[1])),
            ("application/json;q=0, */*", Some(OFFERED[1])),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(chosen(accept), offer, "{accept}");
        }
    }
}
