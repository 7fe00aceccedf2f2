//! The command line: parses, hands over to the verb (one file each), and leaves the exit code to [`verdict`].

mod backup;
mod bench;
mod checkpoint;
mod completions;
mod dead_letters;
mod demo;
mod events;
mod examine_volume;
mod keys;
mod load;
mod moment;
mod output;
mod progress;
mod projections;
mod prove;
mod rebuild;
mod replay;
mod restore;
mod salvage;
mod serve;
mod summary;
mod target;
mod trust;
mod verdict;
mod verify;

use crate::backend::Backend;
use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use verdict::Outcome;

const AFTER_HELP: &str = "\
Examples:
  annals demo                            a server with generated traffic and lines to paste
  annals serve --data shop               command API on port 8080, query API on port 8081
  annals load commands.ndjson            commands from a file
  annals replay stream orders/ord-1      the state after each event
  annals verify --data shop              is the log what was written?

Exit codes: 0 fine; 1 the thing checked does not hold, or some lines failed; 2 usage or
environment. NO_COLOR turns colours off; RUST_LOG sets what a server logs to stderr
(default: warn).";

/// An event-sourced backend: commands in, events kept for ever, views out, any state replayed
#[derive(Debug, Parser)]
#[command(name = "annals", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Args),
    Demo(demo::Args),
    Load(load::Args),
    #[command(subcommand, after_help = replay::HELP)]
    Replay(replay::Args),
    Events(events::Args),
    Verify(verify::Args),
    Checkpoint(checkpoint::Args),
    Prove(prove::Args),
    VerifyProof(prove::VerifyArgs),
    Projections(projections::Args),
    Rebuild(rebuild::Args),
    DeadLetters(dead_letters::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Salvage(salvage::Args),
    #[command(subcommand, after_help = keys::HELP)]
    Keys(keys::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    ExamineVolume(examine_volume::Args),
}

/// Runs the whole command line over a backend: this is all that a `main` has to do.
///
/// Returns 0 when all is fine, 1 when what was checked does not hold, 2 for wrong usage or environment.
#[must_use]
#[expect(
    clippy::needless_pass_by_value,
    reason = "a `main` builds its backend in place; nothing is left to do with it"
)]
pub fn run(backend: Backend) -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(said) => {
            // Help and version come as errors too; clap knows where they go and that they are none.
            return said.print().map_or(ExitCode::from(2), |()| {
                ExitCode::from(if said.use_stderr() { 2 } else { 0 })
            });
        }
    };
    verdict::exit_code(&cli.verb.run(&backend))
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches)
}

impl Verb {
    fn run(&self, backend: &Backend) -> Outcome {
        backend.check().context("this backend cannot be run")?;
        match self {
            Self::Serve(args) => args.run(backend),
            Self::Demo(args) => args.run(backend),
            Self::Load(args) => args.run(backend),
            Self::Replay(args) => args.run(backend),
            Self::Events(args) => args.run(),
            Self::Verify(args) => args.run(),
            Self::Checkpoint(args) => args.run(),
            Self::Prove(args) => args.run(),
            Self::VerifyProof(args) => args.run(),
            Self::Projections(args) => args.run(backend),
            Self::Rebuild(args) => args.run(backend),
            Self::DeadLetters(args) => args.run(backend),
            Self::Backup(args) => args.run(),
            Self::Restore(args) => args.run(),
            Self::Salvage(args) => args.run(),
            Self::Keys(args) => args.run(),
            Self::Bench(args) => args.run(),
            Self::Completions(args) => args.run(&mut Cli::command(), "annals"),
            Self::ExamineVolume(args) => args.run(),
        }
    }
}

/// Says something to whoever runs the command: a line on stderr, which is not for programs to read.
fn note(text: impl fmt::Display) {
    // Nobody is left to be told when stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether colours may go to this stream.
fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A runtime for verbs that carry out commands or serve.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
}

/// What a server has to say goes to stderr, as much of it as `RUST_LOG` asks for, else as `default` says.
fn tracing_to_stderr(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours(&std::io::stderr()));
    // A program that has set up its own subscriber keeps it.
    let _ = subscriber.with_writer(std::io::stderr).try_init();
}
