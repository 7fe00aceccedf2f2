//! The seeded simulation: appends, races on conditions, reads, crashes, kills, re-opens, sealing, backups, restores, loss
//! and damage of the index, interleaved as a seed says, against the log in memory. After each opening everything that
//! can be asked is asked of both.
//!
//! `ANNALS_SIM_ROUNDS` seeds are tried on top of the fixed ones (1):
//! `ANNALS_SIM_ROUNDS=300 cargo test -p annals-event-store --test simulation -- --nocapture`. A seed that fails prints
//! the command that repeats it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "the modules of a suite")]
#![allow(clippy::print_stdout, reason = "a seed that fails says how it is repeated")]

mod backups;
mod compare;
mod copy;
mod done;
mod life;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod world;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::SystemTime;
use story::{Step, Story};
use world::World;

/// Seeds of every run: those that once found something, and a few to begin with.
const FIXED: [u64; 2] = [1, 2];
/// Tried one by one while there is something that has not happened.
const FURTHER: std::ops::Range<u64> = 3..13;
const STEPS: u32 = 100;

#[test]
fn the_log_does_what_the_model_does_whatever_happens_to_it() {
    if life::lived() {
        return;
    }
    if let Some(seed) = number("ANNALS_SIM_SEED") {
        round(seed);
        return;
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let random = (0..number("ANNALS_SIM_ROUNDS").unwrap_or(1)).map(|round| now.wrapping_add(round));
    let mut done = done::Done::default();
    for seed in FIXED.into_iter().chain(random) {
        done.add(&round(seed));
    }
    // A step depends on what is known by then, and so on when threads got to run: now and then something has not happened.
    for seed in FURTHER {
        if done.is_all() {
            break;
        }
        done.add(&round(seed));
    }
    println!("{done:?}");
    done.must_be_all();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Says how a round is repeated if it fails.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "repeat it: ANNALS_SIM_SEED={} cargo test -p annals-event-store --test simulation -- --nocapture",
                self.0
            );
        }
    }
}

fn round(seed: u64) -> done::Done {
    let _repeat = Repeat(seed);
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(&mut random);
    let mut story = Story::default();
    for _ in 0..STEPS {
        match story.next(&mut random, &world.model) {
            Step::Append(append) => world.append(vec![*append]),
            Step::Together(appends) => world.append(appends),
            Step::Look => compare::one(&world, &mut random),
            Step::Reopen => world.reopen(&mut random),
            Step::Crash => world.crash(&mut random),
            Step::Kill => world.kill(&mut random),
            Step::Seal => world.seal(&mut random),
            Step::LoseIndex => world.lose_index(&mut random),
            Step::DamageIndex(seed) => world.damage_index(seed, &mut random),
            Step::Race(appends) => world.race(appends),
            Step::Backup(appends) => world.back_up(appends),
            Step::Restore => world.restore(&mut random),
        }
    }
    let last = random.random_bool(0.5);
    if last {
        world.reopen(&mut random);
    }
    compare::everything(&world, &mut random);
    world.verify();
    world.done
}
