//! What a user meets first: help, version, completions, and being told what is wrong with what they wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use common::{annals, run, run_with};
use std::path::Path;

const VERBS: [&str; 11] = [
    "serve",
    "demo",
    "load",
    "replay",
    "events",
    "verify",
    "projections",
    "rebuild",
    "dead-letters",
    "bench",
    "completions",
];

fn here() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn help_names_every_verb_and_every_verb_has_help_with_an_example() {
    let dir = here();
    let help = run(dir.path(), "--help").exits(0).out;
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb}")), "{verb} is not in:\n{help}");
        let of_verb = run(dir.path(), &format!("{verb} --help")).exits(0).out;
        assert!(of_verb.contains("Usage: annals"), "{of_verb}");
        assert!(of_verb.contains("Example"), "{verb} has no example:\n{of_verb}");
    }
    for of_replay in ["stream", "view"] {
        assert!(
            run(dir.path(), &format!("replay {of_replay} --help"))
                .exits(0)
                .out
                .contains("Examples:")
        );
    }
    assert!(help.contains("Exit codes:"), "{help}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "help leaves nothing behind"
    );
}

#[test]
fn version_and_completions_go_to_stdout() {
    let version = run(Path::new("."), "--version").exits(0);
    assert_eq!(version.out, format!("annals {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(Path::new("."), &format!("completions {shell}"))
                .exits(0)
                .out
                .contains("rebuild")
        );
    }
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    let dir = here();
    for (arguments, says) in [
        ("", "Usage: annals"),
        ("fly", "fly"),
        ("events --format xml", "table, json, csv"),
        ("events --since yesterday", "2017-10-02"),
        ("events --stream orders", "CATEGORY/ID"),
        ("events --category Orders", "a category is 1 to 64 characters"),
        ("events --stream Orders/1", "category"),
        ("events --url x", "http://127.0.0.1:8080"),
        ("events --url http://127.0.0.1:1", "is the server running?"),
        ("replay stream orders/1 --at x", "a position is a number"),
        (
            "replay stream orders/1 --at 1 --at-occurred 2017-10-02",
            "cannot be used with",
        ),
        ("rebuild", "--all"),
        ("rebuild orders --all", "cannot be used with"),
        ("load", "FILE"),
        ("load missing.ndjson", "missing.ndjson"),
        ("serve --role query", "name it with --log http://127.0.0.1:8080"),
        ("serve --role query --log shop", "--log shop is no URL"),
        ("serve --log http://127.0.0.1:1", "add --role query, or leave --log out"),
        ("serve --role command --log http://127.0.0.1:1", "add --role query"),
        (
            "serve --role query --log http://127.0.0.1:1 --query-addr 127.0.0.1:0",
            "is the server running?",
        ),
        (
            "serve --role query --log http://127.0.0.1:1 --command-addr 127.0.0.1:0",
            "a query node has no command API; leave it out",
        ),
        (
            "serve --role query --log http://127.0.0.1:1 --name shop",
            "the log is another node's",
        ),
        (
            "serve --role command --query-addr 127.0.0.1:0",
            "a command node has no query API",
        ),
        ("serve --command-addr 0.0.0.0:0", "use an address of this machine"),
        ("serve --query-addr 192.0.2.1:0", "use an address of this machine"),
        ("serve --config missing.toml", "missing.toml"),
        ("serve --name Shop", "log name"),
        ("bench --seconds 0", "--seconds"),
        ("demo --rate 0", "--rate"),
    ] {
        run(dir.path(), arguments).exits(2).says(says);
    }
}

#[test]
fn a_log_that_is_not_there_is_not_made_by_reading() {
    let dir = here();
    let reading = [
        "events",
        "verify",
        "replay stream orders/1",
        "replay view orders",
        "projections",
        "rebuild --all",
    ];
    for arguments in reading {
        run(dir.path(), arguments)
            .exits(2)
            .says("there is no log in ./annals-data");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_setting_that_is_not_known_is_named_with_its_file() {
    let dir = here();
    std::fs::write(dir.path().join("annals.toml"), "command_adr = \"127.0.0.1:0\"\n").unwrap();
    run(dir.path(), "serve --config annals.toml")
        .exits(2)
        .says("annals.toml")
        .says("command_adr");
}

#[test]
fn a_queue_that_no_append_fits_into_is_refused_before_anything_is_made() {
    let dir = here();
    for (setting, says) in [
        ("queue_appends_max = 0", "1 at least"),
        ("queue_bytes_max = 1048576", "2097152 at least"),
        ("volume_bytes_max = 0", "1048576 at least"),
        ("volume_bytes_max = 1", "1048576 at least"),
    ] {
        std::fs::write(dir.path().join("annals.toml"), format!("[log]\n{setting}\n")).unwrap();
        run(dir.path(), "serve --config annals.toml")
            .exits(2)
            .says("annals.toml")
            .says(says);
    }
    assert!(!dir.path().join("annals-data").exists());
}

#[test]
fn a_port_in_use_is_named_with_the_option_that_changes_it() {
    let dir = here();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let arguments = format!("serve --command-addr 127.0.0.1:0 --query-addr 127.0.0.1:{port}");
    run(dir.path(), &arguments)
        .exits(2)
        .says(&port.to_string())
        .says("--query-addr");
    for (verb, option) in [
        (format!("serve --command-addr 127.0.0.1:{port}"), "--command-addr"),
        (
            format!("serve --role command --command-addr 127.0.0.1:{port}"),
            "--command-addr",
        ),
        (
            format!("serve --role query --log http://127.0.0.1:1 --query-addr 127.0.0.1:{port}"),
            "--query-addr",
        ),
        (
            format!("demo --data annals-data --command-addr 127.0.0.1:{port} --query-addr 127.0.0.1:0"),
            "--command-addr",
        ),
    ] {
        run(dir.path(), &verb).exits(2).says(option);
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "no data directory is left behind"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = here();
    run_with(annals(), dir.path(), "load -", &common::three_orders()).exits(0);
    for listing in [
        "events --format json",
        "events --format csv",
        "replay view orders",
        "projections",
        "verify",
        "rebuild --all",
        "completions bash",
    ] {
        assert_eq!(unread(dir.path(), listing), 0, "{listing}");
    }
}

#[test]
fn a_verdict_stands_whoever_reads_it() {
    let dir = here();
    let one =
        r#"{"aggregate":"users","id":"zoe","command":"register","data":{"email":"a@b.c","name":"Zoe"},"key":"k"}"#;
    run_with(annals(), dir.path(), "load -", one).exits(0);
    std::fs::write(dir.path().join("bad.ndjson"), "nonsense\n").unwrap();
    assert_eq!(unread(dir.path(), "load bad.ndjson"), 1);
    assert_eq!(
        unread(dir.path(), "rebuild orders --compare"),
        1,
        "there are no old rows"
    );
    damage(&dir.path().join("annals-data/log/00000000000000000001/db"));
    run(dir.path(), "verify").exits(1);
    for format in ["table", "json", "csv"] {
        assert_eq!(unread(dir.path(), &format!("verify --format {format}")), 1, "{format}");
    }
}

/// The exit code of a run whose output nobody reads.
fn unread(dir: &Path, arguments: &str) -> i32 {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = annals();
    child.args(arguments.split_whitespace()).current_dir(dir);
    child.stdout(writer).stderr(std::process::Stdio::null());
    child.status().unwrap().code().unwrap()
}

/// Changes one byte of a stored event.
fn damage(volume: &Path) {
    let mut bytes = std::fs::read(volume).unwrap();
    let at = bytes.windows(14).position(|text| text == b"UserRegistered").unwrap();
    bytes[at] ^= 1;
    std::fs::write(volume, bytes).unwrap();
}
