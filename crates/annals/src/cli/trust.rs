//! `--trust`: what an auditor got another way than from the log, and so can hold the log against.

use annals_audit::{Checkpoint, Note, Untrusted, VerifierKey};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// What is said where nothing from outside was given to trust.
pub(super) const NOT_AUTHENTICATED: &str = "consistent, not authenticated";

/// The option `--trust`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TrustArg {
    /// What you trust: a verifier key (NAME+ID+BASE64), a file of verifier keys, or a file with a checkpoint
    #[arg(long = "trust", value_name = "KEY|CHECKPOINT")]
    trust: Vec<String>,
}

/// Keys and checkpoints that came from outside.
#[derive(Debug, Default)]
pub(super) struct Trust {
    pub(super) keys: Vec<VerifierKey>,
    pub(super) checkpoints: Vec<Checkpoint>,
}

impl TrustArg {
    pub(super) fn read(&self) -> Result<Trust> {
        let mut trust = Trust::default();
        for given in &self.trust {
            trust.add(given)?;
        }
        Ok(trust)
    }
}

impl Trust {
    /// Whether anything was given.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.checkpoints.is_empty()
    }

    fn add(&mut self, given: &str) -> Result<()> {
        if let Ok(key) = VerifierKey::parse(given) {
            self.keys.push(key);
            return Ok(());
        }
        if given.contains('+') && !Path::new(given).exists() {
            // Not taken for a file name: what is wrong with the key is worth more than that no file has its name.
            VerifierKey::parse(given).with_context(|| format!("--trust {given}"))?;
        }
        let text = fs::read_to_string(given)
            .with_context(|| format!("--trust {given} is neither a verifier key nor a file that can be read"))?;
        if let Ok(note) = Note::parse(&text) {
            let checkpoint = Checkpoint::parse(note.text()).with_context(|| format!("--trust {given}"))?;
            self.checkpoints.push(checkpoint);
            return Ok(());
        }
        let keys: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(VerifierKey::parse)
            .collect();
        if keys.is_empty() {
            bail!(
                "--trust {given} has no verifier key and no checkpoint: see `annals keys list` and `annals checkpoint`"
            );
        }
        for key in keys {
            self.keys
                .push(key.with_context(|| format!("--trust {given} is no checkpoint, and no list of verifier keys"))?);
        }
        Ok(())
    }

    /// Who of the trusted keys signed this. The error says why it is not to be believed; it is never empty of keys.
    pub(super) fn signer_of(&self, note: &Note) -> Result<String, Untrusted> {
        let mut why = Untrusted::NotSigned("any key that is trusted".into());
        for key in &self.keys {
            match note.signed_by(key) {
                Ok(_) => return Ok(key.name().to_owned()),
                Err(wrong @ Untrusted::WrongSignature(_)) => why = wrong,
                Err(Untrusted::NotSigned(_)) => {}
            }
        }
        Err(why)
    }
}
