//! Making, renaming, linking and removing names.

use crate::format::{Entry, NAMES};
use crate::state::shim;
use libc::{c_char, c_int, c_uint, mode_t};

/// A path as the `…at` calls take it.
type Path = (c_int, *const c_char);

const HERE: c_int = libc::AT_FDCWD;

fn change(path: Path, real: impl FnOnce() -> i64, entry: impl FnOnce(String) -> Entry) -> c_int {
    let Some((shim, beneath)) = shim().and_then(|shim| Some((shim, shim.beneath(path.0, path.1)?))) else {
        return real() as c_int;
    };
    shim.carry_out(NAMES, &beneath.clone(), real, |_, _| Some(entry(beneath))) as c_int
}

/// As [`change`], of two paths. One that comes from elsewhere or goes there cannot be told.
fn change_both(from: Path, to: Path, real: impl FnOnce() -> i64, entry: impl FnOnce(String, String) -> Entry) -> c_int {
    let Some(shim) = shim() else { return real() as c_int };
    match (shim.beneath(from.0, from.1), shim.beneath(to.0, to.1)) {
        (None, None) => real() as c_int,
        (Some(from), Some(to)) => shim.carry_out(NAMES, &to.clone(), real, |_, _| Some(entry(from, to))) as c_int,
        (from, to) => {
            let path = from.or(to).unwrap_or_default();
            let what = format!("a name that crosses the border of the record: {path}");
            shim.carry_out(NAMES, &path, real, |_, _| Some(Entry::Unknown { what })) as c_int
        }
    }
}

unsafe fn rename_as(from: Path, to: Path, flags: c_uint) -> c_int {
    let real = || libc::syscall(libc::SYS_renameat2, from.0, from.1, to.0, to.1, flags);
    change_both(from, to, real, |from, to| match flags {
        0 | libc::RENAME_NOREPLACE => Entry::Rename { from, to },
        _ => Entry::Unknown {
            what: format!("renameat2 with flags {flags} of {from}"),
        },
    })
}

unsafe fn link_as(from: Path, to: Path, flags: c_int) -> c_int {
    let real = || libc::syscall(libc::SYS_linkat, from.0, from.1, to.0, to.1, flags);
    change_both(from, to, real, |from, to| Entry::Link { from, to })
}

unsafe fn remove_as(path: Path, flags: c_int) -> c_int {
    let real = || libc::syscall(libc::SYS_unlinkat, path.0, path.1, flags);
    change(path, real, |path| Entry::Remove { path })
}

unsafe fn mkdir_as(path: Path, mode: mode_t) -> c_int {
    let real = || libc::syscall(libc::SYS_mkdirat, path.0, path.1, mode);
    change(path, real, |path| Entry::Mkdir { path })
}

/// Stands for `rename`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    rename_as((HERE, from), (HERE, to), 0)
}

/// Stands for `renameat`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int {
    rename_as((from_dir, from), (to_dir, to), 0)
}

/// Stands for `renameat2`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    rename_as((from_dir, from), (to_dir, to), flags)
}

/// Stands for `link`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    link_as((HERE, from), (HERE, to), 0)
}

/// Stands for `linkat`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    link_as((from_dir, from), (to_dir, to), flags)
}

/// Stands for `symlink`: links by name are not told.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlink(target: *const c_char, path: *const c_char) -> c_int {
    let real = || libc::syscall(libc::SYS_symlinkat, target, HERE, path);
    change((HERE, path), real, |path| Entry::Unknown {
        what: format!("a symbolic link at {path}"),
    })
}

/// Stands for `unlink`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    remove_as((HERE, path), 0)
}

/// Stands for `unlinkat`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    remove_as((directory, path), flags)
}

/// Stands for `rmdir`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    remove_as((HERE, path), libc::AT_REMOVEDIR)
}

/// Stands for `mkdir`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    mkdir_as((HERE, path), mode)
}

/// Stands for `mkdirat`.
///
/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    mkdir_as((directory, path), mode)
}
