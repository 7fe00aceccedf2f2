//! What the recorder writes and the suites read: one entry per file operation, and the page through which a test steers
//! the shim while its program runs. Plain bytes, little endian; knows neither the C library nor any test.

/// One file operation that succeeded, in the order of its effect. Paths are relative to the recorded directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A path was opened; says which file or directory the number `ino` stands for from now on.
    Open {
        /// Inode number.
        ino: u64,
        /// Whether this created the file.
        created: bool,
        /// Path.
        path: String,
    },
    /// Bytes were written.
    Write {
        /// Inode number.
        ino: u64,
        /// Where, in bytes.
        offset: u64,
        /// What was written.
        data: Vec<u8>,
    },
    /// The length was set.
    Truncate {
        /// Inode number.
        ino: u64,
        /// New length in bytes.
        len: u64,
    },
    /// A sync began: it covers what was done before.
    SyncBegin {
        /// Inode number.
        ino: u64,
        /// Number of this sync.
        sync: u64,
        /// Whether it was `fdatasync`, not `fsync`.
        data_only: bool,
    },
    /// A sync returned.
    SyncEnd {
        /// Number of the sync.
        sync: u64,
        /// Whether it succeeded.
        ok: bool,
    },
    /// `sync_file_range` returned: bytes are on their way, nothing is durable.
    RangeSync {
        /// Inode number.
        ino: u64,
    },
    /// A directory was made.
    Mkdir {
        /// Path.
        path: String,
    },
    /// A path was renamed.
    Rename {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// A second name was given to a file.
    Link {
        /// The file.
        from: String,
        /// Its new name.
        to: String,
    },
    /// A file or an empty directory was removed.
    Remove {
        /// Path.
        path: String,
    },
    /// The program wrote this to its file of marks.
    Mark {
        /// What it wrote.
        data: Vec<u8>,
    },
    /// Something was done that a record of this form cannot tell: no image built from it is worth anything.
    Unknown {
        /// What.
        what: String,
    },
}

impl Entry {
    /// Appends this entry's bytes: length, kind, fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        let (kind, numbers, texts): (u8, &[u64], [&[u8]; 2]) = match self {
            Self::Open { ino, created, path } => (1, &[*ino, u64::from(*created)], [path.as_bytes(), b""]),
            Self::Write { ino, offset, data } => (2, &[*ino, *offset], [data, b""]),
            Self::Truncate { ino, len } => (3, &[*ino, *len], [b"", b""]),
            Self::SyncBegin { ino, sync, data_only } => (4, &[*ino, *sync, u64::from(*data_only)], [b"", b""]),
            Self::SyncEnd { sync, ok } => (5, &[*sync, u64::from(*ok)], [b"", b""]),
            Self::RangeSync { ino } => (6, &[*ino], [b"", b""]),
            Self::Mkdir { path } => (7, &[], [path.as_bytes(), b""]),
            Self::Rename { from, to } => (8, &[], [from.as_bytes(), to.as_bytes()]),
            Self::Link { from, to } => (9, &[], [from.as_bytes(), to.as_bytes()]),
            Self::Remove { path } => (10, &[], [path.as_bytes(), b""]),
            Self::Mark { data } => (11, &[], [data, b""]),
            Self::Unknown { what } => (12, &[], [what.as_bytes(), b""]),
        };
        out.push(kind);
        for number in (0..3).map(|at| numbers.get(at).copied().unwrap_or(0)) {
            out.extend(number.to_le_bytes());
        }
        out.extend((texts[0].len() as u32).to_le_bytes());
        texts.iter().for_each(|text| out.extend(*text));
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The first entry of these bytes and how many of them it takes; `None` if they do not begin with a whole one.
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let entry = bytes.get(4..4 + length)?;
        let (kind, mut rest) = entry.split_first()?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk()?;
            rest = after;
            Some(u64::from_le_bytes(*number))
        };
        let (a, b, c) = (number()?, number()?, number()?);
        let (first, rest) = rest.split_first_chunk()?;
        let (first, second) = rest.split_at_checked(u32::from_le_bytes(*first) as usize)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let entry = match kind {
            1 => Self::Open {
                ino: a,
                created: b != 0,
                path: text(first)?,
            },
            2 => Self::Write {
                ino: a,
                offset: b,
                data: first.to_vec(),
            },
            3 => Self::Truncate { ino: a, len: b },
            4 => Self::SyncBegin {
                ino: a,
                sync: b,
                data_only: c != 0,
            },
            5 => Self::SyncEnd { sync: a, ok: b != 0 },
            6 => Self::RangeSync { ino: a },
            7 => Self::Mkdir { path: text(first)? },
            8 => Self::Rename {
                from: text(first)?,
                to: text(second)?,
            },
            9 => Self::Link {
                from: text(first)?,
                to: text(second)?,
            },
            10 => Self::Remove { path: text(first)? },
            11 => Self::Mark { data: first.to_vec() },
            12 => Self::Unknown { what: text(first)? },
            _ => return None,
        };
        Some((entry, 4 + length))
    }
}

/// Environment variable: the directory beneath which operations are seen. Without it the shim does nothing.
pub const ROOT: &str = "ANNALS_SHIM_ROOT";
/// Environment variable: the file to which entries are appended; without it nothing is recorded.
pub const RECORD: &str = "ANNALS_SHIM_RECORD";
/// Environment variable: the file whose writes are recorded as marks.
pub const MARKS: &str = "ANNALS_SHIM_MARKS";
/// Environment variable: the control page, a file of [`CONTROL_LEN`] bytes; without it nothing fails.
pub const CONTROL: &str = "ANNALS_SHIM_CONTROL";

/// Length of the control page in bytes.
pub const CONTROL_LEN: usize = 256;
/// In the control page: how far the wall clock is off, in microseconds (i64).
pub const AT_CLOCK: usize = 0;
/// Which operations are meant: a sum of the constants below (u64).
pub const AT_OPERATIONS: usize = 8;
/// The error that they get (`errno`), [`EXIT`] or [`HANG`] (i64).
pub const AT_ERROR: usize = 16;
/// How many of them pass before; counts down (u64).
pub const AT_PASS: usize = 24;
/// How many fail after those; counts down (u64).
pub const AT_TIMES: usize = 32;
/// How many of them there were, whether they failed or not (u64).
pub const AT_SEEN: usize = 40;
/// How many were made to fail (u64).
pub const AT_FAILED: usize = 48;
/// Only paths that contain this text are meant (up to 127 bytes, then zero).
pub const AT_PATH: usize = 128;

/// Operation: writing and setting a length.
pub const WRITES: u64 = 1;
/// Operation: every kind of sync.
pub const SYNCS: u64 = 2;
/// Operation: opening a file or directory.
pub const OPENS: u64 = 4;
/// Operation: making, renaming, linking and removing names.
pub const NAMES: u64 = 8;
/// In place of an error: the operation succeeds, and the process ends at once without anything further.
pub const EXIT: i64 = -1;
/// Exit code of such an end.
pub const EXIT_CODE: i32 = 137;
/// In place of an error: a sync does not come back for [`HANG_SECONDS`]; other operations take place.
pub const HANG: i64 = -2;
/// How long a sync hangs: longer than anybody waits for it.
pub const HANG_SECONDS: u64 = 300;
