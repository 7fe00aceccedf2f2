//! Notes, keys, checkpoints and proofs in files: as the specifications write them, and as another implementation reads them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use annals_audit::{
    Algorithm, Checkpoint, Frontier, Hash, InvalidKey, MalformedNote, Note, Signer, TlogProof, Untrusted, VerifierKey,
    leaf_hash,
};
use signed_note::{StandardVerifier, VerifierList};

const SECRET: [u8; 32] = [7; 32];

fn checkpoint() -> Checkpoint {
    let mut frontier = Frontier::new();
    frontier.push(leaf_hash(b"the only entry"), |_, _, _| {});
    Checkpoint {
        origin: "annals/shop/0198".into(),
        size: frontier.size(),
        root: frontier.root(),
        extensions: Vec::new(),
    }
}

fn log_key() -> Signer {
    Signer::new("annals/shop/0198", Algorithm::Ed25519, &SECRET).unwrap()
}

fn witness() -> Signer {
    Signer::new("witness.example/w1", Algorithm::Cosignature, &[9; 32]).unwrap()
}

fn signed() -> Note {
    let text = checkpoint().to_string();
    let signature = log_key().sign(&text, 0);
    Note::new(text, vec![signature]).unwrap()
}

#[test]
fn another_implementation_verifies_a_signed_checkpoint() {
    let note = signed_note::Note::from_bytes(signed().to_string().as_bytes()).unwrap();
    let key = StandardVerifier::new(&log_key().verifier().to_string()).unwrap();
    let (by_known, by_others) = note.verify(&VerifierList::new(vec![Box::new(key)])).unwrap();
    assert_eq!((by_known.len(), by_others.len()), (1, 0));
    assert_eq!(note.text(), checkpoint().to_string().as_bytes());
}

#[test]
fn we_verify_what_another_implementation_signed() {
    let signer = signed_note::StandardSigner::new(&log_key().secret_text()).unwrap();
    let mut note = signed_note::Note::new(checkpoint().to_string().as_bytes(), &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    let note = Note::parse(std::str::from_utf8(&note.to_bytes()).unwrap()).unwrap();
    assert_eq!(note.signed_by(log_key().verifier()), Ok(None));
    assert_eq!(note, signed());
}

#[test]
fn a_note_is_read_as_it_is_written() {
    let mut note = signed();
    note.add(witness().sign(note.text(), 1_679_315_147));
    let again = Note::parse(&note.to_string()).unwrap();
    assert_eq!(again, note);
    assert_eq!(Checkpoint::parse(again.text()), Ok(checkpoint()));
    assert_eq!(again.signed_by(witness().verifier()), Ok(Some(1_679_315_147)));
    assert_eq!(again.signed_by(log_key().verifier()), Ok(None));
}

#[test]
fn a_changed_text_time_or_signature_is_not_believed() {
    let mut note = signed();
    note.add(witness().sign(note.text(), 1_679_315_147));
    let other = note.text().replace("\n1\n", "\n2\n");
    let changed = Note::new(other, note.signatures().to_vec()).unwrap();
    let wrong = |key: &VerifierKey| Err(Untrusted::WrongSignature(key.name().to_owned()));
    for key in [log_key().verifier(), witness().verifier()] {
        assert_eq!(changed.signed_by(key), wrong(key));
    }
    for byte in 0..note.signatures()[1].bytes.len() {
        let mut signatures = note.signatures().to_vec();
        signatures[1].bytes[byte] ^= 1;
        let changed = Note::new(note.text().to_owned(), signatures).unwrap();
        assert_eq!(
            changed.signed_by(witness().verifier()),
            wrong(witness().verifier()),
            "byte {byte}"
        );
    }
    // A right signature beside a wrong one of the same key does not make it right.
    let mut both = note.signatures().to_vec();
    both.push(log_key().sign("another text\n", 0));
    let both = Note::new(note.text().to_owned(), both).unwrap();
    assert_eq!(both.signed_by(log_key().verifier()), wrong(log_key().verifier()));
}

#[test]
fn a_key_of_the_same_name_is_another_key() {
    let impostor = Signer::new("annals/shop/0198", Algorithm::Ed25519, &[8; 32]).unwrap();
    let text = checkpoint().to_string();
    let note = Note::new(text.clone(), vec![impostor.sign(&text, 0)]).unwrap();
    assert_eq!(
        note.signed_by(log_key().verifier()),
        Err(Untrusted::NotSigned("annals/shop/0198".into()))
    );
    // Nor is a witness's key a log's, though its bytes are the same.
    let as_witness = Signer::new("annals/shop/0198", Algorithm::Cosignature, &SECRET).unwrap();
    let note = Note::new(text.clone(), vec![as_witness.sign(&text, 5)]).unwrap();
    assert!(note.signed_by(log_key().verifier()).is_err());
}

#[test]
fn keys_are_read_as_they_are_written_and_what_was_changed_is_refused() {
    for signer in [log_key(), witness()] {
        let verifier = signer.verifier();
        assert_eq!(VerifierKey::parse(&format!("{verifier}\n")), Ok(verifier.clone()));
        let again = Signer::parse(&signer.secret_text()).unwrap();
        assert_eq!(again.verifier(), verifier);
        assert!(!format!("{signer:?}").contains(&signer.secret_text()[20..]));
        let text = verifier.to_string();
        assert_eq!(
            VerifierKey::parse(&text.replacen("annals", "annuls", 1).replacen("witness", "wetness", 1)),
            Err(InvalidKey::Id)
        );
        assert!(
            VerifierKey::parse(&signer.secret_text()).is_err(),
            "a secret key is no verifier key"
        );
        assert!(Signer::parse(&text).is_err());
    }
    for wrong in [
        "",
        "a",
        "a+b",
        "a+00000000+",
        "a+0000000G+AA==",
        "a+00000000+AQ==",
        "a+00000000+!!",
    ] {
        assert!(VerifierKey::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        Signer::new("a b", Algorithm::Ed25519, &SECRET).map(|_| ()),
        Err(InvalidKey::Name)
    );
}

#[test]
fn what_is_no_note_is_named() {
    let good = signed().to_string();
    assert!(matches!(Note::parse(""), Err(MalformedNote::Text)));
    assert!(matches!(Note::parse("text\n"), Err(MalformedNote::Unsigned)));
    assert!(matches!(Note::parse(good.trim_end()), Err(MalformedNote::Text)));
    assert!(matches!(
        Note::parse(&good.replace("annals/", "annals\t/")),
        Err(MalformedNote::Text)
    ));
    assert!(matches!(
        Note::parse(&good.replace('\u{2014}', "-")),
        Err(MalformedNote::Signature(_))
    ));
    assert!(matches!(
        Note::parse(&format!("{good}{}", "x".repeat(70_000))),
        Err(MalformedNote::TooLong(_))
    ));
    let line = good.lines().last().unwrap();
    let many = format!("{good}{}", format!("{line}\n").repeat(64));
    assert!(matches!(Note::parse(&many), Err(MalformedNote::TooManySignatures)));
}

#[test]
fn a_checkpoint_has_one_way_to_be_written() {
    let text = checkpoint().to_string();
    assert_eq!(Checkpoint::parse(&text).map(|read| read.to_string()), Ok(text.clone()));
    let root = checkpoint().root;
    for wrong in [
        String::new(),
        text.trim_end().to_owned(),
        text.replace("\n1\n", "\n01\n"),
        text.replace("\n1\n", "\n+1\n"),
        text.replace("\n1\n", "\n\n1\n"),
        text.replace("\n1\n", "\n0\n"),
        format!("{text}\n"),
        format!("\n1\n{root}\n"),
        format!("{}\n1\n{root}\n", "o".repeat(256)),
    ] {
        assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
    }
    let empty = Checkpoint {
        size: 0,
        root: Hash::of_nothing(),
        ..checkpoint()
    };
    assert_eq!(Checkpoint::parse(&empty.to_string()), Ok(empty));
}

#[test]
fn a_proof_in_a_file_is_verified_offline() {
    let proof = TlogProof {
        extra: b"the only entry".to_vec(),
        index: 0,
        path: Vec::new(),
        checkpoint: signed(),
    };
    let read = TlogProof::parse(&proof.to_string()).unwrap();
    assert_eq!(read, proof);
    assert_eq!(read.verify(&leaf_hash(&read.extra)), Ok(checkpoint()));
    assert!(read.verify(&leaf_hash(b"another entry")).is_err());
    for wrong in [
        "",
        "c2sp.org/tlog-proof@v1\nindex 0\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nx\n1\ny\n\n",
    ] {
        assert!(TlogProof::parse(wrong).is_err(), "{wrong}");
    }
    assert!(TlogProof::parse(&proof.to_string().replace("index 0", "index 00")).is_err());
}
