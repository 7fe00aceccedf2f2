//! Syncing. The lock is not held while the disk works: others write meanwhile, and the record says when a sync began.

use crate::control::Fate;
use crate::format::{Entry, HANG_SECONDS, SYNCS};
use crate::state::{Shim, Target, end_if, errno, set_errno, shim};
use libc::{c_int, c_uint, off64_t};

unsafe fn sync_as(fd: c_int, data_only: bool) -> c_int {
    let call = if data_only {
        libc::SYS_fdatasync
    } else {
        libc::SYS_fsync
    };
    let real = || libc::syscall(call, fd) as c_int;
    let Some((shim, Target::Watched(ino, path))) = shim().and_then(|shim| Some((shim, shim.target(fd)?))) else {
        return real();
    };
    let (sync, fate) = {
        let mut files = shim.lock();
        let sync = Shim::next_sync(&mut files);
        shim.write(&mut files, &Entry::SyncBegin { ino, sync, data_only });
        (sync, shim.fate(SYNCS, &path))
    };
    if fate == Fate::Hangs {
        std::thread::sleep(std::time::Duration::from_secs(HANG_SECONDS));
    }
    let result = if let Fate::Fails(error) = fate {
        set_errno(error);
        -1
    } else {
        real()
    };
    let kept = errno();
    let mut files = shim.lock();
    shim.write(&mut files, &Entry::SyncEnd { sync, ok: result == 0 });
    end_if(fate);
    set_errno(kept);
    result
}

/// Stands for `fsync`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync_as(fd, false)
}

/// Stands for `fdatasync`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync_as(fd, true)
}

/// Stands for `sync_file_range`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(fd: c_int, offset: off64_t, length: off64_t, flags: c_uint) -> c_int {
    let real = || libc::syscall(libc::SYS_sync_file_range, fd, offset, length, flags);
    let Some((shim, Target::Watched(ino, path))) = shim().and_then(|shim| Some((shim, shim.target(fd)?))) else {
        return real() as c_int;
    };
    shim.carry_out(SYNCS, &path, real, |_, _| Some(Entry::RangeSync { ino })) as c_int
}
