//! Compares the index with the log: digests first; only where they differ the entries are looked at one by one. What the
//! index says of events that cannot be read is left out: that they cannot be read was named, and nothing else can be said.

use super::VerifyReport;
use super::digest::{ByStream, Digest, StreamKeys};
use super::join::Joined;
use crate::sled::index::Entry;
use crate::sled::names::{appended_hash, command_hash, id_hash};
use crate::sled::shared::Shared;
use annals_core::{Block, LogError, Position, Version};
use std::collections::BTreeMap;

/// Bytes of records that are read at once to find the names of streams.
const READ_BYTES: usize = 4 << 20;

/// How far the index of a stream was looked at.
#[derive(Default)]
struct Looked {
    /// Last version and its position.
    last: (Version, Position),
    /// Whether a lie was named: one is enough.
    named: bool,
}

/// Streams of which the index says something else than the log, by name.
type Wrong = BTreeMap<String, Looked>;

pub(super) fn check(shared: &Shared, keys: &StreamKeys, joined: &mut Joined<'_>) -> Result<(), LogError> {
    shared.index.check_filters()?;
    // Streams that the index makes up.
    let mut wrong = Wrong::new();
    for chunk in shared.index.chunks() {
        let (stream, first, positions) = chunk?;
        let mut digest = Digest::default();
        for (position, version) in positions.into_iter().zip(first.get()..) {
            if joined.was_seen(position) {
                digest.add_number(version, position.get());
            }
        }
        match joined.streams.get_mut(&keys.of(&stream)) {
            Some(known) => known.index.join(digest),
            None if digest.count > 0 => drop(wrong.insert(stream, Looked::default())),
            None => {}
        }
    }
    let mut differ: ByStream<()> = ByStream::default();
    let streams = joined.streams.iter().filter(|(_, known)| known.index != known.log);
    differ.extend(streams.map(|(key, _)| (*key, ())));
    if !differ.is_empty() {
        name(shared, joined, keys, differ, &mut wrong)?;
    }
    if !wrong.is_empty() {
        check_streams(shared, wrong, joined)?;
    }
    check_entries(shared, joined)?;
    check_tags(shared, joined)
}

/// Finds the names of streams by their keys: in the index, and what is not there, in the log.
fn name(
    shared: &Shared,
    joined: &Joined<'_>,
    keys: &StreamKeys,
    mut unnamed: ByStream<()>,
    named: &mut Wrong,
) -> Result<(), LogError> {
    for chunk in shared.index.chunks() {
        let (stream, _, _) = chunk?;
        if unnamed.remove(&keys.of(&stream)).is_some() {
            named.insert(stream, Looked::default());
        }
    }
    let (mut after, head) = (Position::ZERO, shared.head.get());
    while !unnamed.is_empty() && after < head {
        match shared.read(after, READ_BYTES) {
            Ok(blocks) => {
                for record in blocks.iter().flat_map(Block::iter).flatten() {
                    if unnamed.remove(&keys.of(record.header.stream)).is_some() {
                        named.insert(record.header.stream.to_owned(), Looked::default());
                    }
                }
                after = blocks.last().map_or(head, Block::last);
            }
            // What is damaged was named.
            Err(LogError::Damaged { position, .. }) => after = joined.seen_after(position.max(after.next())),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Names the first lie in the index of each stream, in one pass.
fn check_streams(shared: &Shared, mut wrong: Wrong, joined: &mut Joined<'_>) -> Result<(), LogError> {
    for chunk in shared.index.chunks() {
        let (name, first, positions) = chunk?;
        let Some(stream) = wrong.get_mut(&name).filter(|stream| !stream.named) else {
            continue;
        };
        let indexed = joined.report.indexed;
        // What the indexer writes meanwhile is not looked at.
        let settled = positions.into_iter().take_while(|position| *position <= indexed);
        for (position, version) in settled.zip(first.get()..) {
            let (last, at) = stream.last;
            let version = Version::new(version);
            let lie = if version != last.next() {
                let next = last.next();
                let what = format!("the index of stream {name} goes on with version {version}, not {next}");
                Some((at, what))
            } else if joined.was_seen(position) && !holds(shared, position, &name, version) {
                let what = format!("the index says that version {version} of stream {name} is here, it is not");
                Some((position, what))
            } else {
                None
            };
            stream.last = (version, position);
            if let Some((position, what)) = lie {
                joined.report.problem(position, what);
                stream.named = true;
                break;
            }
        }
    }
    for (name, stream) in wrong.into_iter().filter(|(_, stream)| !stream.named) {
        let (version, position) = stream.last;
        let what = format!("the index of stream {name} ends at version {version}, the stream goes on");
        joined.report.problem(position, what);
    }
    Ok(())
}

/// Whether a version of a stream stands at a position.
fn holds(shared: &Shared, position: Position, stream: &str, version: Version) -> bool {
    let record = shared.record(position).ok().flatten();
    let view = record.as_ref().and_then(|record| record.view().ok());
    view.is_some_and(|record| record.header.stream == stream && record.header.version == version.get())
}

fn check_entries(shared: &Shared, joined: &mut Joined<'_>) -> Result<(), LogError> {
    let (mut commands, mut appended) = (Digest::default(), Digest::default());
    for entry in shared.index.entries() {
        let (kind, hash, position) = entry?;
        if !joined.was_seen(position) {
            continue;
        }
        match kind {
            Entry::Command => commands.add(&hash, position.get()),
            Entry::Appended => appended.add(&hash, position.get()),
            Entry::Id => check_entry(shared, kind, &hash, position, &mut joined.report),
        }
    }
    for (kind, found, expected) in [
        (Entry::Command, commands, joined.commands),
        (Entry::Appended, appended, joined.appended),
    ] {
        if found == expected {
            continue;
        }
        for entry in shared.index.entries() {
            let (of, hash, position) = entry?;
            if of == kind && joined.was_seen(position) {
                check_entry(shared, kind, &hash, position, &mut joined.report);
            }
        }
        if found.count != expected.count {
            let what = format!(
                "the index has {} entries for {kind:?}, the log {}",
                found.count, expected.count
            );
            joined.report.problem(joined.report.indexed, what);
        }
    }
    Ok(())
}

fn check_tags(shared: &Shared, joined: &mut Joined<'_>) -> Result<(), LogError> {
    let indexed = joined.report.indexed;
    let mut found = Digest::default();
    for tag in shared.index.tags() {
        let (tag, positions) = tag?;
        for position in positions.into_iter().filter(|position| joined.was_seen(*position)) {
            found.add(tag.as_bytes(), position.get());
        }
    }
    if found == joined.tags {
        return Ok(());
    }
    for tag in shared.index.tags() {
        let (tag, positions) = tag?;
        for position in positions {
            if !joined.was_seen(position) {
                continue;
            }
            let record = shared.record(position).ok().flatten();
            let view = record.as_ref().and_then(|record| record.view().ok());
            if !view.is_some_and(|record| record.header.tags.contains(&tag.as_str())) {
                let what = format!("the index says that this event has the tag {tag}, it has not");
                joined.report.problem(position, what);
            }
        }
    }
    if found.count != joined.tags.count {
        let what = format!(
            "the index has {} positions of tags, the log {}",
            found.count, joined.tags.count
        );
        joined.report.problem(indexed, what);
    }
    Ok(())
}

fn check_entry(shared: &Shared, kind: Entry, hash: &[u8], position: Position, report: &mut VerifyReport) {
    let record = shared.record(position).ok().flatten();
    let holds = record
        .as_ref()
        .and_then(|record| record.view().ok())
        .is_some_and(|record| {
            let header = &record.header;
            match kind {
                Entry::Command => header.key.is_some_and(|key| command_hash(header.stream, key) == hash),
                Entry::Id => id_hash(&header.id.to_owned()) == hash,
                Entry::Appended => header
                    .source
                    .is_some_and(|source| appended_hash(&header.id.to_owned(), header.stream, source) == hash),
            }
        });
    if !holds {
        report.problem(
            position,
            format!("the index says that this event is a {kind:?} that it is not"),
        );
    }
}
