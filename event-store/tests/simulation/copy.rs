//! What a kill leaves: the files as they are at one instant, copied while the log goes on.

use rustix::fs::SeekFrom;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file: its length, and its bytes where it has any. Most of a database's file is a hole.
type Contents = (u64, Vec<(u64, Vec<u8>)>);

/// What a directory holds: nothing for a directory in it.
pub type Files = BTreeMap<PathBuf, Option<Contents>>;

/// The files of a directory at one instant, or `None` if they changed while they were read.
pub fn instant(dir: &Path) -> Option<Files> {
    let mut files = Files::new();
    collect(dir, Path::new(""), &mut files)?;
    let mut again = Files::new();
    collect(dir, Path::new(""), &mut again)?;
    // Whatever was written since the first reading would show in the second: in between, nothing changed.
    (files == again).then_some(files)
}

fn collect(dir: &Path, within: &Path, files: &mut Files) -> Option<()> {
    for entry in fs::read_dir(dir.join(within)).ok()? {
        let entry = entry.ok()?;
        let path = within.join(entry.file_name());
        if entry.file_type().ok()?.is_dir() {
            collect(dir, &path, files)?;
            files.insert(path, None);
        } else {
            files.insert(path, Some(read(&entry.path())?));
        }
    }
    Some(())
}

fn read(path: &Path) -> Option<Contents> {
    let file = fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let (mut pieces, mut end) = (Vec::new(), 0);
    // An error says that there is no more data.
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(end)) {
        end = rustix::fs::seek(&file, SeekFrom::Hole(start)).ok()?;
        let mut bytes = vec![0; (end - start) as usize];
        file.read_exact_at(&mut bytes, start).ok()?;
        pieces.push((start, bytes));
    }
    Some((len, pieces))
}

/// Writes the files into a new directory.
pub fn write(dir: &Path, files: &Files) {
    for (path, contents) in files {
        let path = dir.join(path);
        let Some((len, pieces)) = contents else {
            fs::create_dir_all(&path).unwrap();
            continue;
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(&path).unwrap();
        for (start, bytes) in pieces {
            file.write_all_at(bytes, *start).unwrap();
        }
        file.set_len(*len).unwrap();
    }
}
