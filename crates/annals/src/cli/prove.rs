//! `annals prove` and `annals verify-proof`: that an event is in a log, as a file that anybody can check.

use super::output::{FormatArg, Listing, Stdout};
use super::target::check_outside;
use super::trust::{NOT_AUTHENTICATED, Trust, TrustArg};
use super::verdict::{Outcome, Verdict};
use crate::http::{Server, path_part};
use crate::source::{DataArg, Instead, Source};
use annals_audit::{Checkpoint, HASH_LEN, Note, TlogProof, leaf_hash};
use annals_core::{EventId, Position, RecordRef};
use annals_event_store::{Notary, NotarySettings};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

const COLUMNS: [&str; 9] = [
    "result", "position", "stream", "version", "type", "recorded", "origin", "size", "what",
];

const HELP: &str = "\
The proof has the event's header and the hash of its payload, its place, the way up to the
root of the Merkle tree, and the signed checkpoint that says the root: the smallest that
covers the event. It is a file of c2sp.org/tlog-proof, which other tools read too.

Examples:
  annals prove 1234 --data shop > event-1234.tlog-proof
  annals prove 0190a5c4-7d2e-7000-8000-000000000000 --url http://127.0.0.1:8080 --out proof
  annals verify-proof event-1234.tlog-proof --trust shop.key

Exit code: 0 fine; 2 usage or environment, or there is no such event.";

const VERIFY_HELP: &str = "\
Verifies the way from the event to the root, and who signed the checkpoint. Without --trust
nobody knows whose log it is a proof about: it is then \"consistent, not authenticated\".

Examples:
  annals verify-proof event-1234.tlog-proof --trust annals/shop/0f…+1a2b3c4d+AQ…
  annals verify-proof event-1234.tlog-proof --trust monday.checkpoint

Exit code: 0 it holds, under what is trusted; 1 it does not hold; 2 usage or environment, or
nothing was said to trust.";

/// Prove that an event is in the log
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Position or id of the event
    #[arg(value_name = "POSITION|EVENT_ID")]
    event: String,

    /// Where to write the proof [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    data: DataArg,

    /// URL of a running command API
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        if let Some(file) = &self.out {
            check_outside(file)?;
        }
        let proof = match &self.url {
            Some(url) => self.remote(&Server::at(url)?)?,
            None => self.local()?,
        };
        match &self.out {
            Some(file) => {
                fs::write(file, proof).with_context(|| format!("cannot write {}", file.display()))?;
                Ok(Verdict::Fine)
            }
            None => Verdict::Fine.listed(Stdout::new().write_all(proof.as_bytes())),
        }
    }

    fn remote(&self, server: &Server) -> Result<String> {
        let position = match self.event.parse::<u64>() {
            Ok(position) => position,
            Err(_) => {
                let event = server.json(&format!("/v1/events/{}", path_part(&self.event)))?;
                crate::http::position(&event, "position").context("the event that the server sent has no position")?
            }
        };
        server.text(&format!("/v1/proofs/inclusion?position={position}"))
    }

    fn local(&self) -> Result<String> {
        let source = Source::local(&self.data.data).map_err(|error| Instead::CommandApi.of(error))?;
        let position = match self.event.parse::<u64>() {
            Ok(position) => Position::new(position),
            Err(_) => {
                let id = EventId::parse(&self.event)?;
                let found = source.log.find_event(&id)?;
                found.with_context(|| {
                    format!("the log has no event with the id {id}: look for it with `annals events`")
                })?
            }
        };
        if position == Position::ZERO || position > source.log.head() {
            bail!(
                "the log has no event at position {position}: its events are 1 to {}",
                source.log.head()
            );
        }
        let notary = Notary::of(source.dir()?, Arc::clone(&source.log), NotarySettings::default())?;
        let note = notary.covering(position.get())?;
        let note = Note::parse(&note).context("the signed checkpoint cannot be read")?;
        Ok(notary.tree().proof(position, note)?.to_string())
    }
}

/// Verify a proof that an event is in a log, without the log
#[derive(Debug, clap::Args)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct VerifyArgs {
    /// The proof
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    trust: TrustArg,

    #[command(flatten)]
    format: FormatArg,
}

impl VerifyArgs {
    pub(crate) fn run(&self) -> Outcome {
        let trust = self.trust.read()?;
        let text = fs::read_to_string(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let (mut row, found) = examine(&text, &trust);
        let (result, what) = match &found {
            Ok(what) => ("ok", what.clone()),
            Err(error) => ("failed", format!("{error:#}")),
        };
        row["result"] = json!(result);
        row["what"] = json!(what);
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS);
        let verdict = Verdict::holds(found.is_ok()).listed(listing.row(&row).and_then(|()| listing.finish()))?;
        if found.is_ok() && trust.is_empty() {
            bail!("{NOT_AUTHENTICATED}: say with --trust which key or checkpoint you trust");
        }
        Ok(verdict)
    }
}

/// What a proof is about, as far as it can be read, and whether it holds.
fn examine(text: &str, trust: &Trust) -> (Value, Result<String>) {
    let proof = match TlogProof::parse(text) {
        Ok(proof) => proof,
        Err(error) => return (json!({}), Err(error.into())),
    };
    let mut row = json!({ "position": (proof.index.saturating_add(1)).to_string() });
    let found = proof
        .verify(&leaf_hash(&proof.extra))
        .map_err(anyhow::Error::from)
        .and_then(|checkpoint| {
            describe(&mut row, &proof, &checkpoint)?;
            authenticate(&proof.checkpoint, &checkpoint, trust)
        });
    (row, found)
}

fn describe(row: &mut Value, proof: &TlogProof, checkpoint: &Checkpoint) -> Result<()> {
    let header = proof
        .extra
        .len()
        .checked_sub(HASH_LEN)
        .context("the proof has no entry of an event")?;
    let record = RecordRef::decode(
        Position::new(proof.index.saturating_add(1)),
        &proof.extra[..header],
        &[],
    )?;
    row["stream"] = json!(record.header.stream);
    row["version"] = json!(record.header.version.to_string());
    row["type"] = json!(record.header.event_type);
    row["id"] = json!(record.header.id.to_string());
    row["recorded"] = json!(record.recorded_at());
    row["payload_sha256"] = json!(hex(&proof.extra[header..]));
    row["origin"] = json!(checkpoint.origin);
    row["size"] = json!(checkpoint.size.to_string());
    Ok(())
}

fn authenticate(note: &Note, checkpoint: &Checkpoint, trust: &Trust) -> Result<String> {
    if trust.is_empty() {
        return Ok(NOT_AUTHENTICATED.into());
    }
    if let Some(known) = trust.checkpoints.iter().find(|known| known.size == checkpoint.size) {
        if (&known.origin, known.root) == (&checkpoint.origin, checkpoint.root) {
            return Ok("leads to the trusted checkpoint".into());
        }
        bail!(
            "the trusted checkpoint of {} events says another origin or root: one of the two is false",
            known.size
        );
    }
    if trust.keys.is_empty() {
        let size = checkpoint.size;
        bail!(
            "the proof leads to a checkpoint of {size} events, which is not the trusted one: trust a key, or prove again"
        );
    }
    Ok(format!("signed by {}", trust.signer_of(note)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
