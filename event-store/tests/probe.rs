//! Opening a log after an unclean stop has its last volume examined in a process of its own: whatever becomes of that
//! process, the log opens with everything that was acknowledged, or says why not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{DataDir, DataDirError, LogSettings, OpenError, OpenOptions, ProbeCommand, SledLog};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{append, copy_tree, open, small, texts};

const VOLUME: &str = "log/00000000000000000001";
/// Set in a process that is started to examine a volume.
const EXAMINE: &str = "ANNALS_PROBE_EXAMINE";

fn settings(probe: Option<ProbeCommand>) -> LogSettings {
    LogSettings {
        volume_bytes_max: 64 << 20,
        journal_bytes: 16 << 10,
        probe,
        ..small()
    }
}

/// A data directory as a kill leaves it, and everything that was acknowledged.
fn killed(dir: &Path) -> (PathBuf, Vec<String>) {
    let (live, left) = (dir.join("live"), dir.join("left"));
    let (log, _held) = open(&live, settings(None));
    let said: Vec<String> = (0..80)
        .map(|number| format!("event {number} {}", "x".repeat(number * 5)))
        .collect();
    for text in &said {
        append(&log, "a/1", &[text]).unwrap();
    }
    log.settle().unwrap();
    copy_tree(&live, &left);
    (left, said)
}

/// A script of the shell as the program that examines.
fn script(script: &str) -> ProbeCommand {
    let mut probe = ProbeCommand::new("sh", ["-c", script]);
    probe.time_max = Duration::from_secs(300);
    probe
}

/// Opens a log with a probe: what it holds and whether its last volume was rebuilt, or the error.
fn opened(dir: &Path, probe: ProbeCommand) -> Result<(Vec<String>, bool), OpenError> {
    let held = held(dir);
    let log = SledLog::open(&held, settings(Some(probe)))?;
    assert_eq!(log.verify(&mut |_| ()).unwrap().problems, []);
    Ok((
        texts(&log, Position::ZERO),
        dir.join(format!("{VOLUME}.damaged-1")).exists(),
    ))
}

/// Holds a directory. A process that another test is starting may share a lock that was let go, until it has begun.
fn held(dir: &Path) -> DataDir {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match DataDir::open(dir, OpenOptions::default()) {
            Err(DataDirError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Does in a process of its own what `annals examine-volume` does.
#[test]
fn a_volume_that_is_whole_is_examined_by_another_process_and_opened_as_it_is() {
    if std::env::var_os(EXAMINE).is_some() {
        let answer = std::fs::File::create(std::env::var_os(EXAMINE).unwrap()).unwrap();
        annals_event_store::examine_volume(std::io::stdin(), answer).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path());
    let (test, answer) = (std::env::current_exe().unwrap(), dir.path().join("answer"));
    let name = "a_volume_that_is_whole_is_examined_by_another_process_and_opened_as_it_is";
    // The harness says things of its own on standard output.
    let line = format!(
        "{EXAMINE}='{0}' '{1}' --exact {name} >&2 && cat '{0}'",
        answer.display(),
        test.display()
    );
    assert_eq!(opened(&left, script(&line)).unwrap(), (said, false));
    assert!(std::fs::metadata(answer).unwrap().len() > 0, "it was not asked");
}

#[test]
fn a_process_that_dies_hangs_or_takes_all_memory_says_that_the_volume_is_damaged_and_it_is_rebuilt() {
    let hangs = {
        let mut hangs = script("exec sleep 1000");
        hangs.time_max = Duration::from_millis(300);
        hangs
    };
    let grows = {
        let mut grows = script("exec tail /dev/zero");
        grows.memory_max = 64 << 20;
        grows
    };
    let ends = [
        ("aborts", script("kill -ABRT $$")),
        ("segfaults", script("read case; kill -SEGV $$")),
        ("panics", script("exit 101")),
        ("hangs", hangs),
        ("grows", grows),
    ];
    for (how, probe) in ends {
        let dir = tempfile::tempdir().unwrap();
        let (left, said) = killed(dir.path());
        let begun = Instant::now();
        let found = opened(&left, probe).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(found, (said, true), "{how}");
        assert!(
            begun.elapsed() < Duration::from_secs(250),
            "{how}: it waited for the end of it"
        );
        let kept = left.join(format!("{VOLUME}.probe"));
        assert!(!kept.exists(), "{how}: a copy was left");
    }
}

/// What a kill of the process that opens a log leaves behind must not go on: the next one looks at the same files.
#[test]
fn a_process_that_examines_ends_with_the_one_that_started_it() {
    if std::env::var_os(EXAMINE).is_some() {
        annals_event_store::examine_volume(std::io::stdin(), std::io::sink()).unwrap();
        // The examination is over long before the test; what is asked is whether the process still waits for its end.
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (left, _) = killed(dir.path());
    let volume = left.join(VOLUME);
    let case = format!(
        "{{\"path\":{:?},\"first\":1,\"epoch\":\"0190a5c4-7d2e-7000-8000-000000000000\",\"boot\":1}}\n",
        volume.display().to_string()
    );
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_examines_ends_with_the_one_that_started_it"])
        .env(EXAMINE, "yes")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, case.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        child.try_wait().unwrap().is_none(),
        "it goes on while somebody waits for it"
    );
    drop(input);
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it goes on alone");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_process_that_was_stopped_or_is_another_program_says_nothing_of_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path());
    for line in ["kill -TERM $$", "kill -INT $$", "exit 2", "echo nonsense", "true"] {
        let error = opened(&left, script(line)).unwrap_err();
        assert!(matches!(error, OpenError::Log(_)), "{line}: {error}");
        assert!(error.to_string().contains("start again"), "{line}: {error}");
        assert!(!left.join(format!("{VOLUME}.damaged-1")).exists(), "{line}");
    }
    // Where no process can be started, this one looks.
    let nowhere = ProbeCommand::new("/no/such/program", ["examine"]);
    assert_eq!(opened(&left, nowhere).unwrap(), (said, false));
}
