//! On which machine something was measured, as far as the system says.

use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The unit in which the system tells processor time: a hundredth of a second on every Linux.
const MILLIS_OF_TICK: u64 = 10;

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

/// Processor time that this process has used so far, of all its threads: what it needed, whatever else ran beside it.
pub(super) fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it is in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |number: usize| fields.get(number)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * MILLIS_OF_TICK))
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
        let before = processor_time().unwrap();
        while processor_time().unwrap() == before {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
    }
}
