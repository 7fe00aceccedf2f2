//! A small history without any server: loaded, listed, replayed, rebuilt, verified, with the real binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use common::{annals, run, run_with, three_orders};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

fn loaded() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_with(annals(), dir.path(), "load -", &three_orders()).exits(0);
    assert_eq!(
        ran.lines(),
        [serde_json::json!({"lines": 12, "done": 12, "unchanged": 0, "duplicates": 0, "failed": 0})]
    );
    assert_eq!(ran.err, "", "nothing to warn about");
    dir
}

fn texts(rows: &[Value], field: &str) -> Vec<String> {
    rows.iter()
        .map(|row| row[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_file_is_loaded_in_its_order_and_loading_it_again_changes_nothing() {
    let dir = loaded();
    let events = run(dir.path(), "events").exits(0).lines();
    assert_eq!(
        texts(&events, "position"),
        (1..=12).map(|position: u32| position.to_string()).collect::<Vec<_>>()
    );
    let days: Vec<String> = (1..=12).map(|day| format!("2017-10-{day:02}T10:00:00Z")).collect();
    assert_eq!(texts(&events, "time"), days, "the order of the lines");
    assert_eq!(events[0]["actor"], "ann");
    let again = run_with(annals(), dir.path(), "load -", &three_orders())
        .exits(0)
        .lines();
    assert_eq!((&again[0]["duplicates"], &again[0]["done"]), (&12.into(), &0.into()));
    assert_eq!(run(dir.path(), "events").exits(0).lines(), events);
}

#[test]
fn a_bad_line_is_named_by_its_number_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        r#"{"aggregate":"users","id":"ann","command":"register","data":{"email":"a@b.c","name":"Ann"},"key":"k"}"#,
        "nonsense",
        r#"{"aggregate":"users","id":"ann","command":"fly"}"#,
        r#"{"aggregate":"users","id":"bob","command":"sign-in","key":"k"}"#,
        r#"{"aggregate":"users","id":"ann","command":"sign-in"}"#,
    ];
    std::fs::write(dir.path().join("commands.ndjson"), lines.join("\n")).unwrap();
    let ran = run(dir.path(), "load commands.ndjson").exits(1);
    assert_eq!(
        (&ran.lines()[0]["done"], &ran.lines()[0]["failed"]),
        (&2.into(), &3.into())
    );
    ran.says("line 2: ")
        .says("line 3: ")
        .says("line 4: ")
        .says("warning: 2 lines have no \"key\"");
    assert_eq!(run(dir.path(), "events").lines().len(), 2);
}

#[test]
fn many_lines_under_way_stand_in_the_log_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    // Neighbours are of different streams, and each stream comes again a few lines later.
    let line = |number: u32| {
        let (user, command) = (
            number / 20 * 10 + number % 10,
            if number % 20 < 10 { "register" } else { "sign-in" },
        );
        let data = if command == "register" {
            format!(r#"{{"email":"u-{user}@b.c","name":"A"}}"#)
        } else {
            "{}".to_owned()
        };
        let time = chrono::DateTime::from_timestamp(1_500_000_000 + i64::from(number), 0)
            .unwrap()
            .to_rfc3339();
        format!(
            r#"{{"aggregate":"users","id":"u-{user}","command":"{command}","data":{data},"key":"k-{number}","occurred_at":"{time}"}}"#
        )
    };
    let lines: String = (0..1_000).map(|number| line(number) + "\n").collect();
    run_with(annals(), dir.path(), "load -", &lines).exits(0);
    let times = texts(&run(dir.path(), "events").exits(0).lines(), "time");
    assert_eq!(times.len(), 1_000);
    assert!(times.is_sorted(), "events stand in the order of their lines");
}

#[test]
fn events_are_filtered() {
    let dir = loaded();
    let positions = |arguments: &str| {
        texts(
            &run(dir.path(), &format!("events {arguments}")).exits(0).lines(),
            "position",
        )
    };
    assert_eq!(positions("--category shipments"), ["11", "12"]);
    assert_eq!(
        positions("--type OrderPlaced --type UserRegistered --limit 2"),
        ["1", "2"]
    );
    assert_eq!(positions("--stream orders/ord-1"), ["2", "9"]);
    assert_eq!(positions("--stream orders/ord-1 --after 2"), ["9"]);
    assert_eq!(positions("--after 10"), ["11", "12"]);
    assert_eq!(positions("--actor bob"), [] as [&str; 0]);
    assert_eq!(positions("--until 2000-01-01"), [] as [&str; 0]);
    assert_eq!(positions("--since 2000-01-01").len(), 12);
    let first = &run(dir.path(), "events --limit 1").lines()[0];
    assert_eq!(
        positions(&format!("--correlation {}", first["id"].as_str().unwrap())),
        ["1"]
    );
    run(dir.path(), "events --follow").exits(2).says("--url");
}

#[test]
fn a_stream_is_replayed_to_any_moment() {
    let dir = loaded();
    let states = run(dir.path(), "replay stream orders/ord-2").exits(0).lines();
    assert_eq!(texts(&states, "type"), ["OrderPlaced", "OrderCancelled"]);
    let at = |arguments: &str| run(dir.path(), &format!("replay stream orders/ord-2 {arguments}")).exits(0);
    assert_eq!(at("--at 5").lines(), states[..1]);
    assert_eq!(at("--at 12").lines(), states[1..]);
    assert_eq!(at("--at-occurred 2017-10-09T23:59:59Z").lines(), states[..1]);
    assert_eq!(at("--at-occurred 2017-10-10T10:00:00Z").lines(), states[1..]);
    at("--at-occurred 2017-10-01").says("had no events then");
    run(dir.path(), "replay stream orders/ord-2 --at 99")
        .exits(2)
        .says("beyond the end");
    run(dir.path(), "replay stream orders/ord-9")
        .exits(2)
        .says("has no events");
    run(dir.path(), "replay stream fruits/apple")
        .exits(2)
        .says("\"commerce\"");
}

#[test]
fn a_view_is_replayed_from_the_log_alone() {
    let dir = loaded();
    let rows = |arguments: &str| {
        run(dir.path(), &format!("replay view orders {arguments}"))
            .exits(0)
            .lines()
    };
    let status = |row: &Value| row["row"]["status"].as_str().unwrap().to_owned();
    let all = rows("");
    assert_eq!(texts(&all, "key"), ["ord-1", "ord-2", "ord-3"]);
    assert_eq!(
        all.iter().map(status).collect::<Vec<_>>(),
        ["delivered", "cancelled", "placed"]
    );
    assert_eq!(
        rows("ord-1 --at 9").iter().map(status).collect::<Vec<_>>(),
        ["approved"]
    );
    assert_eq!(
        rows("ord-1 --at-occurred 2017-10-11T12:00:00Z")
            .iter()
            .map(status)
            .collect::<Vec<_>>(),
        ["shipped"]
    );
    assert_eq!(rows("ord-9"), [] as [Value; 0]);
    run(dir.path(), "replay view fruits").exits(2).says("there are: orders");
}

#[test]
fn the_same_rows_come_as_table_json_and_csv() {
    let dir = loaded();
    let shown = |format: &str| {
        run(dir.path(), &format!("replay view payments --format {format}"))
            .exits(0)
            .out
    };
    let (table, csv) = (shown("table"), shown("csv"));
    assert!(
        table.lines().next().unwrap().contains("key") && table.contains("ord-1-1"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "no colours where there is no terminal");
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("key,row."), "{csv}");
    assert_eq!(lines.count(), 2);
    assert_eq!(shown("json").lines().count(), 2);
    let events = run(dir.path(), "events --format csv --limit 1").exits(0).out;
    assert!(
        events.starts_with("position,time,subject,streamversion,type,actor,data\n1,2017-10-01T10:00:00Z,users/ann,1,")
    );
}

#[test]
fn views_are_rebuilt_and_compared() {
    let dir = loaded();
    let first = run(dir.path(), "rebuild --all").exits(0).lines();
    assert!(first.iter().all(|row| row["swapped"] == true), "{first:?}");
    let compared = run(dir.path(), "rebuild orders --compare --no-swap").exits(0).lines();
    assert_eq!(
        (&compared[0]["same"], &compared[0]["differing"]),
        (&3.into(), &0.into())
    );
    let statuses = run(dir.path(), "projections").exits(0).lines();
    let orders = statuses.iter().find(|status| status["name"] == "orders").unwrap();
    assert_eq!(
        (&orders["position"], &orders["lag_events"]),
        (&"12".into(), &0.into()),
        "{orders}"
    );
    run(dir.path(), "rebuild fruits").exits(2).says("there are: orders");
}

#[test]
fn what_is_about_the_rebuild_of_a_server_does_nothing_offline() {
    let dir = loaded();
    run(dir.path(), "rebuild --all").exits(0);
    let manifest = || {
        let views = dir.path().join("annals-data/views");
        let mut names: Vec<_> = std::fs::read_dir(views)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = manifest();
    for option in ["--pause", "--resume", "--cancel"] {
        for arguments in [
            format!("rebuild orders --data annals-data {option}"),
            format!("rebuild --all --data annals-data {option}"),
            format!("rebuild orders {option}"),
        ] {
            let refused = run(dir.path(), &arguments).exits(2).says("--url");
            assert_eq!(refused.out, "", "{arguments}");
        }
    }
    assert_eq!(manifest(), before, "nothing was built");
}

#[test]
fn a_whole_log_verifies() {
    let dir = loaded();
    let report = run(dir.path(), "verify").exits(0).lines();
    assert_eq!((&report[0]["result"], &report[0]["events"]), (&"ok".into(), &12.into()));
}

#[test]
fn a_log_of_another_domain_is_shown_and_not_folded() {
    let dir = loaded();
    let identity = dir.path().join("annals-data/annals.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    std::fs::write(&identity, text.replace("\"commerce\"", "\"bank\"")).unwrap();
    assert_eq!(run(dir.path(), "events").exits(0).lines().len(), 12);
    run(dir.path(), "verify").exits(0);
    for folding in [
        "replay stream orders/ord-1",
        "replay view orders",
        "rebuild orders",
        "projections",
        "serve",
    ] {
        run(dir.path(), folding).exits(2).says("\"bank\"");
    }
    run_with(annals(), dir.path(), "load -", &three_orders())
        .exits(2)
        .says("\"bank\"");
}

#[test]
fn a_log_can_be_named_instead_of_the_data_directory() {
    let dir = loaded();
    let other = tempfile::tempdir().unwrap();
    let log = dir.path().join("annals-data");
    assert_eq!(
        run(other.path(), &format!("events --log {}", log.display()))
            .exits(0)
            .lines()
            .len(),
        12
    );
    assert_eq!(
        run(Path::new("/"), &format!("events --data {}", log.display()))
            .exits(0)
            .lines()
            .len(),
        12
    );
    let file = dir.path().join("a.bundle");
    std::fs::write(&file, "").unwrap();
    run(other.path(), &format!("events --log {}", file.display()))
        .exits(2)
        .says("it is cut short");
}
