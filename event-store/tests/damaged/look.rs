//! Looks at a log in a process of its own, within limits of time and memory, and says everything it sees.

use crate::support::stream;
use crate::written::settings;
use annals_core::*;
use annals_event_store::{DataDir, OpenOptions, SledLog};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Far more than it takes, on any machine.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Address space that a process may take: more is an allocation that believed a damaged length.
const MEMORY_MAX: u64 = 8 << 30;
const MARK: &str = "annals-look ";

/// What came of looking.
#[derive(Debug)]
pub enum Outcome {
    /// The log did not open, and said why.
    Refused(String),
    /// It opened.
    Looked(Look),
    /// The process came to a bad end.
    Ended(String),
}

/// What was seen: answers by question, errors, and what `verify` found.
#[derive(Debug, Default)]
pub struct Look {
    answers: BTreeMap<String, String>,
    errors: BTreeMap<String, String>,
    /// Problems that `verify` named.
    pub problems: Vec<String>,
}

impl Look {
    /// Compares it with the look at the whole log: a word for what it is, or what is wrong.
    pub fn compared(&self, original: &Self) -> Result<&'static str, String> {
        for (question, expected) in &original.answers {
            match (self.answers.get(question), self.errors.get(question)) {
                (Some(found), None) if found == expected => {}
                (None, Some(error)) if error.contains("position") || error.contains("stream") => {}
                (None, Some(error)) => return Err(format!("{question}: the error does not say where: {error}")),
                (found, _) => return Err(format!("{question}: {expected} was written, the answer is {found:?}")),
            }
        }
        match (self.errors.is_empty(), self.problems.is_empty()) {
            (true, true) => Ok("harmless"),
            (true, false) => Ok("found by verify"),
            (false, false) => Ok("named by answers and verify"),
            (false, true) => Err(format!("verify finds nothing, but {:?}", self.errors.first_key_value())),
        }
    }
}

/// Looks at a log from a process of its own.
pub fn in_a_process(dir: &Path) -> Outcome {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["damage_is_named_or_harmless_wherever_it_is", "--exact", "--nocapture"])
        .env("ANNALS_DAMAGE_LOOK_AT", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > TIME_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (text, said) = (
        reader.join().unwrap().unwrap(),
        said.join().unwrap().unwrap_or_default(),
    );
    match status {
        None => Outcome::Ended(format!("it waited for more than {TIME_MAX:?}")),
        Some(status) if !status.success() => {
            let end: String = said
                .lines()
                .filter(|line| !line.trim().is_empty())
                .take(6)
                .collect::<Vec<_>>()
                .join(" | ");
            Outcome::Ended(format!("it ended with {status}: {end}"))
        }
        Some(_) => parsed(&text),
    }
}

fn parsed(text: &str) -> Outcome {
    let mut look = Look::default();
    // The harness writes the name of the test in front of the first line.
    for line in text.lines().filter_map(|line| Some(line.split_once(MARK)?.1)) {
        let mut parts = line.splitn(3, '\t');
        let (kind, question) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default().to_owned(),
        );
        let answer = parts.next().unwrap_or_default().to_owned();
        match kind {
            "refused" => return Outcome::Refused(question),
            "problem" => look.problems.push(question),
            "error" => drop(look.errors.insert(question, answer)),
            _ => drop(look.answers.insert(question, answer)),
        }
    }
    if look.answers.contains_key("end") {
        Outcome::Looked(look)
    } else {
        Outcome::Ended("it said nothing".into())
    }
}

/// Looks at a log and says what it sees on standard output.
pub fn say(dir: &Path) {
    let limit = rustix::process::Rlimit {
        current: Some(MEMORY_MAX),
        maximum: Some(MEMORY_MAX),
    };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let opened = DataDir::open(dir, OpenOptions::default())
        .map_err(|error| error.to_string())
        .and_then(|held| {
            Ok((
                SledLog::open(&held, settings(9 << 20)).map_err(|error| error.to_string())?,
                held,
            ))
        });
    match opened {
        Err(error) => println!("\n{MARK}refused\t{}", error.replace(['\n', '\t'], " ")),
        Ok((log, _held)) => {
            all(&log);
            println!("{MARK}answer\tend\tof it");
        }
    }
}

fn all(log: &SledLog) {
    tell("head", Ok(log.head().to_string()));
    let (mut after, mut records) = (Position::ZERO, Vec::new());
    let scanned = loop {
        match log.read(after, 100_000) {
            Ok(blocks) if blocks.is_empty() => break Ok(()),
            Ok(blocks) => {
                after = blocks.last().map_or(after, Block::last);
                records.extend(blocks.iter().flat_map(|block| block.records().collect::<Vec<_>>()));
            }
            Err(error) => break Err(error),
        }
    };
    tell(
        "scan",
        scanned.and_then(|()| digest(records.into_iter().map(|record| record.map_err(LogError::from)))),
    );
    for position in (1..=log.head().get() + 1).map(Position::new) {
        let record = log.read_one(position).map(|record| record.into_iter().map(Ok));
        tell(&format!("one {position}"), record.and_then(digest));
    }
    for name in (0..8).map(|number| stream(&format!("a/{number}"))) {
        tell(
            &format!("head of {name}"),
            log.stream_head(&name).map(|head| format!("{head:?}")),
        );
        for direction in [Direction::Forward, Direction::Backward] {
            let read = log.read_stream(&name, Version::new(20), direction, 1_000);
            let digest = read.and_then(|records| digest(records.into_iter().map(Ok)));
            tell(&format!("{direction:?} {name}"), digest);
        }
    }
    match log.verify(&mut |_| ()) {
        Ok(report) => {
            for problem in report.problems {
                println!(
                    "{MARK}problem\t{} {}",
                    problem.position,
                    problem.what.replace(['\n', '\t'], " ")
                );
            }
        }
        Err(error) => println!(
            "{MARK}problem\tverify: {}",
            error.to_string().replace(['\n', '\t'], " ")
        ),
    }
}

fn tell(question: &str, answer: Result<String, LogError>) {
    match answer {
        Ok(answer) => println!("{MARK}answer\t{question}\t{answer}"),
        Err(error) => println!(
            "{MARK}error\t{question}\t{}",
            error.to_string().replace(['\n', '\t'], " ")
        ),
    }
}

/// A short text that is another one if anything in the records is.
fn digest(records: impl Iterator<Item = Result<Record, LogError>>) -> Result<String, LogError> {
    let (mut count, mut crc, mut text) = (0, 0, String::new());
    for record in records {
        let record = record?;
        let view = record.view()?;
        text.clear();
        let _ = write!(text, "{} {:?}", view.position, view.header);
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, text.as_bytes()), view.payload);
        count += 1;
    }
    Ok(format!("{count} records, {crc:08x}"))
}
