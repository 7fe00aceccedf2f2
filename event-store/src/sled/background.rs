//! Threads that nobody waits for: they leave the processor to requests.

/// How much they yield: the least of all is 19.
const NICE: i32 = 10;

/// Has the calling thread run behind those that answer requests, where the system can tell threads apart. A system that
/// refuses only lets it compete with them.
pub(super) fn yield_to_requests() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread of the background has the priority of all others");
    }
}
