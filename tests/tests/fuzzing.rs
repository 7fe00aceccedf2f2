//! The fuzz targets on what is known: every input of the corpus, the well-formed ones, and changes of both.
//!
//! `ANNALS_FUZZ_INPUTS` says how many changed inputs each target gets (10,000); fuzzing itself is in `docs/proofs.md`.

use std::path::{Path, PathBuf};

use annals_tests::fuzz::{TARGETS, Target};
use annals_tests::fuzz_seeds::seeds;
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

/// Inputs of a target by the name of their file.
fn stored(target: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let directory = corpus(target);
    let entries = std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut inputs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        inputs.push((path.clone(), std::fs::read(path)?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Runs a target and says which input it failed on.
fn holds((name, target): Target, input: &[u8], what: &str) -> Result<()> {
    let held = std::panic::catch_unwind(|| target(input));
    ensure!(held.is_ok(), "target {name} failed on {what}: {input:?}");
    Ok(())
}

#[test]
fn every_input_of_the_corpus_is_handled() -> Result<()> {
    for target in TARGETS {
        let inputs = stored(target.0)?;
        ensure!(!inputs.is_empty(), "target {} has no corpus", target.0);
        for (path, input) in inputs {
            holds(target, &input, &path.display().to_string())?;
        }
    }
    Ok(())
}

#[test]
fn the_corpus_holds_what_fuzzing_begins_with() -> Result<()> {
    for (target, _) in TARGETS {
        for (name, bytes) in seeds(target) {
            let path = corpus(target).join(name);
            if std::env::var_os("ANNALS_FUZZ_WRITE_SEEDS").is_some() {
                std::fs::create_dir_all(corpus(target))?;
                std::fs::write(&path, &bytes)?;
            }
            let found = std::fs::read(&path).with_context(|| path.display().to_string())?;
            ensure!(
                found == bytes,
                "{} is not what is written today: a format that changed? ANNALS_FUZZ_WRITE_SEEDS=1 writes it anew",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn changed_inputs_are_handled() -> Result<()> {
    let inputs = std::env::var("ANNALS_FUZZ_INPUTS").map_or(Ok(10_000), |text| text.parse())?;
    for target in TARGETS {
        let begin: Vec<Vec<u8>> = stored(target.0)?.into_iter().map(|(_, input)| input).collect();
        for seed in 0..inputs {
            let mut random = StdRng::seed_from_u64(seed);
            let input = changed(&begin, &mut random);
            holds(target, &input, &format!("seed {seed}"))?;
        }
    }
    Ok(())
}

/// An input with a few changes: a bit, a byte, a number at a bound, a run left out, repeated, or taken from another input.
fn changed(begin: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = begin[random.random_range(0..begin.len())].clone();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 40));
        match random.random_range(0..6) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'[', 0xc7][random.random_range(0..8)],
            3 => drop(input.drain(at..end)),
            4 => {
                let run = input[at..end].to_vec();
                input.splice(at..at, run);
            }
            _ => {
                let other = &begin[random.random_range(0..begin.len())];
                let from = random.random_range(0..=other.len());
                let run = other[from..other.len().min(from + 60)].to_vec();
                input.splice(at..end, run);
            }
        }
    }
    input
}
