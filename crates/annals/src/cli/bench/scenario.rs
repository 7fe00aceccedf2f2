//! What is measured, by name, and what is to be reached.

use super::goal::Goal;
use clap::ValueEnum;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// One event by one task
    #[value(name = "append-1")]
    Append1,
    /// One event each by 64 tasks
    #[value(name = "append-64")]
    Append64,
    /// Batches of 100 events by 8 tasks
    #[value(name = "append-batches")]
    AppendBatches,
    /// Commands over REST, 1 connection
    #[value(name = "rest-1")]
    Rest1,
    /// Commands over REST, 64 connections
    #[value(name = "rest-64")]
    Rest64,
    /// Commands of the reference domain, 64 connections, until all its views have followed
    #[value(name = "rest-views")]
    RestViews,
    /// From the answer to a command until all views show it, at half of the rate of rest-views
    #[value(name = "view-lag")]
    ViewLag,
    /// Batches of 100 events by 8 tasks until the log has --events N, and the last million against the first
    #[value(name = "append-sustained")]
    AppendSustained,
    /// The whole log, every record decoded, 1 thread
    #[value(name = "scan")]
    Scan,
    /// `annals verify` on the whole log, against the scan
    #[value(name = "verify")]
    Verify,
    /// Streams of 10 events, 1 thread
    #[value(name = "stream-reads")]
    StreamReads,
    /// Streams of 10 events over REST, 1 connection
    #[value(name = "rest-stream-reads")]
    RestStreamReads,
    /// A counting view from the log
    #[value(name = "rebuild")]
    Rebuild,
    /// The orders of the reference domain from a log of orders, without history and with it
    #[value(name = "rebuild-orders")]
    RebuildOrders,
    /// The same by a worker that was stopped near the log's beginning, without history
    #[value(name = "catch-up")]
    CatchUp,
    /// Commands at half of the rate that is possible while the orders are rebuilt, against without
    #[value(name = "rebuild-live")]
    RebuildLive,
    /// An order over REST as of an earlier event, against the order as it is, 1 connection
    #[value(name = "as-of")]
    AsOf,
    /// Opening after a kill -9 under load, files not cached
    #[value(name = "open-killed")]
    OpenKilled,
    /// Memory of a server that was read from beginning to end
    #[value(name = "rss")]
    Rss,
    /// Bytes an event of log and index, once sealed
    #[value(name = "disk")]
    Disk,
}

impl What {
    /// Its name on the command line and in reports.
    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it does, in words.
    pub(super) fn words(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().cloned());
        help.map_or_else(String::new, |help| help.to_string())
    }

    /// What is to be reached on a machine of two cores that the load generator shares.
    pub(super) fn goals(self) -> &'static [Goal] {
        match self {
            Self::Append1 => &[Goal::P50OfRaw(2.0)],
            Self::Append64 => &[Goal::PerSecond(150_000.0)],
            Self::AppendBatches => &[Goal::PerSecond(500_000.0)],
            Self::AppendSustained => &[Goal::PerSecond(350_000.0), Goal::AtLeast(0.9)],
            Self::Rest1 => &[Goal::P50OfRaw(2.5)],
            Self::Rest64 => &[Goal::PerSecond(40_000.0), Goal::P99Millis(5.0)],
            Self::RestViews => &[Goal::PerSecond(25_000.0)],
            Self::ViewLag => &[Goal::P99Millis(10.0)],
            Self::Scan => &[Goal::PerSecond(2_000_000.0)],
            Self::Verify => &[Goal::AtLeast(0.5)],
            Self::RebuildOrders => &[Goal::PerSecond(400_000.0)],
            Self::RebuildLive => &[Goal::AtMost(1.5)],
            Self::AsOf => &[Goal::AtMost(2.0)],
            Self::RestStreamReads => &[Goal::PerSecond(9_000.0)],
            Self::OpenKilled => &[Goal::AtMost(1.0)],
            Self::Rss => &[Goal::AtMost(300.0)],
            Self::Disk => &[Goal::AtMost(130.0)],
            Self::StreamReads | Self::Rebuild | Self::CatchUp => &[],
        }
    }
}
