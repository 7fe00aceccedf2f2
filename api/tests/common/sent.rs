//! Server-sent events from the client's side.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An event as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Event {
    pub(crate) fn position(&self) -> u64 {
        self.id.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Keys of the rows of a list, and those that left it in brackets.
    pub(crate) fn keys(&self) -> Vec<String> {
        let key = |row: &Value| {
            let key = row["key"].as_str().unwrap();
            if row["row"].is_null() {
                format!("({key})")
            } else {
                key.to_owned()
            }
        };
        self.data["rows"].as_array().unwrap().iter().map(key).collect()
    }
}

/// A live query from the client's side.
pub(crate) struct Live {
    reader: BufReader<TcpStream>,
    pub(crate) head: String,
}

impl Live {
    pub(crate) fn open(address: SocketAddr, path: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut live = Self {
            reader: BufReader::new(stream),
            head: String::new(),
        };
        while !live.head.ends_with("\r\n\r\n") {
            assert!(live.reader.read_line(&mut live.head).unwrap() > 0, "{}", live.head);
        }
        live
    }

    pub(crate) fn status(&self) -> &str {
        &self.head[9..12]
    }

    /// The next line, without what frames the pieces of the answer; `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; `None` when the server has ended the answer.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let line = self.line()?;
            if line == "0" {
                return None;
            }
            if let Some(said) = line.strip_prefix("event: ") {
                said.clone_into(&mut name);
            } else if let Some(said) = line.strip_prefix("id: ") {
                said.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap();
                return Some(Event { name, id, data });
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> Event {
        let event = self.next().unwrap_or_else(|| panic!("the answer ended before {name}"));
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}
