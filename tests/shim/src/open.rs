//! Opening: says which inode number is which path, whether a file is new, and what its first length is.

use crate::control::Fate;
use crate::format::{Entry, OPENS};
use crate::state::{end_if, set_errno, shim};
use libc::{c_char, c_int, mode_t};

unsafe fn open_as(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = || libc::syscall(libc::SYS_openat, directory, path, flags, mode) as c_int;
    let Some(shim) = shim() else { return real() };
    let Some(beneath) = shim.beneath(directory, path) else {
        let fd = real();
        if fd >= 0 {
            let is_marks = shim.is_marks(directory, path);
            let mut files = shim.lock();
            shim.forget(&mut files, fd);
            if is_marks {
                shim.remember(&mut files, fd, None);
            }
        }
        return fd;
    };
    let mut files = shim.lock();
    let fate = shim.fate(OPENS, &beneath);
    if let Fate::Fails(error) = fate {
        set_errno(error);
        return -1;
    }
    let creates = flags & libc::O_CREAT != 0;
    let there = !creates || libc::syscall(libc::SYS_faccessat, directory, path, libc::F_OK) == 0;
    let fd = real();
    if fd < 0 {
        return fd;
    }
    if flags & libc::O_TMPFILE == libc::O_TMPFILE {
        shim.write(
            &mut files,
            &Entry::Unknown {
                what: format!("O_TMPFILE in {beneath}"),
            },
        );
        return fd;
    }
    if let Some(ino) = shim.remember(&mut files, fd, Some(&beneath)) {
        let created = !there;
        shim.write(
            &mut files,
            &Entry::Open {
                ino,
                created,
                path: beneath.clone(),
            },
        );
        if flags & libc::O_TRUNC != 0 && !created {
            shim.write(&mut files, &Entry::Truncate { ino, len: 0 });
        }
        end_if(fate);
    }
    fd
}

/// Stands for `open`; the mode is read as the C library reads it, whether it was given or not.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_as(libc::AT_FDCWD, path, flags, mode)
}

/// Stands for `open64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_as(libc::AT_FDCWD, path, flags, mode)
}

/// Stands for `openat`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_as(directory, path, flags, mode)
}

/// Stands for `openat64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_as(directory, path, flags, mode)
}

/// Stands for `creat`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    open_as(
        libc::AT_FDCWD,
        path,
        libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        mode,
    )
}
