//! The control page, mapped: what is to fail now, and how far the clock is off.

use crate::format::{
    AT_CLOCK, AT_ERROR, AT_FAILED, AT_OPERATIONS, AT_PASS, AT_PATH, AT_SEEN, AT_TIMES, CONTROL_LEN, EXIT, HANG,
};
use std::ffi::CString;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What comes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It takes place.
    Passes,
    /// It does not take place and gives this `errno`.
    Fails(i32),
    /// It takes place, and the process ends.
    IsTheLast,
    /// It does not come back for a long time, if it is a sync.
    Hangs,
}

/// The mapped page. It stays mapped as long as the process lives.
pub(crate) struct Control(*mut u8);

// SAFETY: the page is only used through atomics, besides its path, which tests write before they arm a fault.
unsafe impl Send for Control {}
// SAFETY: as above.
unsafe impl Sync for Control {}

impl Control {
    /// Maps the page in this file; `None` if that is not possible.
    pub(crate) fn map(path: &str) -> Option<Self> {
        let path = CString::new(path).ok()?;
        // SAFETY: a path that ends in zero; the mapping is of a file that tests make long enough, and checked.
        unsafe {
            let fd = libc::syscall(
                libc::SYS_openat,
                libc::AT_FDCWD,
                path.as_ptr(),
                libc::O_RDWR | libc::O_CLOEXEC,
                0,
            );
            let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let page = libc::syscall(
                libc::SYS_mmap,
                std::ptr::null::<u8>(),
                CONTROL_LEN,
                protection,
                libc::MAP_SHARED,
                fd,
                0_i64,
            );
            libc::close(fd);
            (page > 0).then_some(Self(page as *mut u8))
        }
    }

    fn number(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `at` is one of the constants: within the page and a multiple of 8.
        unsafe { &*self.0.add(at).cast::<AtomicU64>() }
    }

    /// How far the wall clock is off, in microseconds.
    pub(crate) fn clock(&self) -> i64 {
        // SAFETY: as in `number`.
        unsafe { &*self.0.add(AT_CLOCK).cast::<AtomicI64>() }.load(Ordering::Relaxed)
    }

    /// Decides over an operation of this kind on this path. Called under the shim's lock.
    pub(crate) fn fate(&self, kind: u64, path: &str) -> Fate {
        if self.number(AT_OPERATIONS).load(Ordering::Acquire) & kind == 0 || !path.contains(&self.path()) {
            return Fate::Passes;
        }
        self.number(AT_SEEN).fetch_add(1, Ordering::AcqRel);
        if take_one(self.number(AT_PASS)) || !take_one(self.number(AT_TIMES)) {
            return Fate::Passes;
        }
        self.number(AT_FAILED).fetch_add(1, Ordering::AcqRel);
        let error = self.number(AT_ERROR).load(Ordering::Acquire) as i64;
        match error {
            EXIT => Fate::IsTheLast,
            HANG => Fate::Hangs,
            error => Fate::Fails(error as i32),
        }
    }

    fn path(&self) -> String {
        // SAFETY: within the page; written by tests before `AT_OPERATIONS`.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.add(AT_PATH), CONTROL_LEN - AT_PATH) };
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

/// Takes one off a counter; false if it is zero.
fn take_one(counter: &AtomicU64) -> bool {
    counter
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
        .is_ok()
}
