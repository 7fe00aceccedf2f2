//! Changing bytes and lengths.

use crate::format::{Entry, WRITES};
use crate::state::{Target, set_errno, shim};
use libc::{c_int, c_void, iovec, off64_t, size_t, ssize_t};

/// Where the bytes go.
#[derive(Clone, Copy)]
enum Place {
    /// Where the descriptor stands.
    Here,
    /// At this offset.
    At(off64_t),
}

/// Writes what `data` says; one call for all ways of writing, as short as the system makes it.
unsafe fn write_to(fd: c_int, data: &[u8], place: Place) -> ssize_t {
    let real = || match place {
        Place::Here => libc::syscall(libc::SYS_write, fd, data.as_ptr(), data.len()),
        Place::At(offset) => libc::syscall(libc::SYS_pwrite64, fd, data.as_ptr(), data.len(), offset),
    };
    let Some((shim, target)) = shim().and_then(|shim| Some((shim, shim.target(fd)?))) else {
        return real() as ssize_t;
    };
    let written = |count: i64| data[..count as usize].to_vec();
    let result = match target {
        Target::Marks => shim.carry_out(0, "", real, |_, count| Some(Entry::Mark { data: written(count) })),
        Target::Watched(ino, path) => shim.carry_out(WRITES, &path, real, |_, count| {
            let offset = match place {
                Place::At(offset) => offset,
                // The descriptor stands behind what it wrote, also when it appends.
                Place::Here => libc::lseek64(fd, 0, libc::SEEK_CUR) - count,
            };
            Some(Entry::Write {
                ino,
                offset: offset as u64,
                data: written(count),
            })
        }),
    };
    result as ssize_t
}

unsafe fn gathered(parts: *const iovec, count: c_int) -> Vec<u8> {
    let parts = std::slice::from_raw_parts(parts, count.max(0) as usize);
    let filled = parts.iter().filter(|part| part.iov_len > 0);
    filled
        .flat_map(|part| std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len))
        .copied()
        .collect()
}

unsafe fn bytes<'a>(data: *const c_void, count: size_t) -> &'a [u8] {
    if count == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data.cast(), count)
}

/// Stands for `write`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    write_to(fd, bytes(data, count), Place::Here)
}

/// Stands for `pwrite`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    write_to(fd, bytes(data, count), Place::At(offset))
}

/// Stands for `pwrite64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    write_to(fd, bytes(data, count), Place::At(offset))
}

/// Stands for `writev`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if shim().is_none_or(|shim| shim.target(fd).is_none()) {
        return libc::syscall(libc::SYS_writev, fd, parts, count) as ssize_t;
    }
    write_to(fd, &gathered(parts, count), Place::Here)
}

/// Stands for `pwritev`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t) -> ssize_t {
    write_to(fd, &gathered(parts, count), Place::At(offset))
}

/// Stands for `pwritev64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t) -> ssize_t {
    write_to(fd, &gathered(parts, count), Place::At(offset))
}

/// Stands for `ftruncate`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off64_t) -> c_int {
    let real = || libc::syscall(libc::SYS_ftruncate, fd, length);
    let Some((shim, Target::Watched(ino, path))) = shim().and_then(|shim| Some((shim, shim.target(fd)?))) else {
        return real() as c_int;
    };
    let entry = Entry::Truncate {
        ino,
        len: length as u64,
    };
    shim.carry_out(WRITES, &path, real, |_, _| Some(entry)) as c_int
}

/// Stands for `ftruncate64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    ftruncate(fd, length)
}

/// Does what a record cannot tell, and says so in it.
fn unknown(fd: c_int, what: &str, real: impl FnOnce() -> i64) -> i64 {
    match shim().and_then(|shim| Some((shim, shim.target(fd)?))) {
        Some((shim, Target::Watched(_, path))) => {
            let what = format!("{what} of {path}");
            shim.carry_out(WRITES, &path, real, |_, _| Some(Entry::Unknown { what }))
        }
        _ => real(),
    }
}

/// Stands for `fallocate`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    unknown(fd, "fallocate", || {
        libc::syscall(libc::SYS_fallocate, fd, mode, offset, length)
    }) as c_int
}

/// Stands for `fallocate64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    fallocate(fd, mode, offset, length)
}

/// Stands for `mmap`: a watched file that is mapped to be written through the mapping cannot be recorded.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off64_t,
) -> *mut c_void {
    let real = || libc::syscall(libc::SYS_mmap, address, length, protection, flags, fd, offset);
    let shared = fd >= 0 && flags & libc::MAP_SHARED != 0 && protection & libc::PROT_WRITE != 0;
    (if shared {
        unknown(fd, "a writable mapping", real)
    } else {
        real()
    }) as *mut c_void
}

/// Stands for `mmap64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off64_t,
) -> *mut c_void {
    mmap(address, length, protection, flags, fd, offset)
}

/// Stands for `copy_file_range`: says that there is no such call for watched files, so that programs write what they copy.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: libc::c_uint,
) -> ssize_t {
    if shim().is_some_and(|shim| shim.target(to).is_some()) {
        set_errno(libc::ENOSYS);
        return -1;
    }
    libc::syscall(
        libc::SYS_copy_file_range,
        from,
        from_offset,
        to,
        to_offset,
        length,
        flags,
    ) as ssize_t
}

/// Stands for `sendfile`, as for `copy_file_range`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
    if shim().is_some_and(|shim| shim.target(to).is_some()) {
        set_errno(libc::ENOSYS);
        return -1;
    }
    libc::syscall(libc::SYS_sendfile, to, from, offset, count) as ssize_t
}

/// Stands for `sendfile64`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
    sendfile(to, from, offset, count)
}
