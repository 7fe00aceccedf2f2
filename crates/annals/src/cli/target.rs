//! Files that a verb writes: never inside a data directory, where they could take the place of what stands there.

use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// What only a data directory, or the directory of a query node, has.
const MARKS: [&str; 3] = ["annals.json", "query.json", "log/manifest.json"];
/// Symbolic links that are followed one after the other, as the system does.
const LINKS_MAX: usize = 40;

/// An error if the file would stand in a data directory, wherever links lead.
pub(super) fn check_outside(file: &Path) -> Result<()> {
    // Where the name stands, and where what is written would go.
    for place in [place(file), resolved(file, LINKS_MAX)] {
        let holds = |dir: &&Path| MARKS.iter().any(|mark| dir.join(mark).exists());
        if let Some(dir) = place.ancestors().skip(1).find(holds) {
            bail!(
                "{} is inside the data directory {}, whose files are never written over: name a file elsewhere",
                file.display(),
                dir.display()
            );
        }
    }
    Ok(())
}

/// The path with every link in front of its last part resolved.
fn place(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    // A directory that is not there holds nothing, and writing into it fails by itself.
    let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
    file.file_name()
        .map_or_else(|| parent.clone(), |name| parent.join(name))
}

/// The path with its last part resolved as well, also if what it leads to is not there yet.
fn resolved(file: &Path, links: usize) -> PathBuf {
    let place = place(file);
    match fs::read_link(&place) {
        Ok(to) if links > 0 => {
            let beside = place.parent().unwrap_or(Path::new(".")).join(to);
            resolved(&beside, links - 1)
        }
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_in_a_data_directory_is_refused_by_whatever_name() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        fs::create_dir_all(data.join("log")).unwrap();
        fs::write(data.join("annals.json"), "{}").unwrap();
        let at = |name: &str| place.path().join(name);
        symlink(&data, at("beside")).unwrap();
        symlink(data.join("log/secret"), at("link")).unwrap();
        symlink("link", at("link-to-link")).unwrap();
        symlink(at("backup"), data.join("out")).unwrap();
        for inside in [
            "data/annals.json",
            "data/log/new",
            "data/log/../new",
            "beside/new",
            "beside/log/new",
            "link",
            "link-to-link",
            "data/out",
        ] {
            let error = check_outside(&at(inside)).expect_err(inside).to_string();
            assert!(error.contains("name a file elsewhere"), "{error}");
        }
        for outside in ["backup", "data.backup", "data/../backup", "nowhere/backup"] {
            check_outside(&at(outside)).unwrap_or_else(|error| panic!("{outside}: {error}"));
        }
    }

    #[test]
    fn links_that_go_round_lead_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (place.path().join("one"), place.path().join("other"));
        symlink(&one, &other).unwrap();
        symlink(&other, &one).unwrap();
        check_outside(&one).unwrap();
    }
}
