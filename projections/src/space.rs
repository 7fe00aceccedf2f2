//! Free space on the disk: looked at before something is written, so that the log has the last bytes for itself.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::progress::locked;

/// How long an answer counts.
const FRESH: Duration = Duration::from_millis(250);

/// The disk under a directory.
pub(crate) struct Space {
    path: PathBuf,
    reserve: u64,
    seen: Mutex<Option<(Instant, u64)>>,
}

/// Less space than the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSpace {
    pub(crate) free: u64,
    pub(crate) reserve: u64,
}

impl Space {
    pub(crate) fn new(path: &Path, reserve: u64) -> Self {
        Self {
            path: path.to_owned(),
            reserve,
            seen: Mutex::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether more than the reserve is free. A disk that does not say is taken to have space: the write will tell.
    pub(crate) fn check(&self) -> Result<(), NoSpace> {
        let mut seen = locked(&self.seen);
        let free = match *seen {
            Some((at, free)) if at.elapsed() < FRESH => free,
            _ => {
                let free = rustix::fs::statvfs(&self.path)
                    .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
                *seen = Some((Instant::now(), free));
                free
            }
        };
        if free < self.reserve {
            return Err(NoSpace {
                free,
                reserve: self.reserve,
            });
        }
        Ok(())
    }
}
