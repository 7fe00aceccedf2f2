//! What came of the lines: counted, and bad ones said at once.

use super::CommandLine;
use crate::cli::note;
use crate::cli::output::{Format, Listing};
use crate::cli::verdict::Verdict;
use indicatif::ProgressBar;
use serde_json::json;
use std::io;

/// Failed lines that are said one by one; the rest is only counted.
const FAILURES_SAID_MAX: u64 = 100;

/// What came of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LineResult {
    /// Its events were appended.
    Done,
    /// It was accepted and changed nothing.
    Unchanged,
    /// It had been done before.
    Duplicate,
    /// It was not accepted, and why.
    Failed(String),
}

/// Counts of lines.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: u64,
    unchanged: u64,
    duplicates: u64,
    failed: u64,
    without_key: u64,
}

impl Tally {
    /// Counts a line that has no key.
    pub(crate) fn look_at(&mut self, command: &CommandLine) {
        self.without_key += u64::from(command.key.is_none());
    }

    /// Counts what came of a line, and says it if it failed.
    pub(crate) fn count(&mut self, number: u64, result: LineResult, bar: &ProgressBar) {
        match result {
            LineResult::Done => self.done += 1,
            LineResult::Unchanged => self.unchanged += 1,
            LineResult::Duplicate => self.duplicates += 1,
            LineResult::Failed(reason) => {
                self.failed += 1;
                if self.failed <= FAILURES_SAID_MAX {
                    bar.suspend(|| note(format_args!("line {number}: {reason}")));
                }
            }
        }
        bar.set_message(format!("{} lines, {} failed", self.lines(), self.failed));
    }

    /// Lines of which something came.
    pub(crate) fn lines(&self) -> u64 {
        self.done + self.unchanged + self.duplicates + self.failed
    }

    /// Says what is worth a warning, and lists the counts.
    pub(crate) fn report(&self, format: Format) -> io::Result<()> {
        if let Some(more) = self.failed.checked_sub(FAILURES_SAID_MAX).filter(|more| *more > 0) {
            note(format_args!("{more} more lines failed"));
        }
        if self.without_key > 0 {
            note(format_args!(
                "warning: {} lines have no \"key\": loaded again, they would be done again",
                self.without_key
            ));
        }
        let mut listing = Listing::stdout(format, &["lines", "done", "unchanged", "duplicates", "failed"]);
        listing.row(&json!({
            "lines": self.lines(),
            "done": self.done,
            "unchanged": self.unchanged,
            "duplicates": self.duplicates,
            "failed": self.failed,
        }))?;
        listing.finish()
    }

    /// What came of all lines together.
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::holds(self.failed == 0)
    }
}
