//! On which machine something was measured, as far as the system says.

use serde_json::{Value, json};
use std::path::Path;

/// Processor, cores, memory, kernel, load, and the file system that `dir` is on.
pub(super) fn describe(dir: Option<&Path>) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
        "memory_kib": kib(&read("/proc/meminfo"), "MemTotal"),
        "system": format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        "load_average": read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
        "file_system": dir.and_then(|dir| dir.canonicalize().ok()).and_then(|dir| file_system(&read("/proc/self/mounts"), &dir)),
    })
}

/// Memory of a process that is in use now, and at most so far, in KiB.
pub(super) fn memory_of(process: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some((kib(&status, "VmRSS")?, kib(&status, "VmHWM")?))
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split(' ').next()?.parse().ok()
}

/// Type of the file system of the longest mount point that holds `dir`.
fn file_system(mounts: &str, dir: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let holding = mounts.filter(|(point, _)| dir.starts_with(point));
    holding
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_found() {
        let status = "Name:\tannals\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!((kib(status, "VmRSS"), kib(status, "VmHWM")), (Some(1024), Some(2048)));
        let mounts = "overlay / overlay rw 0 0\n/dev/sda /data ext4 rw 0 0\n/dev/sdb /data/fast xfs rw 0 0\n";
        let kind = |dir: &str| file_system(mounts, Path::new(dir));
        assert_eq!(kind("/data/fast/log").as_deref(), Some("xfs"));
        assert_eq!(kind("/home").as_deref(), Some("overlay"));
        assert!(describe(None)["cores"].as_u64().unwrap() >= 1);
        let (now, most) = memory_of(std::process::id()).unwrap();
        assert!(0 < now && now <= most, "{now} of {most} KiB");
    }
}
