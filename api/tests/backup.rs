//! `POST /v1/backup`: a file comes, one at a time, and one that fails is never taken for whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use annals_api::{ApiState, Backups, command_api};
use annals_event_store::{BackupFile, BackupSource, DataDir, LogSettings, OpenOptions, SledLog};
use common::{Server, commands_on};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

fn server(backups: Backups) -> Server {
    let mut state = ApiState::new(commands_on(Arc::new(annals_event_store::MemoryLog::new("bank"))));
    state.backups = Some(backups);
    Server::start(state, command_api)
}

#[test]
fn a_backup_comes_whole_and_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let held = DataDir::open(&dir.path().join("data"), options).unwrap();
    let log = Arc::new(SledLog::open(&held, LogSettings::default()).unwrap());
    let source = BackupSource::new(&held, Arc::clone(&log));
    let mut state = ApiState::new(commands_on(log));
    state.backups = Some(Backups::new(move |out| {
        source
            .write(out, &mut |_| ())
            .map(drop)
            .map_err(|error| error.to_string())
    }));
    let server = Server::start(state, command_api);
    for id in ["a", "b", "c"] {
        server.open(id);
    }
    let answer = server.post("/v1/backup", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert!(answer.header("annals-epoch").is_some());
    let file = dir.path().join("backup");
    std::fs::write(&file, &answer.body).unwrap();
    let summary = BackupFile::open(&file).unwrap().verify(&mut |_| ()).unwrap();
    assert_eq!(summary.head.get(), 3);
}

#[test]
fn pages_of_other_sites_get_no_backup() {
    let server = server(Backups::new(|_| Ok(())));
    server
        .post_with("/v1/backup", &[("origin", "https://example.org")], "")
        .is_problem(403, "origin-refused", "origin");
    server.get("/v1/backup").is_problem(405, "method-not-allowed", "POST");
}

#[test]
fn one_backup_is_taken_at_a_time() {
    let ((begun, begins), (go, wait)) = (channel(), channel::<()>());
    let wait = Mutex::new(wait);
    let server = server(Backups::new(move |out| {
        begun.send(()).map_err(|error| error.to_string())?;
        // Ends when the test lets go.
        let _ = wait.lock().unwrap().recv();
        out.write_all(b"done").map_err(|error| error.to_string())
    }));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post("/v1/backup", ""));
        begins.recv().unwrap();
        let second = server.post("/v1/backup", "");
        second.is_problem(503, "overloaded", "another backup");
        assert!(second.header("retry-after").is_some());
        drop(go);
        assert_eq!(first.join().unwrap().body, b"done");
    });
    assert_eq!(server.post("/v1/backup", "").status, 200, "it is done");
}

#[test]
fn a_backup_that_fails_is_broken_off() {
    let server = server(Backups::new(|out| {
        out.write_all(b"the beginning").map_err(|error| error.to_string())?;
        Err("the log is damaged".into())
    }));
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let answer = agent
        .post(format!("http://{}/v1/backup", server.address))
        .send_empty()
        .unwrap();
    assert!(
        answer.into_body().read_to_vec().is_err(),
        "the end of the answer is missing"
    );
}
