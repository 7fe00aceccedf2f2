//! The disk fails, or is full, at one step of an append.

use annals_tests::cli::annals;
use annals_tests::server::Server;
use annals_tests::shim::{DISK_FAILED, DISK_FULL, Fault, HANG, SYNCS, WRITES};
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

/// Given one client that is alone, so that its appends are stored by the runtime that serves it, when a sync does not come
/// back, then others are answered meanwhile, the client is told that nobody knows, and the server ends and says why.
#[test]
fn a_sync_that_does_not_come_back_holds_nobody_else_and_ends_the_server() -> Result<()> {
    let bench = Bench::new()?;
    let config = bench.data.with_file_name("annals.toml");
    std::fs::write(&config, "[log]\nsync_seconds_max = 5\n")?;
    let server = bench.launch()?.argument("--config").argument(&config).start()?;
    let mut notes = Notes::default();
    while metric(&server, "annals_log_turns_total")? == 0.0 {
        ensure!(
            notes.acknowledged() < NOTES_MAX,
            "no append was stored by its own runtime"
        );
        let answer = notes.send(&server.command, 100)?;
        ensure!(answer == Answer::Acknowledged, "{answer:?}");
    }
    let (operations, path) = (SYNCS, "log/journal");
    bench.control.fail(Fault {
        operations,
        path,
        error: HANG,
        pass: 0,
        times: u64::MAX,
    })?;
    let answer = std::thread::scope(|scope| {
        let sending = scope.spawn(|| notes.send(&server.command, 100));
        while bench.control.failed()? == 0 && !sending.is_finished() {
            std::thread::yield_now();
        }
        let others = server
            .command
            .get("/v1/streams/notes/n-1")
            .and_then(|answer| answer.expect(200));
        let answer = sending.join().map_err(|_| anyhow::anyhow!("sending panicked"))??;
        others.context("another client while the disk did not answer")?;
        anyhow::Ok(answer)
    })?;
    let unknown = matches!(&answer, Answer::Refused(status, text) if *status >= 500 && text.contains("unknown"));
    ensure!(unknown, "{answer:?}");
    let (code, said) = server.wait_end()?;
    ensure!(
        code == 2 && said.contains("does not answer"),
        "it ended with {code} and said: {said}"
    );
    bench.control.heal()?;
    let server = bench.start()?;
    notes.check(&server)?;
    notes.repeat_unanswered(&server, 100)?;
    server.stop()
}

/// A number of the server's own.
fn metric(server: &Server, name: &str) -> Result<f64> {
    let text = server.command.get("/metrics")?.expect(200)?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.parse()?)
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
