//! One e-mail address belongs to one user, whoever asks at the same moment: the real server, over HTTP.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use common::{Served, annals};
use serde_json::{Value, json};
use std::sync::Barrier;

/// Sends a command; status and body of the answer.
fn command(url: &str, user: &str, name: &str, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.post(format!("{url}/v1/commands/users/{user}/{name}"));
    let mut answer = request
        .header("content-type", "application/json")
        .send(body.to_string())
        .unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

#[test]
fn of_many_who_register_one_address_at_once_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(annals(), dir.path(), "serve");
    let url = server.command_url.as_str();
    for round in 0..4 {
        let barrier = Barrier::new(16);
        let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|client| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        // The same address, written in two ways.
                        let host = if client % 2 == 0 { "Example.org" } else { "example.org" };
                        let body = json!({ "email": format!("ann-{round}@{host}"), "name": "Ann" });
                        barrier.wait();
                        command(url, &format!("u-{round}-{client}"), "register", &body)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let accepted = answers.iter().filter(|(status, _)| *status == 200).count();
        let taken = answers
            .iter()
            .filter(|(status, body)| *status == 422 && body["code"] == "email-taken");
        assert_eq!((accepted, taken.count()), (1, 15), "round {round}: {answers:?}");
    }
    let events = ureq::get(format!("{url}/v1/events"))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    assert_eq!(events.matches("UserRegistered").count(), 4, "{events}");
    let stored: Value = serde_json::from_str(&events).unwrap();
    assert!(!stored[0]["tags"].as_str().unwrap().contains('@'), "{events}");
}

#[test]
fn an_address_is_free_again_once_its_user_has_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(annals(), dir.path(), "serve");
    let url = server.command_url.as_str();
    let register = |user: &str| {
        command(
            url,
            user,
            "register",
            &json!({ "email": "ann@example.org", "name": "A" }),
        )
    };
    assert_eq!(register("ann").0, 200);
    assert_eq!(register("bob").1["code"], "email-taken");
    let other = json!({ "email": "ann@example.com" });
    assert_eq!(command(url, "ann", "change-email", &other).0, 200);
    assert_eq!(register("bob").0, 200);
    assert_eq!(command(url, "bob", "change-email", &other).1["code"], "email-taken");
    assert_eq!(command(url, "ann", "deactivate", &json!({})).0, 200);
    assert_eq!(command(url, "bob", "change-email", &other).1["code"], "email-taken");
}
