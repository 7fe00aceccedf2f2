//! Appends, and marks before and after each what is asked and what was acknowledged.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use annals_core::{AppendError, Appender, CommandKey};
use annals_event_store::SledLog;
use annals_tests::power_cut::workload::{self, Marks};
use anyhow::{Context, Result, anyhow};

use crate::{DOES_NOT_OPEN, Log, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    /// File of marks; read first if it is there.
    #[arg(long)]
    marks: PathBuf,
    /// Seed of what is appended.
    #[arg(long)]
    seed: u64,
    /// Threads that append at once.
    #[arg(long, default_value_t = 8)]
    threads: u64,
    /// Appends in all, each time the log is open.
    #[arg(long)]
    appends: u64,
    /// How often the log is opened, filled and closed.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
}

/// One writer of appends, shared by its threads.
struct Driver<'a> {
    log: &'a SledLog,
    marks: &'a File,
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32> {
    let before = match std::fs::read_to_string(&arguments.marks) {
        Ok(text) => Marks::read(&text)?,
        Err(_) => Marks::default(),
    };
    let marks = File::options().append(true).create(true).open(&arguments.marks)?;
    let unanswered = before
        .begun
        .iter()
        .filter(|number| !before.acknowledged.contains_key(number));
    let mut numbers: Vec<u64> = unanswered.copied().collect();
    let mut next = before.begun.last().map_or(0, |last| last + 1);
    for _ in 0..arguments.rounds {
        let (log, _held) = match arguments.log.open() {
            Ok(opened) => opened,
            Err(error) => {
                say(&error);
                return Ok(DOES_NOT_OPEN);
            }
        };
        let driver = Driver {
            log: &log,
            marks: &marks,
            seed: arguments.seed,
        };
        numbers.extend(next..next + arguments.appends);
        next += arguments.appends;
        driver.append_all(&std::mem::take(&mut numbers), arguments.threads)?;
        log.close();
    }
    Ok(0)
}

impl Driver<'_> {
    fn append_all(&self, numbers: &[u64], threads: u64) -> Result<()> {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().build()?;
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    runtime.block_on(self.append(*number))?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    }

    async fn append(&self, number: u64) -> Result<()> {
        let mut append = workload::append(self.seed, number)?;
        append.command = Some(CommandKey {
            key: workload::key(number),
            fingerprint: self.log.fingerprint(&number.to_le_bytes()),
        });
        let count = append.events.len() as u64;
        self.mark(&workload::begun_mark(number))?;
        match self.log.append(append).await {
            Ok(appended) => {
                let last = appended.position.get();
                self.mark(&workload::acknowledged_mark(number, last + 1 - count, last))
            }
            // Backpressure: what was refused is not there, and is not asked again here.
            Err(AppendError::Overloaded { .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("append {number}")),
        }
    }

    fn mark(&self, text: &str) -> Result<()> {
        // One call for one mark: threads share the file.
        let written = (&mut &*self.marks).write(text.as_bytes())?;
        anyhow::ensure!(written == text.len(), "a mark was cut off");
        Ok(())
    }
}
