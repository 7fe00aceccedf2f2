//! A life of the log in a process of its own, which is killed: the same test, told to live.

use crate::story;
use crate::support::{open, run};
use crate::world::settings;
use annals_core::Appender;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const DIR: &str = "ANNALS_SIM_LIFE";
const SEED: &str = "ANNALS_SIM_LIFE_SEED";
const MARK: &str = "answered";

/// Lets a process append, and kills it after it said that it had so many answers. Returns how many it said it had.
pub fn killed(dir: &Path, seed: u64, patience: usize) -> usize {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([
            "the_log_does_what_the_model_does_whatever_happens_to_it",
            "--exact",
            "--nocapture",
        ])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered = 0;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        assert!(!line.contains("FAILED"), "the life ended by itself");
        answered += usize::from(line.ends_with(MARK));
        if answered == patience + 1 {
            // It may have ended meanwhile.
            let _ = process.kill();
        }
    }
    process.wait().unwrap();
    answered
}

/// Lives, if this process was started for that.
pub fn lived() -> bool {
    let (Some(dir), Ok(seed)) = (std::env::var_os(DIR), std::env::var(SEED)) else {
        return false;
    };
    let seed = seed.parse().unwrap();
    let (log, held) = open(Path::new(&dir), settings(&mut StdRng::seed_from_u64(seed), 0));
    let mut out = std::io::stdout();
    for wave in story::life(seed, &log) {
        let under_way: Vec<_> = wave.into_iter().map(|append| log.append(append)).collect();
        for answer in under_way {
            // Refusals are answers, too: the model refuses the same.
            let _ = run(answer);
            writeln!(out, "\n{MARK}").and_then(|()| out.flush()).unwrap();
        }
    }
    drop((log, held));
    true
}
