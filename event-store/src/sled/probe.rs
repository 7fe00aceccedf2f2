//! Examines a volume in a process of its own: damaged files can make the storage engine abort, never return, or take all
//! memory, and none of that may happen to a server.

use super::examine::{Case, Examined, beside, examine, remove_if_there, storage};
use annals_core::{LogError, Position};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take, and how much memory, unless something else is said.
const TIME_MAX: Duration = Duration::from_secs(60);
const MEMORY_MAX: u64 = 1 << 30;
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Longest answer that is read, bytes.
const ANSWER_MAX: u64 = 1 << 20;
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;
/// The exit code of a process whose parent has ended; nobody sees it.
const ORPHANED: i32 = 2;
/// What ends a process because somebody wants it to end: hang-up, interrupt, terminate.
const ASKED_TO_END: [i32; 3] = [1, 2, 15];

/// The program that examines a volume after an unclean stop. It is told which one on its standard input, and has to do what
/// [`examine_volume`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How long it may take; afterwards the volume counts as damaged.
    pub time_max: Duration,
    /// How much memory it may have, bytes; with more the volume counts as damaged. Watched where there is `/proc`.
    pub memory_max: u64,
}

impl ProbeCommand {
    /// A program that may take a minute and a gibibyte.
    pub fn new(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            time_max: TIME_MAX,
            memory_max: MEMORY_MAX,
        }
    }

    fn spawn(&self, case: &[u8]) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(input) = child.stdin.as_mut() {
            // Who does not read it does not answer either. It stays open: by its end the process knows that this one is gone.
            let _ = input.write_all(case).and_then(|()| input.write_all(b"\n"));
        }
        Ok(child)
    }

    /// Waits for the end of the process, and sees to it that there is one.
    fn watch(&self, child: &mut Child) -> io::Result<Result<ExitStatus, String>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ok(status));
            }
            let too_much = if begun.elapsed() > self.time_max {
                Some(format!("took more than {} s", self.time_max.as_secs()))
            } else if resident(child.id()) > self.memory_max {
                Some(format!("took more than {} MiB of memory", self.memory_max >> 20))
            } else {
                None
            };
            if let Some(too_much) = too_much {
                child.kill()?;
                child.wait()?;
                return Ok(Err(too_much));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Bytes of memory that a process has; zero where the system does not say.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// What the process says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Examined(Examined),
    Damaged { position: Position, detail: String },
    Failed(String),
}

/// Examines a volume, in a process of its own if there is a program for it. A process that dies, hangs or grows says that
/// the volume is damaged.
pub(super) fn examine_with(probe: Option<&ProbeCommand>, case: &Case) -> Result<Examined, LogError> {
    let Some(probe) = probe else { return examine(case) };
    let spawned = serde_json::to_vec(case)
        .map_err(io::Error::from)
        .and_then(|case| probe.spawn(&case));
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let program = probe.program.display();
            tracing::warn!(%program, %error, "the last volume is examined in this process, because another cannot be started");
            return examine(case);
        }
    };
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = output.map(|output| output.take(ANSWER_MAX).read_to_string(&mut text));
        read.map(|_| text)
    });
    let watched = probe
        .watch(&mut child)
        .map_err(|error| failed(probe, &error.to_string()))?;
    let said = reader.join().ok().flatten().unwrap_or_default();
    let broken = match watched {
        Ok(status) if status.success() => return answered(probe, &said),
        Ok(status) => ended(probe, status)?,
        Err(too_much) => too_much,
    };
    let copy = beside(&case.path, "probe");
    remove_if_there(&copy).map_err(storage(&copy))?;
    Ok(Examined {
        broken: Some(format!(
            "the storage engine, opening it in a process of its own, {broken}"
        )),
        ..Examined::default()
    })
}

fn failed(probe: &ProbeCommand, what: &str) -> LogError {
    let program = probe.program.display();
    LogError::Storage(format!(
        "{program}, which examines the last volume, {what}: start again"
    ))
}

fn answered(probe: &ProbeCommand, said: &str) -> Result<Examined, LogError> {
    match serde_json::from_str(said) {
        Ok(Answer::Examined(examined)) => Ok(examined),
        Ok(Answer::Damaged { position, detail }) => Err(LogError::Damaged { position, detail }),
        Ok(Answer::Failed(what)) => Err(LogError::Storage(what)),
        Err(error) => Err(failed(probe, &format!("did not say what it found ({error})"))),
    }
}

/// How a process ended that did not do what it should; an error if that was not because of the volume.
fn ended(probe: &ProbeCommand, status: ExitStatus) -> Result<String, LogError> {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(signal), _) if !ASKED_TO_END.contains(&signal) => Ok(format!("died ({status})")),
        (None, Some(PANICKED)) => Ok("panicked".into()),
        _ => Err(failed(probe, &format!("was stopped ({status})"))),
    }
}

/// What a program for [`ProbeCommand`] does: examines the volume that is described on `input`, and says on `output` what it
/// found. The process ends when `input` does: then the one that started it has ended, and the next one may be looking at the
/// same volume.
pub fn examine_volume(input: impl Read + Send + 'static, mut output: impl Write) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let (mut case, mut input) = (String::new(), BufReader::new(input));
    input.read_line(&mut case)?;
    let case: Case = serde_json::from_str(&case)?;
    std::thread::Builder::new().spawn(move || {
        // The signal does not come to a process whose parent had ended before it asked for it.
        let _ = io::copy(&mut input, &mut io::sink());
        std::process::exit(ORPHANED);
    })?;
    let answer = match examine(&case) {
        Ok(examined) => Answer::Examined(examined),
        Err(LogError::Damaged { position, detail }) => Answer::Damaged { position, detail },
        Err(LogError::Storage(what)) => Answer::Failed(what),
        Err(error) => Answer::Failed(error.to_string()),
    };
    output.write_all(&serde_json::to_vec(&answer)?)?;
    output.flush()
}
