//! The server may open no more files and connections.

use std::time::Duration;

use annals_tests::http::Client;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::Bench;
use crate::notes::{Answer, Notes};

/// Clients that wait for a connection.
const CLIENTS: usize = 8;
/// How long the limit stays.
const WHILE: Duration = Duration::from_millis(1_500);

#[test]
fn at_the_limit_of_open_files_clients_wait_and_nothing_is_lost() -> Result<()> {
    let bench = Bench::new()?;
    let server = bench.start()?;
    let mut notes = Notes::default();
    ensure!(notes.send(&server.command, 10)? == Answer::Acknowledged, "before");
    // A view that is still being made needs files of its own.
    server.settle()?;

    let pid = Pid::from_raw(i32::try_from(server.pid())?).context("a process")?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count() as u64;
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(Some(pid), Resource::Nofile, limit(open))?;
    let url = server.command.url().to_owned();
    let answers: Vec<Result<Answer>> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let path = format!("/v1/streams/others/o-{number}");
            let event =
                serde_json::json!({ "specversion": "1.0", "id": "e", "source": "/tests", "type": "Noted", "data": {} });
            let headers = [("content-type", "application/cloudevents+json")];
            let answer = Client::new(&url).send("POST", &path, &headers, Some(event.to_string().as_bytes()))?;
            Ok(match answer.status {
                200 => Answer::Acknowledged,
                status => Answer::Refused(status, answer.text()),
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || ask(number))).collect();
        std::thread::sleep(WHILE);
        let raised = prlimit(Some(pid), Resource::Nofile, before);
        let joined = clients.into_iter().map(|client| client.join());
        let answers = joined
            .map(|answer| answer.map_err(|_| anyhow::anyhow!("a client panicked"))?)
            .collect();
        raised.map(|_| answers)
    })?;
    for answer in answers {
        let answer = answer.context("a client that waited")?;
        ensure!(answer == Answer::Acknowledged, "{answer:?}");
    }
    ensure!(notes.send(&server.command, 10)? == Answer::Acknowledged, "after");
    ensure!(
        server.settle()? == CLIENTS as u64 + 2,
        "the log ends at {}",
        server.head()?
    );
    server.stop()
}
