//! The same with a running server: what holds the data directory is named, and can be asked instead.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use common::{Served, annals, run, run_with, three_orders};
use serde_json::Value;
use std::time::{Duration, Instant};

fn get(url: &str) -> Value {
    ureq::get(url).call().unwrap().body_mut().read_json().unwrap()
}

/// Waits until a row is as it should be.
fn row_when(url: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        if let Ok(mut answer) = ureq::get(url).call() {
            let row: Value = answer.body_mut().read_json().unwrap();
            if wanted(&row) {
                return row;
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{url} did not come to be");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_takes_commands_serves_views_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(annals(), dir.path(), "serve --name shop");
    let (command_url, query_url) = (server.command_url.clone(), server.query_url.clone());

    let load = |times| {
        let ran = run_with(
            annals(),
            dir.path(),
            &format!("load - --url {command_url}"),
            &three_orders(),
        )
        .exits(0);
        assert_eq!(ran.lines()[0]["lines"], 12, "{times}");
        ran.lines()[0].clone()
    };
    load("first");
    assert_eq!(load("again")["done"], 0);

    // The reactor gives the money of the cancelled order back.
    let order = row_when(&format!("{query_url}/v1/views/orders/ord-2"), |row| {
        row["row"]["refunded"] != row["row"]["paid"] || row["refunded"].to_string().contains("1000")
    });
    assert!(order.to_string().contains("cancelled"), "{order}");
    assert_eq!(get(&format!("{command_url}/v1/log"))["name"], "shop");

    for (verb, remedy) in [
        ("events", format!("use --url {command_url} (or --log {command_url})")),
        ("verify", format!("use --url {command_url} (or --log {command_url})")),
        ("load -", format!("use --url {command_url}, or")),
        ("projections", format!("use its query API, --url {query_url}, or")),
        ("rebuild --all", format!("use its query API, --url {query_url}, or")),
        (
            "rebuild --all --compare",
            format!("use its query API, --url {query_url}, or"),
        ),
        (
            "projections resume fulfilment --from 1",
            format!("use its query API, --url {query_url}, or"),
        ),
        (
            "serve --command-addr 127.0.0.1:0 --query-addr 127.0.0.1:0",
            "stop it first, or name another --data directory".to_owned(),
        ),
    ] {
        let ran = run(dir.path(), verb).exits(2).says(&command_url).says(&remedy);
        let offers = ran.err.contains("--url") || ran.err.contains("--log");
        assert_eq!(offers, remedy.contains("--url"), "{verb}: {}", ran.err);
    }

    let (code, rest) = server.stop();
    assert_eq!(code, 0, "{rest}");
    assert!(run(dir.path(), "events --type PaymentRefunded").exits(0).lines().len() == 1);
    run(dir.path(), "verify").exits(0);
}

#[test]
fn who_a_line_names_did_it_whether_the_lines_are_loaded_offline_or_into_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = [Some("ann"), Some("Zoë"), Some("Zoë"), None, Some("ann")]
        .iter()
        .enumerate()
        .map(|(number, actor)| {
            let mut line = serde_json::json!({
                "aggregate": "users", "id": format!("u{number}"), "command": "register", "key": format!("k-{number}"),
                "data": { "email": format!("u{number}@example.org"), "name": "U" },
            });
            if let Some(actor) = actor {
                line["actor"] = (*actor).into();
            }
            line.to_string()
        })
        .collect();
    let text = lines.join("\n");
    let actors = |place: &str| -> Vec<Value> {
        let events = run(dir.path(), &format!("events --format json {place}"))
            .exits(0)
            .lines();
        events.iter().map(|event| event["actor"].clone()).collect()
    };
    run_with(annals(), dir.path(), "load - --data offline", &text).exits(0);
    let server = Served::start(annals(), dir.path(), "serve --data online");
    let url = server.command_url.clone();
    run_with(annals(), dir.path(), &format!("load - --url {url}"), &text).exits(0);
    assert_eq!(actors(&format!("--url {url}")), actors("--data offline"));
    assert_eq!(actors("--data offline"), ["ann", "Zoë", "Zoë", "anonymous", "ann"]);
    let (code, rest) = server.stop();
    assert_eq!(code, 0, "{rest}");
}

#[test]
fn lines_that_a_server_rejects_are_named_with_their_code_as_offline() {
    let dir = tempfile::tempdir().unwrap();
    let bad = r#"{"aggregate":"users","id":"bob","command":"sign-in","key":"k"}"#;
    let offline = run_with(annals(), dir.path(), "load -", bad).exits(1).err;
    let server = Served::start(annals(), dir.path(), "serve");
    let online = run_with(
        annals(),
        dir.path(),
        &format!("load - --url {}", server.command_url),
        bad,
    )
    .exits(1)
    .err;
    assert_eq!(online, offline);
    // A byte order mark is no part of the first line.
    let marked = format!("\u{feff}{}", three_orders());
    run_with(
        annals(),
        dir.path(),
        &format!("load - --url {}", server.command_url),
        &marked,
    )
    .exits(0);
}

#[test]
fn a_load_ends_at_the_first_line_that_the_server_has_no_space_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("annals.toml"),
        "[log]\nreserve_bytes = 1152921504606846976\n",
    )
    .unwrap();
    let server = Served::start(annals(), dir.path(), "serve --config annals.toml");
    let arguments = format!("load - --url {}", server.command_url);
    let ran = run_with(annals(), dir.path(), &arguments, &three_orders())
        .exits(2)
        .says("not all lines were looked at; once that is set right, load the file again")
        .says("line 1: the disk has")
        .says("free some space");
    assert!(!ran.err.contains("line 2"), "no false leads: {}", ran.err);
    assert_eq!(ran.lines()[0]["failed"], 0);
}

#[test]
fn the_log_of_a_running_server_is_read_like_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    run_with(annals(), dir.path(), "load -", &three_orders()).exits(0);
    let commands = [
        "events --category shipments",
        "events --stream orders/ord-2 --limit 1",
        "replay stream users/ann",
        "replay stream payments/ord-1-1 --at-occurred 2017-10-05T12:00:00Z",
        "replay view sales-by-day",
        "replay view orders --at 9",
    ];
    let offline: Vec<_> = commands
        .iter()
        .map(|command| run(dir.path(), command).exits(0).lines())
        .collect();
    let server = Served::start(annals(), dir.path(), "serve");
    for (command, offline) in commands.iter().zip(offline) {
        let online = run(dir.path(), &format!("{command} --log {}", server.command_url))
            .exits(0)
            .lines();
        assert_eq!(online, offline, "{command}");
    }
    let mut counter = std::env::current_exe().unwrap();
    counter.pop();
    counter.pop();
    let other_domain = std::process::Command::new(counter.join("examples/counter"));
    let arguments = format!("replay view totals --log {}", server.command_url);
    run_with(other_domain, dir.path(), &arguments, "")
        .exits(2)
        .says("\"commerce\"");
    let report = run(dir.path(), &format!("verify --url {}", server.command_url))
        .exits(0)
        .lines();
    assert_eq!(report[0]["result"], "ok");
}

#[test]
fn a_running_server_lists_and_rebuilds_its_views() {
    let dir = tempfile::tempdir().unwrap();
    run_with(annals(), dir.path(), "load -", &three_orders()).exits(0);
    let server = Served::start(annals(), dir.path(), "serve");
    let url = &server.query_url;
    row_when(&format!("{url}/v1/views/orders/ord-1"), |row| {
        row["status"] == "delivered"
    });
    let rebuilt = run(dir.path(), &format!("rebuild orders --url {url}")).exits(0).lines();
    assert_eq!(
        (&rebuilt[0]["view"], &rebuilt[0]["swapped"]),
        (&"orders".into(), &true.into())
    );
    let statuses = run(dir.path(), &format!("projections --url {url}")).exits(0).lines();
    assert!(
        statuses.iter().any(|status| status["name"] == "fulfilment"),
        "{statuses:?}"
    );
    run(dir.path(), &format!("rebuild fruits --url {url}"))
        .exits(2)
        .says("fruits");
    // A command API knows the reactors, and lists all that its node has.
    run(dir.path(), &format!("projections --url {}", server.command_url)).exits(0);
}

#[test]
fn events_are_followed_as_they_come() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(annals(), dir.path(), "serve");
    let mut follower = annals()
        .args([
            "events",
            "--follow",
            "--limit",
            "2",
            "--category",
            "users",
            "--format",
            "json",
            "--url",
            &server.command_url,
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for (user, number) in [("ann", 1), ("bob", 2)] {
        let line = format!(
            r#"{{"aggregate":"users","id":"{user}","command":"register","data":{{"email":"{user}@b.c","name":"A"}},"key":"{number}"}}"#
        );
        run_with(
            annals(),
            dir.path(),
            &format!("load - --url {}", server.command_url),
            &line,
        )
        .exits(0);
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["subject"], format!("users/{user}"));
    }
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn a_demo_generates_says_what_came_of_it_and_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), "demo --once --orders 20").exits(0);
    let lines = ran.lines();
    assert!(
        lines
            .iter()
            .any(|line| line["type"] == "OrderPlaced" && line["events"] == 20),
        "{}",
        ran.out
    );
    assert!(lines.iter().any(|line| line["view"] == "orders"), "{}", ran.out);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    run(dir.path(), "demo --once --orders 2 --data shop").exits(0);
    run(dir.path(), "verify --data shop").exits(0);
    run(dir.path(), "demo --once --data shop").exits(2).says("not empty");
}
