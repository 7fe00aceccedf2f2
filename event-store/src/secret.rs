//! The log secret: created with the log, keys the fingerprints of commands and the tags of personal values (HMAC-SHA-256).

use crate::files::write_atomically;
use annals_core::Fingerprint;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const LEN: usize = 32;

#[derive(Clone)]
pub(crate) struct LogSecret([u8; 32]);

impl LogSecret {
    /// A new secret of 244 random bits (two random uuids).
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self(bytes)
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its file in the directory of a log.
    pub(crate) fn path(log: &Path) -> PathBuf {
        log.join("secret")
    }

    /// Reads it from the directory of a log, and writes it anew with a checksum if an earlier version wrote it without.
    pub(crate) fn read(log: &Path) -> Result<Self, String> {
        let (secret, checked) = Self::look(log)?;
        if !checked {
            let cannot = |error| format!("the log's secret cannot be given a checksum: {error}");
            secret.write(log).map_err(cannot)?;
        }
        Ok(secret)
    }

    /// Reads it from the directory of a log, and whether a checksum said that it is the right one. The error says what is
    /// wrong and where there is another copy.
    pub(crate) fn look(log: &Path) -> Result<(Self, bool), String> {
        let lost = |why: &dyn std::fmt::Display| {
            format!(
                "the log's secret {why}; the log itself may be whole: restore a backup into another directory and copy its \
                 log/secret here"
            )
        };
        let bytes = std::fs::read(Self::path(log)).map_err(|error| lost(&format_args!("cannot be read ({error})")))?;
        let (secret, checksum) = bytes.split_at_checked(LEN).ok_or_else(|| lost(&"is too short"))?;
        let secret = Self(secret.try_into().map_err(|_| lost(&"is too short"))?);
        if checksum.is_empty() {
            return Ok((secret, false));
        }
        if checksum != secret.checksum() {
            return Err(lost(&"is damaged: its checksum does not match"));
        }
        Ok((secret, true))
    }

    /// Writes it into the directory of a log, readable by its owner alone; it is durable afterwards.
    pub(crate) fn write(&self, log: &Path) -> io::Result<()> {
        write_atomically(&Self::path(log), &[&self.0[..], &self.checksum()].concat())
    }

    fn checksum(&self) -> [u8; 4] {
        crc32c::crc32c(&self.0).to_le_bytes()
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 bytes of the keyed hash.
    pub(crate) fn fingerprint(&self, data: &[u8]) -> Fingerprint {
        let mut hash = [0; 32];
        // HMAC takes keys of any length, so this cannot fail; an all-zero hash would only make keys look reused.
        if let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) {
            mac.update(data);
            hash = mac.finalize().into_bytes().into();
        }
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&hash[..16]);
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_of_the_secret_is_noticed_and_the_remedy_named() {
        let dir = tempfile::tempdir().unwrap();
        let secret = LogSecret::random();
        secret.write(dir.path()).unwrap();
        let whole = std::fs::read(LogSecret::path(dir.path())).unwrap();
        assert_eq!(LogSecret::read(dir.path()).unwrap().0, secret.0);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(LogSecret::path(dir.path()), bytes).unwrap();
            let why = LogSecret::read(dir.path()).map(drop).unwrap_err();
            assert!(why.contains("damaged") && why.contains("restore a backup"), "{why}");
        }
        for len in (0..whole.len()).filter(|len| *len != LEN) {
            std::fs::write(LogSecret::path(dir.path()), &whole[..len]).unwrap();
            assert!(LogSecret::read(dir.path()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_secret_of_an_earlier_version_is_read_and_gets_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let secret = LogSecret::random();
        std::fs::write(LogSecret::path(dir.path()), secret.0).unwrap();
        assert_eq!(LogSecret::read(dir.path()).unwrap().0, secret.0);
        assert_eq!(std::fs::read(LogSecret::path(dir.path())).unwrap().len(), LEN + 4);
        assert_eq!(LogSecret::read(dir.path()).unwrap().0, secret.0);
    }
}
