//! Bodies read as the routes read them, without a server: what fuzzing calls. Not part of the public face.

use crate::events::{Shape, read_events};
use annals_commands::CommandRequest;
use annals_core::{Metadata, NewEvent, StreamId};
use bytes::Bytes;

/// Reads CloudEvents for a stream: one or an array of them. `None` when they are refused.
pub fn read_cloud_events(body: &[u8], stream: &StreamId) -> Option<Vec<NewEvent>> {
    read_events(body, stream, Shape::Either).ok()
}

/// Reads a line of a bulk request. `None` when it is refused.
pub fn read_command_line(line: &Bytes) -> Option<CommandRequest> {
    crate::bulk::read_line(line, &Metadata::default()).ok()
}
