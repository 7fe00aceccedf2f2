//! The house rules, as functions that take text and return findings.
//!
//! A rule knows nothing of the disk: `repository` reads the files, `tests/tests/repository_rules.rs` puts both together.
//! Every rule has a test beside it that shows it failing, so that a rule which went blind is noticed.

pub mod dependencies;
pub mod documents;
pub mod hygiene;
pub mod layers;
pub mod leaks;
mod links;
mod manifest;
pub mod repository;
pub mod shape;
mod tokens;

use std::fmt;

/// One file of the repository: its path from the root (with `/`) and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Path from the repository root, separated by `/`.
    pub path: String,
    /// The whole file.
    pub text: String,
}

impl TextFile {
    /// A file of the given path and text; nothing is read.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// A finding at `line` (from 1) of this file.
    pub(crate) fn finding(&self, line: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn numbered_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// One breach of a rule: where, what, and what to do about it. Shown as `path:line: problem: remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path from the repository root.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.problem, self.remedy)
    }
}
