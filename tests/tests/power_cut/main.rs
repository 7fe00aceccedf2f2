//! The power-cut suite: what the log does to its files is recorded, directories are built as a cut at any moment could
//! leave them, and in each everything that was acknowledged must be found, whole.
//!
//! `ANNALS_CUT_IMAGES` images in all (40); the long form is
//! `ANNALS_CUT_IMAGES=600 cargo test -p annals-tests --test power_cut -- --nocapture`. `ANNALS_CUT_SEED` repeats what is
//! appended and how it is cut. A broken image is kept with its record, and the message has the command that builds it again.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

mod images;
mod scenario;

use std::path::Path;
use std::time::SystemTime;

use annals_tests::power_cut::{SyncsCounted, image};
use anyhow::{Context, Result, bail, ensure};
use images::{Checked, Outcome, Point};
use scenario::{Recorded, Scenario};

/// Volumes that are closed and sealed all the time.
const SMALL: Scenario = Scenario {
    name: "small volumes",
    volume_bytes: 300_000,
    appends: 150,
    rounds: 2,
    kills: &[],
    plain: false,
};
/// One volume of several segments.
const LARGE: Scenario = Scenario {
    name: "one large volume",
    volume_bytes: 64 << 20,
    appends: 300,
    rounds: 2,
    ..SMALL
};
/// Killed in the middle of things, started again, and what was not answered is asked again.
const KILLED: Scenario = Scenario {
    name: "killed and started again",
    appends: 60,
    rounds: 1,
    kills: &[20, 300, 130, 60, 210],
    ..SMALL
};
/// What is done to a directory that a power cut left.
const RECOVERING: Scenario = Scenario {
    name: "recovering from a power cut",
    appends: 20,
    rounds: 1,
    ..SMALL
};
/// The engine alone.
const PLAIN: Scenario = Scenario {
    name: "the engine's own flush",
    appends: 150,
    rounds: 1,
    plain: true,
    ..SMALL
};

/// Images in all, unless `ANNALS_CUT_IMAGES` says how many.
const IMAGES: u64 = 40;
/// Builds one image again: directory of its record, entries, seed.
const AGAIN: &str = "ANNALS_CUT_AGAIN";

#[test]
fn every_acknowledged_append_survives_a_power_cut_at_any_moment() -> Result<()> {
    let seed = seed()?;
    let each = (number("ANNALS_CUT_IMAGES")?.unwrap_or(IMAGES) as usize)
        .div_ceil(4)
        .max(2);
    if let Ok(again) = std::env::var(AGAIN) {
        return build_again(&again);
    }
    let work = tempfile::tempdir()?;
    let mut broken = Vec::new();
    for scenario in [SMALL, LARGE, KILLED] {
        let work = work.path().join(scenario.name.replace(' ', "-"));
        std::fs::create_dir(&work)?;
        let recorded = scenario.record(&work, seed, None)?;
        broken.extend(cut(&recorded, each, seed)?);
    }
    for round in 0..each.div_ceil(30) {
        let first = work.path().join("small-volumes");
        let recorded = recovery(
            &first,
            &work.path().join(format!("recovering-{round}")),
            seed + round as u64,
        )?;
        broken.extend(cut(&recorded, each.min(30), seed)?);
    }
    if broken.is_empty() {
        return Ok(());
    }
    let kept = work.keep();
    bail!(
        "broken images, kept with their records in {}:\n{}",
        kept.display(),
        broken.join("\n")
    )
}

#[test]
fn without_fdatasync_acknowledged_appends_are_lost() -> Result<()> {
    let (work, seed) = (tempfile::tempdir()?, seed()?);
    let recorded = SMALL.record(work.path(), seed, None)?;
    loses(&recorded, SyncsCounted::AllButFdatasync, seed)
}

#[test]
fn the_engines_own_flush_loses_what_it_acknowledged() -> Result<()> {
    let (work, seed) = (tempfile::tempdir()?, seed()?);
    let recorded = PLAIN.record(work.path(), seed, None)?;
    loses(&recorded, SyncsCounted::All, seed)
}

/// Cuts a record and returns what is broken, with the command that builds it again.
fn cut(recorded: &Recorded, count: usize, seed: u64) -> Result<Vec<String>> {
    let name = recorded.scenario.name;
    let points = images::points(recorded, count, seed);
    let checked = images::check_all(
        recorded,
        SyncsCounted::All,
        &points,
        &recorded.work.join("images"),
        false,
    )?;
    let whole = checked
        .iter()
        .filter(|one| matches!(one.outcome, Outcome::Whole(_)))
        .count();
    let unborn = checked
        .iter()
        .filter(|one| matches!(one.outcome, Outcome::Unborn))
        .count();
    let uncertain = checked.iter().filter(|one| !one.unsynced.is_empty()).count();
    let acknowledged = checked.iter().map(|one| match one.outcome {
        Outcome::Whole(acknowledged) => acknowledged,
        _ => 0,
    });
    println!(
        "{name}: {} file operations, {} images, {whole} whole with up to {} acknowledged appends, {unborn} cut before the \
         log was made, {uncertain} with something not durable",
        recorded.entries.len(),
        checked.len(),
        acknowledged.max().unwrap_or(0),
    );
    ensure!(
        whole * 2 > checked.len() || whole + unborn < checked.len(),
        "{name}: hardly an image holds anything"
    );
    ensure!(
        uncertain > 0,
        "{name}: nothing was ever not durable, so nothing was tried"
    );
    let broken: Vec<String> = checked.iter().filter_map(|one| describe(recorded, one)).collect();
    // Said at once: the rest of a long run takes a while.
    broken.iter().for_each(|broken| println!("{broken}"));
    Ok(broken)
}

fn describe(recorded: &Recorded, one: &Checked) -> Option<String> {
    let Outcome::Broken(why) = &one.outcome else {
        return None;
    };
    let Point { entries, seed } = one.point;
    Some(format!(
        "{}, after {entries} entries: {why}\n  not durable then: {:?}\n  the image: {}\n  again: {AGAIN}={}:{entries}:{seed} \
         cargo test -p annals-tests --test power_cut every",
        recorded.scenario.name,
        one.unsynced,
        one.kept.as_deref().unwrap_or(Path::new("?")).display(),
        recorded.work.display(),
    ))
}

/// Records what is done to a directory that a power cut left, in which much was not durable.
fn recovery(first: &Path, work: &Path, seed: u64) -> Result<Recorded> {
    let before = Recorded::read(&SMALL, first, 0, None)?;
    let mut disk = before.disk(SyncsCounted::All)?;
    let mut seeds = images::points(&before, 200, seed).into_iter();
    // A point in the second half, so that there is something to recover.
    let point = seeds
        .find(|point| point.entries * 2 > before.entries.len())
        .context("no point")?;
    before.entries[..point.entries]
        .iter()
        .try_for_each(|entry| disk.apply(entry))?;
    std::fs::create_dir_all(work)?;
    let image = work.join("begin");
    image::build(&disk, point.seed, &image)?;
    let workload = std::fs::read_to_string(first.join("seed"))?.trim().parse()?;
    RECOVERING.record(work, workload, Some((&image, disk.marks())))
}

/// At least one image has lost something that was acknowledged; otherwise this suite would not notice a loss.
fn loses(recorded: &Recorded, counted: SyncsCounted, seed: u64) -> Result<()> {
    let points = images::points(recorded, 40, seed);
    let checked = images::check_all(recorded, counted, &points, &recorded.work.join("images"), true)?;
    let lost = checked.iter().find_map(|one| match &one.outcome {
        Outcome::Broken(why) => Some(why),
        _ => None,
    });
    let lost = lost.with_context(|| format!("{} images, and nothing is lost", checked.len()))?;
    println!("{}: lost, as it must be: {lost}", recorded.scenario.name);
    Ok(())
}

/// Builds and checks one image again, in the directory of its record.
fn build_again(what: &str) -> Result<()> {
    let mut parts = what.rsplitn(3, ':');
    let (seed, entries, work) = (parts.next(), parts.next(), parts.next());
    let (work, seed) = (Path::new(work.context(AGAIN)?), seed.context(AGAIN)?.parse()?);
    let entries = entries.context(AGAIN)?.parse()?;
    let about = std::fs::read_to_string(work.join("scenario"))?;
    let scenarios = [SMALL, LARGE, KILLED, RECOVERING, PLAIN];
    let scenario = scenarios
        .iter()
        .find(|scenario| scenario.name == about.trim())
        .context("the scenario")?;
    let begin = Some(work.join("begin")).filter(|begin| begin.is_dir());
    let workload = std::fs::read_to_string(work.join("seed"))?.trim().parse()?;
    let recorded = Recorded::read(scenario, work, workload, begin)?;
    let points = [Point { entries, seed }];
    let checked = images::check_all(&recorded, SyncsCounted::All, &points, &work.join("again"), false)?;
    match checked.first().and_then(|one| describe(&recorded, one)) {
        Some(broken) => bail!("{broken}"),
        None => Ok(()),
    }
}

fn seed() -> Result<u64> {
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_micros() as u64);
    let seed = number("ANNALS_CUT_SEED")?.unwrap_or_else(now);
    println!("ANNALS_CUT_SEED={seed}");
    Ok(seed)
}

fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable}={text} is no number")))
        .transpose()
}
