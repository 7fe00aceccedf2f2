//! Proof from outside, with the real binary: what a server signed yesterday finds out what was changed since, by whoever has
//! the data directory; and a verifier that shares no code with ours agrees on every proof.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use annals_tests::cli::{Run, annals, run};
use annals_tests::fixture::{copy, demo, verb};
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A shop whose server has signed what it had, and what an auditor took home then.
struct Audited {
    _directory: tempfile::TempDir,
    data: PathBuf,
    checkpoint: PathBuf,
    key: String,
    size: u64,
}

fn audited(orders: u32) -> Result<Audited> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("shop");
    demo(&data, orders)?;
    let server = Server::start(&data)?;
    let checkpoint = directory.path().join("monday.checkpoint");
    let note = annals(["checkpoint", "--url", server.command.url()])?.exits(0)?.stdout;
    fs::write(&checkpoint, &note)?;
    let size = note.lines().nth(1).context("no size")?.parse()?;
    server.stop()?;
    let key = key_of(&data)?;
    Ok(Audited {
        _directory: directory,
        data,
        checkpoint,
        key,
        size,
    })
}

fn key_of(data: &Path) -> Result<String> {
    let listed = verb(data, &["keys", "list", "--format", "json"])?.exits(0)?.lines()?;
    let key = listed.last().and_then(|key| key["key"].as_str());
    Ok(key.context("no key")?.to_owned())
}

fn verify(data: &Path, trust: &str) -> Result<Run> {
    verb(data, &["verify", "--format", "json", "--trust", trust])
}

/// The last line of a verification: what it came to.
fn summary(run: &Run) -> Result<Value> {
    run.lines()?.pop().context("verify said nothing")
}

/// A number that JSON has as a text.
fn number(value: &Value) -> Result<u64> {
    Ok(value.as_str().context("no text")?.parse()?)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}

#[test]
fn a_proof_holds_here_and_in_a_verifier_that_shares_no_code_with_ours() -> Result<()> {
    let shop = audited(20)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify_proof.py");
    let file = shop.data.with_file_name("event.tlog-proof");
    let python = |file: &Path, key: &str| run(Command::new("python3").arg(&script).arg(file).arg(key));
    for position in [1, 2, shop.size / 2, shop.size] {
        verb(&shop.data, &["prove", &position.to_string(), "--out", text(&file)?])?.exits(0)?;
        for trust in [shop.key.as_str(), text(&shop.checkpoint)?] {
            let held = annals(["verify-proof", text(&file)?, "--format", "json", "--trust", trust])?.exits(0)?;
            ensure!(number(&summary(&held)?["position"])? == position, "{}", held.stdout);
        }
        python(&file, &shop.key)?.exits(0)?;
        let unknown = annals(["verify-proof", text(&file)?, "--format", "json"])?.exits(2)?;
        ensure!(
            unknown.stderr.contains("consistent, not authenticated"),
            "{}",
            unknown.stderr
        );
    }
    // Whatever is changed in the file, neither of the two believes it.
    let proof = fs::read_to_string(&file)?;
    let forged = file.with_file_name("forged.tlog-proof");
    for (from, to) in [
        ("\nindex ", "\nindex 1"),
        ("ZzdHJlYW", "ZzdHJlYX"),
        ("\nannals/", "\nannuls/"),
    ] {
        ensure!(proof.contains(from), "{proof}");
        fs::write(&forged, proof.replacen(from, to, 1))?;
        annals(["verify-proof", text(&forged)?, "--trust", &shop.key])?.exits(1)?;
        ensure!(
            python(&forged, &shop.key)?.code != 0,
            "the other verifier believes {from:?} -> {to:?}"
        );
    }
    let other = audited(1)?;
    annals(["verify-proof", text(&file)?, "--trust", &other.key])?.exits(1)?;
    ensure!(
        python(&file, &other.key)?.code != 0,
        "any key is taken for the right one"
    );
    Ok(())
}

#[test]
fn what_was_signed_is_found_again_and_what_came_after_is_named() -> Result<()> {
    let shop = audited(20)?;
    for trust in [shop.key.as_str(), text(&shop.checkpoint)?] {
        let found = summary(&verify(&shop.data, trust)?.exits(0)?)?;
        ensure!(
            number(&found["covered"])? == shop.size && found["uncovered"] == 0,
            "{found}"
        );
    }
    // Commands are loaded without a server: nobody signs them.
    let line = r#"{"aggregate":"users","id":"late","command":"register","data":{"email":"l@example.com","name":"L"},"key":"k"}"#;
    let file = shop.data.with_file_name("late.ndjson");
    fs::write(&file, line)?;
    verb(&shop.data, &["load", text(&file)?])?.exits(0)?;
    let found = summary(&verify(&shop.data, &shop.key)?.exits(0)?)?;
    ensure!(
        number(&found["covered"])? == shop.size && found["uncovered"] == 1,
        "{found}"
    );
    let found = summary(&verb(&shop.data, &["verify", "--format", "json"])?.exits(0)?)?;
    ensure!(found["trust"] == "consistent, not authenticated", "{found}");
    // The next server signs it when it is stopped.
    Server::start(&shop.data)?.stop()?;
    let found = summary(&verify(&shop.data, &shop.key)?.exits(0)?)?;
    ensure!(found["checkpoints"] == 2 && found["uncovered"] == 0, "{found}");
    Ok(())
}

#[test]
fn a_data_directory_that_was_tampered_with_does_not_pass() -> Result<()> {
    let shop = audited(20)?;
    let checkpoint = text(&shop.checkpoint)?;
    let other = audited(20)?;
    let tampered = |change: &dyn Fn(&Path) -> Result<()>| -> Result<(tempfile::TempDir, PathBuf)> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("shop");
        copy(&shop.data, &data)?;
        change(&data)?;
        Ok((directory, data))
    };
    let exchange = |data: &Path, names: &[&str]| -> Result<()> {
        for name in names {
            fs::remove_dir_all(data.join(name))?;
            copy(&other.data.join(name), &data.join(name))?;
        }
        Ok(())
    };

    // Another log under the same checkpoints, and with checkpoints of its own and a key of its own.
    let (_held, data) = tampered(&|data| exchange(data, &["log", "index"]))?;
    verify(&data, checkpoint)?.exits(1)?;
    let (_held, data) = tampered(&|data| exchange(data, &["log", "index", "tree", "keys", "checkpoints"]))?;
    verify(&data, checkpoint)?.exits(1)?;
    verify(&data, &shop.key)?.exits(1)?;
    let unnoticed = verb(&data, &["verify", "--format", "json"])?.exits(0)?;
    ensure!(
        summary(&unnoticed)?["trust"] == "consistent, not authenticated",
        "{}",
        unnoticed.stdout
    );

    // The same log, signed anew with a new key.
    let (_held, data) = tampered(&|data| {
        fs::remove_dir_all(data.join("keys"))?;
        Ok(fs::remove_dir_all(data.join("checkpoints"))?)
    })?;
    Server::start(&data)?.stop()?;
    verify(&data, &shop.key)?.exits(1)?;
    verify(&data, checkpoint)?.exits(0)?;

    // A server goes on serving a log that is not the one that was signed, signs nothing more, and says why.
    let (_held, data) = tampered(&|data| exchange(data, &["log", "index", "views", "reactors"]))?;
    let server = Server::start(&data)?;
    let newer = server.command.post(
        "/v1/commands/users/new/register",
        &[],
        &serde_json::json!({"email":"n@example.com","name":"N"}),
    )?;
    let position = newer.expect(200)?.json()?["position"]
        .as_str()
        .context("no position")?
        .to_owned();
    let refused = server
        .command
        .get(&format!("/v1/proofs/inclusion?position={position}"))?;
    refused.problem(500, "contradiction")?;
    server.stop()?;
    Ok(())
}

#[test]
fn an_old_state_of_a_data_directory_is_told_from_the_present_one() -> Result<()> {
    let shop = audited(10)?;
    let old = shop.data.with_file_name("old");
    copy(&shop.data, &old)?;
    let server = Server::start(&shop.data)?;
    for user in ["a", "b", "c"] {
        let body = serde_json::json!({"email": format!("{user}@example.com"), "name": user});
        server
            .command
            .post(&format!("/v1/commands/users/{user}/register"), &[], &body)?
            .expect(200)?;
    }
    server.stop()?;
    let newer = shop.data.with_file_name("tuesday.checkpoint");
    fs::write(&newer, verb(&shop.data, &["checkpoint"])?.exits(0)?.stdout)?;
    verify(&shop.data, text(&newer)?)?.exits(0)?;
    let found = verify(&old, text(&newer)?)?.exits(1)?;
    ensure!(found.stdout.contains("the end of it is gone"), "{}", found.stdout);
    // Whoever only knows the key, and nothing that is newer, cannot tell: that is what checkpoints are kept for.
    verify(&old, &shop.key)?.exits(0)?;
    Ok(())
}

#[test]
fn old_checkpoints_verify_after_a_rotation_of_keys() -> Result<()> {
    let shop = audited(5)?;
    verb(&shop.data, &["keys", "rotate"])?.exits(0)?;
    let server = Server::start(&shop.data)?;
    let body = serde_json::json!({"email": "r@example.com", "name": "R"});
    server
        .command
        .post("/v1/commands/users/r/register", &[], &body)?
        .expect(200)?;
    server.stop()?;
    let second = key_of(&shop.data)?;
    ensure!(second != shop.key, "the key was not changed");
    let first = summary(&verify(&shop.data, &shop.key)?.exits(0)?)?;
    ensure!(number(&first["covered"])? == shop.size, "{first}");
    let both = summary(&verify(&shop.data, &second)?.exits(0)?)?;
    ensure!(both["uncovered"] == 0, "{both}");
    let saved = shop.data.with_file_name("saved-keys");
    verb(&shop.data, &["keys", "backup", text(&saved)?])?.exits(0)?;
    verb(&shop.data, &["keys", "backup", text(&saved)?])?.exits(2)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&saved)?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    Ok(())
}
