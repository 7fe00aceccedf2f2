//! The rows as they come, on stdout, and all of them with machine and settings in a file.

use super::entry::Entry;
use super::machine;
use crate::cli::note;
use crate::cli::output::{Format, Listing};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

const COLUMNS: [&str; 11] = [
    "what",
    "per_second",
    "p50_us",
    "p99_us",
    "p999_us",
    "found",
    "rate_of_raw",
    "p50_of_raw",
    "goal",
    "of_goal",
    "met",
];

/// An error if the file could not be written when all is measured. One that is there stays as it is until then.
pub(super) fn check_writable(file: &Path) -> Result<()> {
    let there = file.exists();
    let opened = File::options().append(true).create(true).open(file);
    opened.with_context(|| format!("cannot write the report to {}", file.display()))?;
    if !there {
        // What is measured may still fail, and an empty report would say nothing.
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

/// All rows so far.
pub(super) struct Report {
    listing: Listing,
    rows: Vec<Value>,
    begun: chrono::DateTime<chrono::Utc>,
}

impl Report {
    /// A report on stdout.
    pub(super) fn new(format: Format) -> Self {
        Self {
            listing: Listing::stdout(format, &COLUMNS),
            rows: Vec::new(),
            begun: chrono::Utc::now(),
        }
    }

    /// One row more.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        if let Some(warning) = entry.warning() {
            note(warning);
        }
        let row = entry.json();
        self.listing.row(&row)?;
        self.rows.push(row);
        Ok(())
    }

    /// Shows what is not shown yet, and writes the file, if one is wanted. Both also when measuring `ended` too early.
    pub(super) fn finish(
        self,
        file: Option<&Path>,
        dir: Option<&Path>,
        settings: &Value,
        ended: &Result<()>,
    ) -> Result<()> {
        self.listing.finish()?;
        let Some(file) = file else { return Ok(()) };
        let report = json!({
            "annals": env!("CARGO_PKG_VERSION"),
            "begun": self.begun.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "ended": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "machine": machine::describe(dir),
            "settings": settings,
            "error": ended.as_ref().err().map(|error| format!("{error:#}")),
            "scenarios": self.rows,
        });
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("cannot write the report to {}", file.display()))
    }
}
