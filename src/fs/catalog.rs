//! Trees whose names never change: a table of files and directories that nobody can add to. What `dev` and `ctl` have in common.
//!
//! Must not know: what the files contain.

use super::mode;
use super::{At, Change, Entry, Error, Filesystem, Grant, Make, Open, Out, Result, Stat, StatFs, User};
use crate::wire::{Qid, qt};

/// A length without an end, for files that always have more: a client that reads no further than the length that it was shown (Linux: `fs/netfs`, where it
/// caches) must not stop at 0.
pub const ENDLESS: u64 = i64::MAX as u64;

/// One file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Type and permissions.
    pub mode: u32,
    /// The directory that it is in, by its place in the table: in front of it. The root is in itself.
    pub parent: usize,
}

impl Node {
    /// The root: first of its table.
    pub const ROOT: Node = Node::dir("/");

    /// A directory in the root.
    pub const fn dir(name: &'static str) -> Node {
        Node { name, mode: mode::IFDIR | 0o555, parent: 0 }
    }

    /// A file in the root.
    pub const fn file(name: &'static str, permissions: u32) -> Node {
        Node { name, mode: mode::IFREG | permissions, parent: 0 }
    }

    fn is_dir(&self) -> bool {
        self.mode & mode::IFMT == mode::IFDIR
    }
}

/// What the files of a catalog contain. Files are named by their place in the table.
pub trait Source {
    /// What belongs to one open of a file.
    type Opened: Clone;

    /// As [`Filesystem::is_private`].
    const IS_PRIVATE: bool = false;

    /// A file is opened.
    fn open(&mut self, node: usize, at: At) -> Result<Self::Opened>;

    /// The other end of [`open`](Self::open). Nothing of it is pending.
    fn close(&mut self, node: usize, held: Self::Opened) {
        let _ = (node, held);
    }

    /// The length that is shown: of what an open holds, or of what the next one would.
    fn size(&self, node: usize, held: Option<&Self::Opened>) -> u64;

    /// As [`Filesystem::read`].
    fn read(&mut self, node: usize, held: &Self::Opened, offset: u64, out: Out<'_>) -> Result<()>;

    /// As [`Filesystem::waits`].
    fn waits(&self, node: usize, held: &Self::Opened, offset: u64) -> bool {
        let _ = (node, held, offset);
        false
    }

    /// As [`Filesystem::news`].
    fn news(&self) -> u64 {
        0
    }

    /// Whether a write to this file is taken. If so, it leaves nothing behind.
    fn takes(&self, node: usize) -> Result<()> {
        let _ = node;
        Ok(())
    }

    /// As [`Filesystem::tick`].
    fn tick(&mut self, at: At) {
        let _ = at;
    }

    /// As [`Filesystem::spent`].
    fn spent(&mut self) -> u32 {
        0
    }

    /// As [`Filesystem::work`].
    fn work(&mut self) {}

    /// As [`Filesystem::has_work`].
    fn has_work(&self) -> bool {
        false
    }
}

/// The tree of a table and its source.
pub struct Catalog<S> {
    nodes: Vec<Node>,
    source: S,
    started: At,
}

/// A file or directory as a session holds it.
#[derive(Clone, Debug)]
pub struct Member<H> {
    node: usize,
    user: User,
    held: Option<H>,
}

impl<S: Source> Catalog<S> {
    /// The tree of this table, which starts with [`Node::ROOT`].
    pub fn of(nodes: Vec<Node>, source: S) -> Catalog<S> {
        debug_assert!(nodes.iter().enumerate().all(|(at, node)| node.parent < at || at == 0 && node.parent == 0));
        Catalog { nodes, source, started: At::default() }
    }

    /// Version 0: what the files show changes without a write, and 0 keeps a client from caching it (Linux: `fs/9p/fid.h`, v9fs_fid_add_modes: "synthetic").
    fn qid(&self, node: usize) -> Qid {
        let kind = if self.nodes[node].is_dir() { qt::DIR } else { qt::FILE };
        Qid { kind, version: 0, path: node as u64 }
    }

    fn stat_of(&self, node: usize, name: &'static [u8], held: Option<&S::Opened>) -> Stat<'static> {
        let start = self.started.wall;
        let is_dir = self.nodes[node].is_dir();
        let inside = |(at, other): &(usize, &Node)| *at != 0 && other.parent == node && other.is_dir();
        Stat {
            qid: self.qid(node),
            mode: self.nodes[node].mode,
            uid: 0,
            gid: 0,
            muid: 0,
            nlink: if is_dir { 2 + self.nodes.iter().enumerate().filter(inside).count() as u64 } else { 1 },
            rdev: (0, 0),
            size: if is_dir { 0 } else { self.source.size(node, held) },
            blocks: 0,
            blksize: 4096,
            atime: start,
            mtime: start,
            ctime: start,
            btime: start,
            name,
            target: b"",
        }
    }

    fn find(&self, dir: usize, name: &[u8]) -> Option<usize> {
        let is_it = |node: &Node| node.parent == dir && node.name.as_bytes() == name;
        self.nodes[1..].iter().position(is_it).map(|at| 1 + at)
    }

    fn check_dir(&self, node: usize) -> Result<()> {
        if self.nodes[node].is_dir() { Ok(()) } else { Err(Error::ENOTDIR) }
    }
}

impl<S: Source> Filesystem for Catalog<S> {
    type File = Member<S::Opened>;

    fn init(&mut self, at: At) -> Result<()> {
        self.started = at;
        Ok(())
    }

    fn is_private(&self, _: &[u8]) -> bool {
        S::IS_PRIVATE
    }

    fn attach(&mut self, user: User, _: &[u8]) -> Result<Self::File> {
        Ok(Member { node: 0, user, held: None })
    }

    fn lookup(&mut self, dir: &Self::File, name: &[u8]) -> Result<Self::File> {
        self.check_dir(dir.node)?;
        let node = match name {
            b"." => dir.node,
            b".." => self.nodes[dir.node].parent,
            name => self.find(dir.node, name).ok_or(Error::ENOENT)?,
        };
        Ok(Member { node, user: dir.user, held: None })
    }

    fn duplicate(&mut self, file: &Self::File) -> Self::File {
        Member { node: file.node, user: file.user, held: None }
    }

    fn attr(&self, file: &Self::File) -> Qid {
        self.qid(file.node)
    }

    fn open(&mut self, file: &mut Self::File, flags: Open, at: At) -> Result<()> {
        let node = &self.nodes[file.node];
        if node.is_dir() {
            let changes = flags.write || flags.truncate || flags.remove_on_close;
            return if changes { Err(Error::EISDIR) } else { Ok(()) };
        }
        // Root reads what may be read, but nobody writes where nothing can be written.
        let denied = (flags.write || flags.truncate) && node.mode & 0o222 == 0 || flags.exec || flags.remove_on_close;
        if denied {
            return Err(Error::EACCES);
        }
        file.held = Some(self.source.open(file.node, at)?);
        Ok(())
    }

    /// What is there says so, so that who creates or opens (a shell's `> null`) goes on to open it.
    fn create(
        &mut self,
        dir: &mut Self::File,
        name: &[u8],
        _: Open,
        _: u32,
        _: u8,
        _: Option<u32>,
        _: At,
    ) -> Result<()> {
        self.check_dir(dir.node)?;
        Err(if self.find(dir.node, name).is_some() { Error::EEXIST } else { Error::EPERM })
    }

    fn read(&mut self, file: &mut Self::File, offset: u64, out: Out<'_>, _: At) -> Result<()> {
        let held = file.held.as_ref().ok_or(Error::EISDIR)?;
        self.source.read(file.node, held, offset, out)
    }

    fn waits(&self, file: &Self::File, offset: u64) -> bool {
        file.held.as_ref().is_some_and(|held| self.source.waits(file.node, held, offset))
    }

    fn news(&self) -> u64 {
        self.source.news()
    }

    fn write(&mut self, file: &mut Self::File, _: u64, data: &[u8], _: At) -> Result<u32> {
        self.source.takes(file.node)?;
        Ok(data.len() as u32)
    }

    /// What is not discarded is refused before it has arrived.
    fn grant(&mut self, file: &mut Self::File, _: u64, _: u32, _: At) -> Result<Option<Grant>> {
        self.source.takes(file.node)?;
        Ok(None)
    }

    fn discards(&self, file: &Self::File) -> bool {
        self.source.takes(file.node).is_ok()
    }

    fn close(&mut self, file: Self::File, _: At) -> Result<()> {
        if let Some(held) = file.held {
            self.source.close(file.node, held);
        }
        Ok(())
    }

    fn remove(&mut self, file: &mut Self::File, _: At) -> Result<()> {
        Err(if file.node == 0 { Error::EBUSY } else { Error::EPERM })
    }

    fn stat(&self, file: &Self::File) -> Result<Stat<'_>> {
        Ok(self.stat_of(file.node, self.nodes[file.node].name.as_bytes(), file.held.as_ref()))
    }

    /// A shell's `> null` truncates and touches; that is taken and nothing comes of it.
    fn wstat(&mut self, file: &mut Self::File, change: &Change<'_>, _: At) -> Result<()> {
        let harmless = Change { size: None, atime: None, mtime: None, touch_ctime: false, ..*change };
        let writable = self.nodes[file.node].mode & 0o222 != 0;
        if harmless == Change::default() && writable { Ok(()) } else { Err(Error::EPERM) }
    }

    fn list(
        &mut self,
        dir: &mut Self::File,
        cookie: u64,
        _: At,
        each: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<()> {
        self.check_dir(dir.node)?;
        let dots = [(1, dir.node, &b"."[..]), (2, self.nodes[dir.node].parent, &b".."[..])];
        let inside = self.nodes.iter().enumerate().skip(1).filter(|(_, node)| node.parent == dir.node);
        let inside = inside.map(|(at, node)| (2 + at as u64, at, node.name.as_bytes()));
        for (own, node, name) in dots.into_iter().chain(inside) {
            if own > cookie && !each(&Entry { cookie: own, stat: self.stat_of(node, name, None) }) {
                break;
            }
        }
        Ok(())
    }

    fn make(&mut self, _: &Self::File, _: &[u8], _: Make<'_>, _: u32, _: Option<u32>, _: At) -> Result<Qid> {
        Err(Error::EPERM)
    }

    fn unlink(&mut self, _: &Self::File, _: &[u8], _: bool, _: At) -> Result<()> {
        Err(Error::EPERM)
    }

    fn rename(&mut self, _: &Self::File, _: &[u8], _: &Self::File, _: &[u8], _: At) -> Result<()> {
        Err(Error::EPERM)
    }

    fn rename_file(&mut self, _: &mut Self::File, _: &Self::File, _: &[u8], _: At) -> Result<()> {
        Err(Error::EPERM)
    }

    fn link(&mut self, _: &Self::File, _: &[u8], _: &Self::File, _: At) -> Result<()> {
        Err(Error::EPERM)
    }

    /// No room at all, rather than an error that df(1) stumbles over.
    fn statfs(&self, _: &Self::File) -> Result<StatFs> {
        Ok(StatFs { bsize: 4096, files: self.nodes.len() as u64, ..StatFs::default() })
    }

    fn tick(&mut self, at: At) {
        self.source.tick(at);
    }

    fn spent(&mut self) -> u32 {
        self.source.spent()
    }

    fn work(&mut self) {
        self.source.work();
    }

    fn has_work(&self) -> bool {
        self.source.has_work()
    }
}
