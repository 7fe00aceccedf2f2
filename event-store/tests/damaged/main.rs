//! Damage at random places of a closed data directory: a bit flipped, a run of zeros, a file cut off. Whatever was hit, what
//! is answered is what was written, or an error that says where; nothing escapes, and nothing waits for ever. And whatever was
//! hit, a salvage brings back every block whose bytes were not touched, names the rest, and brings nothing else.
//!
//! `ANNALS_DAMAGE_PLACES` places (60); all of them:
//! `ANNALS_DAMAGE_PLACES=2000 cargo test -p annals-event-store --test damaged -- --nocapture`. `ANNALS_DAMAGE_SEED` repeats a
//! place that failed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "the modules of a suite")]
#![allow(clippy::print_stdout, reason = "a test says what it measured")]

#[path = "../simulation/copy.rs"]
mod copy;
mod look;
mod place;
mod salvaged;
#[path = "../support/mod.rs"]
mod support;
mod written;

use look::{Look, Outcome};
use place::Place;
use salvaged::Written;
use std::collections::BTreeMap;
use std::path::Path;

const PLACES: u64 = 60;
/// Places that once led to a wrong end, and a few to begin with.
const FIXED: [u64; 6] = [1, 2, 1_113, 1_407, 1_481, 1_652];

#[test]
fn damage_is_named_or_harmless_wherever_it_is() {
    if let Some(dir) = std::env::var_os("ANNALS_DAMAGE_LOOK_AT") {
        look::say(Path::new(&dir));
        return;
    }
    let root = written::directory();
    let whole = written::write(&root.path().join("whole"));
    let original = look::in_a_process(&root.path().join("whole"));
    let Outcome::Looked(original) = original else {
        panic!("the whole log cannot be read: {original:?}");
    };
    assert_eq!(original.problems, [""; 0]);
    copy::write(&root.path().join("read"), &whole);
    let written = Written::of(&root.path().join("read"), &whole);
    let seeds: Vec<u64> = match number("ANNALS_DAMAGE_SEED") {
        Some(seed) => vec![seed],
        None => FIXED
            .into_iter()
            .chain((0..number("ANNALS_DAMAGE_PLACES").unwrap_or(PLACES)).map(|place| 1_000 + place))
            .collect(),
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in seeds {
        let place = Place::new(seed, &whole);
        match damaged(&root.path().join("damaged"), &whole, &place, (&original, &written)) {
            Ok(kind) => *counts.entry(format!("{} {kind}", place.area())).or_default() += 1,
            Err(why) => wrong.push(format!("ANNALS_DAMAGE_SEED={seed}, {place}: {why}")),
        }
    }
    counts.iter().for_each(|(kind, count)| println!("{count:6} {kind}"));
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// What comes of one place: a word for it, or what is wrong with it.
fn damaged(
    dir: &Path,
    whole: &copy::Files,
    place: &Place,
    (original, written): (&Look, &Written),
) -> Result<&'static str, String> {
    copy::write(dir, whole);
    place.damage(dir);
    let len = whole[place.file()].as_ref().map_or(0, |(len, _)| *len);
    let salvaged = salvaged::check(dir, written, place, len);
    let outcome = look::in_a_process(dir);
    std::fs::remove_dir_all(dir).unwrap();
    salvaged?;
    match outcome {
        Outcome::Refused(why) if why.contains("position") || place.is_named(&why) => Ok("refused"),
        Outcome::Refused(why) => Err(format!("the refusal does not say where: {why}")),
        Outcome::Ended(how) => Err(how),
        Outcome::Looked(look) => look.compared(original),
    }
}
