//! Whether a log takes appends at the moment, and why not: found out without appending anything.

use super::log::SledLog;
use annals_core::LogError;
use std::sync::PoisonError;

/// Why a log takes no appends at the moment, or cannot answer for all of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// A word for programs: `log-failed`, `log-damaged`, `storage-full`, `clock-jumped` or `log-closed`.
    pub reason: &'static str,
    /// What is wrong and what to do about it.
    pub detail: String,
}

impl SledLog {
    /// Why an append made now would be refused, or what reads have found damaged since the log was opened.
    pub fn not_ready(&self) -> Option<NotReady> {
        let not = |reason, detail| Some(NotReady { reason, detail });
        if let Some(why) = self.fatal() {
            return not(
                "log-failed",
                format!("the storage failed: {why}; set it right, then restart the server"),
            );
        }
        if let Err(error) = self.shared.check_space() {
            return not("storage-full", format!("{error}; appends then go on by themselves"));
        }
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = clock.now() {
            return not("clock-jumped", error.to_string());
        }
        drop(clock);
        if let Some(why) = self.shared.queue.closed() {
            return not("log-closed", format!("it is closed for appends: {why}"));
        }
        let found = self.shared.damage.get()?;
        not(
            "log-damaged",
            format!("{found}; stop the server, run `annals verify`, and restore a backup if events are damaged"),
        )
    }

    /// The same result; the first damage that any read finds is kept.
    pub(super) fn noted<T>(&self, read: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error @ (LogError::Damaged { .. } | LogError::Storage(_))) = &read {
            self.shared.damage.get_or_init(|| error.to_string());
        }
        read
    }
}
