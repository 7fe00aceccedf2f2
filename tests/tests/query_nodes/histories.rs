//! A log that tells another history: restored from a backup, put back by copying files, or another log altogether.

use annals_tests::cli::annals;
use annals_tests::fixture::copy;
use annals_tests::http::Client;
use annals_tests::node::Node;
use anyhow::{Context, Result, ensure};

use crate::traffic::place;

fn epoch(command: &Client) -> Result<String> {
    Ok(command.json("/v1/log")?["epoch"]
        .as_str()
        .context("no epoch")?
        .to_owned())
}

#[test]
fn a_restored_log_is_followed_from_its_beginning_by_the_running_node() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("shop.backup");
    let file = file.to_str().context("path")?;
    let restored = directory.path().join("restored");
    let command = Node::command(&directory.path().join("command"), 31);
    let running = command.start()?;
    let kept = place(&running.client, "ord-kept")?;
    annals(["backup", file, "--url", running.client.url()])?.exits(0)?;
    place(&running.client, "ord-lost")?;
    let last = place(&running.client, "ord-lost-too")?;
    let mut node = Node::query(&directory.path().join("query"), 32, &command).start()?;
    node.read_up_to(last)?;
    let (pid, before) = (node.pid(), epoch(&running.client)?);
    running.kill()?;

    annals(["restore", file, "--data", restored.to_str().context("path")?])?.exits(0)?;
    let running = command.on(&restored).start()?;
    let after = epoch(&running.client)?;
    ensure!(after != before, "a restore gives a new epoch");
    // More than was lost, so that the position alone tells nothing.
    let mut head = 0;
    for number in 0..6 {
        head = place(&running.client, &format!("ord-new-{number}"))?;
    }
    ensure!(head > last, "{head} is beyond {last}");
    node.until("the views are of the new epoch", |client| {
        let answer = client.get("/v1/views/orders?limit=1");
        Ok(answer.is_ok_and(|answer| answer.status == 200 && answer.header("annals-epoch") == after))
    })?;
    node.read_up_to(head)?;
    ensure!(node.pid() == pid, "the process is the same");
    ensure!(
        node.said().contains("as after a restore"),
        "it says why: {}",
        node.said()
    );
    ensure!(
        node.said().contains("the view is built anew"),
        "it says what it does: {}",
        node.said()
    );
    for (order, status) in [
        ("ord-kept", 200),
        ("ord-lost", 404),
        ("ord-lost-too", 404),
        ("ord-new-5", 200),
    ] {
        let answer = node.client.get(&format!("/v1/views/orders/{order}"))?;
        answer.expect(status).with_context(|| order.to_owned())?;
    }
    ensure!(kept < head, "{kept}");
    node.stop()?;
    running.stop()?;
    Ok(())
}

#[test]
fn a_log_that_lost_events_without_a_new_epoch_is_not_followed_until_somebody_decides() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let copied = directory.path().join("copied");
    let command = Node::command(&directory.path().join("command"), 41);
    let running = command.start()?;
    place(&running.client, "ord-1")?;
    let command = running.stop()?;
    copy(command.data(), &copied)?;
    let running = command.start()?;
    let lost = place(&running.client, "ord-lost")?;
    let query = Node::query(&directory.path().join("query"), 42, &command);
    let mut node = query.start()?;
    node.read_up_to(lost)?;
    running.stop()?;

    // Files copied back instead of a backup restored: the epoch is the same, and events are gone.
    let running = command.on(&copied).start()?;
    let stopped = |client: &Client| {
        let answer = client.get("/v1/views/orders/ord-1");
        Ok(answer.is_ok_and(|answer| answer.problem(503, "view-stopped").is_ok()))
    };
    node.until("its views have stopped", stopped)?;
    let detail = node
        .client
        .get("/v1/views/orders/ord-1")?
        .problem(503, "view-stopped")?;
    ensure!(
        detail.contains("annals restore") && detail.contains("rebuild"),
        "{detail}"
    );
    node.client.get("/readyz")?.problem(503, "not-ready")?;
    let query = node.stop()?;

    // Neither does it follow after a restart.
    let mut node = query.start()?;
    node.until("its views have stopped again", stopped)?;
    let head = place(&running.client, "ord-2")?;
    annals(["rebuild", "--all", "--url", node.client.url()])?.exits(0)?;
    node.read_up_to(head)?;
    node.client.get("/v1/views/orders/ord-lost")?.expect(404)?;
    node.client.get("/v1/views/orders/ord-2")?.expect(200)?;
    node.stop()?;
    running.stop()?;
    Ok(())
}

#[test]
fn another_log_at_the_address_is_not_followed_and_the_old_rows_go_on_being_served() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 51).with(&["--name", "shop"]);
    let running = command.start()?;
    let position = place(&running.client, "ord-1")?;
    let mut node = Node::query(&directory.path().join("query"), 52, &command).start()?;
    node.read_up_to(position)?;
    let command = running.kill()?;

    let other = Node::command(&directory.path().join("other"), 51).with(&["--name", "bazaar"]);
    let running = other.start()?;
    place(&running.client, "ord-other")?;
    node.until("it says that this is another log", |client| {
        let log = client.json("/v1/projections")?["log"].clone();
        Ok(log["trouble"]
            .as_str()
            .is_some_and(|trouble| trouble.contains("bazaar") && trouble.contains("shop")))
    })?;
    node.client.get("/v1/views/orders/ord-1")?.expect(200)?;
    node.client.get("/v1/views/orders/ord-other")?.expect(404)?;
    running.stop()?;

    let running = command.start()?;
    let position = place(&running.client, "ord-2")?;
    node.read_up_to(position)?;
    node.stop()?;
    running.stop()?;
    Ok(())
}

#[test]
fn a_log_that_has_other_events_in_the_same_places_is_not_followed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let copied = directory.path().join("copied");
    let command = Node::command(&directory.path().join("command"), 61);
    let running = command.start()?;
    place(&running.client, "ord-1")?;
    let command = running.stop()?;
    copy(command.data(), &copied)?;
    // What the copy is told meanwhile, at another address, takes the places of what the node reads.
    let elsewhere = Node::command(&copied, 63).start()?;
    for number in 0..5 {
        place(&elsewhere.client, &format!("ord-elsewhere-{number}"))?;
    }
    elsewhere.stop()?;

    let running = command.start()?;
    let mut node = Node::query(&directory.path().join("query"), 62, &command).start()?;
    let position = place(&running.client, "ord-2")?;
    node.read_up_to(position)?;
    running.stop()?;
    let running = command.on(&copied).start()?;
    node.until("it says that there are other events", |client| {
        let log = client.json("/v1/projections")?["log"].clone();
        Ok(log["trouble"]
            .as_str()
            .is_some_and(|trouble| trouble.contains("has another event at position")))
    })?;
    node.client.get("/v1/views/orders/ord-2")?.expect(200)?;
    node.client.get("/v1/views/orders/ord-elsewhere-0")?.expect(404)?;
    node.stop()?;
    running.stop()?;
    Ok(())
}
