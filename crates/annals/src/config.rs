//! `annals.toml`: the settings of a server. Every key may be left out; a key that is not known is an error.

use crate::failure_config::{ProjectionConfig, ViewConfig};
use crate::node::CommandLimits;
use annals_api::ApiBounds;
use annals_core::APPEND_BYTES_MAX;
use annals_event_store::{LogSettings, ProbeCommand};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Smallest queue in bytes: the largest append with what describes its events, and room to spare.
const QUEUE_BYTES_MIN: usize = 2 * APPEND_BYTES_MAX;

/// Least room for bodies: the largest one, and the longest line beside it.
const BODY_BYTES_MIN: usize = 2 << 20;
/// Least room for answers: the largest one, with an item more than it may have.
const ANSWER_BYTES_MIN: usize = 16 << 20;
/// More room than this is a slip of the pen.
const ROOM_BYTES_MAX: usize = 1 << 40;
/// Most requests of many lines under way.
const BULK_REQUESTS_MAX: usize = 100_000;
/// Most requests that wait for further blocks: each takes one of the runtime's 512 threads.
const FOLLOWERS_MAX: usize = 256;
/// Most live queries.
const LIVE_QUERIES_MAX: usize = 10_000;

/// What stands in a configuration file. Options of the command line win over it.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory; relative to where the server is started.
    pub(crate) data: Option<PathBuf>,
    /// Name of the log, fixed at its creation.
    pub(crate) name: Option<String>,
    /// Where the command API listens.
    pub(crate) command_addr: Option<SocketAddr>,
    /// Where the query API listens.
    pub(crate) query_addr: Option<SocketAddr>,
    /// Bounds of the log.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// Bounds of what commands keep of states.
    #[serde(default)]
    pub(crate) commands: CommandConfig,
    /// What views and reactors do about what fails.
    #[serde(default)]
    pub(crate) projections: ProjectionConfig,
    /// The same for single views, by name.
    #[serde(default)]
    pub(crate) views: BTreeMap<String, ViewConfig>,
    /// Bounds of what requests and answers hold in memory.
    #[serde(default)]
    pub(crate) api: ApiConfig,
}

/// The section `[api]`: what each of the two APIs holds in memory for all its callers together.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiConfig {
    body_bytes_max: Option<usize>,
    answer_bytes_max: Option<usize>,
    bulk_requests_max: Option<usize>,
    followers_max: Option<usize>,
    live_queries_max: Option<usize>,
}

impl ApiConfig {
    /// The bounds: what is said here, else the defaults. Room that one request does not fit into is an error.
    pub(crate) fn bounds(&self) -> Result<ApiBounds> {
        let mut bounds = ApiBounds::default();
        let said = [
            (
                "body_bytes_max",
                self.body_bytes_max,
                &mut bounds.body_bytes_max,
                BODY_BYTES_MIN,
                ROOM_BYTES_MAX,
            ),
            (
                "answer_bytes_max",
                self.answer_bytes_max,
                &mut bounds.answer_bytes_max,
                ANSWER_BYTES_MIN,
                ROOM_BYTES_MAX,
            ),
            (
                "bulk_requests_max",
                self.bulk_requests_max,
                &mut bounds.bulk_requests_max,
                1,
                BULK_REQUESTS_MAX,
            ),
            (
                "followers_max",
                self.followers_max,
                &mut bounds.followers_max,
                1,
                FOLLOWERS_MAX,
            ),
            (
                "live_queries_max",
                self.live_queries_max,
                &mut bounds.live_queries_max,
                1,
                LIVE_QUERIES_MAX,
            ),
        ];
        for (key, said, bound, least, most) in said {
            let Some(said) = said else { continue };
            ensure!(
                (least..=most).contains(&said),
                "[api] {key} = {said} is out of bounds: set it to {least} at least and {most} at most, or leave it out"
            );
            *bound = said;
        }
        Ok(bounds)
    }
}

/// The section `[commands]`.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandConfig {
    cached_states_max: Option<usize>,
    cached_state_bytes_max: Option<u64>,
    snapshot_every: Option<u64>,
    snapshot_bytes_max: Option<u64>,
}

impl CommandConfig {
    /// The bounds: what is said here, else the defaults.
    pub(crate) fn limits(&self) -> CommandLimits {
        let mut limits = CommandLimits::default();
        let Self {
            cached_states_max,
            cached_state_bytes_max,
            snapshot_every,
            snapshot_bytes_max,
        } = *self;
        let settings = &mut limits.settings;
        settings.cached_states_max = cached_states_max.unwrap_or(settings.cached_states_max);
        settings.cached_state_bytes_max = cached_state_bytes_max.unwrap_or(settings.cached_state_bytes_max);
        settings.snapshot_every = snapshot_every.unwrap_or(settings.snapshot_every);
        limits.snapshot_bytes_max = snapshot_bytes_max.unwrap_or(limits.snapshot_bytes_max);
        limits
    }
}

/// The section `[log]`.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    volume_bytes_max: Option<u64>,
    reserve_bytes: Option<u64>,
    queue_appends_max: Option<usize>,
    queue_bytes_max: Option<usize>,
    sync_seconds_max: Option<u64>,
    examine_seconds_max: Option<u64>,
    examine_bytes_max: Option<u64>,
}

/// The settings of a log that is opened by this program: the defaults, and damaged volumes are opened by a process of their
/// own.
pub(crate) fn log_settings() -> LogSettings {
    let program = std::env::current_exe().ok();
    LogSettings {
        probe: program.map(|program| ProbeCommand::new(program, ["examine-volume"])),
        ..LogSettings::default()
    }
}

impl Config {
    /// Reads a file. The error names the file, and the line and key that are wrong.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let said = || format!("{} is not valid", path.display());
        let config: Self = toml::from_str(&text).with_context(said)?;
        config.log.settings().with_context(said)?;
        config.api.bounds().with_context(said)?;
        Ok(config)
    }
}

impl LogConfig {
    /// The settings of the log: what is said here, else the defaults.
    /// A queue that one append does not fit into is an error: such a server could not be written to.
    pub(crate) fn settings(&self) -> Result<LogSettings> {
        let mut settings = log_settings();
        let Self {
            volume_bytes_max,
            reserve_bytes,
            queue_appends_max,
            queue_bytes_max,
            sync_seconds_max,
            examine_seconds_max,
            examine_bytes_max,
        } = *self;
        settings.volume_bytes_max = volume_bytes_max.unwrap_or(settings.volume_bytes_max);
        settings.reserve_bytes = reserve_bytes.unwrap_or(settings.reserve_bytes);
        settings.queue_appends_max = queue_appends_max.unwrap_or(settings.queue_appends_max);
        settings.queue_bytes_max = queue_bytes_max.unwrap_or(settings.queue_bytes_max);
        settings.sync_time_max = sync_seconds_max.map_or(settings.sync_time_max, Duration::from_secs);
        if let Some(probe) = &mut settings.probe {
            probe.time_max = examine_seconds_max.map_or(probe.time_max, Duration::from_secs);
            probe.memory_max = examine_bytes_max.unwrap_or(probe.memory_max);
        }
        ensure!(
            examine_seconds_max != Some(0) && examine_bytes_max != Some(0),
            "[log] examine_seconds_max or examine_bytes_max = 0 would take every volume for damaged: set it to 1 or more, or \
             leave it out"
        );
        ensure!(
            !settings.sync_time_max.is_zero(),
            "[log] sync_seconds_max = 0 would give up every sync: set it to 1 or more, or leave it out"
        );
        ensure!(
            settings.queue_appends_max >= 1,
            "[log] queue_appends_max = {} lets no append in: set it to 1 or more, or leave it out",
            settings.queue_appends_max
        );
        ensure!(
            settings.queue_bytes_max >= QUEUE_BYTES_MIN,
            "[log] queue_bytes_max = {} is too small, because one append may have {APPEND_BYTES_MAX} bytes: set it to \
             {QUEUE_BYTES_MIN} or more, or leave it out",
            settings.queue_bytes_max
        );
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_and_the_rest_are_defaults() {
        let config: Config =
            toml::from_str("data = \"shop\"\ncommand_addr = \"127.0.0.1:9000\"\n[log]\nreserve_bytes = 5\n").unwrap();
        assert_eq!(config.data, Some(PathBuf::from("shop")));
        assert_eq!(config.command_addr.unwrap().port(), 9000);
        let settings = config.log.settings().unwrap();
        assert_eq!(settings.reserve_bytes, 5);
        assert_eq!(settings.volume_bytes_max, LogSettings::default().volume_bytes_max);
        let commands: CommandConfig = toml::from_str("cached_state_bytes_max = 9\nsnapshot_every = 0\n").unwrap();
        let (limits, defaults) = (commands.limits(), CommandLimits::default());
        assert_eq!(limits.settings.cached_state_bytes_max, 9);
        assert_eq!(limits.settings.snapshot_every, 0);
        assert_eq!(limits.settings.cached_states_max, defaults.settings.cached_states_max);
        assert_eq!(limits.snapshot_bytes_max, defaults.snapshot_bytes_max);
    }

    #[test]
    fn a_queue_that_no_append_fits_into_is_refused_with_the_least_that_goes() {
        let settings = |text: &str| toml::from_str::<LogConfig>(text).unwrap().settings();
        for (text, says) in [
            ("queue_appends_max = 0", "set it to 1 or more"),
            ("queue_bytes_max = 2097151", "set it to 2097152 or more"),
            ("examine_seconds_max = 0", "set it to 1 or more"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(settings("queue_appends_max = 1\nqueue_bytes_max = 2097152").is_ok());
    }

    #[test]
    fn room_that_a_request_does_not_fit_into_is_refused_with_what_goes() {
        let bounds = |text: &str| toml::from_str::<ApiConfig>(text).unwrap().bounds();
        for text in [
            "body_bytes_max = 2097151",
            "answer_bytes_max = 1",
            "bulk_requests_max = 0",
            "bulk_requests_max = 100001",
        ] {
            let error = bounds(text).unwrap_err().to_string();
            assert!(error.contains("[api]") && error.contains("at least"), "{error}");
        }
        let (said, defaults) = (
            bounds("body_bytes_max = 4194304\nbulk_requests_max = 1").unwrap(),
            ApiBounds::default(),
        );
        assert_eq!((said.body_bytes_max, said.bulk_requests_max), (4 << 20, 1));
        assert_eq!(said.answer_bytes_max, defaults.answer_bytes_max);
    }

    #[test]
    fn a_key_that_is_not_known_is_an_error_that_names_it() {
        for text in [
            "prot = 1",
            "[log]\nvolume = 1",
            "[views.orders]\non_error = \"park\"",
            "[api]\nbodies = 1",
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
