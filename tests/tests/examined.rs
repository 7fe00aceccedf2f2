//! After a kill, the server has its last volume examined by a process of its own: one that is stopped because it takes too
//! much does not keep the server from starting with all that was acknowledged.

use std::path::Path;

use annals_tests::fixture::{demo, verb};
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How often the process that looks at the volume may be quicker than who watches it.
const TRIES: u32 = 10;
const VOLUME: &str = "log/00000000000000000001";

fn register(server: &Server, number: u32) -> Result<()> {
    let body = json!({"email": format!("e{number}@example.com"), "name": "E"});
    let key = format!("examined-{number}");
    let path = format!("/v1/commands/users/examined-{number}/register");
    server
        .command
        .post(&path, &[("idempotency-key", &key)], &body)?
        .expect(200)?;
    Ok(())
}

fn events(data: &Path) -> Result<Vec<Value>> {
    verb(data, &["events", "--format", "json"])?.exits(0)?.lines()
}

#[test]
fn a_volume_that_its_own_process_cannot_look_at_is_rebuilt_and_the_server_serves() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, config) = (directory.path().join("data"), directory.path().join("annals.toml"));
    demo(&data, 100)?;
    let aside = data.join(format!("{VOLUME}.damaged-1"));
    let mut server = Server::start(&data)?;
    (0..20).try_for_each(|number| register(&server, number))?;
    server.kill()?;

    let mut server = Server::start(&data)?;
    ensure!(
        !aside.exists(),
        "the volume is whole, and its process said so: {}",
        server.said()
    );
    let head = server.head()?;
    register(&server, 20)?;
    server.kill()?;

    // No process is that small: whatever looks at the volume is stopped, as one would be that damage makes grow. On a busy
    // machine it may have come to its end before it is looked at for the first time: then once more.
    std::fs::write(&config, "[log]\nexamine_bytes_max = 1\n")?;
    let launch = Launch::on(&data)?.argument("--config").argument(&config);
    let mut server = launch.start()?;
    for _ in 0..TRIES {
        if aside.exists() {
            break;
        }
        server.kill()?;
        server = launch.start()?;
    }
    let said = server.said();
    ensure!(said.contains("memory") && said.contains("rebuilt"), "{said}");
    ensure!(aside.join("db").exists(), "the old volume is kept");
    ensure!(server.head()? > head, "what was acknowledged is there");
    register(&server, 20)?;
    register(&server, 21)?;
    server.stop()?;

    verb(&data, &["verify"])?.exits(0)?;
    let events = events(&data)?;
    for number in 0..=21 {
        let subject = format!("users/examined-{number}");
        let of_it = events
            .iter()
            .filter(|event| event["subject"] == subject.as_str())
            .count();
        ensure!(of_it == 1, "{subject} registered {of_it} times");
    }
    events.last().context("no events")?;
    Ok(())
}
