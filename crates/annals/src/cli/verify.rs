//! `annals verify`: is the log what was written?

mod remote;
mod signed;

use super::output::{FormatArg, Listing};
use super::progress;
use super::trust::{Trust, TrustArg};
use super::verdict::{Outcome, Verdict};
use crate::remote_log::RemoteLog;
use crate::source::{Kind, LogArgs};
use annals_core::{EventLog, LogError, Position};
use annals_event_store::{BackupError, BackupLog, DataDir, OpenError, SledLog};
use anyhow::{Result, bail};
use serde_json::json;
use signed::Signed;
use std::io;

const COLUMNS: [&str; 9] = [
    "result",
    "position",
    "what",
    "events",
    "blocks",
    "head",
    "covered",
    "uncovered",
    "trust",
];
/// Most problems that are listed; the last line says how many there are.
const LISTED_MAX: usize = 100;

const HELP: &str = "\
Reads every block and checks its checksum, that positions have no gap, that versions of
every stream count from 1, that recorded times never run backwards, and that the indexes say
what the log says. Against a running server (--url), what the server sends is checked; its
indexes are not. A data directory that cannot be written is left as it is; a few files of it
are copied to the directory for temporary files (TMPDIR).

Of a data directory, the Merkle root is compared with every signed checkpoint, and with what
--trust brings from outside: whoever could change the log could change its keys and checkpoints
too, so without --trust the log is \"consistent, not authenticated\". How many events at the
end no checkpoint covers is said.

Examples:
  annals verify
  annals verify --data shop --format json
  annals verify --data shop --trust monday.checkpoint
  annals verify --url http://127.0.0.1:8080

Exit code: 0 all of it holds; 1 it does not, each place is named by its position (the first
100 of them, and how many there are); 2 usage or environment.";

/// Check every block, gaplessness, versions, time order and indexes
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    source: LogArgs,

    #[command(flatten)]
    trust: TrustArg,

    #[command(flatten)]
    format: FormatArg,
}

/// What a check found.
#[derive(Debug, Default)]
struct Report {
    events: u64,
    blocks: u64,
    head: Position,
    problems: Vec<Problem>,
    /// How many there are; not all of very many are listed.
    problem_count: u64,
    /// What signed checkpoints say; of a data directory.
    signed: Option<Signed>,
}

impl Report {
    fn holds(&self) -> bool {
        self.problem_count == 0
    }

    /// Of a log that cannot be read any further.
    fn damaged(position: Position, what: String) -> Self {
        Self {
            problems: vec![Problem { position, what }],
            problem_count: 1,
            ..Self::default()
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    position: Position,
    what: String,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        let trust = self.trust.read()?;
        let report = match self.source.open() {
            Ok(source) => match &source.kind {
                Kind::Local { dir, log } => signed(local(dir, log)?, dir, log, &trust)?,
                _ if !trust.is_empty() => bail!("--trust is for a data directory: name it with --data"),
                Kind::Backup(log) => backup(log)?,
                Kind::Remote => remote::check(source.log.as_ref())?,
            },
            // A log too damaged to open does not hold: that is what was asked.
            Err(error) => match damaged_at(&error) {
                Some(position) => Report::damaged(position, error.to_string()),
                None => return Err(error),
            },
        };
        Verdict::holds(report.holds()).listed(self.show(&report))
    }

    fn show(&self, report: &Report) -> io::Result<()> {
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS);
        for problem in report.problems.iter().take(LISTED_MAX) {
            listing.row(&json!({
                "result": "damaged",
                "position": problem.position.to_string(),
                "what": problem.what,
            }))?;
        }
        let holds = report.holds();
        let what = if holds {
            "all of it holds".to_owned()
        } else if report.problem_count > LISTED_MAX as u64 {
            format!("{} problems, the first {LISTED_MAX} are listed", report.problem_count)
        } else {
            let ending = if report.problem_count == 1 { "" } else { "s" };
            format!("{} problem{ending}", report.problem_count)
        };
        let mut row = json!({
            "result": if holds { "ok" } else { "damaged" },
            "what": what,
            "problems": report.problem_count,
            "events": report.events,
            "blocks": report.blocks,
            "head": report.head.to_string(),
        });
        if let Some(signed) = &report.signed {
            row["checkpoints"] = json!(signed.checkpoints);
            row["covered"] = json!(signed.covered.to_string());
            row["uncovered"] = json!(report.head.get().saturating_sub(signed.covered));
            row["trust"] = json!(signed.trust);
        }
        listing.row(&row)?;
        listing.finish()
    }
}

/// The first problem of a running server's log, if there is one: where, and what.
pub(super) fn first_problem(url: &str) -> Result<Option<(Position, String)>> {
    let log = RemoteLog::connect(url)?;
    let mut problems = remote::check(&log)?.problems.into_iter();
    Ok(problems.next().map(|problem| (problem.position, problem.what)))
}

/// Where a log is too damaged to be opened, if that is why it was not.
fn damaged_at(error: &anyhow::Error) -> Option<Position> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(OpenError::Damaged { position, .. }), _) | (_, Some(BackupError::Damaged { position, .. })) => {
            Some(*position)
        }
        _ => None,
    }
}

fn backup(log: &BackupLog) -> Result<Report, BackupError> {
    let bar = progress::bar(log.head().get(), "events");
    let checked = log.backup().verify(&mut |position| bar.set_position(position.get()));
    bar.finish_and_clear();
    let report = match checked {
        Ok(found) => Report {
            events: found.head.get(),
            ..Report::default()
        },
        Err(BackupError::Damaged { position, detail }) => Report::damaged(position, detail),
        Err(error) => return Err(error),
    };
    Ok(Report {
        blocks: log.backup().blocks(),
        head: log.head(),
        ..report
    })
}

/// Adds what signed checkpoints say. Of a log that is damaged nothing more is read.
fn signed(mut report: Report, dir: &DataDir, log: &SledLog, trust: &Trust) -> Result<Report> {
    if report.holds() {
        let mut signed = signed::check(dir, log, trust)?;
        report.problems = std::mem::take(&mut signed.problems);
        report.problem_count = report.problems.len() as u64;
        report.signed = Some(signed);
    }
    Ok(report)
}

fn local(dir: &DataDir, log: &SledLog) -> Result<Report, LogError> {
    let bar = progress::bar(log.head().get(), "events");
    let report = log.verify(&mut |progress| bar.set_position(progress.events))?;
    bar.finish_and_clear();
    let problems = report.problems.into_iter();
    Ok(Report {
        events: report.events,
        blocks: report.blocks,
        head: report.head,
        problem_count: report.problem_count,
        signed: None,
        problems: problems
            .map(|problem| Problem {
                position: problem.position,
                what: dir.named(&problem.what),
            })
            .collect(),
    })
}
