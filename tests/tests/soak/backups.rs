//! Backups of the server at work, one after the other: each is restored into a directory of its own and verified there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annals_tests::cli::annals;
use annals_tests::process::disk_bytes;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Watched;

/// What became of the backups.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    /// Taken, restored and verified.
    pub(crate) whole: u64,
    /// Ended by a kill of the server: they left no file under the name of a backup.
    pub(crate) cut_off: u64,
    /// The last whole one, and the position of its last event.
    pub(crate) last: Option<(PathBuf, u64)>,
}

/// Takes backups until the run is over.
pub(crate) fn take(watched: &Watched, place: &Path, pause: Duration) -> Result<Backups> {
    let mut backups = Backups::default();
    while watched.goes_on() {
        let Some((pid, command, _)) = watched.now() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let file = place.join(format!("{}.backup", backups.whole + backups.cut_off));
        let before = watched.followed();
        let run = annals(["backup", &path(&file)?, "--format", "json", "--url", command.url()])?;
        if run.code == 0 {
            let head = position(&run.lines()?.pop().context("no summary")?, "head")?;
            ensure!(
                head >= before,
                "position {before} was read, a later backup ends at {head}"
            );
            restored(&file, head)?;
            if let Some((old, _)) = backups.last.replace((file, head)) {
                std::fs::remove_file(old)?;
            }
            backups.whole += 1;
        } else {
            let still = watched.now().is_some_and(|(now, ..)| now == pid);
            ensure!(!still, "no backup of a server that was not killed: {run:?}");
            ensure!(!file.exists(), "a backup that was cut off has the name of a whole one");
            backups.cut_off += 1;
        }
        let paused = Instant::now();
        while watched.goes_on() && paused.elapsed() < pause {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(backups)
}

/// The backup, restored into a new directory, is verified there, and ends where the backup does.
fn restored(file: &Path, head: u64) -> Result<()> {
    let data = file.with_extension("restored");
    annals(["restore", &path(file)?, "--data", &path(&data)?])?.exits(0)?;
    let verified = annals(["verify", "--format", "json", "--data", &path(&data)?])?.exits(0)?;
    let report = verified.lines()?.pop().context("no report")?;
    ensure!(
        position(&report, "head")? == head,
        "the backup ends at {head}: {report}"
    );
    ensure!(disk_bytes(&data) > 0, "nothing was restored");
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

/// The last backup tells the events that the log tells up to there, word for word.
pub(crate) fn tells_the_same(backups: &Backups, data: &Path) -> Result<()> {
    let (file, head) = backups.last.as_ref().context("no backup came to its end")?;
    let told = annals(["events", "--format", "json", "--log", &path(file)?])?.exits(0)?;
    let all = annals(["events", "--format", "json", "--data", &path(data)?])?.exits(0)?;
    let (told, all) = (told.stdout, all.stdout);
    ensure!(
        told.lines().count() as u64 == *head,
        "the backup has {} events, not {head}",
        told.lines().count()
    );
    ensure!(all.starts_with(&told), "the backup tells other events than the log");
    Ok(())
}

fn position(line: &Value, field: &str) -> Result<u64> {
    let found = &line[field];
    let number = found.as_u64().or_else(|| found.as_str()?.parse().ok());
    number.with_context(|| format!("no {field} in {line}"))
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("the path is not UTF-8")
}
