//! `annals completions SHELL`.

use super::output::Stdout;
use super::verdict::{Outcome, Verdict};
use clap_complete::Shell;
use std::io::Write;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  annals completions bash > ~/.local/share/bash-completion/completions/annals")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Args {
    pub(crate) fn run(&self, command: &mut clap::Command, name: &str) -> Outcome {
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, name, &mut script);
        let mut out = Stdout::new();
        out.write_all(&script)?;
        out.flush()?;
        Ok(Verdict::Fine)
    }
}
