//! Ed25519 keys that sign notes, as texts that can be kept in a file or given to an auditor.

use crate::note::{NoteSignature, is_key_name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

const SECRET_PREFIX: &str = "PRIVATE+KEY+";
const TIME_LEN: usize = 8;

/// What a key's signatures say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The text, signed as it is: what a log does.
    Ed25519,
    /// The text and a time (c2sp.org/tlog-cosignature, v1): what a witness does.
    Cosignature,
}

impl Algorithm {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ed25519, Self::Cosignature]
            .into_iter()
            .find(|algorithm| algorithm.byte() == byte)
    }
}

/// A text that is no key. It never shows a secret one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// A name with spaces, `+`, or nothing.
    #[error("a key's name is not empty and has no spaces and no \"+\"")]
    Name,
    /// Not of the form of such a key.
    #[error("not a key: a verifier key is <name>+<8 hex digits>+<Base64>, a secret one has PRIVATE+KEY+ before it")]
    Form,
    /// An algorithm that is not known here.
    #[error("a key of another algorithm than Ed25519 (1) or Ed25519 cosignatures (4)")]
    Algorithm,
    /// The id is not that of the name and key.
    #[error("the id in the key is not that of its name and bytes: was it changed?")]
    Id,
}

/// A key that signs.
pub struct Signer {
    verifier: VerifierKey,
    secret: SigningKey,
}

/// A key that verifies: what an auditor gets from outside and trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: Algorithm,
    key: VerifyingKey,
    id: u32,
}

impl Signer {
    /// The key of this name with these 32 secret bytes, which have to be random.
    pub fn new(name: &str, algorithm: Algorithm, secret: &[u8; 32]) -> Result<Self, InvalidKey> {
        let secret = SigningKey::from_bytes(secret);
        let verifier = VerifierKey::new(name, algorithm, secret.verifying_key())?;
        Ok(Self { verifier, secret })
    }

    /// Reads what [`Signer::secret_text`] writes.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim_end().strip_prefix(SECRET_PREFIX).ok_or(InvalidKey::Form)?;
        let (name, id, algorithm, secret) = parts(text)?;
        let signer = Self::new(name, algorithm, &secret)?;
        if signer.verifier.id == id {
            Ok(signer)
        } else {
            Err(InvalidKey::Id)
        }
    }

    /// The key as a text that has to be kept secret: `PRIVATE+KEY+<name>+<id>+<Base64>`.
    pub fn secret_text(&self) -> String {
        let bytes = [&[self.verifier.algorithm.byte()][..], &self.secret.to_bytes()].concat();
        let VerifierKey { name, id, .. } = &self.verifier;
        format!("{SECRET_PREFIX}{name}+{id:08x}+{}", STANDARD.encode(bytes))
    }

    /// The key that verifies what this one signs.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a note's text. `time` (seconds since 1970) goes into cosignatures, and into nothing else.
    pub fn sign(&self, text: &str, time: u64) -> NoteSignature {
        let bytes = match self.verifier.algorithm {
            Algorithm::Ed25519 => self.secret.sign(text.as_bytes()).to_bytes().to_vec(),
            Algorithm::Cosignature => {
                let signature = self.secret.sign(cosigned(text, time).as_bytes());
                [&time.to_be_bytes()[..], &signature.to_bytes()].concat()
            }
        };
        NoteSignature {
            name: self.verifier.name.clone(),
            key_id: self.verifier.id,
            bytes,
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

impl VerifierKey {
    fn new(name: &str, algorithm: Algorithm, key: VerifyingKey) -> Result<Self, InvalidKey> {
        if !is_key_name(name) {
            return Err(InvalidKey::Name);
        }
        let hash = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', algorithm.byte()])
            .chain_update(key.as_bytes())
            .finalize();
        Ok(Self {
            name: name.to_owned(),
            algorithm,
            key,
            id: u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]),
        })
    }

    /// Reads what `Display` writes: `<name>+<id>+<Base64>`.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let (name, id, algorithm, key) = parts(text.trim_end())?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| InvalidKey::Form)?;
        let key = Self::new(name, algorithm, key)?;
        if key.id == id { Ok(key) } else { Err(InvalidKey::Id) }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures say.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The first four bytes of the hash of name, algorithm and key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether this is the key's signature of the text: its time, if it has one. `None`: it is not.
    pub(crate) fn verify(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        let strictly = |message: &str, signature: &[u8]| {
            let signature = Signature::from_slice(signature).ok()?;
            self.key.verify_strict(message.as_bytes(), &signature).ok()
        };
        match self.algorithm {
            Algorithm::Ed25519 => strictly(text, signature).map(|()| None),
            Algorithm::Cosignature => {
                let (time, signature) = signature.split_first_chunk::<TIME_LEN>()?;
                let time = u64::from_be_bytes(*time);
                i64::try_from(time).ok()?;
                strictly(&cosigned(text, time), signature).map(|()| Some(time))
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.algorithm.byte()][..], self.key.as_bytes()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(bytes))
    }
}

/// What a cosignature signs.
fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

fn parts(text: &str) -> Result<(&str, u32, Algorithm, [u8; 32]), InvalidKey> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(bytes)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(InvalidKey::Form);
    };
    if id.len() != 8 || id.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(InvalidKey::Form);
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| InvalidKey::Form)?;
    let bytes = STANDARD.decode(bytes).map_err(|_| InvalidKey::Form)?;
    let (&algorithm, key) = bytes.split_first().ok_or(InvalidKey::Form)?;
    let algorithm = Algorithm::from_byte(algorithm).ok_or(InvalidKey::Algorithm)?;
    Ok((name, id, algorithm, key.try_into().map_err(|_| InvalidKey::Form)?))
}
