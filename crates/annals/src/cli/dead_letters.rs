//! `annals dead-letters`: what views and reactors could not do, and what is to become of it.

use super::output::{FormatArg, Listing, Stdout};
use super::verdict::{Outcome, Verdict};
use crate::backend::Backend;
use crate::http::{Server, path_part};
use crate::node::{Store, projection_settings};
use crate::source::{DataArg, Instead, Source};
use annals_core::{Appender, Metadata, Position, cloud_event, to_json};
use annals_projections::{DeadLetter, Operation, Verb, dead_letters_offline, stored_row};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::Write;

const COLUMNS: [&str; 9] = [
    "id",
    "state",
    "projection",
    "key",
    "position",
    "event_type",
    "attempts",
    "waiting",
    "error",
];

const HELP: &str = "\
A dead letter is an event that a view could not fold, or a command of a reactor that could not
be carried out, however often it was tried. Its key is parked: what comes later for that key
waits, in order. A view may also stop instead, see `annals projections`.

retry tries it once more, when the cause is mended. skip passes it by for good, in this version
of the view, also when the view is rebuilt. Both stand in the log, in $operations/NAME.

Examples:
  annals dead-letters list --url http://127.0.0.1:8081
  annals dead-letters show orders:1:1234:9ae0daaf
  annals dead-letters retry orders:1:1234:9ae0daaf --url http://127.0.0.1:8081
  annals dead-letters skip orders:1:1234:9ae0daaf --reason 'sent twice by the till'";

/// List, show, retry and skip what views and reactors could not do
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List dead letters
    List {
        /// Only of this view or reactor
        #[arg(long, value_name = "NAME")]
        view: Option<String>,

        #[command(flatten)]
        place: PlaceArgs,

        #[command(flatten)]
        format: FormatArg,
    },
    /// Show a dead letter with its event and the row as it stands
    Show {
        /// Its id
        id: String,

        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Try once more what failed, in a running server
    Retry {
        /// Its id
        id: String,

        #[command(flatten)]
        decision: DecisionArgs,

        /// URL of a running query API
        #[arg(long, value_name = "URL")]
        url: String,
    },
    /// Pass by what failed, for good; needs a reason
    Skip {
        /// Its id
        id: String,

        #[command(flatten)]
        decision: DecisionArgs,

        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Who decides, and why.
#[derive(Debug, clap::Args)]
pub(super) struct DecisionArgs {
    /// Why; it stands in the log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,

    /// Who decides [default: the user of this shell]
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

/// A data directory, or a running server.
#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    pub(super) data: DataArg,

    /// URL of a running query API
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(super) url: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        match &self.action {
            Action::List { view, place, format } => list(backend, view.as_deref(), place, format)?,
            Action::Show { id, place } => show(backend, id, place)?,
            Action::Retry { id, decision, url } => {
                decide(url, &format!("dead-letters/{}/retry", path_part(id)), decision, None)?;
            }
            Action::Skip { id, decision, place } => match &place.url {
                Some(url) => decide(url, &format!("dead-letters/{}/skip", path_part(id)), decision, None)?,
                None => skip_offline(backend, id, decision, &place.data)?,
            },
        }
        Ok(Verdict::Fine)
    }
}

fn list(backend: &Backend, view: Option<&str>, place: &PlaceArgs, format: &FormatArg) -> Result<()> {
    let letters = match &place.url {
        Some(url) => remote(&Server::at(url)?, view)?,
        None => {
            let letters = offline(backend, &place.data)?.1;
            letters.iter().map(shown).collect()
        }
    };
    let mut listing = Listing::stdout(format.resolve(), &COLUMNS);
    for letter in letters
        .iter()
        .filter(|letter| view.is_none_or(|view| letter["projection"] == view))
    {
        listing.row(letter)?;
    }
    Ok(listing.finish()?)
}

fn remote(server: &Server, view: Option<&str>) -> Result<Vec<Value>> {
    let view = view
        .map(|view| format!("&view={}", path_part(view)))
        .unwrap_or_default();
    let (mut letters, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = server.json(&format!("/v1/dead-letters?limit=1000{view}{cursor}"))?;
        let rows = page["dead_letters"].take();
        let none = || format!("{} lists no dead letters: name the URL of a query API", server.url());
        letters.extend(rows.as_array().with_context(none)?.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", path_part(next)),
            None => return Ok(letters),
        }
    }
}

fn show(backend: &Backend, id: &str, place: &PlaceArgs) -> Result<()> {
    let whole = match &place.url {
        Some(url) => Server::at(url)?.json(&format!("/v1/dead-letters/{}", path_part(id)))?,
        None => {
            let (source, letters) = offline(backend, &place.data)?;
            let letter = find(&letters, id)?;
            whole(backend, &source, letter)?
        }
    };
    writeln!(Stdout::new(), "{}", serde_json::to_string_pretty(&whole)?)?;
    Ok(())
}

fn whole(backend: &Backend, source: &Source, letter: &DeadLetter) -> Result<Value> {
    let mut whole = shown(letter);
    if let Some(record) = source.log.read_one(letter.position)? {
        whole["event"] = Value::Object(cloud_event(source.log.name(), &record.view()?));
    }
    if let (Some(key), Ok(view)) = (&letter.key, super::projections::find_view(backend, &letter.projection)) {
        let row = stored_row(&projection_settings(source.dir()?), view, key)?;
        whole["row"] = row.and_then(|row| to_json(&row)).unwrap_or(Value::Null);
    }
    Ok(whole)
}

fn offline(backend: &Backend, data: &DataArg) -> Result<(Source, Vec<DeadLetter>)> {
    let source = Source::local(&data.data).map_err(|error| Instead::QueryApi.of(error))?;
    source.check_domain(backend)?;
    let letters = dead_letters_offline(backend.views(), backend.reactors(), &projection_settings(source.dir()?))?;
    Ok((source, letters))
}

fn find<'a>(letters: &'a [DeadLetter], id: &str) -> Result<&'a DeadLetter> {
    letters
        .iter()
        .find(|letter| letter.id == id)
        .with_context(|| format!("there is no dead letter {id:?}: see `annals dead-letters list`"))
}

fn shown(letter: &DeadLetter) -> Value {
    let mut shown = json!(letter);
    // Positions are texts, as in the API.
    shown["position"] = json!(letter.position.to_string());
    shown
}

fn skip_offline(backend: &Backend, id: &str, decision: &DecisionArgs, data: &DataArg) -> Result<()> {
    let letter = {
        let (_source, letters) = offline(backend, data)?;
        find(&letters, id)?.clone()
    };
    append_offline(
        backend,
        data,
        &letter.operation(Verb::Skip, &decision.reason)?,
        decision,
    )
}

/// Writes a decision into the log while no server runs.
pub(super) fn append_offline(
    backend: &Backend,
    data: &DataArg,
    operation: &Operation,
    decision: &DecisionArgs,
) -> Result<()> {
    let metadata = Metadata {
        actor: Some(decision.who()),
        ..Metadata::default()
    };
    let append = operation.append(metadata)?;
    // Opened for reading first, because a directory that is not there must not be created.
    drop(Source::local(&data.data).map_err(|error| Instead::QueryApi.of(error))?);
    let store = Store::open(&data.data, backend).map_err(|error| Instead::QueryApi.of(error))?;
    let appended = super::runtime()?.block_on(store.log().append(append))?;
    store.close();
    super::note(format_args!(
        "recorded at position {}: {} heeds it at the next `serve`",
        appended.position,
        operation.projection()
    ));
    Ok(())
}

/// Says a decision to a running server; `from` where a reactor is told to go on.
pub(super) fn decide(url: &str, path: &str, decision: &DecisionArgs, from: Option<Position>) -> Result<()> {
    let mut body = json!({ "reason": decision.reason });
    if let Some(from) = from {
        body["from"] = json!(from.to_string());
    }
    let body = body.to_string();
    let answer = Server::at(url)?.post_as(&format!("/v1/{path}"), &decision.who(), body.as_bytes())?;
    let position = answer["position"].as_str();
    let position =
        position.with_context(|| format!("{url} does not say where it recorded that: is it a query API?"))?;
    super::note(format_args!("recorded at position {position}"));
    Ok(())
}

impl DecisionArgs {
    fn who(&self) -> String {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.actor.clone().or_else(user).unwrap_or_else(|| "anonymous".into())
    }
}
