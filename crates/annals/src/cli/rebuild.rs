//! `annals rebuild`: builds views anew beside the ones that serve, offline or in a running server.

use super::output::{FormatArg, Listing};
use super::progress;
use super::projections::find_view;
use super::verdict::{Outcome, Verdict};
use crate::backend::Backend;
use crate::http::{Server, position};
use crate::node::projection_settings;
use crate::source::{DataArg, Instead, Source};
use annals_core::{Catalog, EventLog};
use annals_projections::{ProjectionSettings, RebuildOptions, RebuildReport, ViewDefinition, rebuild_offline};
use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;

const COLUMNS: [&str; 10] = [
    "view",
    "version",
    "position",
    "rows",
    "seconds",
    "swapped",
    "same",
    "only_old",
    "only_new",
    "differing",
];
/// How often a server is asked how far it is.
const POLL: Duration = Duration::from_millis(200);

const HELP: &str = "\
The new rows are built beside the old ones and take their place in one step; in a running
server queries never notice. --compare says how many rows differ, which none should unless
code or data changed; --no-swap only looks.

Examples:
  annals rebuild orders
  annals rebuild --all --compare
  annals rebuild orders --url http://127.0.0.1:8081      in a running server (its query API)

Exit code: 0 done; 1 --compare found rows that differ; 2 usage or environment.";

/// Rebuild views from the log
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, group = clap::ArgGroup::new("which").args(["view", "all"]).required(true))]
pub(crate) struct Args {
    /// The view
    #[arg(value_name = "VIEW")]
    view: Option<String>,

    /// All views
    #[arg(long)]
    all: bool,

    /// Compare the new rows with the old ones
    #[arg(long, conflicts_with = "url")]
    compare: bool,

    /// Leave the old rows in place
    #[arg(long, conflicts_with = "url")]
    no_swap: bool,

    #[command(flatten)]
    data: DataArg,

    /// URL of a running query API
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        let rows = match &self.url {
            Some(url) => self.remote(backend, &Server::at(url)?)?,
            None => self.offline(backend)?,
        };
        let holds = rows.iter().all(|row| row["holds"] != Value::Bool(false));
        Verdict::holds(holds).listed(self.list(&rows))
    }

    fn list(&self, rows: &[Value]) -> io::Result<()> {
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS);
        for row in rows {
            listing.row(row)?;
        }
        listing.finish()
    }

    fn offline(&self, backend: &Backend) -> Result<Vec<Value>> {
        let views = match &self.view {
            Some(name) => vec![find_view(backend, name)?],
            None => backend.views().iter().collect(),
        };
        let instead = if self.compare || self.no_swap {
            Instead::Nothing
        } else {
            Instead::QueryApi
        };
        let source = Source::local(&self.data.data).map_err(|error| instead.of(error))?;
        source.check_domain(backend)?;
        let work = Work {
            log: source.log.as_ref(),
            catalog: &*backend.catalog()?,
            settings: projection_settings(source.dir()?),
            options: RebuildOptions {
                swap: !self.no_swap,
                compare: self.compare,
            },
        };
        views.into_iter().map(|view| Ok(row(&work.rebuild(view)?))).collect()
    }

    fn remote(&self, backend: &Backend, server: &Server) -> Result<Vec<Value>> {
        let names: Vec<String> = match &self.view {
            Some(name) => vec![name.clone()],
            None => backend.views().iter().map(|view| view.name().to_owned()).collect(),
        };
        names.iter().map(|name| remote(server, name)).collect()
    }
}

struct Work<'a> {
    log: &'a dyn EventLog,
    catalog: &'a Catalog,
    settings: ProjectionSettings,
    options: RebuildOptions,
}

impl Work<'_> {
    fn rebuild(&self, view: &ViewDefinition) -> Result<RebuildReport> {
        let bar = progress::bar(self.log.head().get(), "events");
        bar.set_message(view.name());
        let report = rebuild_offline(
            self.log,
            self.catalog,
            view,
            &self.settings,
            self.options,
            &mut |progress| {
                bar.set_position(progress.position.get());
            },
        )?;
        bar.finish_and_clear();
        Ok(report)
    }
}

/// A report as a row; without a comparison its columns stay empty.
fn row(report: &RebuildReport) -> Value {
    let mut row = json!({
        "view": report.view,
        "version": report.version,
        "position": report.position.to_string(),
        "rows": report.rows,
        "seconds": (report.seconds * 1_000.0).round() / 1_000.0,
        "swapped": report.swapped,
    });
    if let Some(comparison) = &report.comparison {
        row["holds"] = json!(comparison.is_same());
        row["same"] = json!(comparison.same);
        row["only_old"] = json!(comparison.only_old);
        row["only_new"] = json!(comparison.only_new);
        row["differing"] = json!(comparison.differing);
        row["unreadable"] = json!(comparison.unreadable);
        row["first"] = json!(comparison.first);
    }
    row
}

/// Has a server rebuild a view, and waits for it.
fn remote(server: &Server, name: &str) -> Result<Value> {
    ensure!(
        annals_core::check_category(name).is_ok(),
        "{name:?} is no name of a view"
    );
    let path = format!("/v1/projections/{name}/rebuild");
    server.post(&path)?;
    let bar = progress::bar(0, "events");
    bar.set_message(name.to_owned());
    loop {
        let status = server.json(&path)?;
        show(&bar, &status);
        match status["state"]
            .as_str()
            .context("the server does not say how the rebuild is doing")?
        {
            "running" => std::thread::sleep(POLL),
            "done" => {
                bar.finish_and_clear();
                return Ok(json!({
                    "view": name,
                    "version": status["version"],
                    "position": status["position"],
                    "swapped": true,
                }));
            }
            other => bail!(
                "the rebuild of {name} is {other}: {}",
                status["error"].as_str().unwrap_or("no reason given")
            ),
        }
    }
}

fn show(bar: &ProgressBar, status: &Value) {
    if let (Some(position), Some(total)) = (position(status, "position"), position(status, "total")) {
        bar.set_length(total);
        bar.set_position(position);
    }
}
