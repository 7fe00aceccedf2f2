//! Reads the repository as git sees it: tracked files and new ones that are not ignored.
//!
//! Knows no rule.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::TextFile;

/// Every file of the working tree that is tracked or could be added.
#[derive(Debug, Clone)]
pub struct Repository {
    files: Vec<TextFile>,
    paths: BTreeSet<String>,
}

impl Repository {
    /// Reads the repository that this crate stands in.
    ///
    /// # Errors
    ///
    /// Fails when git cannot list the files or a listed file cannot be read.
    pub fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root
            .canonicalize()
            .with_context(|| format!("resolve {}", root.display()))?;
        let mut files = Vec::new();
        let mut paths = BTreeSet::new();
        for path in list(&root)? {
            match std::fs::read(root.join(&path)) {
                Ok(bytes) => {
                    if let Ok(text) = String::from_utf8(bytes) {
                        files.push(TextFile::new(path.clone(), text));
                    }
                    paths.insert(path);
                }
                // Deleted but not committed yet, or a link to a directory.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {}
                Err(error) => return Err(error).with_context(|| format!("read {path}")),
            }
        }
        Ok(Self { files, paths })
    }

    /// All files that are text.
    pub fn files(&self) -> impl Iterator<Item = &TextFile> {
        self.files.iter()
    }

    /// The text files whose path ends in `suffix`.
    pub fn ending(&self, suffix: &str) -> impl Iterator<Item = &TextFile> {
        self.files.iter().filter(move |file| file.path.ends_with(suffix))
    }

    /// Whether the path, from the root, is a file or a directory with files in it.
    pub fn contains(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.paths.contains(path)
            || self
                .paths
                .range(directory.clone()..)
                .next()
                .is_some_and(|next| next.starts_with(&directory))
    }
}

fn list(root: &Path) -> Result<Vec<String>> {
    // The checkout may belong to another user, as in a container.
    let output = Command::new("git")
        .arg("-c")
        .arg(format!("safe.directory={}", root.display()))
        .args(["ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .context("start git: the rules need it to know which files belong to the repository")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed in {}: {}",
            root.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let names = String::from_utf8(output.stdout).context("a path in the repository is not UTF-8")?;
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}
