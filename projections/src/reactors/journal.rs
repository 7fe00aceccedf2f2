//! The outbox on disk: one file of frames, only ever appended to. What was to be dispatched, and what became of it.
//!
//! A frame: magic `AOB1`, length of the body (u32 LE), CRC-32C of the body (u32 LE), body (MessagePack). The first frame
//! is a [`Snapshot`], all others are [`Entry`]s. Commands are synced before anything is dispatched; outcomes are not:
//! a command whose outcome is lost is dispatched again under its key. A tail that a crash cut off is dropped at open;
//! a frame that is damaged in front of others is an error, never skipped. When most of the file is settled it is
//! written anew and put in its place by rename.

use super::timers::Fired;
use annals_core::{CommandCall, Epoch, Position};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"AOB1";
const FRAME_HEADER_LEN: usize = 12;
const FORMAT: u32 = 1;
/// From this size on the file is written anew, unless most of it still waits.
const COMPACT_BYTES: u64 = 8 * 1024 * 1024;
/// Rejections that are kept in full; all are counted.
const REJECTIONS_KEPT: usize = 100;

/// A command that waits for dispatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    /// The event that called for it.
    pub(crate) position: Position,
    /// Which of that event's commands, from 1.
    pub(crate) number: u32,
    /// Commands of one key are dispatched in order.
    pub(crate) key: String,
    pub(crate) call: CommandCall,
    /// When the event occurred, microseconds since 1970, if that was said.
    pub(crate) occurred: Option<i64>,
    /// The event's id.
    pub(crate) causation: String,
    /// The event's correlation.
    pub(crate) correlation: String,
}

/// Which command: position of the event and number.
pub(crate) type CommandId = (Position, u32);

impl Outgoing {
    pub(crate) fn id(&self) -> CommandId {
        (self.position, self.number)
    }
}

/// A command that the domain did not accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejected {
    pub(crate) id: CommandId,
    /// Stream and command.
    pub(crate) what: String,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A command that failed so often that its key waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParkedCommand {
    pub(crate) id: CommandId,
    pub(crate) error: String,
    /// Type and stream of the event.
    pub(crate) event: EventName,
    pub(crate) attempts: u32,
    /// When it failed first, microseconds since 1970.
    pub(crate) first: i64,
    /// When it failed last, microseconds since 1970.
    pub(crate) last: i64,
    /// Up to where decisions were heeded: it has failed after those.
    pub(crate) heeded: Position,
}

/// Type and stream of an event.
pub(crate) type EventName = (String, String);

/// All that the outbox is, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) format: u32,
    pub(crate) reactor: String,
    /// Random; another one after `resume`.
    pub(crate) id: String,
    pub(crate) epoch: Epoch,
    /// Events up to here are reacted to.
    pub(crate) position: Position,
    /// Counts the entries that hold commands.
    pub(crate) sequence: u64,
    pub(crate) dispatched: u64,
    pub(crate) rejected: u64,
    pub(crate) pending: Vec<Outgoing>,
    /// The last ones.
    pub(crate) rejections: Vec<Rejected>,
    /// Up to where timers have gone off; not there in outboxes from before there were timers.
    #[serde(default)]
    pub(crate) fired: Option<Fired>,
    /// Those of `pending` that wait for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parked: Vec<ParkedCommand>,
}

impl Snapshot {
    /// An empty outbox that has reacted to nothing after `position`, and whose timers have gone off as `fired` says.
    pub(crate) fn new(reactor: &str, epoch: Epoch, position: Position, fired: Fired) -> Self {
        Self {
            format: FORMAT,
            reactor: reactor.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            epoch,
            position,
            sequence: 0,
            dispatched: 0,
            rejected: 0,
            pending: Vec::new(),
            rejections: Vec::new(),
            fired: Some(fired),
            parked: Vec::new(),
        }
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Reacted {
                sequence,
                position,
                commands,
                fired,
            } => {
                self.fired = match (self.fired.take(), fired) {
                    (Some(before), Some(now)) => Some(before.later(now)),
                    (before, now) => now.or(before),
                };
                self.sequence = self.sequence.max(sequence);
                self.position = self.position.max(position);
                self.pending.extend(commands);
            }
            Entry::Settled {
                accepted,
                rejected,
                parked,
                again,
            } => {
                self.dispatched += accepted.len() as u64;
                self.rejected += rejected.len() as u64;
                let gone: HashSet<CommandId> = accepted
                    .into_iter()
                    .chain(rejected.iter().map(|rejected| rejected.id))
                    .collect();
                self.pending.retain(|command| !gone.contains(&command.id()));
                let waits = |one: &ParkedCommand| !(gone.contains(&one.id) || again.contains(&one.id));
                self.parked
                    .retain(|one| waits(one) && parked.iter().all(|new| new.id != one.id));
                self.parked.extend(parked);
                self.rejections.extend(rejected);
                let surplus = self.rejections.len().saturating_sub(REJECTIONS_KEPT);
                self.rejections.drain(..surplus);
            }
        }
    }
}

/// What is appended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// Events up to `position` were reacted to, with these commands.
    Reacted {
        sequence: u64,
        position: Position,
        commands: Vec<Outgoing>,
        /// Up to where timers have gone off with that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fired: Option<Fired>,
    },
    /// These commands have had their effect, or never will.
    Settled {
        accepted: Vec<CommandId>,
        rejected: Vec<Rejected>,
        /// These wait for a person from now on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parked: Vec<ParkedCommand>,
        /// These wait no longer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        again: Vec<CommandId>,
    },
}

/// Why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("it is missing")]
    Missing,
    #[error("it is damaged at byte {at}: {detail}")]
    Damaged { at: usize, detail: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The open file with what is in it.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
    state: Snapshot,
    /// It may end with half a frame: nothing more is appended.
    broken: bool,
}

impl Journal {
    /// Begins a new outbox in place of whatever is there. On return it is on the disk.
    pub(crate) fn create(path: &Path, state: Snapshot) -> Result<Self, JournalError> {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &state)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_parent(path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            len: bytes.len() as u64,
            state,
            broken: false,
        })
    }

    /// Opens an outbox and drops what a crash left unfinished at its end.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let (state, len) = read(path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() > len {
            file.set_len(len)?;
            file.sync_all()?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
            state,
            broken: false,
        })
    }

    /// What is in an outbox, without touching it.
    pub(crate) fn peek(path: &Path) -> Result<Snapshot, JournalError> {
        read(path).map(|(state, _)| state)
    }

    pub(crate) fn state(&self) -> &Snapshot {
        &self.state
    }

    /// Says that events up to `position` were reacted to. With commands, they are on the disk on return.
    pub(crate) fn reacted(&mut self, position: Position, commands: Vec<Outgoing>) -> Result<(), JournalError> {
        self.write(position, commands, None)
    }

    /// Says that timers have gone off with these commands. With commands, they are on the disk on return.
    pub(crate) fn fired(&mut self, fired: Fired, commands: Vec<Outgoing>) -> Result<(), JournalError> {
        self.write(self.state.position, commands, Some(fired))
    }

    fn write(&mut self, position: Position, commands: Vec<Outgoing>, fired: Option<Fired>) -> Result<(), JournalError> {
        let sync = !commands.is_empty();
        self.append(Entry::Reacted {
            sequence: self.state.sequence + u64::from(sync),
            position,
            commands,
            fired,
        })?;
        if sync {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Says what became of commands.
    pub(crate) fn settled(&mut self, accepted: Vec<CommandId>, rejected: Vec<Rejected>) -> Result<(), JournalError> {
        self.append(Entry::Settled {
            accepted,
            rejected,
            parked: Vec::new(),
            again: Vec::new(),
        })?;
        if self.len < COMPACT_BYTES {
            return Ok(());
        }
        let pending: usize = self
            .state
            .pending
            .iter()
            .map(|command| command.call.body.len() + 256)
            .sum();
        if self.len < 2 * pending as u64 {
            return Ok(());
        }
        *self = Self::create(&self.path, self.state.clone())?;
        Ok(())
    }

    /// Says which commands wait for a person, and which no longer do. On the disk on return.
    pub(crate) fn parked(&mut self, parked: Vec<ParkedCommand>, again: Vec<CommandId>) -> Result<(), JournalError> {
        self.append(Entry::Settled {
            accepted: Vec::new(),
            rejected: Vec::new(),
            parked,
            again,
        })?;
        self.sync()
    }

    /// Returns when everything is on the disk.
    pub(crate) fn sync(&self) -> Result<(), JournalError> {
        Ok(self.file.sync_data()?)
    }

    fn append(&mut self, entry: Entry) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &entry)?;
        if self.broken {
            return Err(io::Error::other("an earlier write to it failed").into());
        }
        if let Err(error) = self.file.write_all(&bytes) {
            // Half a frame must not stand in front of others.
            self.broken = self.file.set_len(self.len).is_err();
            return Err(error.into());
        }
        self.len += bytes.len() as u64;
        self.state.add(entry);
        Ok(())
    }
}

/// The directory entry of a file that was created or renamed is on the disk on return.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn push_frame<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), JournalError> {
    let body = rmp_serde::to_vec_named(value).map_err(io::Error::other)?;
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

fn read(path: &Path) -> Result<(Snapshot, u64), JournalError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(JournalError::Missing),
        Err(error) => return Err(error.into()),
    };
    let (first, mut at) = frame(&bytes).ok_or_else(|| damaged(0, "the first frame cannot be read"))?;
    let mut state: Snapshot = body(first, 0)?;
    if state.format != FORMAT {
        let detail = format!(
            "it has format {}, this program knows {FORMAT}: upgrade it",
            state.format
        );
        return Err(JournalError::Damaged { at: 0, detail });
    }
    while let Some((entry, len)) = frame(&bytes[at..]) {
        state.add(body(entry, at)?);
        at += len;
    }
    // What follows a crash is unfinished and the last; a whole frame behind it means that something else happened.
    let rest = &bytes[at..];
    let whole = (1..rest.len()).find(|skip| frame(&rest[*skip..]).is_some());
    match whole {
        Some(_) => Err(damaged(at, "a frame in front of others cannot be read")),
        None => Ok((state, at as u64)),
    }
}

/// The body of the frame at the beginning of the bytes, and the frame's length.
fn frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (header, rest) = bytes.split_at_checked(FRAME_HEADER_LEN)?;
    if !header.starts_with(&MAGIC) {
        return None;
    }
    let len = u32::from_le_bytes(*header.get(4..)?.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*header.last_chunk()?);
    let body = rest.get(..len)?;
    (crc32c::crc32c(body) == sum).then_some((body, FRAME_HEADER_LEN + len))
}

fn body<T: DeserializeOwned>(bytes: &[u8], at: usize) -> Result<T, JournalError> {
    rmp_serde::from_slice(bytes).map_err(|error| damaged(at, &error.to_string()))
}

fn damaged(at: usize, detail: &str) -> JournalError {
    JournalError::Damaged {
        at,
        detail: detail.to_owned(),
    }
}
