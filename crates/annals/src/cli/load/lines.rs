//! Command lines of NDJSON, read one by one and bounded. Knows nothing of who carries them out.

use annals_core::{Expected, Version, plain_error};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io::{self, BufRead, Read};

/// Longest line in bytes.
pub(crate) const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Longest actor in bytes, as over HTTP.
const ACTOR_LEN_MAX: usize = 256;
const FORM: &str = "write {\"aggregate\":…,\"id\":…,\"command\":…,\"data\":{…}}";

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One command.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandLine {
    pub(crate) aggregate: String,
    pub(crate) id: String,
    pub(crate) command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) occurred_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<String>,
}

impl CommandLine {
    /// The command that a line holds. The error says what is wrong with the line.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err(format!("not a command: {FORM}"));
        }
        let read: Self =
            serde_json::from_slice(line).map_err(|error| format!("not a command: {}; {FORM}", plain_error(&error)))?;
        match &read.actor {
            Some(actor) if !is_actor(actor) => Err(format!(
                "actor: 1 to {ACTOR_LEN_MAX} bytes without control characters, and no space at its beginning or end"
            )),
            _ => Ok(read),
        }
    }

    /// What the line expects of its stream.
    pub(crate) fn expected(&self) -> Expected {
        match self.expected_version {
            None => Expected::Any,
            Some(0) => Expected::None,
            Some(version) => Expected::Exact(Version::new(version)),
        }
    }
}

/// Whether a text can stand for who did something, also in a header.
fn is_actor(text: &str) -> bool {
    (1..=ACTOR_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control) && text == text.trim()
}

/// A line with its number, from 1.
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) command: Result<CommandLine, String>,
}

/// Lines of a reader. Blank ones are passed over.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// Reads one line into the buffer; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        // One more than allowed, and one for the line feed.
        let mut bounded = (&mut self.reader).take(LINE_BYTES_MAX + 2);
        let read = bounded.read_until(b'\n', &mut self.buffer)?;
        if self.buffer.last() != Some(&b'\n') && read as u64 == LINE_BYTES_MAX + 2 {
            self.reader.skip_until(b'\n')?;
        }
        Ok(read > 0)
    }

    fn command(&self) -> Result<CommandLine, String> {
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
        }
        CommandLine::parse(line)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.fill() {
                Err(error) => return Some(Err(error)),
                Ok(false) => return None,
                Ok(true) => self.number += 1,
            }
            // Some editors begin a file with a mark that is no part of its text.
            if self.number == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Some(Ok(Line {
                    number: self.number,
                    command: self.command(),
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_named_by_their_number_and_the_rest_goes_on() {
        let long = format!("{{\"aggregate\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX as usize));
        let text = format!(
            "{{\"aggregate\":\"a\",\"id\":\"1\",\"command\":\"c\",\"data\":{{\"n\":1}},\"key\":\"k\"}}\r\n\n{long}\nnonsense\n\
             {{\"aggregate\":\"a\",\"id\":\"1\",\"command\":\"c\",\"extra\":1}}\n{{\"aggregate\":\"a\",\"id\":\"2\",\"command\":\"c\"}}"
        );
        let lines: Vec<Line> = Lines::new(text.as_bytes()).map(Result::unwrap).collect();
        let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 3, 4, 5, 6]);
        let good: Vec<bool> = lines.iter().map(|line| line.command.is_ok()).collect();
        assert_eq!(good, [true, false, false, false, true]);
        let said = |line: &Line| line.command.as_ref().unwrap_err().clone();
        assert!(said(&lines[1]).contains("longer"), "{}", said(&lines[1]));
        assert!(said(&lines[3]).contains("extra"), "{}", said(&lines[3]));
    }

    #[test]
    fn what_is_said_of_a_bad_line_names_no_type_of_this_program() {
        let line = |more: &str| format!("{{\"aggregate\":\"a\",\"id\":\"1\",\"command\":\"c\"{more}}}");
        for (text, says) in [
            ("[\"a\",\"1\",\"c\"]".to_owned(), "write {\"aggregate\""),
            ("5".to_owned(), "not a command"),
            (line(",\"expected_version\":\"1\""), "expected a whole number"),
            (line(",\"occurred_at\":\"soon\""), "not a command"),
            (line(",\"actor\":\"\""), "actor: 1 to 256"),
            (line(",\"actor\":\" ann\""), "no space"),
            (line(&format!(",\"actor\":\"{}\"", "x".repeat(257))), "actor: 1 to 256"),
        ] {
            let said = CommandLine::parse(text.as_bytes()).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
            assert!(!said.contains("struct") && !said.contains("CommandLine"), "{said}");
        }
        assert!(CommandLine::parse(line(",\"actor\":\"Zoë\"").as_bytes()).is_ok());
    }

    #[test]
    fn a_byte_order_mark_before_the_first_line_is_passed_over() {
        let line = "{\"aggregate\":\"a\",\"id\":\"1\",\"command\":\"c\"}";
        let text = format!("\u{feff}{line}\n\u{feff}{line}\n");
        let lines: Vec<Line> = Lines::new(text.as_bytes()).map(Result::unwrap).collect();
        assert!(lines[0].command.is_ok(), "at the beginning of a file");
        assert!(lines[1].command.is_err(), "and nowhere else");
    }

    #[test]
    fn a_line_of_exactly_the_largest_size_is_taken() {
        let frame = "{\"aggregate\":\"\",\"id\":\"1\",\"command\":\"c\"}".len();
        let name = "x".repeat(LINE_BYTES_MAX as usize - frame);
        let text = format!("{{\"aggregate\":\"{name}\",\"id\":\"1\",\"command\":\"c\"}}\n{{}}\n");
        let lines: Vec<Line> = Lines::new(text.as_bytes()).map(Result::unwrap).collect();
        assert!(lines[0].command.is_ok() && lines[1].command.is_err());
    }
}
