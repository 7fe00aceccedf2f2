//! The words everything in Annals speaks: places in the log, streams, records, the log's traits, and the traits that
//! domain code implements. No I/O, no runtime, no engine.

mod cloud_event;
mod domain;
mod event_id;
mod histogram;
mod log;
mod personal;
mod plain;
mod position;
mod record;
mod snapshot;
mod stream;

pub use annals_derive::{Command, Event, EventSet, Row, State};
pub use cloud_event::{CloudEventView, cloud_event};
#[doc(hidden)]
pub use domain::derive_support;
pub use domain::{
    Aggregate, Beside, Boundary, Catalog, Command, CommandCall, Decision, DecisionModel, DecodeError, Event, EventSet,
    EventTag, EventType, FailurePolicy, History, INDEX_TEXT_LEN_MAX, IndexKind, IndexValue, Indexed, InvalidCommand,
    KEY_LEN_MAX, Key, Keys, Payload, Reactor, Recorded, Rejection, Row, State, Timer, Upcast, View, accept,
    accept_nothing, after, cancel_timers, reject,
};
pub use event_id::{EVENT_ID_LEN_MAX, EventId, InvalidEventId, InvalidTag, TAG_LEN_MAX, TAGS_MAX, Tag};
pub use histogram::{Histogram, HistogramSnapshot};
pub use log::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, Append, AppendCondition, AppendError, Appended, AppendedEvent, Appender,
    Block, BoxFuture, CommandKey, Direction, EventLog, EventQuery, Expected, InvalidQuery, LogError, Matching,
    Metadata, NewEvent, QUERY_TAGS_MAX, QUERY_TYPES_MAX, StreamHead,
};
pub use personal::Personal;
pub use plain::plain_error;
pub use position::{Epoch, Position, Version};
pub use record::{
    CONTENT_TYPE_JSON, CONTENT_TYPE_MSGPACK, EXTENSIONS_MAX, EventIdRef, Fingerprint, HEADER_LEN_MAX, Header,
    MalformedRecord, PlaceInAppend, Record, RecordRef, payload_to_json, time, to_json, without_personal,
};
pub use snapshot::{
    SNAPSHOT_LEN_MAX, Snapshot, SnapshotStore, decode_state, encode_state, encoded_state_len, same_state,
    snapshot_schema,
};
pub use stream::{CATEGORY_LEN_MAX, ID_LEN_MAX, InvalidId, StreamId, check_category, check_id};
