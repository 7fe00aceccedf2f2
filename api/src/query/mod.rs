//! The query API: views, their rows and lists, and the state of all projections.

mod as_of;
mod decide;
mod history;
mod letters;
mod list;
mod projections;
mod read;
mod rebuild;
mod row;
mod views;

pub(crate) use decide::{pause, resume, retry, skip};
pub(crate) use history::history;
pub(crate) use letters::{dead_letter, dead_letters};
pub(crate) use list::list;
pub(crate) use projections::{begin_rebuild, projections, rebuild_status};
pub(crate) use read::{query_problem, stopped};
pub(crate) use rebuild::{begin_rebuilds, cancel_rebuild, drop_rows, pause_rebuild, resume_rebuild, rollback, swap};
pub(crate) use row::row;
pub(crate) use views::views;
