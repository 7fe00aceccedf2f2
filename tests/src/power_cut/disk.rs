//! A disk that remembers what is durable: replays a record entry by entry.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::content::Content;
use super::record::Entry;

/// Index of a file or directory.
pub(super) type Node = usize;

/// Which syncs the disk takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncsCounted {
    /// All.
    All,
    /// All but `fdatasync`: as if the program had not called it.
    AllButFdatasync,
}

/// A change of a file that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, data: Vec<u8> },
    Truncate { len: u64 },
}

/// A change of names in one directory, in whole or not at all: what each name is from then on.
pub(super) type Naming = Vec<(String, Option<Node>)>;

#[derive(Debug, Clone, Default)]
pub(super) struct FileState {
    pub(super) durable: Content,
    /// Not durable, in order; with the number of the entry.
    pub(super) pending: Vec<(usize, Change)>,
    now: Content,
}

#[derive(Debug, Clone, Default)]
pub(super) struct DirState {
    pub(super) durable: BTreeMap<String, Node>,
    pub(super) pending: Vec<(usize, Naming)>,
    now: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    File(FileState),
    Dir(DirState),
}

/// What a program did to a directory, and what of it is durable.
#[derive(Debug)]
pub struct Disk {
    pub(super) nodes: Vec<State>,
    by_ino: HashMap<u64, Node>,
    /// Syncs under way: what they cover, and the number of the entry at which they began.
    syncs: HashMap<u64, (u64, usize)>,
    counted: SyncsCounted,
    entries: usize,
    marks: Vec<u8>,
}

/// The root directory.
pub(super) const ROOT: Node = 0;

impl Disk {
    /// An empty directory, durable itself.
    #[must_use]
    pub fn new(counted: SyncsCounted) -> Self {
        Self {
            nodes: vec![State::Dir(DirState::default())],
            by_ino: HashMap::new(),
            syncs: HashMap::new(),
            counted,
            entries: 0,
            marks: Vec::new(),
        }
    }

    /// A directory with what there is in `path`, all of it durable, and with the marks that were made before.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn holding(path: &Path, marks: &[u8], counted: SyncsCounted) -> Result<Self> {
        let mut disk = Self::new(counted);
        disk.marks.extend(marks);
        disk.load(ROOT, path)?;
        Ok(disk)
    }

    fn load(&mut self, into: Node, path: &Path) -> Result<()> {
        for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("a name that is no text")?;
            let node = self.nodes.len();
            if entry.file_type()?.is_dir() {
                self.nodes.push(State::Dir(DirState::default()));
                self.load(node, &entry.path())?;
            } else {
                let now = Content::load(&entry.path())?;
                let (durable, pending) = (now.clone(), Vec::new());
                self.nodes.push(State::File(FileState { durable, pending, now }));
            }
            let directory = self.dir(into)?;
            directory.now.insert(name.clone(), node);
            directory.durable.insert(name, node);
        }
        Ok(())
    }

    /// Everything that was marked so far, one after the other.
    #[must_use]
    pub fn marks(&self) -> &[u8] {
        &self.marks
    }

    /// Replays the next entry.
    ///
    /// # Errors
    ///
    /// When the entry does not fit what is there: the record has a gap, or tells of what this model does not know.
    pub fn apply(&mut self, entry: &Entry) -> Result<()> {
        let number = self.entries;
        self.entries += 1;
        self.take(number, entry)
            .with_context(|| format!("entry {number}: {}", brief(entry)))
    }

    fn take(&mut self, number: usize, entry: &Entry) -> Result<()> {
        match entry {
            Entry::Open { ino, created, path } => self.open(number, *ino, *created, path)?,
            Entry::Write { ino, offset, data } => {
                let (offset, data) = (*offset, data.clone());
                self.change(number, *ino, Change::Write { offset, data })?;
            }
            Entry::Truncate { ino, len } => self.change(number, *ino, Change::Truncate { len: *len })?,
            Entry::SyncBegin { ino, sync, data_only } => {
                if !(*data_only && self.counted == SyncsCounted::AllButFdatasync) {
                    self.syncs.insert(*sync, (*ino, number));
                }
            }
            Entry::SyncEnd { sync, ok } => {
                if let Some((ino, began)) = self.syncs.remove(sync).filter(|_| *ok) {
                    self.make_durable(ino, began)?;
                }
            }
            Entry::RangeSync { .. } => {}
            Entry::Mkdir { path } => {
                let node = self.add(State::Dir(DirState::default()));
                self.name(number, path, Some(node))?;
            }
            Entry::Rename { from, to } => self.rename(number, from, to)?,
            Entry::Link { from, to } => {
                let node = self.find(from)?;
                self.name(number, to, Some(node))?;
            }
            Entry::Remove { path } => self.name(number, path, None)?,
            Entry::Mark { data } => self.marks.extend(data),
            Entry::Unknown { what } => bail!("the record cannot tell what was done: {what}"),
        }
        Ok(())
    }

    fn add(&mut self, state: State) -> Node {
        self.nodes.push(state);
        self.nodes.len() - 1
    }

    fn open(&mut self, number: usize, ino: u64, created: bool, path: &str) -> Result<()> {
        let node = if created {
            let node = self.add(State::File(FileState::default()));
            self.name(number, path, Some(node))?;
            node
        } else {
            self.find(path)?
        };
        self.by_ino.insert(ino, node);
        Ok(())
    }

    fn dir(&mut self, node: Node) -> Result<&mut DirState> {
        match &mut self.nodes[node] {
            State::Dir(dir) => Ok(dir),
            State::File(_) => bail!("a file where a directory should be"),
        }
    }

    fn find(&self, path: &str) -> Result<Node> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |node, part| {
                let State::Dir(dir) = &self.nodes[node] else {
                    bail!("{path}: a file on the way")
                };
                dir.now
                    .get(part)
                    .copied()
                    .with_context(|| format!("{path}: {part} is not there"))
            })
    }

    fn parent(&self, path: &str) -> Result<(Node, String)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(parent)?, name.to_owned()))
    }

    fn name(&mut self, number: usize, path: &str, node: Option<Node>) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.rename_in(number, parent, vec![(name, node)])
    }

    fn rename(&mut self, number: usize, from: &str, to: &str) -> Result<()> {
        let node = self.find(from)?;
        let ((parent, old), (other, new)) = (self.parent(from)?, self.parent(to)?);
        ensure!(
            parent == other,
            "renames from one directory to another are not in this model"
        );
        self.rename_in(number, parent, vec![(old, None), (new, Some(node))])
    }

    fn rename_in(&mut self, number: usize, parent: Node, naming: Naming) -> Result<()> {
        let dir = self.dir(parent)?;
        set_names(&mut dir.now, &naming);
        dir.pending.push((number, naming));
        Ok(())
    }

    fn change(&mut self, number: usize, ino: u64, change: Change) -> Result<()> {
        let node = *self.by_ino.get(&ino).context("the file was never opened")?;
        let State::File(file) = &mut self.nodes[node] else {
            bail!("a directory is written to")
        };
        apply(&mut file.now, &change);
        file.pending.push((number, change));
        Ok(())
    }

    fn make_durable(&mut self, ino: u64, began: usize) -> Result<()> {
        let node = *self.by_ino.get(&ino).context("the file was never opened")?;
        match &mut self.nodes[node] {
            State::File(file) => {
                let covered = file.pending.partition_point(|(number, _)| *number < began);
                for (_, change) in file.pending.drain(..covered) {
                    apply(&mut file.durable, &change);
                }
            }
            State::Dir(dir) => {
                let covered = dir.pending.partition_point(|(number, _)| *number < began);
                for (_, naming) in dir.pending.drain(..covered) {
                    set_names(&mut dir.durable, &naming);
                }
            }
        }
        Ok(())
    }

    /// What a cut now could take back: paths, with how many changes of each.
    #[must_use]
    pub fn unsynced(&self) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        self.unsynced_in(ROOT, "", &mut found);
        found
    }

    fn unsynced_in(&self, node: Node, path: &str, found: &mut Vec<(String, usize)>) {
        let pending = match &self.nodes[node] {
            State::File(file) => file.pending.len(),
            State::Dir(dir) => dir.pending.len(),
        };
        if pending > 0 {
            found.push((format!("/{path}"), pending));
        }
        if let State::Dir(dir) = &self.nodes[node] {
            for (name, node) in &dir.now {
                let path = [path, name].join(if path.is_empty() { "" } else { "/" });
                self.unsynced_in(*node, &path, found);
            }
        }
    }

    /// Compares everything, byte by byte, with the directory that was recorded, and returns how many files it has.
    ///
    /// # Errors
    ///
    /// When something differs: the record is not complete.
    pub fn check_against(&self, path: &Path) -> Result<usize> {
        self.check_node(ROOT, path)
    }

    fn check_node(&self, node: Node, path: &Path) -> Result<usize> {
        match &self.nodes[node] {
            State::File(file) => {
                let same = file.now.same_as(path).with_context(|| path.display().to_string())?;
                ensure!(same, "{} is not as the record tells", path.display());
                Ok(1)
            }
            State::Dir(dir) => {
                let listed = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
                ensure!(
                    listed.count() == dir.now.len(),
                    "{} does not hold {:?}",
                    path.display(),
                    dir.now.keys()
                );
                dir.now.iter().try_fold(0, |files, (name, node)| {
                    Ok(files + self.check_node(*node, &path.join(name))?)
                })
            }
        }
    }
}

pub(super) fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write { offset, data } => content.write(*offset, data),
        Change::Truncate { len } => content.truncate(*len),
    }
}

pub(super) fn set_names(names: &mut BTreeMap<String, Node>, naming: &Naming) {
    for (name, node) in naming {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

fn brief(entry: &Entry) -> String {
    let mut text = format!("{entry:?}");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    text
}
