//! The keys that sign a log's checkpoints: one that signs, and the verifier keys of all that ever did.
//!
//! `signer` has the secret key, readable by its owner alone; `verifiers` a verifier key in each line, the current one last.
//! They are in no backup of the log.

use crate::files::{sync_dir, write_atomically};
use annals_audit::{Algorithm, InvalidKey, Signer, VerifierKey};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const SIGNER: &str = "signer";
/// A key that takes over once it stands among the verifiers.
const SIGNER_NEXT: &str = "signer.next";
const VERIFIERS: &str = "verifiers";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The secret key is gone, while checkpoints that it signed are verified with keys that are there.
    #[error(
        "the signing key {} is missing: put it back from `annals keys backup`, or make a new one with `annals keys rotate`; \
         what was signed stays verifiable either way",
        .0.display()
    )]
    Missing(PathBuf),
    /// A file that holds no key.
    #[error("{} holds no key ({why}): put it back from `annals keys backup`", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file system refused.
    #[error("{} cannot be used: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("there is no new key without random bytes, and the system gives none: {0}")]
    Random(String),
}

/// The keys of one log.
#[derive(Debug)]
pub struct LogKeys {
    dir: PathBuf,
    signer: Signer,
    verifiers: Vec<VerifierKey>,
}

impl LogKeys {
    /// Opens the keys in a directory; one without any gets its first key, named `name`.
    pub fn open(dir: &Path, name: &str) -> Result<Self, KeysError> {
        let exists = dir.exists();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io(dir))?;
        if !exists {
            sync_dir(crate::files::parent(dir)).map_err(io(dir))?;
        }
        let verifiers = Self::verifiers_in(dir)?;
        finish_rotation(dir, &verifiers)?;
        let file = dir.join(SIGNER);
        let Some(text) = read(&file)? else {
            if !verifiers.is_empty() {
                return Err(KeysError::Missing(file));
            }
            return Self::with_new_key(dir, name, verifiers);
        };
        let signer = Signer::parse(&text).map_err(invalid(&file))?;
        if verifiers.last() != Some(signer.verifier()) {
            let why = "it is not the last key in the file of verifiers beside it".into();
            return Err(KeysError::Invalid { file, why });
        }
        let dir = dir.to_owned();
        Ok(Self { dir, signer, verifiers })
    }

    /// The verifier keys in a directory, the current one last; none if it has none.
    pub fn verifiers_in(dir: &Path) -> Result<Vec<VerifierKey>, KeysError> {
        let file = dir.join(VERIFIERS);
        let text = read(&file)?.unwrap_or_default();
        text.lines()
            .map(|line| VerifierKey::parse(line).map_err(invalid(&file)))
            .collect()
    }

    /// Makes a new key that signs from now on, also where the one before is lost. What older ones signed stays verifiable.
    pub fn rotate(dir: &Path, name: &str) -> Result<Self, KeysError> {
        let verifiers = Self::verifiers_in(dir)?;
        finish_rotation(dir, &verifiers)?;
        Self::with_new_key(dir, name, verifiers)
    }

    fn with_new_key(dir: &Path, name: &str, mut verifiers: Vec<VerifierKey>) -> Result<Self, KeysError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| KeysError::Random(error.to_string()))?;
        let signer = Signer::new(name, Algorithm::Ed25519, &secret).map_err(invalid(dir))?;
        verifiers.push(signer.verifier().clone());
        let lines: String = verifiers.iter().map(|key| format!("{key}\n")).collect();
        // In this order a crash leaves either the old key in force, or the new one with everybody able to verify it.
        let (next, file) = (dir.join(SIGNER_NEXT), dir.join(VERIFIERS));
        write_atomically(&next, format!("{}\n", signer.secret_text()).as_bytes()).map_err(io(&next))?;
        write_atomically(&file, lines.as_bytes()).map_err(io(&file))?;
        finish_rotation(dir, &verifiers)?;
        let dir = dir.to_owned();
        Ok(Self { dir, signer, verifiers })
    }

    /// The key that signs.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The verifier keys of all that ever signed, the current one last.
    pub fn verifiers(&self) -> &[VerifierKey] {
        &self.verifiers
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Lets a key take over whose verifier is already known, or forgets it: nobody could verify what it signs.
fn finish_rotation(dir: &Path, verifiers: &[VerifierKey]) -> Result<(), KeysError> {
    let (next, file) = (dir.join(SIGNER_NEXT), dir.join(SIGNER));
    let Some(text) = read(&next)? else { return Ok(()) };
    let known = Signer::parse(&text).is_ok_and(|signer| verifiers.last() == Some(signer.verifier()));
    let done = if known {
        fs::rename(&next, &file)
    } else {
        fs::remove_file(&next)
    };
    done.and_then(|()| sync_dir(dir)).map_err(io(dir))
}

fn read(file: &Path) -> Result<Option<String>, KeysError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeysError::Io {
            file: file.to_owned(),
            source,
        }),
    }
}

fn io(file: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let file = file.to_owned();
    |source| KeysError::Io { file, source }
}

fn invalid(file: &Path) -> impl Fn(InvalidKey) -> KeysError {
    let file = file.to_owned();
    move |why| KeysError::Invalid {
        file: file.clone(),
        why: why.to_string(),
    }
}
