//! Proof over REST: an auditor with nothing but these answers and the verifier key convinces himself, and what there is not
//! is named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use annals_api::{ApiState, command_api};
use annals_audit::{
    Checkpoint, Hash, Note, Tile, TileSource, TlogProof, VerifierKey, inclusion_proof, leaf_hash, root_at,
    verify_consistency, verify_inclusion,
};
use annals_core::Appender;
use annals_event_store::{LogKeys, LogTree, MemoryLog, Notary, NotarySettings};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Server, commands_on};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ORIGIN: &str = "annals/bank/1";

struct Bank {
    server: Server,
    key: VerifierKey,
    _dir: tempfile::TempDir,
}

/// A bank with so many accounts, each an event.
fn bank(accounts: usize) -> Bank {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryLog::new("bank"));
    let tree = Arc::new(LogTree::open(&dir.path().join("tree"), log.clone()).unwrap());
    let keys = LogKeys::open(&dir.path().join("keys"), ORIGIN).unwrap();
    let key = keys.signer().verifier().clone();
    let settings = NotarySettings {
        events: 1_000_000,
        every: Duration::from_secs(3_600),
    };
    let notary = Notary::open(
        tree,
        keys,
        dir.path().join("checkpoints"),
        ORIGIN.into(),
        None,
        settings,
    )
    .unwrap();
    let mut state = ApiState::new(commands_on(log as Arc<dyn Appender>));
    state.notary = Some(Arc::new(notary));
    let server = Server::start(state, command_api);
    for n in 0..accounts {
        server.open(&format!("a{n}"));
    }
    Bank { server, key, _dir: dir }
}

impl Bank {
    fn checkpoint(&self) -> Checkpoint {
        let answer = self.server.get("/checkpoint");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        self.read(&String::from_utf8(answer.body).unwrap())
    }

    fn read(&self, note: &str) -> Checkpoint {
        let note = Note::parse(note).unwrap();
        note.signed_by(&self.key).unwrap();
        Checkpoint::parse(note.text()).unwrap()
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.server.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }
}

/// Tiles as they come over HTTP.
impl TileSource for Bank {
    type Error = String;

    fn tile(&self, tile: Tile) -> Result<Vec<Hash>, String> {
        let answer = self.server.get(&format!("/tile/{tile}"));
        if answer.status != 200 {
            return Err(format!("{tile}: {}", answer.status));
        }
        assert_eq!(answer.body.len(), tile.len());
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
        Ok(answer
            .body
            .chunks(32)
            .map(|hash| Hash(hash.try_into().unwrap()))
            .collect())
    }
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn hash(value: &Value) -> Hash {
    Hash::parse(value.as_str().unwrap()).unwrap()
}

#[test]
fn tiles_and_entries_lead_to_the_root_that_was_signed() {
    let bank = bank(300);
    let checkpoint = bank.checkpoint();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), (ORIGIN, 300));
    assert_eq!(root_at(&bank, 300).unwrap(), checkpoint.root);
    let mut leaves = Vec::new();
    for bundle in ["000", "001.p/44"] {
        let answer = bank.server.get(&format!("/tile/entries/{bundle}"));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/octet-stream"))
        );
        let mut rest = &answer.body[..];
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let (entry, after) = after.split_at(usize::from(u16::from_be_bytes(*len)));
            leaves.push(leaf_hash(entry));
            rest = after;
        }
    }
    assert_eq!(leaves.len(), 300);
    for index in [0, 255, 256, 299] {
        let proof = inclusion_proof(&bank, index, 300).unwrap();
        verify_inclusion(&leaves[index as usize], index, 300, &checkpoint.root, &proof).unwrap();
    }
}

#[test]
fn a_proof_ready_made_holds_against_the_signed_checkpoint() {
    let bank = bank(20);
    let proof = bank.json("/v1/proofs/inclusion?position=7");
    let checkpoint = bank.read(proof["checkpoint"].as_str().unwrap());
    assert_eq!(hash(&proof["root"]), checkpoint.root);
    let entry = STANDARD.decode(proof["entry"].as_str().unwrap()).unwrap();
    verify_inclusion(
        &leaf_hash(&entry),
        6,
        checkpoint.size,
        &checkpoint.root,
        &hashes(&proof["proof"]),
    )
    .unwrap();
    // The same as a file.
    let answer = bank.server.request(
        "GET",
        "/v1/proofs/inclusion?position=7",
        &[("accept", "text/plain")],
        b"",
    );
    let file = TlogProof::parse(std::str::from_utf8(&answer.body).unwrap()).unwrap();
    file.checkpoint.signed_by(&bank.key).unwrap();
    assert_eq!((file.index, file.extra.clone()), (6, entry));
    file.verify(&leaf_hash(&file.extra)).unwrap();
    // Of a size that was never signed.
    let proof = bank.json("/v1/proofs/inclusion?position=7&size=9");
    assert_eq!(
        (proof["size"].as_str(), &proof["checkpoint"]),
        (Some("9"), &Value::Null)
    );
}

#[test]
fn a_log_that_grew_proves_that_it_begins_with_what_it_was() {
    let bank = bank(5);
    let before = bank.checkpoint();
    for n in 0..9 {
        bank.server.open(&format!("later{n}"));
    }
    // A new event is covered at once, or the answer says when to ask again.
    let begin = Instant::now();
    let after = loop {
        let answer = bank.server.get("/v1/proofs/inclusion?position=14");
        match answer.status {
            200 => {
                let proof: Value = serde_json::from_slice(&answer.body).unwrap();
                break bank.read(proof["checkpoint"].as_str().unwrap());
            }
            503 => assert_eq!(answer.header("retry-after"), Some("1")),
            status => panic!("{status}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    };
    let proof = bank.json(&format!(
        "/v1/proofs/consistency?from={}&to={}",
        before.size, after.size
    ));
    verify_consistency(
        before.size,
        &before.root,
        after.size,
        &after.root,
        &hashes(&proof["proof"]),
    )
    .unwrap();
    let listed = bank.json("/v1/checkpoints");
    let sizes: Vec<_> = listed["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["size"].as_str().unwrap())
        .collect();
    assert_eq!(sizes, ["5", "14"]);
    assert_eq!(
        bank.json("/v1/checkpoints?after=5")["checkpoints"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let page = bank.server.get("/v1/checkpoints?limit=1");
    assert_eq!(
        page.header("link"),
        Some("</v1/checkpoints?after=5&limit=1>; rel=\"next\"")
    );
}

#[test]
fn what_there_is_not_is_named() {
    let bank = bank(3);
    for (path, status, name) in [
        ("/v1/proofs/inclusion", 400, "invalid-parameter"),
        ("/v1/proofs/inclusion?position=x", 400, "invalid-parameter"),
        ("/v1/proofs/inclusion?position=0", 404, "not-in-tree"),
        ("/v1/proofs/inclusion?position=4", 404, "not-in-tree"),
        ("/v1/proofs/inclusion?position=3&size=2", 404, "not-in-tree"),
        ("/v1/proofs/inclusion?position=1&size=99", 404, "not-in-tree"),
        ("/v1/proofs/consistency?from=1", 400, "invalid-parameter"),
        ("/v1/proofs/consistency?from=3&to=2", 400, "invalid-parameter"),
        ("/v1/proofs/consistency?from=1&to=4", 404, "not-in-tree"),
        ("/tile/0/000", 404, "not-in-tree"),
        ("/tile/0/000.p/4", 404, "not-in-tree"),
        ("/tile/0/1", 400, "invalid-tile"),
        ("/tile/entries/x", 400, "invalid-tile"),
        ("/tile/entries/001", 404, "not-in-tree"),
        ("/v1/checkpoints?limit=0", 400, "invalid-parameter"),
    ] {
        bank.server.get(path).is_problem(status, name, "");
    }
}

#[test]
fn an_empty_log_has_nothing_to_sign_and_a_server_without_a_notary_says_so() {
    bank(0)
        .server
        .get("/checkpoint")
        .is_problem(404, "no-checkpoint", "append an event first");
    common::command_server()
        .get("/checkpoint")
        .is_problem(404, "no-notary", "the command API that has the log");
}
