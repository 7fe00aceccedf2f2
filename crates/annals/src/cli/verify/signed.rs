//! What `annals verify` checks of a data directory beyond its bytes: the Merkle root at every signed checkpoint, and what is
//! covered by what the auditor trusts.

use super::{Problem, progress};
use crate::cli::trust::{NOT_AUTHENTICATED, Trust};
use annals_audit::{Checkpoint, Frontier, Hash, Note, VerifierKey, record_leaf};
use annals_core::{EventLog, LogError, Position};
use annals_event_store::{DataDir, LogKeys, SignedCheckpoints, origin, parent_origin};
use anyhow::{Context, Result};

/// Signed checkpoints that are looked at in one go.
const PAGE: usize = 1_000;
/// Bytes of records that are read at once.
const READ_LEN: usize = 1 << 20;

/// What was found.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) problems: Vec<Problem>,
    /// How many checkpoints were compared.
    pub(super) checkpoints: u64,
    /// Up to which position the log is covered by a checkpoint that holds and is trusted; if nothing was given to trust, by
    /// one that holds.
    pub(super) covered: u64,
    /// By whom, for people.
    pub(super) trust: String,
}

/// Compares the log with every checkpoint of its directory, and with those from outside.
pub(super) fn check(dir: &DataDir, log: &dyn EventLog, trust: &Trust) -> Result<Signed> {
    let checkpoints = SignedCheckpoints::look(&dir.checkpoints_path()).with_context(|| {
        format!(
            "signed checkpoints in {} cannot be read",
            dir.checkpoints_path().display()
        )
    })?;
    let mut known = LogKeys::verifiers_in(&dir.keys_path())?;
    known.extend(trust.keys.iter().cloned());
    let origins = [origin(dir), parent_origin(dir)].into_iter().flatten().collect();
    let mut walk = Walk {
        log,
        trust,
        known,
        origins,
        frontier: Frontier::new(),
        found: Signed {
            problems: Vec::new(),
            checkpoints: 0,
            covered: 0,
            trust: String::new(),
        },
    };
    let mut outside: Vec<&Checkpoint> = trust.checkpoints.iter().collect();
    outside.sort_by_key(|checkpoint| checkpoint.size);
    let mut outside = outside.into_iter().peekable();
    let bar = progress::bar(log.head().get(), "leaves");
    let mut after = 0;
    loop {
        let page = checkpoints
            .after(after, PAGE)
            .context("signed checkpoints cannot be read")?;
        for note in &page {
            let note = Note::parse(note).context("a signed checkpoint cannot be read")?;
            let checkpoint = Checkpoint::parse(note.text()).context("a signed checkpoint cannot be read")?;
            while let Some(trusted) = outside.next_if(|trusted| trusted.size <= checkpoint.size) {
                walk.compare_trusted(trusted)?;
            }
            walk.compare(&note, &checkpoint)?;
            bar.set_position(walk.frontier.size());
            after = checkpoint.size;
        }
        if page.len() < PAGE {
            break;
        }
    }
    for trusted in outside {
        walk.compare_trusted(trusted)?;
    }
    bar.finish_and_clear();
    Ok(walk.finished())
}

struct Walk<'a> {
    log: &'a dyn EventLog,
    trust: &'a Trust,
    known: Vec<VerifierKey>,
    /// Of this history, and of the one that it goes on from.
    origins: Vec<String>,
    frontier: Frontier,
    found: Signed,
}

impl Walk<'_> {
    /// A checkpoint of the directory: its signature, and its root.
    fn compare(&mut self, note: &Note, checkpoint: &Checkpoint) -> Result<(), LogError> {
        self.found.checkpoints += 1;
        if !self.known.iter().any(|key| note.signed_by(key).is_ok()) {
            let what = "the checkpoint here is signed by no key that is known: keys/verifiers lists them";
            self.problem(checkpoint.size, what.into());
            return Ok(());
        }
        if !self.holds(checkpoint)? {
            return Ok(());
        }
        if self.trust.is_empty() {
            self.found.covered = checkpoint.size;
        } else if let Ok(name) = self.trust.signer_of(note) {
            self.found.covered = checkpoint.size;
            self.found.trust = format!("signed by {name}");
        }
        Ok(())
    }

    /// A checkpoint from outside.
    fn compare_trusted(&mut self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        if self.holds(checkpoint)? {
            self.found.covered = checkpoint.size;
            self.found.trust = "covered by the trusted checkpoint".into();
        }
        Ok(())
    }

    fn holds(&mut self, checkpoint: &Checkpoint) -> Result<bool, LogError> {
        let Checkpoint { origin, size, root, .. } = checkpoint;
        if !self.origins.contains(origin) {
            self.problem(*size, format!("the checkpoint here is of another log: {origin}"));
            return Ok(false);
        }
        let Some(found) = self.root_at(*size)? else {
            let head = self.log.head();
            self.problem(
                *size,
                format!("a checkpoint covers {size} events, and the log has {head}: the end of it is gone"),
            );
            return Ok(false);
        };
        if found != *root {
            self.problem(
                *size,
                format!("the log's Merkle root here is {found}, and {root} was signed: something before was changed"),
            );
        }
        Ok(found == *root)
    }

    /// The root at a size, from nothing but the records; none if the log has fewer. Sizes come in their order.
    fn root_at(&mut self, size: u64) -> Result<Option<Hash>, LogError> {
        while self.frontier.size() < size {
            let blocks = self.log.read(Position::new(self.frontier.size()), READ_LEN)?;
            if blocks.is_empty() {
                return Ok(None);
            }
            let wanted = usize::try_from(size - self.frontier.size()).unwrap_or(usize::MAX);
            for record in blocks.iter().flat_map(|block| block.raw_records()).take(wanted) {
                let (_, header, payload) = record?;
                self.frontier.push(record_leaf(header, payload), |_, _, _| {});
            }
        }
        Ok(Some(self.frontier.root()))
    }

    fn problem(&mut self, size: u64, what: String) {
        self.found.problems.push(Problem {
            position: Position::new(size),
            what,
        });
    }

    fn finished(mut self) -> Signed {
        if self.trust.is_empty() {
            self.found.trust = NOT_AUTHENTICATED.into();
        } else if self.found.covered == 0 {
            self.found.trust = "nothing here is covered by what is trusted".into();
            if self.found.problems.is_empty() {
                let what = self.found.trust.clone();
                self.problem(0, what);
            }
        }
        self.found
    }
}
