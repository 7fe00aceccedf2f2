//! Runs the real binary and says what came of it. Knows nothing of the domain.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]
#![allow(dead_code, unreachable_pub, reason = "each suite uses its own part of this")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a run came to.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The run, which must have ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Stdout, of which every line is a JSON object.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// Stderr says this.
    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        assert!(self.err.contains(what), "{what:?} is not in:\n{}", self.err);
        self
    }
}

/// The binary `annals`.
pub fn annals() -> Command {
    Command::new(env!("CARGO_BIN_EXE_annals"))
}

/// Runs `annals` in a directory, with arguments separated by spaces.
pub fn run(dir: &Path, arguments: &str) -> Ran {
    run_with(annals(), dir, arguments, "")
}

/// Runs a program with this on its stdin.
pub fn run_with(mut command: Command, dir: &Path, arguments: &str, stdin: &str) -> Ran {
    command
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input closes it early.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A server that runs until it is stopped or dropped.
pub struct Served {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    pub command_url: String,
    pub query_url: String,
}

impl Served {
    /// Starts a server on free ports, and waits until it says where.
    pub fn start(mut program: Command, dir: &Path, arguments: &str) -> Self {
        program.args(arguments.split_whitespace());
        program.args(["--command-addr", "127.0.0.1:0", "--query-addr", "127.0.0.1:0"]);
        program
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut command_url, mut query_url) = (String::new(), None, None);
        while query_url.is_none() {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the server ended:\n{said}");
            let url = |name: &str| line.trim().strip_prefix(name).map(|url| url.trim().to_owned());
            command_url = command_url.or_else(|| url("command API"));
            query_url = url("query API");
            said.push_str(&line);
        }
        Self {
            child,
            stderr,
            command_url: command_url.unwrap(),
            query_url: query_url.unwrap(),
        }
    }

    /// Sends SIGTERM; the exit code and the rest of stderr.
    pub fn stop(mut self) -> (i32, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut rest).unwrap();
        (code, rest)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three orders: one delivered, one cancelled after its payment, one only placed. Every line has a key.
pub fn three_orders() -> String {
    let mut lines = Vec::new();
    let mut number = 0;
    let mut say = |aggregate: &str, id: &str, command: &str, data: &str| {
        number += 1;
        lines.push(format!(
            r#"{{"aggregate":"{aggregate}","id":"{id}","command":"{command}","data":{data},"key":"k-{number}","occurred_at":"2017-10-{:02}T10:00:00Z","actor":"ann"}}"#,
            number
        ));
    };
    say(
        "users",
        "ann",
        "register",
        r#"{"email":"ann@example.org","name":"Ann"}"#,
    );
    for order in ["ord-1", "ord-2", "ord-3"] {
        say(
            "orders",
            order,
            "place",
            r#"{"customer_id":"ann","currency":"BRL","items":[{"product_id":"tea","quantity":2,"unit_price":{"amount":500,"currency":"BRL"}}]}"#,
        );
    }
    for (order, payment) in [("ord-1", "ord-1-1"), ("ord-2", "ord-2-1")] {
        let data =
            format!(r#"{{"order_id":"{order}","method":"voucher","amount":{{"amount":1000,"currency":"BRL"}}}}"#);
        say("payments", payment, "authorize", &data);
        say("payments", payment, "capture", "{}");
    }
    say("orders", "ord-1", "approve", "{}");
    say("orders", "ord-2", "cancel", r#"{"reason":"changed my mind"}"#);
    say("shipments", "ord-1", "dispatch", r#"{"order_id":"ord-1"}"#);
    say("shipments", "ord-1", "deliver", "{}");
    lines.join("\n") + "\n"
}
