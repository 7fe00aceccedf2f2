//! The log on disk and the model beside it, through openings, crashes and losses.

use crate::compare;
use crate::copy;
use crate::done::Done;
use crate::life;
use crate::story;
use crate::support::{open, run};
use annals_core::*;
use annals_event_store::{DataDir, LogSettings, MemoryLog, SledLog};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

type Answer = Result<Appended, AppendError>;

/// How often a kill may wait for an instant at which no file changes.
const TRIES: usize = 30;
/// How many volumes are enough for every group to begin one of its own.
const VOLUMES: usize = 5;

/// A log, its model, and what only the log knows: the ids that it gave and its times.
pub struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) life: u32,
    pub(crate) opened: Option<(Arc<SledLog>, DataDir)>,
    /// The model.
    pub model: MemoryLog,
    /// What the model's events came from: appends, and the model's head after each.
    pub(crate) history: Vec<(Append, Position)>,
    /// Backups that may be restored, and their heads.
    pub(crate) kept: Vec<(PathBuf, Position)>,
    /// What the log's secret makes of a text: the same for ever.
    mark: Option<Fingerprint>,
    /// Ids of the events, by position.
    pub ids: Vec<EventId>,
    /// Recorded times of the events in microseconds, by position.
    pub times: Vec<i64>,
    /// What was done so far.
    pub done: Done,
}

/// Settings under which everything happens early: volumes roll, indexes are written, caches overflow.
pub fn settings(random: &mut StdRng, volumes: usize) -> LogSettings {
    // Opening a volume means reading 8 MiB: few volumes say as much as many.
    let sizes = if volumes < VOLUMES {
        [1, 9 << 20]
    } else {
        [17 << 20, 64 << 20]
    };
    LogSettings {
        volume_bytes_max: sizes[random.random_range(0..2)],
        index_tail_max: [3, 16, 100, 10_000][random.random_range(0..4)],
        block_cache_bytes: [1, 10 << 20, 10 << 20][random.random_range(0..3)],
        volume_cache_bytes: 1 << 20,
        journal_bytes: [1 << 12, 1 << 16, 1 << 20][random.random_range(0..3)],
        store_bytes: [0, 1, 10_000, 1 << 20][random.random_range(0..4)],
        seal: random.random_bool(0.5),
        sealed_bytes_max: [1, 100_000, 10 << 20][random.random_range(0..3)],
        reserve_bytes: 0,
        ..LogSettings::default()
    }
}

/// In memory where there is such a place: a kill leaves what was written, whether it was synced or not.
fn directory() -> tempfile::TempDir {
    let in_memory = std::path::Path::new("/dev/shm");
    tempfile::tempdir_in(in_memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

impl World {
    /// An empty log and an empty model.
    pub fn new(random: &mut StdRng) -> Self {
        let mut world = Self {
            root: directory(),
            life: 0,
            opened: None,
            model: MemoryLog::new("annals"),
            history: Vec::new(),
            kept: Vec::new(),
            mark: None,
            ids: Vec::new(),
            times: Vec::new(),
            done: Done::default(),
        };
        world.open(random);
        world
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join(self.life.to_string())
    }

    /// The log.
    pub fn log(&self) -> &SledLog {
        &self.opened.as_ref().unwrap().0
    }

    /// The version of a stream in the model.
    pub fn version(&self, stream: &StreamId) -> Version {
        story::version(&self.model, stream)
    }

    pub(crate) fn open(&mut self, random: &mut StdRng) {
        let volumes = std::fs::read_dir(self.dir().join("log")).map_or(0, Iterator::count);
        let (log, held) = open(&self.dir(), settings(random, volumes));
        let mark = log.fingerprint(b"a text");
        assert_eq!(*self.mark.get_or_insert(mark), mark, "the log's secret is another one");
        self.opened = Some((Arc::new(log), held));
        self.done.openings += 1;
    }

    /// Closed in order, and opened again.
    pub fn reopen(&mut self, random: &mut StdRng) {
        self.opened = None;
        self.open(random);
        compare::everything(self, random);
    }

    /// Closed in order, and opened without its index.
    pub fn lose_index(&mut self, random: &mut StdRng) {
        self.opened = None;
        std::fs::remove_dir_all(self.dir().join("index")).unwrap();
        self.done.indexes_lost += 1;
        self.open(random);
        compare::everything(self, random);
    }

    /// Closed in order, and opened with bytes of its index changed or cut off. What is noticed only later is gone after
    /// the next opening.
    pub fn damage_index(&mut self, seed: u64, random: &mut StdRng) {
        self.opened = None;
        damage(&self.dir().join("index"), &mut StdRng::seed_from_u64(seed));
        self.done.indexes_damaged += 1;
        self.open(random);
        let problems = self.log().verify(&mut |_| ()).unwrap().problems;
        if !problems.is_empty() {
            let of_the_index = problems.iter().all(|problem| problem.what.contains("the index"));
            assert!(of_the_index, "{problems:?}");
            self.opened = None;
            self.open(random);
        }
        compare::everything(self, random);
        self.verify();
    }

    /// Appends of threads of their own, begun at one moment. In the order of those that were accepted, and after them
    /// all others, the model must come to the same.
    pub fn race(&mut self, appends: Vec<Append>) {
        let begin = Barrier::new(appends.len());
        let found: Vec<Answer> = std::thread::scope(|scope| {
            let racers = appends.iter().map(|append| {
                let (log, begin) = (self.log(), &begin);
                scope.spawn(move || {
                    begin.wait();
                    run(log.append(append.clone()))
                })
            });
            racers
                .collect::<Vec<_>>()
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        let mut done: Vec<_> = appends.into_iter().zip(found).collect();
        done.sort_by_key(|(_, found)| {
            found
                .as_ref()
                .map_or(Position::new(u64::MAX), |appended| appended.position)
        });
        for (append, found) in done {
            match &found {
                Ok(_) => self.done.races_won += 1,
                // Outrun by others again and again: it may have been possible, and was not done.
                Err(AppendError::ConditionOutrun { .. }) => continue,
                Err(_) => self.done.races_lost += 1,
            }
            self.model_too(append, Some(&found));
        }
        self.learn();
    }

    /// Appends wait for the writer together; each must come to what it comes to in the model, one after the other.
    pub fn append(&mut self, appends: Vec<Append>) {
        let under_way: Vec<_> = appends.iter().map(|append| self.log().append(append.clone())).collect();
        for (append, answer) in appends.into_iter().zip(under_way) {
            let found = run(answer);
            self.model_too(append, Some(&found));
        }
        self.learn();
    }

    /// The model appends as well, and comes to the same, if it is known what the log came to.
    fn model_too(&mut self, append: Append, found: Option<&Answer>) {
        let expected = run(self.model.append(append.clone()));
        match &expected {
            Ok(appended) if appended.duplicate => self.done.repeated += 1,
            Ok(_) => {
                self.done.appended += 1;
                self.history.push((append, self.model.head()));
            }
            Err(_) => self.done.refused += 1,
        }
        if let Some(found) = found {
            compare::answers(self, found, &expected);
        }
    }

    /// Killed while nothing is under way: what goes on is what the files held at an instant.
    pub fn crash(&mut self, random: &mut StdRng) {
        let files = (0..TRIES).find_map(|_| copy::instant(&self.dir()));
        let files = files.unwrap_or_else(|| {
            // Threads in the background wrote all the time: they end here.
            self.log().close();
            copy::instant(&self.dir()).unwrap()
        });
        // The rest of the old life is nobody's: its directory goes.
        self.opened = None;
        std::fs::remove_dir_all(self.dir()).unwrap();
        self.life += 1;
        copy::write(&self.dir(), &files);
        self.done.crashes += 1;
        self.open(random);
        compare::everything(self, random);
    }

    /// Goes on in a process of its own, which is killed while appends are under way.
    pub fn kill(&mut self, random: &mut StdRng) {
        let seed = random.random();
        let waves = story::life(seed, &self.model);
        self.opened = None;
        let answered = life::killed(&self.dir(), seed, random.random_range(0..story::LIFE));
        self.done.kills += 1;
        self.open(random);
        let head = self.log().head();
        for (number, append) in waves.into_iter().flatten().enumerate() {
            // All that were answered are there, and of the others those that came first.
            if number >= answered && self.model.head() >= head {
                self.done.unknown_lost += 1;
                continue;
            }
            self.done.unknown_kept += u32::from(number >= answered);
            self.model_too(append, None);
        }
        assert_eq!(self.model.head(), head, "an append is there in part, or is gone");
        self.learn();
        compare::everything(self, random);
    }

    /// Every closed volume is sealed, now.
    pub fn seal(&mut self, random: &mut StdRng) {
        // What the background sealed before is not there to be sealed: only the step itself is certain.
        self.log().seal_now().unwrap();
        self.done.sealed += 1;
        compare::everything(self, random);
    }

    /// Remembers the ids and times that the log gave.
    pub(crate) fn learn(&mut self) {
        assert_eq!(self.log().head(), self.model.head());
        for position in self.ids.len() as u64 + 1..=self.log().head().get() {
            let record = self.log().read_one(Position::new(position)).unwrap().unwrap();
            let header = record.view().unwrap().header;
            self.ids.push(header.id.to_owned());
            self.times.push(header.recorded);
        }
    }

    /// The log finds nothing wrong with itself.
    pub fn verify(&self) {
        let report = self.log().verify(&mut |_| ()).unwrap();
        assert_eq!(
            (report.problems.as_slice(), report.events),
            (&[][..], self.model.head().get())
        );
    }
}

/// Changes up to three files of the index: a byte, a run of bytes, their end, or all of one.
fn damage(index: &Path, random: &mut StdRng) {
    let entries = std::fs::read_dir(index).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    if files.is_empty() {
        return;
    }
    for _ in 0..random.random_range(1..4) {
        let file = &files[random.random_range(0..files.len())];
        let mut bytes = std::fs::read(file).unwrap_or_default();
        let at = random.random_range(0..bytes.len().max(1));
        match random.random_range(0..5) {
            0 => drop(std::fs::remove_file(file)),
            _ if bytes.is_empty() => {}
            1 => {
                bytes.truncate(at);
                std::fs::write(file, bytes).unwrap();
            }
            2 => {
                let end = bytes.len().min(at + 200);
                bytes[at..end].fill(0);
                std::fs::write(file, bytes).unwrap();
            }
            _ => {
                bytes[at] ^= 1 << random.random_range(0..8);
                std::fs::write(file, bytes).unwrap();
            }
        }
    }
}
