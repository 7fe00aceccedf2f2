//! A backup that is there already: what it says of itself, and whether all of it holds.

use super::check::Checker;
use super::write::count_outboxes;
use super::{BackupError, BackupSummary, FORMAT, Head, KIND, hex, unhex};
use crate::block_file::{BlockFile, END_MAGIC, MAGIC, TRAILER_LEN};
use annals_core::{LogError, Position};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// A backup, open for reading.
#[derive(Debug)]
pub struct BackupFile {
    pub(super) file: BlockFile,
    pub(super) about: Head,
    pub(super) secret: [u8; 32],
}

impl BackupFile {
    /// Opens a backup and checks its head, its table and its end. Blocks are checked as they are read.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let wrong = |detail: String| BackupError::Format {
            path: path.to_owned(),
            detail,
        };
        if let Some(why) = no_backup(path) {
            return Err(wrong(why));
        }
        let file = BlockFile::open(path, Position::new(1)).map_err(BackupError::of_file)?;
        let value: serde_json::Value = serde_json::from_slice(file.head()).map_err(|error| wrong(error.to_string()))?;
        if value["kind"] != KIND {
            return Err(wrong(
                "it is another file of blocks, name the file that `annals backup` wrote".into(),
            ));
        }
        let format = value["format"].as_u64().unwrap_or_default();
        if format > u64::from(FORMAT) {
            return Err(wrong(format!(
                "it has format {format}, this binary reads up to {FORMAT}: upgrade annals"
            )));
        }
        let about: Head = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let secret = unhex(&about.secret).ok_or_else(|| wrong("the log's secret is not in it".into()))?;
        if file.last() != about.head {
            return Err(BackupError::Damaged {
                position: file.last().next(),
                detail: format!("it ends at {}, not at {}", file.last(), about.head),
            });
        }
        if let Some(outside) = about.files.iter().find(|file| !stays_inside(&file.path)) {
            return Err(wrong(format!(
                "it names a file outside of the data directory, {:?}",
                outside.path
            )));
        }
        Ok(Self { file, about, secret })
    }

    /// Name of the log.
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// Name of the domain that wrote the log.
    pub fn domain(&self) -> Option<&str> {
        self.about.domain.as_deref()
    }

    /// Position of the last event in it.
    pub fn head(&self) -> Position {
        self.about.head
    }

    /// How many blocks are in it.
    pub fn blocks(&self) -> u64 {
        self.file.blocks() as u64
    }

    /// Reads all of it: every block, position, version and time, and the digest. The first position that does not hold
    /// is the error. `progress` gets the position reached.
    pub fn verify(&self, progress: &mut dyn FnMut(Position)) -> Result<BackupSummary, BackupError> {
        self.check(progress).map_err(BackupError::of_file)?;
        Ok(BackupSummary {
            name: self.about.name.clone(),
            epoch: self.about.epoch,
            head: self.about.head,
            bytes: self.file.len(),
            sha256: hex(self.file.sha256()),
            outboxes: count_outboxes(&self.about.files),
        })
    }

    fn check(&self, progress: &mut dyn FnMut(Position)) -> Result<(), LogError> {
        let mut checker = Checker::default();
        for number in 0..self.file.blocks() {
            let Some(block) = self.file.block(number)? else { break };
            for record in block.iter() {
                checker.record(&record.map_err(LogError::from)?)?;
            }
            progress(checker.last());
        }
        checker.finish(self.about.head)?;
        self.file.check_digest(&mut |_| ())
    }

    /// Reads the attached files one by one, in pieces: path, piece, whether it is the last.
    pub(super) fn attached<E: From<LogError>>(
        &self,
        mut take: impl FnMut(&str, &[u8], bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = self.file.body_offset();
        for file in &self.about.files {
            let end = offset + file.bytes;
            loop {
                let mut piece = vec![0; (end - offset).min(1 << 20) as usize];
                self.file.read_at(&mut piece, offset)?;
                offset += piece.len() as u64;
                take(&file.path, &piece, offset == end)?;
                if offset == end {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Why what stands at a path is no backup at all, if it is none: that is no damage.
fn no_backup(path: &Path) -> Option<String> {
    const REMEDY: &str = "name the file that `annals backup` wrote";
    let ends = || -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut file, mut begin, mut end) = (File::open(path)?, Vec::new(), Vec::new());
        (&file).take(MAGIC.len() as u64).read_to_end(&mut begin)?;
        let trailer = file.metadata()?.len().saturating_sub(TRAILER_LEN as u64);
        file.seek(SeekFrom::Start(trailer))?;
        file.take(END_MAGIC.len() as u64).read_to_end(&mut end)?;
        Ok((begin, end))
    };
    match ends() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("there is no such file: {REMEDY}")),
        Err(error) => Some(format!("{error}: {REMEDY}")),
        Ok((begin, end)) => {
            // The last byte is the format's, which has an error of its own. What is left of one that was cut begins like it,
            // and of one whose beginning is damaged the end is there.
            let common = begin.len().min(MAGIC.len() - 1);
            let is_one = begin[..common] == MAGIC[..common] || end == END_MAGIC;
            (!is_one).then(|| format!("it does not begin like one: {REMEDY}"))
        }
    }
}

/// Whether a path leads nowhere but down.
fn stays_inside(path: &str) -> bool {
    let parts = PathBuf::from(path);
    let mut parts = parts.components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::stays_inside;

    #[test]
    fn a_backup_names_files_only_below_the_directory() {
        assert!(stays_inside("registry.json") && stays_inside("refunds/outbox"));
        for outside in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
            assert!(!stays_inside(outside), "{outside}");
        }
    }
}
