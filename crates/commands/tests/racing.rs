//! Commands that race for one stream, on one node and on several.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_commands::{CommandError, Commands};
use annals_core::*;
use annals_event_store::MemoryLog;
use common::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;

/// Runs `request(i)` for each `i` at the same moment; node `i % nodes.len()` takes it.
async fn race(
    nodes: &[Commands],
    count: usize,
    request: impl Fn(usize) -> annals_commands::CommandRequest,
) -> Vec<Result<annals_commands::CommandOutcome, CommandError>> {
    let barrier = Arc::new(Barrier::new(count));
    let tasks: Vec<_> = (0..count)
        .map(|i| {
            let (node, request, barrier) = (nodes[i % nodes.len()].clone(), request(i), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                node.execute(request).await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_expect_the_same_version_exactly_one_wins() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let results = race(std::slice::from_ref(&bank), 32, |_| {
        let deposit = request("acc-1", "deposit", r#"{"amount":1}"#);
        expecting(Expected::Exact(Version::new(1)), deposit)
    })
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, CommandError::VersionConflict { .. }), "{error}");
    }
    assert_eq!(balance(&bank, "acc-1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deposits_at_the_same_moment_all_land() {
    let log = WatchedLog::new(Duration::from_millis(1));
    let bank = bank_on(log);
    open(&bank, "acc-1").await;
    let results = race(std::slice::from_ref(&bank), 64, |_| {
        request("acc-1", "deposit", r#"{"amount":1}"#)
    })
    .await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(balance(&bank, "acc-1"), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_sent_many_times_at_once_is_done_once() {
    let bank = bank();
    open(&bank, "acc-1").await;
    let results = race(&[bank.clone(), bank_on(Arc::clone(bank.log()))], 32, |_| {
        keyed("k", request("acc-1", "deposit", r#"{"amount":1}"#))
    })
    .await;
    let outcomes: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.duplicate).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.events == outcomes[0].events));
    assert_eq!(balance(&bank, "acc-1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_share_a_log_lose_nothing() {
    let log: Arc<dyn Appender> = Arc::new(MemoryLog::new("bank"));
    let nodes: Vec<Commands> = (0..3).map(|_| bank_on(Arc::clone(&log))).collect();
    open(&nodes[0], "acc-1").await;
    let results = race(&nodes, 30, |_| request("acc-1", "deposit", r#"{"amount":1}"#)).await;
    let landed = results.iter().filter(|result| result.is_ok()).count() as u64;
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, CommandError::Contended { .. }), "{error}");
    }
    assert_eq!(balance(&nodes[0], "acc-1"), landed);
}

#[tokio::test]
async fn a_node_does_not_reject_from_an_old_state() {
    let here = bank();
    let there = bank_on(Arc::clone(here.log()));
    open(&here, "acc-1").await;
    deposit(&there, "acc-1", 50).await.unwrap();
    here.execute(request("acc-1", "withdraw", r#"{"amount":50}"#))
        .await
        .unwrap();
    let error = there
        .execute(request("acc-1", "withdraw", r#"{"amount":1}"#))
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Rejected(_)), "{error}");
    let third = expecting(
        Expected::Exact(Version::new(3)),
        request("acc-1", "deposit", r#"{"amount":1}"#),
    );
    there.execute(third).await.unwrap();
}

#[tokio::test]
async fn a_request_given_up_in_the_middle_leaves_no_old_state_behind() {
    let bank = bank_on(WatchedLog::new(Duration::from_millis(20)));
    open(&bank, "acc-1").await;
    let given_up = tokio::time::timeout(Duration::from_millis(5), deposit(&bank, "acc-1", 5)).await;
    assert!(given_up.is_err());
    let outcome = deposit(&bank, "acc-1", 5).await.unwrap();
    assert_eq!(outcome.version.get(), 3);
    assert_eq!(balance(&bank, "acc-1"), 10);
}
