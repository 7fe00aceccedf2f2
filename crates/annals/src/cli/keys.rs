//! `annals keys`: the keys that sign a log's checkpoints.

use super::output::{FormatArg, Listing};
use super::verdict::{Outcome, Verdict};
use crate::source::{DataArg, Instead};
use annals_audit::VerifierKey;
use annals_event_store::{DataDir, LogKeys, OpenOptions, origin};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::json;
use std::fs::{self, OpenOptions as FileOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const COLUMNS: [&str; 3] = ["key", "signs", "name"];

pub(crate) const HELP: &str = "\
A verifier key is public: give it to auditors another way than through the log, as a paper, a
page, a mail. The signing key stays in DATA/keys, readable by its owner alone, and is in no
backup of the log: `annals keys backup` is a thing of its own.

Examples:
  annals keys list --data shop
  annals keys rotate --data shop
  annals keys backup shop-keys --data shop

Exit code: 0 fine; 2 usage or environment.";

#[derive(Debug, Subcommand)]
#[command(about = "List, rotate and back up the keys that sign checkpoints")]
pub(crate) enum Args {
    /// Show the verifier keys of all that ever signed, the current one last
    List(ListArgs),
    /// Make a new signing key; what older ones signed stays verifiable. The server must not run
    Rotate(RotateArgs),
    /// Copy all keys, secret ones too, into one file that only you can read
    Backup(BackupArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    data: DataArg,

    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    data: DataArg,

    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    data: DataArg,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        match self {
            Self::List(args) => {
                let dir = keys_dir(&args.data.data);
                let keys = LogKeys::verifiers_in(&dir)?;
                if keys.is_empty() {
                    bail!(
                        "there are no keys in {}: `annals serve` makes the first one",
                        dir.display()
                    );
                }
                list(&args.format, &keys)
            }
            Self::Rotate(args) => {
                let dir = DataDir::open(&args.data.data, OpenOptions::default());
                let dir = dir.map_err(|error| Instead::Nothing.of(error.into()))?;
                let name = origin(&dir).context("the log's manifest cannot be read: run `annals verify`")?;
                list(&args.format, LogKeys::rotate(&dir.keys_path(), &name)?.verifiers())
            }
            Self::Backup(args) => args.run(),
        }
    }
}

impl BackupArgs {
    fn run(&self) -> Outcome {
        let dir = keys_dir(&self.data.data);
        if LogKeys::verifiers_in(&dir)?.is_empty() {
            bail!(
                "there are no keys in {}: `annals serve` makes the first one",
                dir.display()
            );
        }
        let mut text = String::new();
        for name in ["signer", "verifiers"] {
            let file = dir.join(name);
            let held = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            text.push_str(&format!("# keys/{name}\n{held}"));
        }
        write_private(&self.file, &text)?;
        super::note(format_args!(
            "wrote {}: to restore, put the lines under `# keys/signer` and `# keys/verifiers` into files of these names",
            self.file.display()
        ));
        Ok(Verdict::Fine)
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("cannot write {}: name a file that does not exist", path.display());
    let file = FileOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(cannot)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(cannot)
}

fn keys_dir(data: &Path) -> PathBuf {
    data.join("keys")
}

fn list(format: &FormatArg, keys: &[VerifierKey]) -> Outcome {
    let mut listing = Listing::stdout(format.resolve(), &COLUMNS);
    let listed = keys.iter().enumerate().try_for_each(|(index, key)| {
        listing.row(&json!({
            "key": key.to_string(),
            "signs": index + 1 == keys.len(),
            "name": key.name(),
        }))
    });
    Verdict::Fine.listed(listed.and_then(|()| listing.finish()))
}
