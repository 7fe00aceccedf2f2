//! Backups and restores: what a backup tells is what the log told at its head, and a restored log goes on from there.

use crate::compare;
use crate::copy;
use crate::support::run;
use crate::world::World;
use annals_core::*;
use annals_event_store::{BackupLog, BackupSource, MemoryLog};
use rand::RngExt;
use rand::rngs::StdRng;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl World {
    /// Takes a backup while these appends are made. Without any it is kept, because all runs of a seed have the same.
    pub fn back_up(&mut self, appends: Vec<Append>) {
        let (file, before) = (self.next_file(), self.model.head());
        let at_rest = appends.is_empty();
        std::thread::scope(|scope| {
            let (log, held) = self.opened.as_ref().unwrap();
            let source = BackupSource::new(held, Arc::clone(log));
            let taking = scope.spawn({
                let file = file.clone();
                move || write(&source, &file)
            });
            self.append(appends);
            taking.join().unwrap();
        });
        self.done.backups += 1;
        let backup = BackupLog::open(&file).unwrap();
        let head = backup.backup().verify(&mut |_| ()).unwrap().head;
        assert!(before <= head && head <= self.model.head(), "{before} <= {head}");
        assert_eq!(backup.epoch(), self.log().epoch());
        compare::tells(self, &backup);
        drop(backup);
        if at_rest {
            self.kept.push((file, head));
        } else {
            std::fs::remove_file(file).unwrap();
        }
    }

    fn next_file(&self) -> PathBuf {
        self.root.path().join(format!("{}.backup", self.done.backups))
    }

    /// Restores one of the backups in place of the log. The model goes back to where the backup ends.
    pub fn restore(&mut self, random: &mut StdRng) {
        if self.kept.is_empty() {
            self.back_up(Vec::new());
        }
        let (file, head) = self.kept[random.random_range(0..self.kept.len())].clone();
        let (old, epoch) = (self.dir(), self.log().epoch());
        self.opened = None;
        self.life += 1;
        let backup = BackupLog::open(&file).unwrap();
        let restored = backup.backup().restore(&self.dir(), &mut |_| ()).unwrap();
        assert_eq!((restored.backup.head, restored.epoch == epoch), (head, false));
        if random.random_bool(0.5) {
            // An operator who carries the index along: it is of another history, and may know more.
            let index = copy::instant(&old.join("index")).unwrap();
            copy::write(&self.dir().join("index"), &index);
        }
        std::fs::remove_dir_all(&old).unwrap();
        self.done.restores += 1;
        self.done.gone_back += u32::from(head < self.model.head());
        self.go_back_to(head);
        self.open(random);
        assert_eq!(self.log().epoch(), restored.epoch);
        compare::everything(self, random);
    }

    /// The model as it was when its head was there: its appends up to then, made again.
    fn go_back_to(&mut self, head: Position) {
        self.kept.retain(|(_, kept)| *kept <= head);
        self.history.retain(|(_, reached)| *reached <= head);
        self.model = MemoryLog::new("annals");
        for (append, reached) in &self.history {
            run(self.model.append(append.clone())).unwrap();
            assert_eq!(self.model.head(), *reached);
        }
        assert_eq!(self.model.head(), head);
        self.ids.truncate(head.get() as usize);
        self.times.truncate(head.get() as usize);
    }
}

fn write(source: &BackupSource, file: &Path) {
    source.write(File::create(file).unwrap(), &mut |_| ()).unwrap();
}
