//! `/v1/projections/{view}/swap`, `rollback` and `rebuild/…`: what is done with rebuilds and the rows that they leave.

use super::projections::{answer, rebuild_problem, shown};
use super::read::unknown_view;
use crate::body;
use crate::object::object;
use crate::parameters::{Parameters, invalid};
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_projections::{Projections, RebuildError, RebuildFrom, RebuildOptions};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

/// Begins to rebuild several views in one pass over the log: those of `views`, separated by commas, or all.
pub(crate) async fn begin_rebuilds(State(shared): State<Shared>, request: Request) -> Result<Response, Problem> {
    let parameters = asked(&shared, request, &["views", "compare", "swap"]).await?;
    let options = rebuild_options(&parameters)?;
    let names: Vec<String> = match parameters.get("views") {
        Some(names) => names.split(',').map(ToOwned::to_owned).collect(),
        None => {
            let views = shared
                .api
                .projections
                .as_ref()
                .map(Projections::views)
                .unwrap_or_default();
            views.iter().map(|view| view.definition().name().to_owned()).collect()
        }
    };
    for name in &names {
        // Before any of them begins.
        super::read::view(&shared, name)?;
    }
    let Some(first) = names.first() else {
        return Ok(answer(StatusCode::ACCEPTED, &json!({ "rebuilds": [] })));
    };
    let begun = projections(&shared, first)?.rebuild_together(&names, options);
    let told = names.iter().zip(begun).map(|(name, begun)| match begun {
        Ok(()) => json!({ "view": name, "begun": true }),
        Err(error) => json!({ "view": name, "begun": false, "error": error.to_string() }),
    });
    Ok(answer(
        StatusCode::ACCEPTED,
        &json!({ "rebuilds": told.collect::<Vec<_>>() }),
    ))
}

/// Puts rebuilt rows in place: begins it, the status tells of its end.
pub(crate) async fn swap(
    shared: State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    let options = RebuildOptions {
        from: RebuildFrom::Ready,
        compare: flag(&asked(&shared, request, &["compare"]).await?, "compare")?.unwrap_or(false),
        swap: true,
    };
    done(&shared, &name, |projections| projections.rebuild_with(&name, options))
}

/// Puts the rows in place that served before: begins it, the status tells of its end.
pub(crate) async fn rollback(
    shared: State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    asked(&shared, request, &[]).await?;
    let options = RebuildOptions {
        from: RebuildFrom::Previous,
        ..RebuildOptions::default()
    };
    done(&shared, &name, |projections| projections.rebuild_with(&name, options))
}

pub(crate) async fn pause_rebuild(
    shared: State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    asked(&shared, request, &[]).await?;
    done(&shared, &name, |projections| projections.pause_rebuild(&name))
}

pub(crate) async fn resume_rebuild(
    shared: State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    asked(&shared, request, &[]).await?;
    done(&shared, &name, |projections| projections.resume_rebuild(&name))
}

pub(crate) async fn cancel_rebuild(
    shared: State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    asked(&shared, request, &[]).await?;
    done(&shared, &name, |projections| projections.cancel_rebuild(&name))
}

/// Drops rows that are kept besides those that serve. May block on the disk for a moment.
pub(crate) async fn drop_rows(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    asked(&shared, request, &[]).await?;
    let projections = projections(&shared, &name)?;
    let dropped = projections.drop_spare_rows(&name);
    let dropped = dropped.map_err(|error| rebuild_problem(&shared, &name, &error))?;
    Ok(answer(StatusCode::OK, &json!({ "dropped": dropped })))
}

/// The query's parameters. What is asked for stands there alone, so that a body that says something is refused.
pub(super) async fn asked(shared: &Shared, request: Request, known: &[&str]) -> Result<Parameters, Problem> {
    let (head, body) = request.into_parts();
    let parameters = Parameters::of(&head.uri, known)?;
    let body = body::read(body, &shared.bounds).await?.bytes;
    let says_nothing = || object::<Map<String, Value>>(&body).is_ok_and(|said| said.is_empty());
    if body.trim_ascii().is_empty() || says_nothing() {
        return Ok(parameters);
    }
    let remedy = match known {
        [] => "leave it out".to_owned(),
        known => format!("write them into the query instead: {}", known.join(", ")),
    };
    Err(invalid(format!("this path reads no parameters from a body; {remedy}")))
}

/// `compare` and `swap` of a rebuild.
pub(super) fn rebuild_options(parameters: &Parameters) -> Result<RebuildOptions, Problem> {
    Ok(RebuildOptions {
        compare: flag(parameters, "compare")?.unwrap_or(false),
        swap: flag(parameters, "swap")?.unwrap_or(true),
        ..RebuildOptions::default()
    })
}

fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>, Problem> {
    match parameters.get(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(invalid(format!("parameter {name} is true or false"))),
    }
}

fn done(
    shared: &Shared,
    name: &str,
    act: impl FnOnce(&Projections) -> Result<(), RebuildError>,
) -> Result<Response, Problem> {
    let projections = projections(shared, name)?;
    act(projections).map_err(|error| rebuild_problem(shared, name, &error))?;
    let status = projections.rebuild_status(name);
    let status = status.map_or(Value::Null, |status| shown(&status));
    Ok(answer(StatusCode::ACCEPTED, &status))
}

fn projections<'a>(shared: &'a Shared, name: &str) -> Result<&'a Projections, Problem> {
    let projections = shared.api.projections.as_ref();
    projections.ok_or_else(|| unknown_view(shared, name))
}
