//! Lines sent to a running server, some hundred in one request.

use super::{CommandLine, LineResult, Lines, Tally};
use crate::http::{Server, problem_detail};
use anyhow::{Context, Result, anyhow, ensure};
use indicatif::ProgressBar;
use serde_json::Value;
use std::io::BufRead;

/// Lines in one request.
const CHUNK_LINES_MAX: usize = 1_000;
/// Bytes after which a request is not added to.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Lines that go out together.
#[derive(Default)]
struct Chunk {
    body: Vec<u8>,
    numbers: Vec<u64>,
    /// On whose behalf: a header of the request, because a line cannot say it.
    actor: Option<String>,
}

/// Sends all lines. An error is of the environment: of the lines after the last counted one, some may be done.
pub(super) fn load(server: &Server, lines: Lines<impl BufRead>, tally: &mut Tally, bar: &ProgressBar) -> Result<()> {
    let mut chunk = Chunk::default();
    for line in lines {
        let line = line?;
        let mut command = match line.command {
            Ok(command) => command,
            Err(reason) => {
                tally.count(line.number, LineResult::Failed(reason), bar);
                continue;
            }
        };
        tally.look_at(&command);
        let actor = command.actor.take();
        if chunk.actor != actor {
            chunk.send(server, tally, bar)?;
            chunk.actor = actor;
        }
        chunk.push(line.number, &command)?;
        if chunk.is_full() {
            chunk.send(server, tally, bar)?;
        }
    }
    chunk.send(server, tally, bar)
}

impl Chunk {
    fn push(&mut self, number: u64, command: &CommandLine) -> Result<()> {
        serde_json::to_writer(&mut self.body, command)?;
        self.body.push(b'\n');
        self.numbers.push(number);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.numbers.len() >= CHUNK_LINES_MAX || self.body.len() >= CHUNK_BYTES_MAX
    }

    fn send(&mut self, server: &Server, tally: &mut Tally, bar: &ProgressBar) -> Result<()> {
        let actor = self.actor.clone();
        let chunk = std::mem::take(self);
        self.actor.clone_from(&actor);
        let (Some(first), Some(last)) = (chunk.numbers.first(), chunk.numbers.last()) else {
            return Ok(());
        };
        let said = || format!("lines {first} to {last}");
        let answer = server
            .post_lines("/v1/commands", actor.as_deref(), &chunk.body)
            .with_context(said)?;
        let mut answers = answer
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty());
        let mut refused = None;
        for number in &chunk.numbers {
            let Some(answer) = answers.next() else {
                let short = || anyhow!("the server's answer ends before line {number}");
                return Err(refused.unwrap_or_else(short));
            };
            let answer: Value = serde_json::from_slice(answer).with_context(said)?;
            ensure!(
                answer["status"].is_u64(),
                "the server's answer for line {number} has no status"
            );
            match (result(&answer), &refused) {
                (Ok(result), None) => tally.count(*number, result, bar),
                (Err(problem), None) => refused = Some(anyhow!("line {number}: {problem}")),
                // After the first line that the server was not able to carry out, others fail only because of it.
                (Ok(LineResult::Failed(_)) | Err(_), Some(_)) => {}
                (Ok(done), Some(_)) => tally.count(*number, done, bar),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// What came of a line. An error is of the server and concerns every line.
fn result(answer: &Value) -> Result<LineResult, String> {
    let status = answer["status"].as_u64().unwrap_or_default();
    if !(200..300).contains(&status) {
        let said = problem_detail(answer).unwrap_or_else(|| answer.to_string());
        return if concerns_server(status, answer) {
            Err(said)
        } else {
            Ok(LineResult::Failed(match answer["code"].as_str() {
                Some(code) => format!("{code}: {said}"),
                None => said,
            }))
        };
    }
    Ok(if answer["duplicate"] == Value::Bool(true) {
        LineResult::Duplicate
    } else if answer["events"].as_array().is_some_and(Vec::is_empty) {
        LineResult::Unchanged
    } else {
        LineResult::Done
    })
}

/// Whether a problem is of the server and not of the line. Other internal errors can be of a single command.
fn concerns_server(status: u64, problem: &Value) -> bool {
    let name = problem["type"].as_str().and_then(|name| name.rsplit(':').next());
    matches!(status, 502..=504 | 507) || matches!(name, Some("outcome-unknown" | "log-damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(status: u64, name: &str) -> Value {
        json!({ "status": status, "type": format!("urn:annals:problem:{name}"), "detail": "why" })
    }

    #[test]
    fn a_problem_of_the_server_ends_the_load_and_one_of_the_line_does_not() {
        for (status, name) in [
            (507, "storage-full"),
            (503, "overloaded"),
            (503, "clock-jumped"),
            (503, "log-closed"),
            (500, "outcome-unknown"),
            (500, "log-damaged"),
        ] {
            assert_eq!(result(&problem(status, name)), Err("why".into()), "{name}");
        }
        for (status, name) in [
            (400, "invalid-line"),
            (409, "version-conflict"),
            (500, "undecodable-event"),
        ] {
            let failed = LineResult::Failed("why".into());
            assert_eq!(result(&problem(status, name)), Ok(failed), "{name}");
        }
    }
}
