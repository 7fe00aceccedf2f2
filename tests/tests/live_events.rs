//! The log's events live, as anybody follows them: with `curl -N`, over the end and the new start of a server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use annals_tests::cli::annals;
use annals_tests::http::Client;
use annals_tests::node::Node;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How long an event may take to come, or curl to end.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A running `curl -N`. Killed when it is dropped.
struct Curl {
    child: Child,
    lines: Receiver<String>,
}

impl Curl {
    fn follow(client: &Client, path: &str, last: Option<&str>) -> Result<Self> {
        let mut curl = Command::new("curl");
        curl.args(["-N", "-sS", "-H", "Accept: text/event-stream"]);
        if let Some(last) = last {
            curl.args(["-H", &format!("Last-Event-ID: {last}")]);
        }
        curl.arg(format!("{}{path}", client.url()));
        curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = curl.spawn().context("curl is needed for this suite")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody may be there any more to take it.
            lines.for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { child, lines })
    }

    /// Its exit code, when it has ended by itself; -1 for a signal.
    fn ended(&mut self) -> Result<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or(-1));
            }
            ensure!(begun.elapsed() < TIME_MAX, "curl goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Id and data of the next event.
    fn event(&self) -> Result<(String, Value)> {
        let mut id = String::new();
        loop {
            let line = self.lines.recv_timeout(TIME_MAX).context("no further event")?;
            if let Some(said) = line.strip_prefix("id: ") {
                said.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Ok((id, serde_json::from_str(data)?));
            }
        }
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn register(client: &Client, name: &str) -> Result<()> {
    let user = json!({ "email": format!("{name}@customers.example"), "name": name });
    let path = format!("/v1/commands/users/{name}/register");
    client.post(&path, &[], &user)?.expect(200)?;
    client
        .post(&format!("/v1/commands/users/{name}/sign-in"), &[], &json!({}))?
        .expect(200)?;
    Ok(())
}

#[test]
fn events_are_followed_over_kill_stop_and_restore() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let backup = directory.path().join("shop.backup");
    let backup = backup.to_str().context("path")?;
    let node = Node::command(&directory.path().join("data"), 1);
    let running = node.start()?;
    let path = "/v1/events?type=UserRegistered";
    register(&running.client, "ann")?;
    let mut curl = Curl::follow(&running.client, path, None)?;
    let (_, first) = curl.event()?;
    ensure!(first["subject"] == "users/ann", "what there was comes first: {first}");
    register(&running.client, "bob")?;
    let (last, second) = curl.event()?;
    ensure!(
        second["subject"] == "users/bob" && second["position"] == "3",
        "{second}"
    );

    let node = running.kill()?;
    ensure!(curl.ended()? != 0, "the answer was cut off");
    let running = node.start()?;
    register(&running.client, "eve")?;
    let mut curl = Curl::follow(&running.client, path, Some(&last))?;
    let (_, third) = curl.event()?;
    ensure!(
        third["subject"] == "users/eve",
        "nothing twice and nothing left out: {third}"
    );
    annals(["backup", backup, "--url", running.client.url()])?.exits(0)?;
    running.stop()?;
    ensure!(curl.ended()? == 0, "the answer ends with the server");

    let restored = directory.path().join("restored");
    annals(["restore", backup, "--data", restored.to_str().context("path")?])?.exits(0)?;
    let running = node.on(&restored).start()?;
    let back = [("accept", "text/event-stream"), ("last-event-id", last.as_str())];
    let refused = running
        .client
        .send("GET", path, &back, None)?
        .problem(409, "other-epoch")?;
    ensure!(refused.contains("begin anew"), "{refused}");
    let curl = Curl::follow(&running.client, path, None)?;
    for name in ["ann", "bob", "eve"] {
        ensure!(
            curl.event()?.1["subject"] == format!("users/{name}"),
            "all of them, anew"
        );
    }
    drop(curl);
    running.stop()?;
    Ok(())
}
