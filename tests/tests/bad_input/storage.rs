//! A disk that fills up: appends are refused before anything is lost, everything else goes on, and once there is space
//! appends are served again, without a restart.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use annals_tests::cli::annals;
use annals_tests::namespace::{seen_by, with_tmpfs};
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};

use crate::case::{Case, event, order, user};

/// Room for the reserve that the server keeps free (64 MiB), and for some work.
const DISK: &str = "size=160m";

#[test]
fn a_full_disk_refuses_appends_until_there_is_space() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = directory.path().join("disk");
    std::fs::create_dir(&place)?;
    let server = Launch::on(&place.join("data"))?
        .through(with_tmpfs(&place, DISK)?)
        .start()?;
    server
        .command
        .post("/v1/commands/users/ann/register", &[], &user())?
        .expect(200)?;
    server
        .command
        .post("/v1/commands/orders/ord-1/place", &[], &order())?
        .expect(200)?;
    let head = server.settle()?;

    let filler = seen_by(server.pid(), &place.join("filler"));
    fill(&filler, 120 << 20).context("less space than the reserve")?;
    refused_and_read(&server, head)?;
    // The very last byte, too.
    fill(&filler, u64::MAX).context("no space at all")?;
    refused_and_read(&server, head)?;

    std::fs::remove_file(&filler)?;
    let begun = Instant::now();
    let path = "/v1/commands/users/ann/sign-in";
    while server
        .command
        .post(path, &[("idempotency-key", "after")], &serde_json::json!({}))?
        .status
        != 200
    {
        ensure!(
            begun.elapsed() < Duration::from_secs(10),
            "still refused, though there is space"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(server.settle()? == head + 1, "something else happened meanwhile");
    ensure!(
        server.command.get("/readyz")?.status == 200,
        "not ready, though there is space"
    );
    ensure!(
        server.query.json("/v1/views/customers/ann")?["online"] == true,
        "the views do not go on"
    );
    annals(["verify", "--url", server.command.url()])?.exits(0)?;
    server.stop()
}

/// Every way of appending is refused; what is there is read, from the log and from the views.
fn refused_and_read(server: &Server, head: u64) -> Result<()> {
    let cases = [
        Case::post("a command", "/v1/commands/users/ann/sign-in", "{}"),
        Case::post("an append", "/v1/streams/notes/n-1", event("e-1").to_string()),
    ];
    for case in cases {
        let problem = case.is(507, "storage-full", "free some space").check(&server.command)?;
        ensure!(
            problem["reserve_bytes"].as_u64() > problem["free_bytes"].as_u64(),
            "{problem}"
        );
    }
    let line = "{\"aggregate\":\"users\",\"id\":\"ann\",\"command\":\"sign-in\",\"data\":{}}\n";
    let headers = [("content-type", "application/x-ndjson")];
    let answer = server
        .command
        .send("POST", "/v1/commands", &headers, Some(line.as_bytes()))?
        .expect(200)?
        .json()?;
    ensure!(answer["status"] == 507, "{answer}");

    ensure!(server.head()? == head, "something was appended");
    server.command.get("/v1/streams/orders/ord-1")?.expect(200)?;
    server.query.get("/v1/views/orders/ord-1")?.expect(200)?;
    server.query.get("/v1/views/customers?limit=10")?.expect(200)?;
    ensure!(server.command.get("/healthz")?.status == 200, "not healthy");
    let ready = server.command.get("/readyz")?;
    let says = ready.problem(503, "not-ready")?;
    ensure!(
        says.contains("free some space") && ready.json()?["reason"] == "storage-full",
        "{says}"
    );
    ensure!(
        server.query.get("/readyz")?.status == 200,
        "queries go on, and so they are ready"
    );
    Ok(())
}

/// Writes a file of this length, or as long as there is space for.
fn fill(path: &Path, length: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let piece = vec![0x55; 1 << 20];
    let mut written = 0;
    while written < length {
        match file.write(&piece) {
            Ok(0) => break,
            Ok(count) => written += count as u64,
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
