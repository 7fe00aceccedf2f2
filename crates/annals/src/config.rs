//! `annals.toml`: the settings of a server. Every key may be left out; a key that is not known is an error.

use crate::bounded::Section;
use crate::failure_config::{ProjectionConfig, ViewsConfig};
use crate::node::CommandLimits;
use annals_api::ApiBounds;
use annals_core::{APPEND_BYTES_MAX, plain_error};
use annals_event_store::{LogSettings, ProbeCommand};
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
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
/// Smallest volume: less would be a file for every few appends.
const VOLUME_BYTES_MIN: u64 = 1 << 20;
/// Largest volume: the last one is kept nearly all in memory while it is written.
const VOLUME_BYTES_MAX: u64 = 256 << 20;
/// More than any disk has: a reserve that refuses every append.
const DISK_BYTES_MAX: u64 = 1 << 60;
/// Most appends that wait.
const QUEUE_APPENDS_MAX: usize = 10_000_000;
/// Longest time for a sync: who waits longer has given up.
const SYNC_SECONDS_MAX: u64 = 3_600;
/// Longest time for looking at a volume.
const EXAMINE_SECONDS_MAX: u64 = 86_400;
/// Most states in memory.
const STATES_MAX: usize = 100_000_000;
/// Longest stretch of events between two snapshots of a stream.
const SNAPSHOT_EVERY_MAX: u64 = 1_000_000_000;
/// Least room for snapshots on the disk: some of the largest.
const SNAPSHOT_BYTES_MIN: u64 = 1 << 20;
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
    /// Bounds of views and reactors, and what they do about what fails.
    #[serde(default)]
    pub(crate) projections: ProjectionConfig,
    /// How long views keep what their rows were, and what single views do about what fails, by their names.
    #[serde(default)]
    pub(crate) views: ViewsConfig,
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
        let api = Section("api");
        let bytes = BODY_BYTES_MIN..=ROOM_BYTES_MAX;
        api.set("body_bytes_max", self.body_bytes_max, bytes, &mut bounds.body_bytes_max)?;
        let bytes = ANSWER_BYTES_MIN..=ROOM_BYTES_MAX;
        api.set(
            "answer_bytes_max",
            self.answer_bytes_max,
            bytes,
            &mut bounds.answer_bytes_max,
        )?;
        let requests = 1..=BULK_REQUESTS_MAX;
        api.set(
            "bulk_requests_max",
            self.bulk_requests_max,
            requests,
            &mut bounds.bulk_requests_max,
        )?;
        api.set(
            "followers_max",
            self.followers_max,
            1..=FOLLOWERS_MAX,
            &mut bounds.followers_max,
        )?;
        let live = 1..=LIVE_QUERIES_MAX;
        api.set(
            "live_queries_max",
            self.live_queries_max,
            live,
            &mut bounds.live_queries_max,
        )?;
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
    pub(crate) fn limits(&self) -> Result<CommandLimits> {
        let mut limits = CommandLimits::default();
        let (commands, settings) = (Section("commands"), &mut limits.settings);
        let states = 0..=STATES_MAX;
        commands.set(
            "cached_states_max",
            self.cached_states_max,
            states,
            &mut settings.cached_states_max,
        )?;
        let (said, bytes) = (self.cached_state_bytes_max, 0..=ROOM_BYTES_MAX as u64);
        commands.set(
            "cached_state_bytes_max",
            said,
            bytes,
            &mut settings.cached_state_bytes_max,
        )?;
        let events = 0..=SNAPSHOT_EVERY_MAX;
        commands.set(
            "snapshot_every",
            self.snapshot_every,
            events,
            &mut settings.snapshot_every,
        )?;
        let bytes = SNAPSHOT_BYTES_MIN..=DISK_BYTES_MAX;
        commands.set(
            "snapshot_bytes_max",
            self.snapshot_bytes_max,
            bytes,
            &mut limits.snapshot_bytes_max,
        )?;
        Ok(limits)
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
        let config: Self = toml::from_str(&text).map_err(|error| anyhow!("{}: {}", said(), plain_error(&error)))?;
        config.log.settings().with_context(said)?;
        config.commands.limits().with_context(said)?;
        config.projections.check().with_context(said)?;
        config.api.bounds().with_context(said)?;
        Ok(config)
    }
}

impl LogConfig {
    /// The settings of the log: what is said here, else the defaults.
    /// A queue that one append does not fit into is an error: such a server could not be written to.
    pub(crate) fn settings(&self) -> Result<LogSettings> {
        let mut settings = log_settings();
        let log = Section("log");
        let bytes = VOLUME_BYTES_MIN..=VOLUME_BYTES_MAX;
        log.set(
            "volume_bytes_max",
            self.volume_bytes_max,
            bytes,
            &mut settings.volume_bytes_max,
        )?;
        log.set(
            "reserve_bytes",
            self.reserve_bytes,
            0..=DISK_BYTES_MAX,
            &mut settings.reserve_bytes,
        )?;
        let appends = 1..=QUEUE_APPENDS_MAX;
        log.set(
            "queue_appends_max",
            self.queue_appends_max,
            appends,
            &mut settings.queue_appends_max,
        )?;
        let bytes = QUEUE_BYTES_MIN..=ROOM_BYTES_MAX;
        log.set(
            "queue_bytes_max",
            self.queue_bytes_max,
            bytes,
            &mut settings.queue_bytes_max,
        )?;
        let (said, mut seconds) = (self.sync_seconds_max, settings.sync_time_max.as_secs());
        log.set("sync_seconds_max", said, 1..=SYNC_SECONDS_MAX, &mut seconds)?;
        settings.sync_time_max = Duration::from_secs(seconds);
        if let Some(probe) = &mut settings.probe {
            let (said, mut seconds) = (self.examine_seconds_max, probe.time_max.as_secs());
            log.set("examine_seconds_max", said, 1..=EXAMINE_SECONDS_MAX, &mut seconds)?;
            probe.time_max = Duration::from_secs(seconds);
            let bytes = 1..=ROOM_BYTES_MAX as u64;
            log.set(
                "examine_bytes_max",
                self.examine_bytes_max,
                bytes,
                &mut probe.memory_max,
            )?;
        }
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
        let (limits, defaults) = (commands.limits().unwrap(), CommandLimits::default());
        assert_eq!(limits.settings.cached_state_bytes_max, 9);
        assert_eq!(limits.settings.snapshot_every, 0);
        assert_eq!(limits.settings.cached_states_max, defaults.settings.cached_states_max);
        assert_eq!(limits.snapshot_bytes_max, defaults.snapshot_bytes_max);
    }

    #[test]
    fn a_queue_that_no_append_fits_into_is_refused_with_the_least_that_goes() {
        let settings = |text: &str| toml::from_str::<LogConfig>(text).unwrap().settings();
        for (text, says) in [
            ("queue_appends_max = 0", "set it to 1 at least"),
            ("queue_bytes_max = 2097151", "set it to 2097152 at least"),
            ("examine_seconds_max = 0", "set it to 1 at least"),
            ("examine_bytes_max = 0", "set it to 1 at least"),
            ("sync_seconds_max = 0", "set it to 1 at least"),
            ("sync_seconds_max = 3601", "3600 at most"),
            ("volume_bytes_max = 0", "set it to 1048576 at least"),
            ("volume_bytes_max = 1", "268435456 at most"),
            ("volume_bytes_max = 268435457", "268435456 at most"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(settings("queue_appends_max = 1\nqueue_bytes_max = 2097152").is_ok());
    }

    #[test]
    fn what_commands_keep_is_bounded() {
        let limits = |text: &str| toml::from_str::<CommandConfig>(text).unwrap().limits();
        for text in [
            "cached_states_max = 100000001",
            "cached_state_bytes_max = 1099511627777",
            "snapshot_every = 1000000001",
            "snapshot_bytes_max = 1",
        ] {
            let error = limits(text).unwrap_err().to_string();
            assert!(error.contains("[commands]") && error.contains("at most"), "{error}");
        }
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
    fn what_is_of_another_kind_is_said_in_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("annals.toml");
        for (text, says) in [
            ("log = 5", "expected an object"),
            (
                "[log]\nvolume_bytes_max = \"1\"",
                "expected a whole number of 0 or more",
            ),
            ("[log]\nvolume_bytes_max = -1", "expected a whole number of 0 or more"),
            ("[views.orders]\non_failure = \"ignore\"", "unknown value `ignore`"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", Config::read(&file).unwrap_err());
            assert!(
                error.contains(says) && error.contains("annals.toml is not valid"),
                "{error}"
            );
            assert!(!error.contains("struct") && !error.contains("u64"), "{error}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_is_an_error_that_names_it() {
        for text in [
            "prot = 1",
            "[log]\nvolume = 1",
            "[views.orders]\non_error = \"park\"",
            "[api]\nbodies = 1",
            "[projections]\nspill = 1",
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
