//! `GET /v1/views/{view}`: rows of a view, all or by an index, page by page.

use super::as_of::as_of;
use super::read::{COMMON, place, query_problem, ready, view, wants_live};
use crate::answer::{JSON, push_json_text};
use crate::events::next_link;
use crate::failure::lost;
use crate::live::live_list;
use crate::parameters::{Parameters, wrong};
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{IndexKind, IndexValue, Position, to_json};
use annals_projections::{IndexRange, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ListPage, ListQuery, Order};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use std::fmt::Write as _;

/// Parameters of lists besides those of every query and the indexes.
const OWN: [&str; 3] = ["limit", "cursor", "order"];

type Indexes = &'static [(&'static str, IndexKind)];

pub(crate) async fn list(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = view(&shared, &name)?;
    let indexes = view.definition().indexes();
    let parameters = Parameters::read(&uri, &known_names(indexes), |name| {
        COMMON.contains(&name) || OWN.contains(&name) || index_of(indexes, name).is_some()
    })?;
    let live = wants_live(&headers, &parameters)?;
    let at = as_of(&view, &parameters).await?;
    let query = ListQuery {
        index: index(indexes, &parameters)?,
        order: order_or(&parameters, Order::Ascending)?,
        limit: parameters.limit(LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX)?,
        cursor: parameters.get("cursor").map(str::to_owned),
        as_of: at,
    };
    ready(&view, &parameters, at.unwrap_or(Position::ZERO)).await?;
    if live {
        return live_list(&shared, view, query, &headers);
    }
    let reader = view.clone();
    let reading = tokio::task::spawn_blocking(move || reader.list(&query).map(|page| (body(&page), page)));
    let read = reading.await.map_err(|error| lost(&error))?;
    let (body, page) = read.map_err(|error| query_problem(&error))?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    place(headers, &view, page.position, page.epoch);
    if let Some(cursor) = &page.next_cursor {
        headers.insert(LINK, next_link(&parameters.link(uri.path(), "cursor", cursor)));
    }
    Ok(response)
}

/// Name, kind and end (`""`, `"from"`, `"to"`) of the index that a parameter is about.
fn index_of(indexes: Indexes, parameter: &str) -> Option<(&'static str, IndexKind, &str)> {
    indexes
        .iter()
        .find_map(|(name, kind)| match parameter.strip_prefix(name)? {
            "" => Some((*name, *kind, "")),
            ".from" => Some((*name, *kind, "from")),
            ".to" => Some((*name, *kind, "to")),
            _ => None,
        })
}

fn known_names(indexes: Indexes) -> String {
    let own = OWN.into_iter().chain(COMMON).map(str::to_owned);
    let indexes = indexes
        .iter()
        .map(|(name, _)| format!("{name}, {name}.from, {name}.to"));
    own.chain(indexes).collect::<Vec<_>>().join(", ")
}

/// The order that is asked for, else this one.
pub(super) fn order_or(parameters: &Parameters, unsaid: Order) -> Result<Order, Problem> {
    match parameters.get("order") {
        None => Ok(unsaid),
        Some("asc") => Ok(Order::Ascending),
        Some("desc") => Ok(Order::Descending),
        Some(other) => Err(wrong("order", other, "asc or desc")),
    }
}

fn index(indexes: Indexes, parameters: &Parameters) -> Result<Option<(String, IndexRange)>, Problem> {
    let mut found: Option<(&'static str, IndexRange)> = None;
    for (parameter, text) in parameters.iter() {
        let Some((name, kind, end)) = index_of(indexes, parameter) else {
            continue;
        };
        if found.as_ref().is_some_and(|(other, _)| *other != name) {
            return Err(wrong(parameter, text, "one index at a time"));
        }
        let value = IndexValue::parse(kind, text)
            .map_err(|what| wrong(parameter, text, &format!("another value, because {what}")))?;
        let range = match (found.take().map(|(_, range)| range), end) {
            (None, "") => IndexRange::Equal(value),
            (None, "from") => IndexRange::Between {
                from: Some(value),
                to: None,
            },
            (None, _) => IndexRange::Between {
                from: None,
                to: Some(value),
            },
            (Some(IndexRange::Between { to, .. }), "from") => IndexRange::Between { from: Some(value), to },
            (Some(IndexRange::Between { from, .. }), "to") => IndexRange::Between { from, to: Some(value) },
            (Some(_), _) => {
                return Err(wrong(
                    parameter,
                    text,
                    &format!("either {name} or {name}.from and {name}.to"),
                ));
            }
        };
        found = Some((name, range));
    }
    Ok(found.map(|(name, range)| (name.to_owned(), range)))
}

fn body(page: &ListPage) -> String {
    let size: usize = page.rows.iter().map(|(key, row)| key.len() + 2 * row.len() + 24).sum();
    let mut out = String::with_capacity(size + 96);
    out.push_str(r#"{"rows":["#);
    for (index, (key, row)) in page.rows.iter().enumerate() {
        out.push_str(if index == 0 { r#"{"key":"# } else { r#",{"key":"# });
        push_json_text(&mut out, key);
        // A row that is not MessagePack is found by the view, which does not return it.
        let row = to_json(row).unwrap_or(serde_json::Value::Null);
        let _ = write!(out, r#","row":{row}"#);
        if let Some(parked) = page.parked.get(key) {
            let _ = write!(out, r#","parked":"{parked}""#);
        }
        out.push('}');
    }
    out.push_str(r#"],"next_cursor":"#);
    match &page.next_cursor {
        Some(cursor) => push_json_text(&mut out, cursor),
        None => out.push_str("null"),
    }
    let _ = write!(out, r#","position":"{}"}}"#, page.position);
    out
}
