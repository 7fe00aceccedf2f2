//! The shim's own state: which files it watches, and the lock under which an operation and its entry are one.

use crate::control::{Control, Fate};
use crate::format::{CONTROL, EXIT_CODE, Entry, MARKS, RECORD, ROOT};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Device and inode number.
type FileId = (u64, u64);

/// What is behind a file descriptor or path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file or directory beneath the root: inode number and path when it was opened.
    Watched(u64, String),
    /// The file of marks.
    Marks,
}

#[derive(Debug, Default)]
pub(crate) struct Files {
    known: HashMap<FileId, Target>,
    syncs: u64,
    buffer: Vec<u8>,
}

pub(crate) struct Shim {
    root: String,
    marks: Option<String>,
    record: Option<i32>,
    pub(crate) control: Option<Control>,
    files: Mutex<Files>,
}

/// The shim; `None` if the environment does not ask for it.
pub(crate) fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    SHIM.get_or_init(Shim::from_environment).as_ref()
}

pub(crate) fn errno() -> i32 {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(value: i32) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}

impl Shim {
    fn from_environment() -> Option<Self> {
        let root = std::env::var(ROOT).ok()?;
        Some(Self {
            root: root.trim_end_matches('/').to_owned(),
            marks: std::env::var(MARKS).ok(),
            record: std::env::var(RECORD).ok().and_then(|path| open_record(&path)),
            control: std::env::var(CONTROL).ok().and_then(|path| Control::map(&path)),
            files: Mutex::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path beneath the root; `None` if it is not beneath it. `directory` is as for `openat`.
    pub(crate) fn beneath(&self, directory: i32, path: *const libc::c_char) -> Option<String> {
        let path = self.absolute(directory, path)?;
        let rest = path.strip_prefix(&self.root)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let parts: Vec<&str> = rest
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        Some(parts.join("/"))
    }

    pub(crate) fn is_marks(&self, directory: i32, path: *const libc::c_char) -> bool {
        self.marks.is_some() && self.absolute(directory, path) == self.marks
    }

    fn absolute(&self, directory: i32, path: *const libc::c_char) -> Option<String> {
        if path.is_null() {
            return None;
        }
        // SAFETY: callers pass what the program passed to the C library: a text that ends in zero.
        let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
        if path.starts_with('/') {
            return Some(path.to_owned());
        }
        let base = if directory == libc::AT_FDCWD {
            read_link("/proc/self/cwd")?
        } else {
            read_link(&format!("/proc/self/fd/{directory}"))?
        };
        Some(format!("{base}/{path}"))
    }

    /// What an open descriptor is, if it is watched.
    pub(crate) fn target(&self, fd: i32) -> Option<Target> {
        let id = identity(fd)?;
        self.lock().known.get(&id).cloned()
    }

    /// Remembers what an open descriptor is; its inode number.
    pub(crate) fn remember(&self, files: &mut Files, fd: i32, path: Option<&str>) -> Option<u64> {
        let id = identity(fd)?;
        let target = path.map_or(Target::Marks, |path| Target::Watched(id.1, path.to_owned()));
        files.known.insert(id, target);
        Some(id.1)
    }

    /// Inode numbers are used again: what is opened elsewhere is no file of ours any more.
    pub(crate) fn forget(&self, files: &mut Files, fd: i32) {
        if let Some(id) = identity(fd) {
            files.known.remove(&id);
        }
    }

    pub(crate) fn next_sync(files: &mut Files) -> u64 {
        files.syncs += 1;
        // Several processes, one after the other, may write one record.
        files.syncs | u64::from(std::process::id()) << 32
    }

    /// Writes an entry; its lock is held since before the operation took effect.
    pub(crate) fn write(&self, files: &mut Files, entry: &Entry) {
        let Some(record) = self.record else { return };
        let kept = errno();
        files.buffer.clear();
        entry.encode(&mut files.buffer);
        let mut rest = files.buffer.as_slice();
        while !rest.is_empty() {
            // SAFETY: a descriptor of our own and a slice.
            let count = unsafe { libc::syscall(libc::SYS_write, record, rest.as_ptr(), rest.len()) };
            match usize::try_from(count) {
                Ok(count) => rest = &rest[count..],
                Err(_) if errno() == libc::EINTR => {}
                // A record with a gap would prove nothing: end so that the suite notices.
                // SAFETY: ends the process.
                Err(_) => unsafe { libc::_exit(99) },
            }
        }
        set_errno(kept);
    }

    /// Decides over an operation; the lock is held.
    pub(crate) fn fate(&self, kind: u64, path: &str) -> Fate {
        self.control
            .as_ref()
            .map_or(Fate::Passes, |control| control.fate(kind, path))
    }

    /// Carries an operation out under the lock, unless it is to fail, and writes the entry that tells of it.
    pub(crate) fn carry_out(
        &self,
        kind: u64,
        path: &str,
        operation: impl FnOnce() -> i64,
        entry: impl FnOnce(&mut Files, i64) -> Option<Entry>,
    ) -> i64 {
        let mut files = self.lock();
        let fate = self.fate(kind, path);
        if let Fate::Fails(error) = fate {
            set_errno(error);
            return -1;
        }
        let result = operation();
        if result >= 0
            && let Some(entry) = entry(&mut files, result)
        {
            self.write(&mut files, &entry);
        }
        end_if(fate);
        result
    }
}

/// Ends the process if that was its last operation.
pub(crate) fn end_if(fate: Fate) {
    if fate == Fate::IsTheLast {
        // SAFETY: ends the process, as a kill would: without anything further.
        unsafe { libc::_exit(EXIT_CODE) }
    }
}

/// Device and inode number of a regular file or directory.
fn identity(fd: i32) -> Option<FileId> {
    let mut about = std::mem::MaybeUninit::<libc::stat64>::uninit();
    let kept = errno();
    // SAFETY: fstat fills the structure if it returns 0.
    let about = unsafe { (libc::fstat64(fd, about.as_mut_ptr()) == 0).then(|| about.assume_init()) };
    set_errno(kept);
    let about = about?;
    [libc::S_IFREG, libc::S_IFDIR]
        .contains(&(about.st_mode & libc::S_IFMT))
        .then_some((about.st_dev, about.st_ino))
}

fn open_record(path: &str) -> Option<i32> {
    let path = CString::new(path).ok()?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
    // SAFETY: a path that ends in zero.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600) };
    i32::try_from(fd).ok().filter(|fd| *fd >= 0)
}

fn read_link(path: &str) -> Option<String> {
    let path = CString::new(path).ok()?;
    let mut buffer = [0_u8; 4096];
    let kept = errno();
    // SAFETY: the buffer is as long as said.
    let count = unsafe { libc::readlink(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    set_errno(kept);
    let text = buffer.get(..usize::try_from(count).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}
