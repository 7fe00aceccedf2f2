//! Signed notes: a text and the signatures under it ([c2sp.org/signed-note](https://c2sp.org/signed-note)).

use crate::checkpoint::Checkpoint;
use crate::key::VerifierKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Longest note that is read, in bytes, signatures included.
pub const NOTE_LEN_MAX: usize = 64 * 1024;
/// Most signatures of a note that is read.
pub const SIGNATURES_MAX: usize = 64;

const DASH: &str = "\u{2014} ";
const KEY_ID_LEN: usize = 4;

/// A text, and who signed it. That it was read says nothing about its signatures: see [`Note::signed_by`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key, such as `example.com/log`.
    pub name: String,
    /// The first four bytes of the hash of name, algorithm and key: which key it may be, not a proof.
    pub key_id: u32,
    /// What the algorithm made of the text.
    pub bytes: Vec<u8>,
}

/// A text that is no signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedNote {
    /// Larger than [`NOTE_LEN_MAX`].
    #[error("the note has {0} bytes: at most {NOTE_LEN_MAX} are read")]
    TooLong(usize),
    /// Control characters other than line ends, or no final line end.
    #[error("the note has control characters, or no line end at its end")]
    Text,
    /// No empty line, or nothing before or after it.
    #[error("the note has no signatures: they follow the text after an empty line")]
    Unsigned,
    /// More than [`SIGNATURES_MAX`].
    #[error("the note has more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// A line behind the text that is no signature.
    #[error("line {0:?} is no signature: \"\u{2014} <key name> <Base64 of key id and signature>\"")]
    Signature(String),
}

/// Why a note is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// No signature is by the key.
    #[error("not signed by {0}")]
    NotSigned(String),
    /// There is a signature by the key, and it is wrong.
    #[error("the signature of {0} does not fit the text")]
    WrongSignature(String),
}

impl Note {
    /// A text with its signatures. The text is lines, each with its end; `None` if it is not.
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Option<Self> {
        is_text(&text).then_some(Self { text, signatures })
    }

    /// A checkpoint that nobody has signed yet.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let text = checkpoint.to_string();
        Self {
            text,
            signatures: Vec::new(),
        }
    }

    /// Reads a signed note.
    pub fn parse(note: &str) -> Result<Self, MalformedNote> {
        if note.len() > NOTE_LEN_MAX {
            return Err(MalformedNote::TooLong(note.len()));
        }
        if !is_text(note) {
            return Err(MalformedNote::Text);
        }
        let end = note.rfind("\n\n").ok_or(MalformedNote::Unsigned)? + 1;
        let (text, lines) = (&note[..end], &note[end + 1..]);
        let signatures = lines.lines().map(NoteSignature::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.is_empty() || text == "\n" {
            return Err(MalformedNote::Unsigned);
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(MalformedNote::TooManySignatures);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// What was signed, with the line end at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in their order, whether or not they are right.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature, unless it is there already.
    pub fn add(&mut self, signature: NoteSignature) {
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Whether the key signed this text: the time of its cosignature (seconds since 1970), if it says one. Every signature
    /// that claims to be by the key has to be right; those of others are not looked at.
    pub fn signed_by(&self, key: &VerifierKey) -> Result<Option<u64>, Untrusted> {
        let mut found = None;
        for signature in &self.signatures {
            if signature.name != key.name() || signature.key_id != key.id() {
                continue;
            }
            let time = key.verify(&self.text, &signature.bytes);
            found = Some(time.ok_or_else(|| Untrusted::WrongSignature(key.name().to_owned()))?);
        }
        found.ok_or_else(|| Untrusted::NotSigned(key.name().to_owned()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

impl NoteSignature {
    /// Reads the line of a signature, without its end.
    pub fn parse(line: &str) -> Result<Self, MalformedNote> {
        let malformed = || MalformedNote::Signature(line.chars().take(120).collect());
        let (name, signature) = line
            .strip_prefix(DASH)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(malformed)?;
        let bytes = STANDARD.decode(signature).map_err(|_| malformed())?;
        let (id, bytes) = bytes.split_first_chunk::<KEY_ID_LEN>().ok_or_else(malformed)?;
        if !is_key_name(name) || bytes.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            name: name.to_owned(),
            key_id: u32::from_be_bytes(*id),
            bytes: bytes.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id.to_be_bytes()[..], &self.bytes].concat();
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// Whether a key may have this name: not empty, no spaces, no `+`, no control characters.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.bytes().any(|byte| byte < b' ' && byte != b'\n')
}
