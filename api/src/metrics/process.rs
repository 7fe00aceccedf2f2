//! What the system says of this process, under the names that all programs use. What it does not say is left out.

use super::exposition::Exposition;
use std::fs;

pub(super) fn expose(text: &mut Exposition) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = number(&status, "VmRSS:") {
        text.gauge("process_resident_memory_bytes", "Resident memory.", kib * 1024);
    }
    if let Some(kib) = number(&status, "VmSize:") {
        text.gauge("process_virtual_memory_bytes", "Virtual memory.", kib * 1024);
    }
    if let Some(threads) = number(&status, "Threads:") {
        text.gauge("process_threads", "Threads.", threads);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open file descriptors.", open.count());
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(most) = number(&limits, "Max open files") {
        text.gauge("process_max_fds", "Most file descriptors that may be open.", most);
    }
}

/// The first number in the line that begins like this.
fn number(text: &str, begin: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(begin))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_how_their_line_begins() {
        let text = "Name:\tannals\nVmRSS:\t  1024 kB\nMax open files            4096                 8192     files\n";
        assert_eq!(number(text, "VmRSS:"), Some(1024));
        assert_eq!(number(text, "Max open files"), Some(4096));
        assert_eq!(number(text, "Threads:"), None);
    }
}
