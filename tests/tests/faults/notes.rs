//! Events that are appended one after the other, and what came of each.

use std::collections::BTreeMap;

use annals_tests::events;
use annals_tests::http::Client;
use annals_tests::server::Server;
use anyhow::{Result, ensure};
use serde_json::json;

/// Notes that were sent, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    sent: u64,
    /// Positions that were acknowledged.
    acknowledged: BTreeMap<u64, u64>,
}

/// What came of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Acknowledged,
    /// Status and body; 0 if there was no answer.
    Refused(u16, String),
}

impl Notes {
    /// Sends the next note, so many bytes of it.
    pub(crate) fn send(&mut self, client: &Client, bytes: usize) -> Result<Answer> {
        let number = self.sent;
        self.sent += 1;
        self.ask(client, number, bytes)
    }

    fn ask(&mut self, client: &Client, number: u64, bytes: usize) -> Result<Answer> {
        let text = number.to_string().repeat(bytes / 4 + 1);
        let note = json!({
            "specversion": "1.0", "id": number.to_string(), "source": "/tests", "type": "Noted",
            "data": { "number": number, "text": text },
        });
        let headers = [("content-type", "application/cloudevents+json")];
        let body = note.to_string();
        let answer = match client.send("POST", "/v1/streams/notes/n-1", &headers, Some(body.as_bytes())) {
            Ok(answer) => answer,
            Err(error) => return Ok(Answer::Refused(0, format!("{error:#}"))),
        };
        if answer.status != 200 {
            return Ok(Answer::Refused(answer.status, answer.text()));
        }
        let position = answer.json()?["position"].as_str().unwrap_or_default().parse()?;
        self.acknowledged.insert(number, position);
        Ok(Answer::Acknowledged)
    }

    /// Everything acknowledged is in the log, where it was said to be, and nothing is there twice.
    pub(crate) fn check(&self, server: &Server) -> Result<()> {
        let mut found = BTreeMap::new();
        for event in events::all(&server.command)? {
            let number = event.data["number"].as_u64().unwrap_or(u64::MAX);
            ensure!(
                found.insert(number, event.position).is_none(),
                "note {number} is there twice"
            );
        }
        for (number, position) in &self.acknowledged {
            ensure!(
                found.get(number) == Some(position),
                "note {number} was acknowledged at {position}, and is at {:?}",
                found.get(number)
            );
        }
        Ok(())
    }

    /// Sends again what was not acknowledged, each note as before: it must be there once in the end.
    pub(crate) fn repeat_unanswered(&mut self, server: &Server, bytes: usize) -> Result<()> {
        let unanswered: Vec<u64> = (0..self.sent)
            .filter(|number| !self.acknowledged.contains_key(number))
            .collect();
        for number in unanswered {
            let answer = self.ask(&server.command, number, bytes)?;
            ensure!(answer == Answer::Acknowledged, "note {number}, sent again: {answer:?}");
        }
        self.check(server)?;
        ensure!(
            server.head()? == self.sent,
            "{} notes were sent, the log ends at {}",
            self.sent,
            server.head()?
        );
        Ok(())
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
