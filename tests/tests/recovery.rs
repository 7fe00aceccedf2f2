//! What people do with damaged logs and with copies of them, by the real binary: what it exits with, what it says, and what
//! it leaves.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use annals_tests::cli::{Run, annals, binary, run};
use annals_tests::damage::{blocks, change};
use annals_tests::fixture::{copy, demo, verb};
use annals_tests::namespace;
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};

/// How often a process is killed at most until that is in the middle of its work.
const KILLS_MAX: usize = 200;
/// How long a process may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(60);

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}

fn says(run: &Run, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(run.stderr.contains(word), "{word:?} is not said: {}", run.stderr);
    }
    Ok(())
}

/// Runs the binary and kills it as soon as `begun` exists. Whether it was killed in the middle of its work.
fn killed(arguments: &[&str], begun: &Path) -> Result<bool> {
    let mut child = Command::new(binary()?)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let since = Instant::now();
    while !begun.exists() && child.try_wait()?.is_none() {
        ensure!(since.elapsed() < BEGIN_MAX, "it does not begin");
        std::thread::yield_now();
    }
    child.kill()?;
    Ok(!child.wait()?.success() && begun.exists())
}

/// Kills a verb that writes a data directory until something is left of it; then it does its work as if nothing had been.
fn killed_then_repeated(arguments: &[&str], target: &Path, ending: &str) -> Result<()> {
    let beside = PathBuf::from(format!("{}.{ending}", target.display()));
    let mut left = false;
    for _ in 0..KILLS_MAX {
        left = killed(arguments, &beside)?;
        if left {
            break;
        }
        if target.exists() {
            std::fs::remove_dir_all(target)?;
        }
    }
    ensure!(left, "it was never killed in the middle of its work");
    annals(arguments)?.exits(0)?;
    ensure!(!beside.exists(), "{} is still there", beside.display());
    verb(target, &["verify"])?.exits(0)?;
    Ok(())
}

#[test]
fn a_restore_or_salvage_that_was_killed_is_simply_repeated() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, file) = (directory.path().join("data"), directory.path().join("backup"));
    demo(&data, 300)?;
    verb(&data, &["backup", text(&file)?])?.exits(0)?;
    let (restored, salvaged) = (directory.path().join("restored"), directory.path().join("salvaged"));
    let restore = ["restore", text(&file)?, "--data", text(&restored)?];
    killed_then_repeated(&restore, &restored, "restoring")?;
    let salvage = ["salvage", "--data", text(&data)?, "--into", text(&salvaged)?];
    killed_then_repeated(&salvage, &salvaged, "salvaging")
}

#[test]
fn a_file_that_is_no_backup_is_an_error_of_usage() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (new, letter) = (directory.path().join("new"), directory.path().join("letter"));
    std::fs::write(&letter, "Dear Ann, this is no backup.\n".repeat(10))?;
    let restore = |file: &Path| annals(["restore", text(file)?, "--data", text(&new)?])?.exits(2);
    says(
        &restore(&directory.path().join("nofile"))?,
        &["no such file", "annals backup"],
    )?;
    says(&restore(&letter)?, &["not a backup", "annals backup"])?;
    says(&restore(directory.path())?, &["not a backup", "annals backup"])?;
    ensure!(!new.exists(), "something was written");
    Ok(())
}

#[test]
fn a_log_whose_secret_is_lost_is_salvaged_with_a_word_about_what_that_means() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    demo(&data, 30)?;
    std::fs::remove_file(data.join("log/secret"))?;
    let salvaged = verb(&data, &["salvage", "--format", "json", "--into", text(&new)?])?.exits(1)?;
    says(&salvaged, &["lost: the log's secret", "personal tags"])?;
    let line = salvaged.lines()?.pop().context("no summary")?;
    ensure!(line["result"] == "incomplete" && line["lost"].is_array(), "{line}");
    verb(&new, &["verify"])?.exits(0)?;
    Ok(())
}

#[test]
fn there_is_nothing_to_salvage_in_an_empty_log_and_that_is_no_error() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    Server::start(&data)?.stop()?;
    let salvaged = verb(&data, &["salvage", "--format", "json", "--into", text(&new)?])?.exits(0)?;
    says(&salvaged, &["nothing in it"])?;
    verb(&new, &["verify"])?.exits(0)?;
    Ok(())
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, file, small) = (
        directory.path().join("data"),
        directory.path().join("backup"),
        directory.path().join("small"),
    );
    std::fs::create_dir(&small)?;
    demo(&data, 100)?;
    verb(&data, &["backup", text(&file)?])?.exits(0)?;
    let there = text(&small)?;
    for target in ["restored", "salvaged"] {
        let new = format!("{there}/{target}");
        let arguments = match target {
            "restored" => vec!["restore", text(&file)?, "--data", &new],
            _ => vec!["salvage", "--data", text(&data)?, "--into", &new],
        };
        let mut program = namespace::with_tmpfs(&small, "size=16k")?;
        program.extend(["sh", "-c"].map(Into::into));
        // What is left there is gone with the process: it says so itself.
        program.push("\"$@\"; code=$?; ls \"$0\"; exit $code".into());
        program.push(there.into());
        program.push(binary()?.into());
        program.extend(arguments.into_iter().map(Into::into));
        let full = run(Command::new(&program[0]).args(&program[1..]))?.exits(2)?;
        says(&full, &["the disk is full", "free some space"])?;
        ensure!(full.stdout.trim().is_empty(), "left on the disk: {}", full.stdout);
    }
    Ok(())
}

/// A log of which a block in the middle is damaged, and where.
fn damaged(data: &Path) -> Result<u64> {
    demo(data, 600)?;
    let blocks = blocks(data)?;
    let at = *blocks.get(blocks.len() / 2).context("too few blocks")?;
    let changed = change(data, |key, value| {
        let mut value = value.to_vec();
        if key == at.to_be_bytes() {
            let middle = value.len() / 2;
            value[middle] ^= 1;
        }
        Some(value)
    })?;
    ensure!(changed == 1, "nothing was damaged");
    Ok(at)
}

#[test]
fn a_backup_or_check_of_a_server_whose_log_is_damaged_names_the_position() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, file) = (directory.path().join("data"), directory.path().join("backup"));
    let at = damaged(&data)?;
    // It is never ready, once a view has come to the damage.
    let server = Launch::on(&data)?.begin()?;
    let url = server.command.url();
    let backup = annals(["backup", text(&file)?, "--url", url])?.exits(1)?;
    says(&backup, &[&format!("position {at}")])?;
    let verify = annals(["verify", "--format", "json", "--url", url])?.exits(1)?;
    let line = verify.lines()?.into_iter().next().context("nothing was said")?;
    ensure!(line["position"] == at.to_string().as_str(), "{line}");
    ensure!(
        !file.exists() && !directory.path().join("backup.partial").exists(),
        "something is left"
    );
    server.stop()
}

#[test]
fn a_log_on_a_disk_that_cannot_be_written_is_verified_read_replayed_and_backed_up() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (whole, file) = (directory.path().join("whole"), directory.path().join("backup"));
    demo(&whole, 60)?;
    let expected = verb(&whole, &["events", "--format", "json"])?.exits(0)?;
    let spoilt = directory.path().join("spoilt");
    copy(&whole, &spoilt)?;
    // No index either: it is built anew, elsewhere.
    std::fs::remove_dir_all(spoilt.join("index"))?;
    for data in [&whole, &spoilt] {
        let there = text(data)?;
        let reading = |arguments: &[&str]| -> Result<Run> {
            let mut program = namespace::read_only(data)?;
            program.push(binary()?.into());
            program.extend(arguments.iter().map(Into::into));
            run(Command::new(&program[0]).args(&program[1..]))?.exits(0)
        };
        reading(&["verify", "--data", there])?;
        let events = reading(&["events", "--format", "json", "--data", there])?;
        ensure!(events.stdout == expected.stdout, "other events are read");
        reading(&["replay", "view", "orders", "--data", there])?;
        reading(&["backup", "--force", text(&file)?, "--data", there])?;
        annals(["verify", "--log", text(&file)?])?.exits(0)?;
    }
    Ok(())
}
