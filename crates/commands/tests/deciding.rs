//! What a caller of one aggregate sees: accepted, rejected, done once, and told apart when it cannot be done.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_commands::{AggregateDefinition, CommandError, Commands, SetupError};
use annals_core::*;
use annals_event_store::MemoryLog;
use common::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn an_account_is_opened_and_keeps_count() {
    let bank = bank();
    let opened = open(&bank, "acc-1").await;
    assert_eq!((opened.version.get(), opened.position.get()), (1, 1));
    assert_eq!(opened.events[0].event_type, "Opened");
    assert!(!opened.duplicate);
    deposit(&bank, "acc-1", 50).await.unwrap();
    let withdrawn = bank
        .execute(request("acc-1", "withdraw", r#"{"amount":30}"#))
        .await
        .unwrap();
    assert_eq!((withdrawn.version.get(), withdrawn.position.get()), (3, 3));
    assert_eq!(balance(&bank, "acc-1"), 20);
}

#[tokio::test]
async fn what_is_already_so_is_accepted_without_an_event() {
    let bank = bank();
    let opened = open(&bank, "acc-1").await;
    let again = open(&bank, "acc-1").await;
    assert!(again.events.is_empty() && !again.duplicate);
    assert_eq!((again.version, again.position), (opened.version, opened.position));
}

#[tokio::test]
async fn a_rejection_has_its_code_and_leaves_nothing() {
    let bank = bank();
    let error = deposit(&bank, "acc-1", 5).await.unwrap_err();
    assert!(matches!(error, CommandError::Rejected(Rejection { code, .. }) if code == "account-not-open"));
    let error = bank
        .execute(request("acc-1", "open", r#"{"owner":"nobody","holder_name":"x"}"#))
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Rejected(Rejection { code, .. }) if code == "no-owner"));
    let error = bank
        .execute(request("acc-1", "open", r#"{"owner":"a,b","holder_name":"x"}"#))
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Rejected(Rejection { code, .. }) if code == "invalid-tag"));
    assert_eq!(bank.log().head(), Position::ZERO);
}

#[tokio::test]
async fn a_command_must_fit_the_id_of_its_stream() {
    let bank = bank();
    let misplaced = || request("theirs", "open", r#"{"owner":"only-mine","holder_name":"x"}"#);
    for command in [misplaced(), keyed("k-1", misplaced())] {
        let error = bank.execute(command).await.unwrap_err();
        assert!(matches!(error, CommandError::Rejected(Rejection { code, .. }) if code == "wrong-account"));
    }
    assert_eq!(bank.log().head(), Position::ZERO);
    let opened = bank.execute(request("mine", "open", r#"{"owner":"only-mine","holder_name":"x"}"#));
    assert_eq!(opened.await.unwrap().events.len(), 1);
    assert_eq!(deposit(&bank, "mine", 5).await.unwrap().version, Version::new(2));
}

#[tokio::test]
async fn a_command_with_a_key_is_done_once() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let pay = |key: &str| keyed(key, request("acc-1", "deposit-often", r#"{"times":3}"#));
    let first = bank.execute(pay("k-1")).await.unwrap();
    deposit(&bank, "acc-1", 10).await.unwrap();
    let again = bank.execute(pay("\"k-1\"")).await.unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!(
        (again.version, again.position, &again.events),
        (first.version, first.position, &first.events)
    );
    let with_stale_expectation = bank.execute(expecting(Expected::None, pay("k-1"))).await.unwrap();
    assert_eq!(with_stale_expectation, again);
    // Another node has nothing in memory: the answer comes from the log.
    assert_eq!(
        bank_on(Arc::clone(bank.log())).execute(pay("k-1")).await.unwrap(),
        again
    );
    assert_eq!(balance(&bank, "acc-1"), 13);
    bank.execute(pay("k-2")).await.unwrap();
    assert_eq!(balance(&bank, "acc-1"), 16);
}

#[tokio::test]
async fn a_key_used_for_another_command_is_refused() {
    let bank = bank();
    open(&bank, "acc-1").await;
    bank.execute(keyed("k", request("acc-1", "deposit", r#"{"amount":5}"#)))
        .await
        .unwrap();
    for (command, body) in [("deposit", r#"{"amount":6}"#), ("deposit-often", r#"{"times":5}"#)] {
        let error = bank
            .execute(keyed("k", request("acc-1", command, body)))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CommandError::KeyReused { position, .. } if position.get() == 2),
            "{error}"
        );
    }
    // Another stream is another scope.
    bank.execute(keyed(
        "k",
        request("acc-2", "open", r#"{"owner":"a","holder_name":"A"}"#),
    ))
    .await
    .unwrap();
}

#[tokio::test]
async fn commands_that_differ_only_in_personal_values_are_the_same() {
    let bank = bank();
    let open = |name: &str| {
        let body = format!(r#"{{"owner":"ann","holder_name":"{name}"}}"#);
        keyed("k", request("acc-1", "open", &body))
    };
    let first = bank.execute(open("Ann")).await.unwrap();
    let again = bank.execute(open("Anne")).await.unwrap();
    assert_eq!(again.events, first.events);
}

#[tokio::test]
async fn what_left_no_event_is_decided_again_under_the_same_key() {
    let bank = bank();
    let deposit = || keyed("k", request("acc-1", "deposit", r#"{"amount":5}"#));
    assert!(bank.execute(deposit()).await.is_err());
    open(&bank, "acc-1").await;
    assert!(!bank.execute(deposit()).await.unwrap().duplicate);
}

#[tokio::test]
async fn an_expectation_that_does_not_hold_names_both_versions() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let deposit = |expected| expecting(expected, request("acc-1", "deposit", r#"{"amount":5}"#));
    bank.execute(deposit(Expected::Exact(Version::new(1)))).await.unwrap();
    for expected in [
        Expected::Exact(Version::new(1)),
        Expected::None,
        Expected::Exact(Version::new(9)),
    ] {
        let error = bank.execute(deposit(expected)).await.unwrap_err();
        let CommandError::VersionConflict {
            expected: said, actual, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((said, actual.get()), (expected, 2));
    }
    let new = expecting(
        Expected::None,
        request("acc-2", "open", r#"{"owner":"a","holder_name":"A"}"#),
    );
    bank.execute(new).await.unwrap();
}

#[tokio::test]
async fn names_keys_and_bodies_that_are_wrong_say_what_is_right() {
    let bank = bank();
    let mut elsewhere = request("acc-1", "open", "{}");
    elsewhere.category = "cars".into();
    for (bad, says) in [
        (elsewhere, "accounts"),
        (request("a/b", "open", "{}"), "id"),
        (request("acc-1", "fly", "{}"), "deposit"),
        (request("acc-1", "deposit", "{"), "EOF"),
        (request("acc-1", "deposit", r#"{"amount":-1}"#), "invalid value"),
        (request("acc-1", "deposit", r#"{"amount":1e400}"#), "out of range"),
        (request("acc-1", "deposit", &"[".repeat(100_000)), "JSON object"),
        (request("acc-1", "deposit", &"{\"a\":".repeat(100_000)), "unknown field"),
        (request("acc-1", "deposit", "{}"), "missing field"),
        (
            keyed("", request("acc-1", "deposit", r#"{"amount":1}"#)),
            "255 printable",
        ),
    ] {
        let error = bank.execute(bad).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(bank.log().head(), Position::ZERO);
}

#[tokio::test]
async fn more_events_than_an_append_holds_are_refused() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let error = bank
        .execute(request("acc-1", "deposit-often", r#"{"times":1001}"#))
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Append(_)), "{error}");
    bank.execute(request("acc-1", "deposit-often", r#"{"times":1000}"#))
        .await
        .unwrap();
    assert_eq!(balance(&bank, "acc-1"), 1000);
    // Longer than a page: read elsewhere, folded the same.
    let other = bank_on(Arc::clone(bank.log()));
    let outcome = other
        .execute(request("acc-1", "withdraw", r#"{"amount":1000}"#))
        .await
        .unwrap();
    assert_eq!(outcome.version.get(), 1002);
}

#[tokio::test]
async fn a_panic_fails_one_command_and_nothing_else() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let error = bank.execute(request("acc-1", "explode", "")).await.unwrap_err();
    assert!(matches!(&error, CommandError::Panicked { code: "decide", detail, .. } if detail.contains("fuse")));
    deposit(&bank, "acc-1", 5).await.unwrap();
    // An event that cannot be folded stops its stream, and only that.
    bank.execute(request("acc-1", "poison", "")).await.unwrap();
    let error = deposit(&bank, "acc-1", 5).await.unwrap_err();
    assert!(
        matches!(error, CommandError::Panicked { code: "evolve", .. }),
        "{error}"
    );
    open(&bank, "acc-2").await;
    deposit(&bank, "acc-2", 5).await.unwrap();
}

#[tokio::test]
async fn an_event_that_the_binary_does_not_know_stops_its_stream() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let stream = StreamId::new("accounts", "acc-1").unwrap();
    let newer = Append::new(stream, vec![NewEvent::new("Frozen", vec![0x80])]);
    bank.log().append(newer).await.unwrap();
    let error = deposit(&bank, "acc-1", 5).await.unwrap_err();
    assert!(
        matches!(&error, CommandError::UnknownEvent { event_type, position, .. } if event_type == "Frozen" && position.get() == 2),
        "{error}"
    );
}

#[tokio::test]
async fn who_when_and_why_stand_in_the_event() {
    let bank = bank();
    let mut opening = keyed(
        "k-1",
        request("acc-1", "open", r#"{"owner":"ann","holder_name":"Ann"}"#),
    );
    opening.occurred_at = Some("2017-10-02T10:56:33Z".parse().unwrap());
    opening.metadata = Metadata {
        actor: Some("clerk".into()),
        correlation_id: Some("corr".into()),
        causation_id: Some("cause".into()),
        traceparent: None,
    };
    bank.execute(opening).await.unwrap();
    let record = bank.log().read_one(Position::new(1)).unwrap().unwrap();
    let record = record.view().unwrap();
    let header = &record.header;
    assert_eq!(
        (header.actor, header.correlation, header.causation),
        (Some("clerk"), Some("corr"), Some("cause"))
    );
    assert_eq!(
        (header.key, header.tags.as_slice()),
        (Some("k-1"), ["owner=ann"].as_slice())
    );
    assert_eq!(record.occurred_at().to_rfc3339(), "2017-10-02T10:56:33+00:00");
}

#[tokio::test]
async fn a_stream_is_read_once_and_a_new_one_not_at_all() {
    let log = WatchedLog::new(Duration::ZERO);
    let bank = bank_on(log.clone());
    bank.execute(keyed(
        "k-0",
        request("acc-1", "open", r#"{"owner":"a","holder_name":"A"}"#),
    ))
    .await
    .unwrap();
    for _ in 0..10 {
        deposit(&bank, "acc-1", 1).await.unwrap();
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(
        (count(&log.heads), count(&log.stream_reads), count(&log.key_lookups)),
        (1, 0, 0)
    );
}

#[test]
fn aggregates_that_do_not_go_together_are_refused() {
    #[derive(Default, State)]
    struct Twin {}
    impl Aggregate for Twin {
        const CATEGORY: &'static str = "twins";
        type Command = AccountCommand;
        type Event = AccountEvent;
        fn decide(&self, _: AccountCommand) -> Decision<AccountEvent> {
            accept_nothing()
        }
        fn evolve(&mut self, _: &AccountEvent) {}
    }
    let setup = |aggregates| Commands::new(Arc::new(MemoryLog::new("bank")), aggregates, Default::default());
    let account = AggregateDefinition::of::<Account>;
    let error = setup(vec![account(), account()]).err().unwrap();
    assert_eq!(error, SetupError::CategoryTwice("accounts"));
    let error = setup(vec![account(), AggregateDefinition::of::<Twin>()]).err().unwrap();
    assert!(error.to_string().contains("#[event(name"), "{error}");
}
