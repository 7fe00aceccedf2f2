//! Events as CloudEvents: appended to streams that no aggregate owns, and read by stream, by filter or one by one, or
//! live.

mod append;
mod attributes;
mod condition;
mod incoming;
mod live;
mod outgoing;
mod page;
mod read_one;
mod scan;
mod stream;

pub(crate) use append::append;
pub(crate) use condition::refuse_condition;
pub(crate) use incoming::{Shape, read as read_events};
pub(crate) use page::next_link;
pub(crate) use read_one::read_one;
pub(crate) use scan::scan;
pub(crate) use stream::read_stream;
