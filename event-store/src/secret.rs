//! The log secret: created with the log, keys the fingerprints of commands (HMAC-SHA-256).

use annals_core::Fingerprint;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

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
