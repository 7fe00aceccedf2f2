//! `docs/operations.md` is run: every command of its `sh` blocks, as it stands there, on a shop that has what the text
//! speaks of. Only addresses, positions, ids and times are those of the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::letters::{id, letter, none_left};
use crate::{Fragile, Program, until, until_state, write};
use annals_tests::cli::{binary, run};
use annals_tests::fixture::demo;
use annals_tests::node::Node;
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};

/// The commands that are not run yet.
struct Book {
    commands: Vec<String>,
}

impl Book {
    fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the workspace")?;
        let text = std::fs::read_to_string(root.join("docs/operations.md"))?;
        let blocks = text
            .split("\n```sh\n")
            .skip(1)
            .filter_map(|block| block.split("\n```").next());
        let commands = blocks.flat_map(str::lines);
        // What follows a command says what it is for.
        let commands = commands.map(|line| line.split(" # ").next().unwrap_or(line).trim().to_owned());
        let commands: Vec<String> = commands.filter(|line| !line.is_empty()).collect();
        ensure!(commands.len() > 20, "only {} commands: {commands:?}", commands.len());
        Ok(Self { commands })
    }

    /// Those with these words, which now are run. There is one at least.
    fn take(&mut self, words: &[&str]) -> Result<Vec<String>> {
        let (taken, left) = std::mem::take(&mut self.commands)
            .into_iter()
            .partition(|command| words.iter().all(|word| command.contains(word)));
        self.commands = left;
        let taken: Vec<String> = taken;
        ensure!(
            !taken.is_empty(),
            "docs/operations.md has no command with {words:?} any more: adapt this test"
        );
        Ok(taken)
    }
}

/// Where commands are run, and by which binary.
struct Desk<'a> {
    here: &'a Path,
    binaries: PathBuf,
}

impl Desk<'_> {
    /// Runs a command in a shell with the binary in its path; all of what it said on stdout.
    fn run(&self, command: &str) -> Result<String> {
        let mut path = self.binaries.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", command]).env("PATH", path);
        shell.env("CURL_HOME", self.here).current_dir(self.here);
        Ok(run(&mut shell)?.exits(0).with_context(|| command.to_owned())?.stdout)
    }

    /// Runs commands against a server, with other words in place of some of theirs.
    fn against(&self, server: &Server, commands: Vec<String>, replaced: &[(&str, &str)]) -> Result<()> {
        for command in commands {
            let mut command = command.replace("127.0.0.1:8080", server.command.address());
            command = command.replace("127.0.0.1:8081", server.query.address());
            for (from, to) in replaced {
                command = command.replace(from, to);
            }
            self.run(&command)?;
        }
        Ok(())
    }
}

/// Where the first event of the order `ord-1` stands.
fn placed(server: &Server) -> Result<String> {
    let events = server.command.json("/v1/streams/orders/ord-1?limit=1")?;
    Ok(events[0]["position"].as_str().context("no position")?.to_owned())
}

#[test]
fn every_command_of_the_operations_manual_does_what_it_says() -> Result<()> {
    let mut book = Book::open()?;
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    std::fs::write(here.join(".curlrc"), "fail-with-body\nsilent\nshow-error\n")?;
    dead_letters(here, &mut book)?;
    let binaries = binary()?.parent().context("the binary's directory")?.to_owned();
    let desk = Desk { here, binaries };
    demo(&here.join("shop"), 30)?;
    let server = Server::start(&here.join("shop"))?;
    server.settle()?;
    let placed = placed(&server)?;
    served(&desk, &server, &mut book, &placed)?;
    let head = server.settle()?.to_string();
    server.stop()?;

    for command in book.take(&["annals backup", "--data shop"])? {
        std::fs::remove_file(here.join("shop.backup"))?;
        desk.run(&command)?;
    }
    for words in ["verify --log", "restore", "salvage"] {
        for command in book.take(&[words])? {
            desk.run(&command)?;
        }
    }
    for command in book.take(&["annals replay"])? {
        let command = command.replace("1200..1234", &format!("{placed}..{head}"));
        let said = desk.run(&format!("{command} --data shop"))?;
        ensure!(!said.is_empty(), "{command} says nothing");
    }
    query_nodes(&desk, &mut book)?;
    ensure!(book.commands.is_empty(), "not run: {:?}", book.commands);
    Ok(())
}

/// What is done about dead letters, with the backend that has some.
fn dead_letters(here: &Path, book: &mut Book) -> Result<()> {
    let binaries = here.join("fragile");
    std::fs::create_dir(&binaries)?;
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fragile"), binaries.join("annals"))?;
    let desk = Desk { here, binaries };
    let fragile = Fragile::new()?;
    let server = fragile.start(Program::Broken)?;
    write(&server, "a", "poison", 1)?;
    let dead = letter(&server)?;
    let replaced = [("orders:1:1234:9ae0daaf", id(&dead)?)];
    for words in [
        "projections --url",
        "dead-letters list",
        "dead-letters show",
        "dead-letters retry",
    ] {
        desk.against(&server, book.take(&["annals", words, "8081"])?, &replaced)?;
    }
    until("it failed anew", || {
        let again = letter(&server)?;
        let failed = again["last_failed_at"] != dead["last_failed_at"];
        Ok(if failed { Ok(()) } else { Err(again.to_string()) })
    })?;
    desk.against(&server, book.take(&["dead-letters skip"])?, &replaced)?;
    none_left(&server)?;
    server.stop()
}

/// What is done with a running server.
fn served(desk: &Desk<'_>, server: &Server, book: &mut Book, placed: &str) -> Result<()> {
    for steps in ["rebuild orders --url", "--no-swap", "--swap", "--rollback", "--drop"] {
        desk.against(server, book.take(&["rebuild", steps])?, &[])?;
    }
    desk.against(server, book.take(&["projections pause"])?, &[])?;
    until_state(&server.query, "orders", "paused")?;
    desk.against(server, book.take(&["projections resume"])?, &[])?;
    until_state(&server.query, "orders", "running")?;
    let at = placed.parse::<u64>()?;
    let event = server.command.json(&format!("/v1/events?after={}&limit=1", at - 1))?;
    let time = event[0]["recordedtime"].as_str().context("no time")?;
    let replaced = [
        ("as_of=1234", &*format!("as_of={placed}")),
        ("2026-11-21T12:00:00Z", time),
    ];
    // These never end by themselves: the suite live_events listens with curl.
    let live = book.take(&["curl -N"])?;
    ensure!(
        live.iter().all(|command| command.contains("text/event-stream")),
        "{live:?}"
    );
    desk.against(server, book.take(&["curl"])?, &replaced)?;
    desk.against(server, book.take(&["annals backup", "--url"])?, &[])
}

/// A command node and two query nodes, at addresses of their own.
fn query_nodes(desk: &Desk<'_>, book: &mut Book) -> Result<()> {
    let here = desk.here;
    let log = "annals serve --role query --log http://127.0.0.1:8080 --data";
    let serve = book.take(&["annals serve"])?;
    ensure!(
        serve
            == [
                "annals serve --role command --data shop".to_owned(),
                format!("{log} shop-views-1"),
                format!("{log} shop-views-2 --query-addr 127.0.0.1:8082"),
            ],
        "they are started by hand here: {serve:?}"
    );
    let command = Node::command(&here.join("shop"), 1);
    let nodes = [
        Node::query(&here.join("shop-views-1"), 2, &command),
        Node::query(&here.join("shop-views-2"), 3, &command),
    ];
    let running = [command.start()?, nodes[0].start()?, nodes[1].start()?];
    for line in book.take(&["projections", "8082"])? {
        let url = nodes[1].client().url().to_owned();
        let said = desk.run(&line.replace("http://127.0.0.1:8082", &url))?;
        ensure!(said.contains("orders"), "{said}");
    }
    for node in running {
        node.stop()?;
    }
    Ok(())
}
