//! The wall clock, moved by what the control page says.

use crate::state::shim;
use libc::{c_int, clockid_t, timespec};

/// Stands for `clock_gettime`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let result = libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int;
    if result != 0 || (clock != libc::CLOCK_REALTIME && clock != libc::CLOCK_REALTIME_COARSE) {
        return result;
    }
    let off = shim()
        .and_then(|shim| shim.control.as_ref())
        .map_or(0, |control| control.clock());
    if off != 0 {
        let nanoseconds =
            i128::from((*time).tv_sec) * 1_000_000_000 + i128::from((*time).tv_nsec) + i128::from(off) * 1_000;
        (*time).tv_sec = nanoseconds.div_euclid(1_000_000_000) as libc::time_t;
        (*time).tv_nsec = nanoseconds.rem_euclid(1_000_000_000) as libc::c_long;
    }
    result
}
