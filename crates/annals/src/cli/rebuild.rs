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
use annals_projections::{
    ProjectionSettings, RebuildFrom, RebuildOptions, RebuildProgress, RebuildReport, ViewDefinition, drop_spare_rows,
    rebuild_together_offline,
};
use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
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
server queries never notice. --compare says how many rows differ and how, both sides as of one
position, which none should unless code or data changed. The old rows are kept until the next
rebuild: --rollback goes back to them, --drop removes them. With --no-swap the new rows wait
until --swap puts them in place or --drop removes them. A rebuild that a kill interrupts goes
on where it was.

Examples:
  annals rebuild orders
  annals rebuild --all --compare
  annals rebuild orders --compare --no-swap              then: annals rebuild orders --swap
  annals rebuild orders --rollback
  annals rebuild orders --url http://127.0.0.1:8081      in a running server (its query API)
  annals rebuild orders --pause --url http://127.0.0.1:8081

Exit code: 0 done; 1 --compare found rows that differ; 2 usage or environment.";

/// Rebuild views from the log
#[derive(Debug, clap::Args)]
#[command(
    after_help = HELP,
    group = clap::ArgGroup::new("which").args(["view", "all"]).required(true),
    group = clap::ArgGroup::new("what").args(["no_swap", "swap", "rollback", "drop", "pause", "resume", "cancel"])
)]
pub(crate) struct Args {
    /// The view
    #[arg(value_name = "VIEW")]
    view: Option<String>,

    /// All views
    #[arg(long)]
    all: bool,

    /// Compare the new rows with the old ones
    #[arg(long, conflicts_with_all = ["rollback", "drop", "pause", "resume", "cancel"])]
    compare: bool,

    /// Leave the old rows in place; the new ones wait
    #[arg(long)]
    no_swap: bool,

    /// Put rows in place that were rebuilt with --no-swap
    #[arg(long)]
    swap: bool,

    /// Put the rows in place that served before the last rebuild
    #[arg(long)]
    rollback: bool,

    /// Remove the rows that are kept for --rollback or --swap
    #[arg(long)]
    drop: bool,

    /// Let a rebuild in a running server rest, also after a restart
    #[arg(long, requires = "url")]
    pause: bool,

    /// Let one that rests go on
    #[arg(long, requires = "url")]
    resume: bool,

    /// End one; the old rows stay
    #[arg(long, requires = "url")]
    cancel: bool,

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
        // An option that another one conflicts with is not missed by the parser, so that `requires` alone lets --data pass.
        let of_a_server = [
            ("--pause", self.pause),
            ("--resume", self.resume),
            ("--cancel", self.cancel),
        ];
        if let Some((option, _)) = of_a_server.iter().find(|(_, given)| *given) {
            bail!("{option} is about the rebuild of a running server: name its query API with --url instead of --data");
        }
        let views = match &self.view {
            Some(name) => vec![find_view(backend, name)?],
            None => backend.views().iter().collect(),
        };
        let source = Source::local(&self.data.data).map_err(|error| Instead::QueryApi.of(error))?;
        source.check_domain(backend)?;
        if self.drop {
            let settings = projection_settings(source.dir()?);
            let dropped = |view: &ViewDefinition| {
                let dropped = drop_spare_rows(&settings, view)?;
                Ok(json!({ "view": view.name(), "version": view.version(), "dropped": dropped }))
            };
            return views.into_iter().map(dropped).collect();
        }
        let work = Work {
            log: source.log.as_ref(),
            catalog: &*backend.catalog()?,
            settings: projection_settings(source.dir()?),
            options: RebuildOptions {
                from: match (self.swap, self.rollback) {
                    (true, _) => RebuildFrom::Ready,
                    (_, true) => RebuildFrom::Previous,
                    _ => RebuildFrom::Log,
                },
                swap: !self.no_swap,
                compare: self.compare,
            },
        };
        Ok(work.rebuild(&views)?.iter().map(row).collect())
    }

    fn remote(&self, backend: &Backend, server: &Server) -> Result<Vec<Value>> {
        let names: Vec<String> = match &self.view {
            Some(name) => vec![name.clone()],
            None => backend.views().iter().map(|view| view.name().to_owned()).collect(),
        };
        let asked = self.asked();
        // Several are rebuilt in one pass; what is done with rebuilt rows is done one after the other.
        if let Some(how) = asked.strip_prefix("rebuild?").filter(|_| names.len() > 1) {
            let answer = server.post(&format!("/v1/projections/rebuild?views={}&{how}", names.join(",")))?;
            for begun in answer["rebuilds"].as_array().into_iter().flatten() {
                ensure!(
                    begun["begun"] == true,
                    "{}",
                    begun["error"].as_str().unwrap_or("no reason given")
                );
            }
            return names.iter().map(|name| wait_for(server, name)).collect();
        }
        names.iter().map(|name| remote(server, name, &asked)).collect()
    }

    /// What a server is asked to do, after `/v1/projections/NAME/`.
    fn asked(&self) -> String {
        let compare = self.compare;
        match () {
            () if self.swap => format!("swap?compare={compare}"),
            () if self.rollback => "rollback".into(),
            () if self.drop => "rebuild/drop".into(),
            () if self.pause => "rebuild/pause".into(),
            () if self.resume => "rebuild/resume".into(),
            () if self.cancel => "rebuild/cancel".into(),
            () => format!("rebuild?compare={compare}&swap={}", !self.no_swap),
        }
    }
}

struct Work<'a> {
    log: &'a dyn EventLog,
    catalog: &'a Catalog,
    settings: ProjectionSettings,
    options: RebuildOptions,
}

impl Work<'_> {
    /// All of them in one pass over the log.
    fn rebuild(&self, views: &[&ViewDefinition]) -> Result<Vec<RebuildReport>> {
        let head = self.log.head().get();
        let bar = progress::bar(head.saturating_mul(views.len() as u64), "events");
        if let [view] = views {
            bar.set_message(view.name());
        }
        let read: Vec<AtomicU64> = views.iter().map(|_| AtomicU64::new(0)).collect();
        let told = |number: usize, progress: RebuildProgress| {
            if let Some(read) = read.get(number) {
                read.store(progress.position.get(), Ordering::Relaxed);
            }
            bar.set_position(read.iter().map(|read| read.load(Ordering::Relaxed)).sum());
        };
        let reports = rebuild_together_offline(self.log, self.catalog, views, &self.settings, self.options, &told);
        bar.finish_and_clear();
        reports.into_iter().map(|report| Ok(report?)).collect()
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
        add_comparison(&mut row, &json!(comparison));
    }
    row
}

/// The fields of a comparison, as columns of a row.
fn add_comparison(row: &mut Value, comparison: &Value) {
    let count = |name: &str| comparison[name].as_u64().unwrap_or(0);
    let differs = count("only_old") + count("only_new") + count("differing") > 0;
    row["holds"] = json!(comparison["unreadable"].is_null() && !differs);
    row["compared_at"] = comparison["position"].clone();
    for name in ["same", "only_old", "only_new", "differing", "unreadable", "first"] {
        row[name] = comparison[name].clone();
    }
}

/// Asks a server for something to be done with a view, and waits for it if it takes its time.
fn remote(server: &Server, name: &str, asked: &str) -> Result<Value> {
    ensure!(
        annals_core::check_category(name).is_ok(),
        "{name:?} is no name of a view"
    );
    let answer = server.post(&format!("/v1/projections/{name}/{asked}"))?;
    if let Some(verb) = asked.strip_prefix("rebuild/") {
        return Ok(match verb {
            "drop" => json!({ "view": name, "dropped": answer["dropped"] }),
            _ => json!({ "view": name, "version": answer["version"], "position": answer["position"] }),
        });
    }
    wait_for(server, name)
}

/// Waits until a rebuild is over.
fn wait_for(server: &Server, name: &str) -> Result<Value> {
    let path = format!("/v1/projections/{name}/rebuild");
    let bar = progress::bar(0, "events");
    bar.set_message(name.to_owned());
    loop {
        let status = server.json(&path)?;
        show(&bar, &status);
        match status["state"]
            .as_str()
            .context("the server does not say how the rebuild is doing")?
        {
            "running" | "paused" => std::thread::sleep(POLL),
            state @ ("done" | "ready") => {
                bar.finish_and_clear();
                let mut row = json!({
                    "view": name,
                    "version": status["version"],
                    "position": status["position"],
                    "swapped": state == "done",
                });
                if status["comparison"].is_object() {
                    add_comparison(&mut row, &status["comparison"]);
                }
                return Ok(row);
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
