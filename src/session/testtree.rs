//! A tree for the tests of this room: one directory of files, each there for one trait that a session has to cope with.
//!
//! It counts the file values that it has given out, so that a leak in a session fails a test.

use crate::fs::{
    Answer, At, Call, Cancel, Change, Done, Entry, Error, FileId, Filesystem, Gate, Grant, Make, OpId, Open, Out,
    Outcome, Payload, Result, Service, Show, Simple, Stat, Time, User, mode,
};
use crate::wire::{Qid, qt};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// A file or directory. The root is number 0; numbers are never used again.
pub(super) struct Node {
    pub(super) name: Vec<u8>,
    pub(super) parent: usize,
    pub(super) mode: u32,
    pub(super) data: Vec<u8>,
    pub(super) linked: bool,
}

/// A file as a session holds it.
#[derive(Clone)]
pub(super) struct File {
    node: usize,
    user: User,
    open: Option<Open>,
}

/// The files.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) nodes: Vec<Node>,
    /// File values that are out.
    pub(super) uses: usize,
    /// Files in the order of their closing.
    pub(super) closed: Vec<usize>,
    /// Calls of `write`.
    pub(super) writes: usize,
    /// Calls of `grant`. None is given.
    pub(super) grants: usize,
    /// Bytes that `short` takes before it takes no more.
    pub(super) short_bytes: usize,
    /// The last write or fsync was one of `log`.
    met_log: bool,
}

/// An operation on `log` that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    file: FileId,
    /// What a write or an fsync answers. A read is kept by [`Simple`].
    done: Option<Result<Done>>,
}

/// The files as a service: operations on `log` wait, and replies wait for gates.
pub(super) struct Tree {
    files: Simple<Nodes>,
    /// Operations on `log` that have not ended.
    pub(super) waiting: BTreeMap<OpId, Waiting>,
    pub(super) ready: Vec<OpId>,
    /// `cancel` answers TooLate.
    pub(super) too_late: bool,
    /// The gate of the last write, and how far the log has come.
    pub(super) gate: Gate,
    /// The gate of what reads show.
    pub(super) read_gate: Gate,
    pub(super) opened: Gate,
}

/// What every gate is behind.
const ALL: Gate = Gate(u64::MAX);

/// Time of all files.
pub(super) const TIME: Time = Time { sec: 1_700_000_000, nsec: 5 };

impl Nodes {
    /// `hello` (0644, "hello, world"), `secret` (0000), `log` (blocks), `null` (keeps nothing), `short` (takes little), `dir` with `inner`.
    fn new() -> Nodes {
        let mut tree = Nodes::default();
        tree.add(0, b"/", mode::IFDIR | 0o755, b"");
        for (name, mode, data) in [
            (&b"hello"[..], 0o644, &b"hello, world"[..]),
            (b"secret", 0, b"none"),
            (b"log", 0o666, b""),
            (b"null", 0o666, b""),
            (b"short", 0o666, b""),
        ] {
            tree.add(0, name, mode::IFREG | mode, data);
        }
        let dir = tree.add(0, b"dir", mode::IFDIR | 0o755, b"");
        tree.add(dir, b"inner", mode::IFREG | 0o600, b"inside");
        tree
    }

    pub(super) fn add(&mut self, parent: usize, name: &[u8], mode: u32, data: &[u8]) -> usize {
        self.nodes.push(Node { name: name.to_vec(), parent, mode, data: data.to_vec(), linked: true });
        self.nodes.len() - 1
    }

    pub(super) fn find(&self, parent: usize, name: &[u8]) -> Option<usize> {
        (1..self.nodes.len()).find(|&at| {
            let node = &self.nodes[at];
            node.linked && node.parent == parent && node.name == name
        })
    }

    pub(super) fn data(&self, name: &str) -> &[u8] {
        &self.nodes[self.find(0, name.as_bytes()).expect("a name of the root")].data
    }

    pub(super) fn qid(&self, node: usize) -> Qid {
        let kind = match self.nodes[node].mode & mode::IFMT {
            mode::IFDIR => qt::DIR,
            mode::IFLNK => qt::SYMLINK,
            _ => qt::FILE,
        };
        Qid { kind, version: 1, path: node as u64 + 100 }
    }

    fn give(&mut self, node: usize, user: User) -> File {
        self.uses += 1;
        File { node, user, open: None }
    }

    fn is(&self, file: &File, name: &[u8]) -> bool {
        self.nodes[file.node].name == name
    }

    fn stat_of(&self, node: usize) -> Stat<'_> {
        let Node { name, mode, data, linked, .. } = &self.nodes[node];
        Stat {
            qid: self.qid(node),
            mode: *mode,
            uid: 1000,
            gid: 50,
            muid: 0,
            nlink: u64::from(*linked),
            rdev: if matches!(mode & mode::IFMT, mode::IFCHR | mode::IFBLK) { (8, 260) } else { (0, 0) },
            size: data.len() as u64,
            blocks: 8,
            blksize: 4096,
            atime: TIME,
            mtime: TIME,
            ctime: TIME,
            btime: TIME,
            name,
            target: if mode & mode::IFMT == mode::IFLNK { data } else { b"" },
        }
    }
}

impl Filesystem for Nodes {
    type File = File;

    fn is_private(&self, aname: &[u8]) -> bool {
        aname == b"private"
    }

    fn attach(&mut self, user: User, aname: &[u8]) -> Result<File> {
        if aname.is_empty() || aname == b"private" { Ok(self.give(0, user)) } else { Err(Error::ENOENT) }
    }

    fn lookup(&mut self, dir: &File, name: &[u8]) -> Result<File> {
        if self.nodes[dir.node].mode & mode::IFMT != mode::IFDIR {
            return Err(Error::ENOTDIR);
        }
        let node = match name {
            b"." => dir.node,
            b".." => self.nodes[dir.node].parent,
            name => self.find(dir.node, name).ok_or(Error::ENOENT)?,
        };
        Ok(self.give(node, dir.user))
    }

    fn duplicate(&mut self, file: &File) -> File {
        self.give(file.node, file.user)
    }

    fn attr(&self, file: &File) -> Qid {
        self.qid(file.node)
    }

    fn open(&mut self, file: &mut File, flags: Open, _: At) -> Result<()> {
        assert!(file.open.is_none(), "a session opens each value at most once");
        let node = &mut self.nodes[file.node];
        if node.mode & mode::IFMT == mode::IFDIR && flags.write {
            return Err(Error::EISDIR);
        }
        if node.mode & 0o777 == 0 {
            return Err(Error::EACCES);
        }
        if flags.truncate {
            node.data.clear();
        }
        file.open = Some(flags);
        Ok(())
    }

    fn create(
        &mut self,
        dir: &mut File,
        name: &[u8],
        flags: Open,
        mode: u32,
        _: u8,
        _: Option<u32>,
        _: At,
    ) -> Result<()> {
        if self.find(dir.node, name).is_some() {
            return Err(Error::EEXIST);
        }
        let node = self.add(dir.node, name, mode, b"");
        (dir.node, dir.open) = (node, Some(flags));
        Ok(())
    }

    fn read(&mut self, file: &mut File, offset: u64, mut out: Out<'_>, _: At) -> Result<()> {
        assert!(file.open.is_some_and(|open| open.read || open.exec), "a session checks what was opened");
        if self.is(file, b"log") {
            // It has waited: all of it, or that it failed.
            return match self.nodes[file.node].data.as_slice() {
                b"fail" => Err(Error::EIO),
                data => {
                    out.bytes(data);
                    Ok(())
                }
            };
        }
        let data = &self.nodes[file.node].data;
        out.bytes(usize::try_from(offset).ok().and_then(|offset| data.get(offset..)).unwrap_or_default());
        Ok(())
    }

    fn waits(&self, file: &File, _: u64) -> bool {
        self.is(file, b"log")
    }

    fn write(&mut self, file: &mut File, offset: u64, data: &[u8], _: At) -> Result<u32> {
        assert!(file.open.is_some_and(|open| open.write), "a session checks what was opened");
        self.writes += 1;
        self.met_log = self.is(file, b"log");
        if self.met_log || self.is(file, b"null") {
            return Ok(data.len() as u32);
        }
        let mut taken = data.len();
        if self.is(file, b"short") {
            taken = taken.min(self.short_bytes);
            self.short_bytes -= taken;
            if taken == 0 {
                return Err(Error::ENOSPC);
            }
        }
        let start = offset as usize;
        let content = &mut self.nodes[file.node].data;
        content.resize(content.len().max(start + taken), 0);
        content[start..start + taken].copy_from_slice(&data[..taken]);
        Ok(taken as u32)
    }

    fn grant(&mut self, _: &mut File, _: u64, _: u32, _: At) -> Result<Option<Grant>> {
        self.grants += 1;
        Ok(None)
    }

    fn discards(&self, file: &File) -> bool {
        self.is(file, b"null")
    }

    fn close(&mut self, file: File, _: At) -> Result<()> {
        self.uses -= 1;
        self.closed.push(file.node);
        if file.open.is_some_and(|open| open.remove_on_close) {
            if self.nodes[file.node].name == b"stuck" {
                return Err(Error::EACCES);
            }
            self.nodes[file.node].linked = false;
        }
        Ok(())
    }

    fn remove(&mut self, file: &mut File, _: At) -> Result<()> {
        match file.node {
            0 => Err(Error::EBUSY),
            node => {
                self.nodes[node].linked = false;
                Ok(())
            }
        }
    }

    fn stat(&self, file: &File) -> Result<Stat<'_>> {
        Ok(self.stat_of(file.node))
    }

    fn wstat(&mut self, file: &mut File, change: &Change<'_>, _: At) -> Result<()> {
        if let Some(there) = change.name.and_then(|name| self.find(self.nodes[file.node].parent, name)) {
            if !change.replace {
                return Err(Error::EEXIST);
            }
            self.nodes[there].linked = false;
        }
        let node = &mut self.nodes[file.node];
        if let Some(size) = change.size {
            node.data.resize(size as usize, 0);
        }
        if let Some(name) = change.name {
            node.name = name.to_vec();
        }
        node.mode = change.mode.map_or(node.mode, |asked| node.mode & mode::IFMT | asked);
        Ok(())
    }

    fn list(&mut self, dir: &mut File, cookie: u64, _: At, each: &mut dyn FnMut(&Entry<'_>) -> bool) -> Result<()> {
        let dots = [(1, dir.node, &b"."[..]), (2, self.nodes[dir.node].parent, b"..")];
        let inside = (1..self.nodes.len()).filter(|&at| self.nodes[at].linked && self.nodes[at].parent == dir.node);
        let inside = inside.map(|at| (at as u64 + 10, at, self.nodes[at].name.as_slice()));
        for (own, node, name) in dots.into_iter().chain(inside).filter(|&(own, ..)| own > cookie) {
            if !each(&Entry { cookie: own, stat: Stat { name, ..self.stat_of(node) } }) {
                break;
            }
        }
        Ok(())
    }

    fn make(&mut self, dir: &File, name: &[u8], what: Make<'_>, mode: u32, _: Option<u32>, _: At) -> Result<Qid> {
        if self.find(dir.node, name).is_some() {
            return Err(Error::EEXIST);
        }
        let (kind, data): (u32, &[u8]) = match what {
            Make::File => (mode::IFREG, b""),
            Make::Dir => (mode::IFDIR, b""),
            Make::Symlink(target) => (mode::IFLNK, target),
            Make::Device { block, .. } => (if block { mode::IFBLK } else { mode::IFCHR }, b""),
            Make::Fifo => (mode::IFIFO, b""),
            Make::Socket => (mode::IFSOCK, b""),
        };
        let node = self.add(dir.node, name, kind | mode, data);
        Ok(self.qid(node))
    }

    fn link(&mut self, _: &File, _: &[u8], _: &File, _: At) -> Result<()> {
        Err(Error::EOPNOTSUPP)
    }

    fn unlink(&mut self, dir: &File, name: &[u8], want_dir: bool, _: At) -> Result<()> {
        let node = self.find(dir.node, name).ok_or(Error::ENOENT)?;
        match (self.nodes[node].mode & mode::IFMT == mode::IFDIR, want_dir) {
            (true, false) => return Err(Error::EISDIR),
            (false, true) => return Err(Error::ENOTDIR),
            _ => self.nodes[node].linked = false,
        }
        Ok(())
    }

    fn rename(&mut self, from: &File, name: &[u8], to: &File, new_name: &[u8], _: At) -> Result<()> {
        let node = self.find(from.node, name).ok_or(Error::ENOENT)?;
        (self.nodes[node].parent, self.nodes[node].name) = (to.node, new_name.to_vec());
        Ok(())
    }

    fn rename_file(&mut self, _: &mut File, _: &File, _: &[u8], _: At) -> Result<()> {
        Err(Error::EOPNOTSUPP)
    }

    fn fsync(&mut self, file: &File, _: bool) -> Result<()> {
        self.met_log = self.is(file, b"log");
        Ok(())
    }
}

impl From<Nodes> for Tree {
    fn from(nodes: Nodes) -> Tree {
        Tree {
            files: nodes.into(),
            waiting: BTreeMap::new(),
            ready: Vec::new(),
            too_late: false,
            gate: Gate::OPEN,
            read_gate: Gate::OPEN,
            opened: ALL,
        }
    }
}

impl Deref for Tree {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.files
    }
}

impl DerefMut for Tree {
    fn deref_mut(&mut self) -> &mut Nodes {
        &mut self.files
    }
}

impl Tree {
    /// The files, and nothing waits.
    pub(super) fn new() -> Tree {
        Nodes::new().into()
    }

    /// Everything that waits can be finished, and a read then finds `data`.
    pub(super) fn release(&mut self, data: &[u8]) {
        let log = self.find(0, b"log").expect("it is always there");
        self.nodes[log].data = data.to_vec();
        self.ready = self.waiting.keys().copied().collect();
    }

    fn wait(&mut self, op: OpId, waiting: Waiting) {
        assert!(self.waiting.insert(op, waiting).is_none(), "nothing else has the name of an operation that waits");
    }

    /// The answer to a call that has ended.
    fn answer(&self, result: Result<Done>, gate: Gate) -> Outcome {
        Outcome::Done(Answer { result, gate })
    }

    /// The outcome of a write or an fsync.
    fn written(&mut self, op: OpId, file: FileId, outcome: Outcome) -> Outcome {
        let Outcome::Done(Answer { result, .. }) = outcome else { unreachable!("only reads wait in there") };
        if std::mem::take(&mut self.files.met_log) {
            self.wait(op, Waiting { file, done: Some(result) });
            return Outcome::Pending;
        }
        self.answer(result, self.gate)
    }
}

impl Service for Tree {
    const FILE_BYTES: usize = Simple::<Nodes>::FILE_BYTES;

    fn is_private(&self, aname: &[u8]) -> bool {
        Service::is_private(&self.files, aname)
    }

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        assert!(!self.waiting.contains_key(&op), "the name of an operation that waits is taken");
        match call {
            Call::Read { file, .. } => match self.files.call(op, call, show, at) {
                Outcome::Done(Answer { result, .. }) => self.answer(result, self.read_gate),
                outcome => {
                    self.wait(op, Waiting { file, done: None });
                    outcome
                }
            },
            Call::Write { file, .. } => {
                self.gate.0 += u64::from(self.opened != ALL);
                let outcome = self.files.call(op, call, show, at);
                self.written(op, file, outcome)
            }
            Call::Fsync { file, .. } => {
                let outcome = self.files.call(op, call, show, at);
                self.written(op, file, outcome)
            }
            Call::Close { file } => {
                let in_use = self.waiting.values().any(|waiting| waiting.file == file);
                assert!(!in_use, "a file is closed after the last operation that names it has ended");
                self.files.call(op, call, show, at)
            }
            call => self.files.call(op, call, show, at),
        }
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let waiting = self.waiting.remove(&op).expect("finished once");
        match waiting.done {
            Some(result) => self.answer(result, self.gate),
            None => match self.files.finish(op, show, at) {
                Outcome::Done(Answer { result, .. }) => self.answer(result, self.read_gate),
                outcome => outcome,
            },
        }
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        assert!(self.waiting.contains_key(&op), "cancelled once, and not after its end");
        if self.too_late {
            return Cancel::TooLate;
        }
        let waiting = self.waiting.remove(&op).expect("it is there");
        if waiting.done.is_none() {
            assert_eq!(self.files.cancel(op), Cancel::Cancelled);
        }
        self.ready.retain(|&ready| ready != op);
        Cancel::Cancelled
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        Service::grant(&mut self.files, file, offset, count, at)
    }

    fn ready(&mut self) -> Option<OpId> {
        self.ready.pop()
    }

    fn is_open(&self, gate: Gate) -> bool {
        gate <= self.opened
    }
}
