//! The disk fails, or is full, at one step of an append.

use annals_tests::cli::annals;
use annals_tests::shim::{DISK_FAILED, DISK_FULL, Fault, SYNCS, WRITES};
use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::notes::{Answer, Notes};

/// Steps for each kind of fault, unless `ANNALS_FAULT_STEPS` says how many.
const STEPS: u64 = 2;
/// Notes that are sent at least while the disk fails.
const NOTES: usize = 30;
/// Notes after which a fault that has not come will not come.
const NOTES_MAX: usize = 600;
/// Bytes of a note that soon fills what is gathered before it is stored in a volume.
const NOTE_BYTES: usize = 100_000;

#[test]
fn after_a_failed_sync_of_the_journal_nothing_is_acknowledged_until_it_is_opened_again() -> Result<()> {
    at_each_step(SYNCS, "log/journal", DISK_FAILED, 100)
}

#[test]
fn a_failed_write_of_the_journal_ends_the_server_and_loses_nothing() -> Result<()> {
    at_each_step(WRITES, "log/journal", DISK_FAILED, 100)
}

#[test]
fn a_disk_that_is_full_when_the_journal_is_written_ends_the_server_and_loses_nothing() -> Result<()> {
    at_each_step(WRITES, "log/journal", DISK_FULL, 100)
}

#[test]
fn a_failed_sync_of_a_volume_ends_the_server_and_loses_nothing() -> Result<()> {
    at_each_step(SYNCS, "log/0", DISK_FAILED, NOTE_BYTES)
}

#[test]
fn a_disk_that_is_full_when_a_volume_is_written_ends_the_server_and_loses_nothing() -> Result<()> {
    at_each_step(WRITES, "log/0", DISK_FULL, NOTE_BYTES)
}

/// Lets the fault come after 0, 1, 2, … such operations.
fn at_each_step(operations: u64, path: &str, error: i64, bytes: usize) -> Result<()> {
    let steps = match std::env::var("ANNALS_FAULT_STEPS") {
        Ok(text) => text.parse().context("ANNALS_FAULT_STEPS is a number")?,
        Err(_) => STEPS,
    };
    for pass in 0..steps {
        let what = format!("error {error} of operation {pass} on {path}");
        fail_once(
            Fault {
                operations,
                path,
                error,
                pass,
                times: u64::MAX,
            },
            bytes,
        )
        .with_context(|| what)?;
    }
    Ok(())
}

/// Given a server that has acknowledged notes, when the disk begins to fail, then it acknowledges nothing from the first
/// failure on, ends and says why; started again on a sound disk, it has everything that it acknowledged.
fn fail_once(fault: Fault<'_>, bytes: usize) -> Result<()> {
    let bench = Bench::new()?;
    let server = bench.start()?;
    let mut notes = Notes::default();
    for _ in 0..3 {
        let answer = notes.send(&server.command, 100)?;
        ensure!(answer == Answer::Acknowledged, "{answer:?}");
    }
    bench.control.fail(fault)?;
    let mut refused = Vec::new();
    for sent in 0..NOTES_MAX {
        let failed = bench.control.failed()? > 0;
        if failed && sent >= NOTES {
            break;
        }
        match notes.send(&server.command, bytes)? {
            // A note of before may be answered after others failed to be stored behind it; the journal has it.
            Answer::Acknowledged => ensure!(
                !(failed && fault.path.contains("journal")),
                "acknowledged after the disk had failed"
            ),
            Answer::Refused(status, text) => refused.push((status, text)),
        }
    }
    ensure!(bench.control.failed()? > 0, "nothing was made to fail");
    let known = [0, 500, 503, 507];
    ensure!(refused.iter().all(|(status, _)| known.contains(status)), "{refused:?}");
    let (code, said) = server.wait_end()?;
    ensure!(
        code == 2 && said.contains("storage failed"),
        "it ended with {code} and said: {said}"
    );

    bench.control.heal()?;
    let server = bench.start()?;
    notes.check(&server)?;
    let acknowledged = notes.acknowledged();
    notes.repeat_unanswered(&server, bytes)?;
    println!(
        "{fault:?}: {acknowledged} acknowledged, {} refused, all there once in the end",
        refused.len()
    );
    server.stop()?;
    annals(["verify".as_ref(), "--data".as_ref(), bench.data.as_os_str()])?.exits(0)?;
    Ok(())
}
