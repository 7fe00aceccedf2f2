//! The log's numbers.

use super::exposition::Exposition;
use crate::state::ApiState;
use annals_event_store::{CacheMetrics, LogMetrics};

pub(super) fn expose(text: &mut Exposition, api: &ApiState) {
    let (log, epoch) = (&api.log, api.log.epoch().to_string());
    text.gauges("annals_info", "Which binary serves which log.");
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("log", log.name()),
        ("engine", log.engine()),
        ("epoch", epoch.as_str()),
    ];
    text.sample("annals_info", &labels, 1);
    text.gauge(
        "annals_log_head_position",
        "Position of the last durable event.",
        log.head(),
    );
    if let Some(contact) = &api.log_contact {
        let contact = contact();
        let help = "Seconds since this query node last heard of the log that it follows.";
        text.gauge("annals_log_contact_age_seconds", help, contact.age.as_secs_f64());
        let help = "1 while the log that this query node follows answers as it should.";
        text.gauge("annals_log_contact", help, u8::from(contact.trouble.is_none()));
    }
    if let Some(metrics) = &api.log_metrics {
        let metrics = metrics();
        appends(text, &metrics);
        storage(text, &metrics);
        caches(text, &metrics.caches);
    }
}

fn appends(text: &mut Exposition, log: &LogMetrics) {
    text.counter("annals_log_appends_total", "Appends accepted.", log.appends);
    let help = "Appends answered as known, because their key or event ids were in the log already.";
    text.counter("annals_log_duplicates_total", help, log.duplicates);
    text.counter("annals_log_events_total", "Events accepted.", log.events);
    text.counter(
        "annals_log_groups_total",
        "Groups of appends that were synced.",
        log.groups,
    );
    let help = "Groups that were stored by the runtime of an append, because there was little to do.";
    text.counter("annals_log_turns_total", help, log.turns);
    text.counter(
        "annals_log_synced_bytes_total",
        "Bytes that were written and synced.",
        log.bytes,
    );
    text.histograms("annals_log_sync_seconds", "Time to write and sync a group of appends.");
    text.histogram("annals_log_sync_seconds", &[], &log.sync);
    const CONFLICTS: &str = "annals_log_conflicts_total";
    let refused = |wanted| log.refused.iter().find(|(reason, _)| *reason == wanted);
    let conflicts = refused("conflict").map_or(0, |(_, count)| *count);
    text.counter(
        CONFLICTS,
        "Appends refused because others had appended meanwhile.",
        conflicts,
    );
    const REFUSED: &str = "annals_log_refused_total";
    text.counters(REFUSED, "Appends refused, by reason.");
    for (reason, count) in &log.refused {
        text.sample(REFUSED, &[("reason", reason)], count);
    }
}

fn storage(text: &mut Exposition, log: &LogMetrics) {
    text.gauge("annals_log_queue_appends", "Appends that wait.", log.queue_appends.0);
    text.gauge(
        "annals_log_queue_appends_max",
        "Most appends that may wait.",
        log.queue_appends.1,
    );
    text.gauge(
        "annals_log_queue_bytes",
        "Bytes of appends that wait.",
        log.queue_bytes.0,
    );
    text.gauge(
        "annals_log_queue_bytes_max",
        "Most bytes of appends that may wait.",
        log.queue_bytes.1,
    );
    let help = "Events that are durable in the journal and not in a volume yet.";
    let unstored = log.head.get().saturating_sub(log.stored.get());
    text.gauge("annals_log_journal_lag_events", help, unstored);
    let help = "Events that are in memory because the index does not have them yet.";
    text.gauge("annals_log_index_lag_events", help, log.unindexed);
    text.gauge("annals_log_volumes", "Volumes of the log.", log.volumes);
    let help = "1 if the storage failed, so that appends are refused until the server is restarted.";
    text.gauge("annals_log_failed", help, u8::from(log.failed));
}

fn caches(text: &mut Exposition, caches: &[CacheMetrics]) {
    let mut counters = |name: &str, help: &str, of: fn(&CacheMetrics) -> u64| {
        text.counters(name, help);
        for cache in caches {
            text.sample(name, &[("cache", cache.name)], of(cache));
        }
    };
    counters(
        "annals_log_cache_hits_total",
        "Look-ups that found something.",
        |cache| cache.hits,
    );
    counters(
        "annals_log_cache_misses_total",
        "Look-ups that found nothing.",
        |cache| cache.misses,
    );
    let mut gauges = |name: &str, help: &str, of: fn(&CacheMetrics) -> u64| {
        text.gauges(name, help);
        for cache in caches {
            text.sample(name, &[("cache", cache.name)], of(cache));
        }
    };
    gauges(
        "annals_log_cache_used",
        "What is in a cache: bytes, or entries where each is small.",
        |cache| cache.used,
    );
    gauges(
        "annals_log_cache_capacity",
        "The most that a cache takes, in the same unit.",
        |cache| cache.capacity,
    );
}
