//! What is looked at in the files of a store before the engine opens them: what it believes without a checksum, and the
//! lock that keeps other processes out, which the engine has none of.

use super::StoreError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

const LOCK: &str = "lock";
/// Names the version file that counts: its number (u64 LE), its checksum (u128 LE), one byte.
const CURRENT: &str = "current";
const TABLES: &str = "tables";
/// A store that was just closed may still be let go of by a thread in the background.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Ends every file of the engine: magic, two bytes, checksum of the contents' list (u128 LE), its place and its length
/// (u64 LE each).
const TRAILER_MAGIC: &[u8] = b"SFA!";
const TRAILER_LEN: u64 = 38;
/// A list of contents has about ten entries of some ten bytes.
const LIST_LEN_MAX: u64 = 64 * 1024;

/// Whether there is a store at all.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(CURRENT).exists()
}

/// Locks a directory for this store alone, until the file is closed.
pub(crate) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let failed = |error: io::Error| StoreError::Failed(format!("{} cannot be locked: {error}", path.display()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Checks what the engine takes on trust: the file that names the tables, and where the parts of each table lie. The
/// parts themselves have checksums that the engine compares whenever it reads one.
pub(crate) fn check(dir: &Path) -> Result<(), StoreError> {
    check_version(dir)?;
    for entry in fs::read_dir(dir.join(TABLES)).map_err(|error| unreadable(dir, &error))? {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        // What a kill left unfinished is not named by the version and is removed by the engine; damage in a table that
        // is named shows in the same way, so that both are told apart by what the engine finds missing.
        if !has_whole_list(&path).map_err(|error| unreadable(&path, &error))? {
            fs::remove_file(&path).map_err(|error| unreadable(&path, &error))?;
        }
    }
    Ok(())
}

fn check_version(dir: &Path) -> Result<(), StoreError> {
    let current = fs::read(dir.join(CURRENT)).map_err(|error| unreadable(dir, &error))?;
    let parts = current.split_first_chunk::<8>().and_then(|(number, rest)| {
        let (sum, rest) = rest.split_first_chunk::<16>()?;
        // The last byte says which kind of checksum it is: there is one.
        (rest == [0]).then_some((u64::from_le_bytes(*number), sum))
    });
    let Some((number, sum)) = parts else {
        return Err(StoreError::Damaged(format!("{CURRENT} is not as it was written")));
    };
    let name = format!("v{number}");
    match fs::read(dir.join(&name)) {
        Ok(bytes) if xxh3_128(&bytes) == u128::from_le_bytes(*sum) => Ok(()),
        Ok(_) => Err(StoreError::Damaged(format!("the checksum of {name} does not match"))),
        Err(error) => Err(unreadable(&dir.join(name), &error)),
    }
}

/// Whether a file ends with a list of its contents that is as it was written.
fn has_whole_list(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let Some(trailer_at) = len.checked_sub(TRAILER_LEN) else {
        return Ok(false);
    };
    let mut trailer = [0; TRAILER_LEN as usize];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let number = |at: usize| {
        let bytes = trailer.get(at..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
    };
    let (list_at, list_len) = (number(22), number(30));
    let within = list_at.checked_add(list_len).is_some_and(|end| end <= trailer_at);
    if !trailer.starts_with(TRAILER_MAGIC) || !within || list_len > LIST_LEN_MAX {
        return Ok(false);
    }
    let mut list = vec![0; list_len as usize];
    file.read_exact_at(&mut list, list_at)?;
    let sum = u128::from(number(6)) | u128::from(number(14)) << 64;
    Ok(xxh3_128(&list) == sum)
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{} cannot be read: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::IsADirectory => {
            StoreError::Damaged(text)
        }
        _ => StoreError::Failed(text),
    }
}
