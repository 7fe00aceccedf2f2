//! `annals projections`: how far views and reactors are; `pause` and `resume`, also of a reactor that lost its outbox.

use super::dead_letters::{DecisionArgs, PlaceArgs, append_offline, decide};
use super::output::{FormatArg, Listing};
use super::verdict::{Outcome, Verdict};
use crate::backend::Backend;
use crate::http::{Server, path_part};
use crate::node::projection_settings;
use crate::source::{DataArg, Instead, Source};
use annals_core::Position;
use annals_projections::{Operation, OperationError, Verb, ViewDefinition, resume_reactor, statuses_offline};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

const COLUMNS: [&str; 9] = [
    "name",
    "kind",
    "state",
    "position",
    "lag_events",
    "lag_seconds",
    "rate",
    "dead_letters",
    "error",
];

const HELP: &str = "\
Examples:
  annals projections                                 offline, read from their stores
  annals projections --url http://127.0.0.1:8081     of a running server (its query API)
  annals projections --url http://127.0.0.1:8080     the reactors of a command node (its command API)
  annals projections pause orders --url http://127.0.0.1:8081
  annals projections resume orders --url http://127.0.0.1:8081
  annals projections resume fulfilment --from 1201   after an outbox was lost";

const PAUSE_HELP: &str = "\
A view that is paused folds nothing and serves its rows as they stand; a reactor that is paused
neither reacts nor sends commands. It rests until it is resumed, also after a restart. The
decision stands in the log, in $operations/NAME.

Example:
  annals projections pause orders --url http://127.0.0.1:8081 --reason 'disk is being moved'";

const RESUME_HELP: &str = "\
Without --from: one that was paused goes on. One that has stopped is not resumed so.

An outbox is not derived from the log. If it is missing, its reactor refuses to run, because
it cannot know which of its commands were sent. The event at the position given with --from is
then the first that it reacts to; from those before it takes its state alone. So it is after a
restore. The decision stands in the log, in $operations/NAME.

Examples:
  annals projections resume orders --url http://127.0.0.1:8081
  annals projections resume fulfilment --from 1201
  annals projections resume fulfilment --from 1201 --url http://127.0.0.1:8081";

/// Show state, position and lag of views and reactors
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    data: DataArg,

    /// URL of a running query API
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,

    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let a view or reactor rest
    #[command(after_help = PAUSE_HELP)]
    Pause {
        /// The view or reactor
        name: String,

        #[command(flatten)]
        decision: DecisionArgs,

        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Let one that was paused go on, or tell a reactor whose outbox is lost from where to go on
    #[command(after_help = RESUME_HELP)]
    Resume {
        /// The view or reactor
        name: String,

        /// Position of the first event that a reactor whose outbox is lost reacts to
        #[arg(long, value_name = "POSITION")]
        from: Option<Position>,

        #[command(flatten)]
        decision: DecisionArgs,

        #[command(flatten)]
        place: PlaceArgs,
    },
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        match &self.action {
            Some(Action::Resume {
                name,
                from: Some(from),
                decision,
                place,
            }) => resume(backend, name, *from, decision, place),
            Some(Action::Resume {
                name, decision, place, ..
            }) => rest(backend, name, false, decision, place),
            Some(Action::Pause { name, decision, place }) => rest(backend, name, true, decision, place),
            None => self.list(backend),
        }
    }

    fn list(&self, backend: &Backend) -> Outcome {
        let statuses = match &self.url {
            Some(url) => remote(&Server::at(url)?)?,
            None => offline(backend, &self.data)?,
        };
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS);
        for status in &statuses {
            listing.row(status)?;
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }
}

fn remote(server: &Server) -> Result<Vec<Value>> {
    let answer = server.json("/v1/projections")?;
    let list = answer.as_array().or_else(|| answer.get("projections")?.as_array());
    let none = || {
        format!(
            "{} lists no projections: name the URL of a query API, such as http://127.0.0.1:8081",
            server.url()
        )
    };
    Ok(list.with_context(none)?.clone())
}

fn offline(backend: &Backend, data: &DataArg) -> Result<Vec<Value>> {
    let source = Source::local(&data.data).map_err(|error| Instead::QueryApi.of(error))?;
    source.check_domain(backend)?;
    let settings = projection_settings(source.dir()?);
    let statuses = statuses_offline(source.log.as_ref(), backend.views(), backend.reactors(), &settings);
    statuses
        .iter()
        .map(|status| {
            let mut status_json = serde_json::to_value(status)?;
            // Positions are texts, as in the API.
            status_json["position"] = json!(status.position.to_string());
            status_json["head"] = json!(status.head.to_string());
            Ok(status_json)
        })
        .collect()
}

fn resume(backend: &Backend, name: &str, from: Position, decision: &DecisionArgs, place: &PlaceArgs) -> Outcome {
    if let Some(url) = &place.url {
        let path = format!("projections/{}/resume", path_part(name));
        decide(url, &path, decision, Some(from))?;
        return Ok(Verdict::Fine);
    }
    let operation = Operation::new(name, None, Verb::Resume, &decision.reason)?.going_on_from(from);
    // Opened as a server would open it: a directory that is held or of another domain is refused.
    let source = Source::local(&place.data.data).map_err(|error| Instead::QueryApi.of(error))?;
    source.check_domain(backend)?;
    let settings = projection_settings(source.dir()?);
    resume_reactor(source.log.as_ref(), backend.reactors(), &settings, name, from)?;
    drop(source);
    append_offline(backend, &place.data, &operation, decision)?;
    super::note(format_args!(
        "reactor {name} goes on from position {from} at the next `serve`"
    ));
    Ok(Verdict::Fine)
}

/// Lets a view or reactor rest, or go on.
fn rest(backend: &Backend, name: &str, pause: bool, decision: &DecisionArgs, place: &PlaceArgs) -> Outcome {
    if let Some(url) = &place.url {
        let verb = if pause { "pause" } else { "resume" };
        decide(url, &format!("projections/{}/{verb}", path_part(name)), decision, None)?;
        return Ok(Verdict::Fine);
    }
    let version = match backend.reactors().iter().any(|reactor| reactor.name() == name) {
        true if pause => None,
        true => {
            check_rests(backend, name, &place.data)?;
            None
        }
        false => Some(find_view(backend, name)?.version()),
    };
    let verb = if pause { Verb::Pause } else { Verb::Resume };
    let operation = Operation::new(name, version, verb, &decision.reason)?;
    append_offline(backend, &place.data, &operation, decision)?;
    Ok(Verdict::Fine)
}

/// An error for a reactor that would not go on: it has to be told from where.
fn check_rests(backend: &Backend, name: &str, data: &DataArg) -> Result<()> {
    let source = Source::local(&data.data).map_err(|error| Instead::QueryApi.of(error))?;
    source.check_domain(backend)?;
    let settings = projection_settings(source.dir()?);
    let statuses = statuses_offline(source.log.as_ref(), &[], backend.reactors(), &settings);
    let status = statuses.into_iter().find(|status| status.name == name);
    match status.and_then(|status| status.error) {
        Some(detail) => bail!(
            "{}",
            OperationError::Waits {
                name: name.to_owned(),
                detail
            }
        ),
        None => Ok(()),
    }
}

/// The view of this name; the error names those there are.
pub(crate) fn find_view<'a>(backend: &'a Backend, name: &str) -> Result<&'a ViewDefinition> {
    backend.views().iter().find(|view| view.name() == name).ok_or_else(|| {
        let known: Vec<_> = backend.views().iter().map(ViewDefinition::name).collect();
        anyhow!("there is no view {name:?}; there are: {}", known.join(", "))
    })
}
