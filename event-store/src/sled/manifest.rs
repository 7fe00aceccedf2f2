//! The manifest: which history the log tells, how often it was opened, and which volumes it has, in one file.

use super::settings::OpenError;
use crate::data_dir::LOG_DIR;
use crate::files::{sync_dir, write_atomically};
use crate::secret::LogSecret;
use annals_core::{Epoch, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Newest format that this binary reads, and the one it writes. Format 1 named volumes by their first positions alone, and
/// before format 3 there was no checksum.
const FORMAT: u32 = 3;
/// The first format that has a checksum.
const CHECKED: u32 = 3;
/// The field of the checksum.
const CHECKSUM: &str = "crc32c";
/// What stands beside a log and is not there before it.
const BESIDE: [&str; 4] = ["index", "snapshots", "tree", "checkpoints"];
/// What the name of a sealed volume ends with: it is a file of blocks.
const SEALED: &str = ".blocks";
/// What is added to the name of a sealed volume that is being written.
pub(super) const PARTIAL: &str = ".partial";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) epoch: Epoch,
    /// The history that this one goes on from, if the log was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Parent>,
    /// How many times the log was opened for writing; stands in every block.
    pub(super) boot: u64,
    /// The volumes, ascending; the last one is open for writing.
    pub(super) volumes: Vec<VolumeEntry>,
    /// Whether the log was closed in order the last time.
    pub(super) clean: bool,
}

/// Where a restored log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parent {
    pub(super) epoch: Epoch,
    /// Up to here both histories are the same.
    pub(super) head: Position,
}

/// A volume as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Named")]
pub(super) struct VolumeEntry {
    pub(super) first: Position,
    /// Directory of a sled database, or file of blocks.
    pub(super) name: String,
    /// Length of a file of blocks; not there if an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
}

/// The forms of a volume in a manifest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    First(Position),
    Entry {
        first: Position,
        name: String,
        #[serde(default)]
        bytes: Option<u64>,
    },
}

impl From<Named> for VolumeEntry {
    fn from(named: Named) -> Self {
        match named {
            Named::First(first) => Self::written(first),
            Named::Entry { first, name, bytes } => Self { first, name, bytes },
        }
    }
}

impl VolumeEntry {
    /// The volume that is written from `first` on.
    pub(super) fn written(first: Position) -> Self {
        let name = format!("{:020}", first.get());
        Self {
            first,
            name,
            bytes: None,
        }
    }

    /// A sealed volume in place of `old`, which begins at the same position. How long it is, is said when it is written.
    pub(super) fn sealed_after(old: &Self) -> Self {
        let generation = old.generation() + 1;
        let name = format!("{:020}.{generation}{SEALED}", old.first.get());
        Self {
            first: old.first,
            name,
            bytes: None,
        }
    }

    /// How many times what begins here was sealed.
    fn generation(&self) -> u64 {
        let parts = self.name.strip_suffix(SEALED).and_then(|name| name.split_once('.'));
        parts.and_then(|(_, generation)| generation.parse().ok()).unwrap_or(0)
    }

    /// Whether it is a file of blocks that never changes.
    pub(super) fn is_sealed(&self) -> bool {
        self.name.ends_with(SEALED)
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(&self.name)
    }
}

/// Whether a name is one that only a volume has: 20 digits, alone or as [`VolumeEntry::sealed_after`] goes on.
fn is_volume(name: &str) -> bool {
    let name = name.strip_suffix(PARTIAL).unwrap_or(name);
    let Some((first, rest)) = name.split_at_checked(20) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let sealed = |rest: &str| {
        let generation = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(SEALED));
        generation.is_some_and(digits)
    };
    digits(first) && (rest.is_empty() || sealed(rest))
}

/// What the manifest in `dir` says, if it can be read: the history, and a position up to which it went at least.
pub(crate) fn stated(dir: &Path) -> Option<(Epoch, Position)> {
    let manifest = Manifest::read(&fs::read(path(dir)).ok()?).ok()?;
    // A volume is durable before the next one is begun.
    let last = manifest.volumes.last().map(|entry| entry.first.previous());
    Some((manifest.epoch, last.unwrap_or_default()))
}

/// Which history the log in `dir` goes on from, and up to where both are the same, if it was restored.
pub(crate) fn parent(dir: &Path) -> Option<(Epoch, Position)> {
    let manifest = Manifest::read(&fs::read(path(dir)).ok()?).ok()?;
    manifest.parent.map(|parent| (parent.epoch, parent.head))
}

/// Name of the volume that the log in `dir` is written to, if the manifest can be read.
pub(crate) fn last_volume(dir: &Path) -> Option<String> {
    let manifest = Manifest::read(&fs::read(path(dir)).ok()?).ok()?;
    manifest.volumes.last().map(|entry| entry.name.clone())
}

fn path(dir: &Path) -> PathBuf {
    dir.join("manifest.json")
}

impl Manifest {
    /// Reads the manifest of the log in `dir`; a log that has none yet gets one, and its secret.
    pub(super) fn open(dir: &Path) -> Result<(Self, LogSecret), OpenError> {
        let io = |error: io::Error| OpenError::storage(dir, error);
        let manifest = match fs::read(path(dir)) {
            Ok(bytes) => Self::read(&bytes).map_err(|error| OpenError::storage(&path(dir), error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(dir)?,
            Err(error) => return Err(io(error)),
        };
        let secret = LogSecret::read(dir).map_err(|why| OpenError::storage(&LogSecret::path(dir), why))?;
        Ok((manifest, secret))
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        // The format comes first: what a newer binary wrote may have other fields.
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let format = value["format"].as_u64().unwrap_or_default();
        if format > u64::from(FORMAT) {
            return Err(format!(
                "it has format {format}, this binary reads up to {FORMAT}: upgrade annals"
            ));
        }
        let checksum = value[CHECKSUM].as_u64();
        let mut manifest: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if checksum != Some(manifest.checksum()?) && (checksum.is_some() || format >= u64::from(CHECKED)) {
            return Err(
                "its checksum does not match, so it is damaged: keep the directory as it is, and take what is whole \
                        with `annals salvage`, or restore a backup"
                    .into(),
            );
        }
        if manifest.volumes.is_empty() {
            return Err("it names no volume: restore a backup".into());
        }
        manifest.format = FORMAT;
        Ok(manifest)
    }

    /// CRC-32C of the manifest as compact JSON without this field. Volumes that it does not name are removed, so no name
    /// may be read that was not written.
    fn checksum(&self) -> Result<u64, String> {
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        Ok(u64::from(crc32c::crc32c(&bytes)))
    }

    /// Removes volumes that the manifest does not name: a crash left them before they were named, or after others
    /// took their place. Only once this manifest is durable.
    pub(super) fn remove_leftovers(&self, dir: &Path) -> io::Result<()> {
        let named: BTreeSet<&str> = self.volumes.iter().map(|entry| entry.name.as_str()).collect();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_volume(name) && !named.contains(name)) else {
                continue;
            };
            tracing::info!(volume = name, "removed what a crash left of a volume");
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn create(dir: &Path) -> Result<Self, OpenError> {
        let io = |error: io::Error| OpenError::storage(dir, error);
        let is_volume =
            |entry: fs::DirEntry| entry.path().is_dir() || entry.file_name().to_str().is_some_and(is_volume);
        let holds_volumes = fs::read_dir(dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_volume)));
        // A log without its manifest must not be taken for an empty one.
        if holds_volumes {
            return Err(OpenError::storage(
                &path(dir),
                "the manifest is missing: restore a backup",
            ));
        }
        // A log elsewhere than in a data directory has nothing of its own beside it.
        let in_data_dir = dir.ends_with(LOG_DIR);
        let beside = BESIDE.map(|name| dir.with_file_name(name));
        if in_data_dir
            && let Some(beside) = beside
                .iter()
                .find(|path| fs::read_dir(path).is_ok_and(|mut found| found.next().is_some()))
        {
            let beside = beside.display();
            let what =
                format!("the log is missing, and {beside} is of one: restore a backup, or name another directory");
            return Err(OpenError::storage(dir, what));
        }
        fs::create_dir_all(dir).map_err(io)?;
        // Everything in it may be synced, and is lost with its name.
        sync_dir(dir.parent().unwrap_or(Path::new("."))).map_err(io)?;
        LogSecret::random().write(dir).map_err(io)?;
        let manifest = Self::new(None, vec![VolumeEntry::written(Position::new(1))]);
        manifest.save(dir).map_err(io)?;
        Ok(manifest)
    }

    /// The manifest of a new history.
    pub(super) fn new(parent: Option<Parent>, volumes: Vec<VolumeEntry>) -> Self {
        Self {
            format: FORMAT,
            epoch: Epoch::random(),
            parent,
            boot: 0,
            volumes,
            clean: true,
        }
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let mut value = serde_json::to_value(self)?;
        value[CHECKSUM] = self.checksum().map_err(io::Error::other)?.into();
        write_atomically(&path(dir), &serde_json::to_vec_pretty(&value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_format_1_names_its_volumes_by_position() {
        let manifest = Manifest::read(
            br#"{"format":1,"epoch":"00000000-0000-4000-8000-000000000000","boot":3,"volumes":[1,77],"clean":true}"#,
        )
        .unwrap();
        let names: Vec<_> = manifest.volumes.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["00000000000000000001", "00000000000000000077"]);
        let dir = tempfile::tempdir().unwrap();
        manifest.save(dir.path()).unwrap();
        let again = Manifest::read(&fs::read(path(dir.path())).unwrap()).unwrap();
        assert_eq!((again.volumes, again.format), (manifest.volumes, FORMAT));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_manifest_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (parent, mut sealed) = (
            Parent {
                epoch: Epoch::random(),
                head: Position::new(7),
            },
            VolumeEntry::sealed_after(&VolumeEntry::written(Position::new(1))),
        );
        sealed.bytes = Some(1_234);
        let written = Manifest::new(Some(parent), vec![sealed, VolumeEntry::written(Position::new(8))]);
        written.save(dir.path()).unwrap();
        let whole = fs::read(path(dir.path())).unwrap();
        assert_eq!(Manifest::read(&whole).unwrap().volumes, written.volumes);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // White space may be another, and a letter may stand for itself in another way: then it says the same.
            let Ok(read) = Manifest::read(&bytes) else { continue };
            assert_eq!(
                (read.volumes, read.epoch, read.parent, read.boot, read.clean),
                (
                    written.volumes.clone(),
                    written.epoch,
                    written.parent,
                    written.boot,
                    written.clean
                ),
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    #[test]
    fn a_log_that_is_gone_is_not_replaced_by_an_empty_one() {
        let data = tempfile::tempdir().unwrap();
        let log = data.path().join("log");
        fs::create_dir(data.path().join("index")).unwrap();
        fs::write(data.path().join("index/manifest"), "x").unwrap();
        let error = Manifest::open(&log).map(drop).unwrap_err().to_string();
        assert!(
            error.contains("the log is missing") && error.contains("restore a backup"),
            "{error}"
        );
        assert!(!log.exists());
        fs::remove_file(data.path().join("index/manifest")).unwrap();
        Manifest::open(&log).unwrap();
    }

    #[test]
    fn a_manifest_of_a_newer_binary_is_refused_with_the_remedy() {
        let error = Manifest::read(br#"{"format":99}"#).unwrap_err();
        assert!(error.contains("upgrade"), "{error}");
    }

    #[test]
    fn each_sealing_of_a_place_has_a_name_of_its_own_and_only_such_names_are_volumes() {
        let written = VolumeEntry::written(Position::new(9));
        let once = VolumeEntry::sealed_after(&written);
        let twice = VolumeEntry::sealed_after(&once);
        assert_eq!(
            [&once.name, &twice.name],
            ["00000000000000000009.1.blocks", "00000000000000000009.2.blocks"]
        );
        assert!((written.is_sealed(), once.is_sealed()) == (false, true));
        for name in [&written.name, &once.name, &format!("{}{PARTIAL}", twice.name)] {
            assert!(is_volume(name), "{name}");
        }
        for name in [
            "manifest.json",
            "secret",
            "",
            "0000000000000000000",
            "00000000000000000009.damaged",
            "00000000000000000009.x.blocks",
        ] {
            assert!(!is_volume(name), "{name}");
        }
    }
}
