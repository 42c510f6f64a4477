//! A tree from records: what [`Mem::tell`] has told of another one makes the same tree here, with times, numbers of files
//! and cookies.
//!
//! Records are data that was read from somewhere. Whatever they say, nothing here panics, and a record that does not fit
//! the tree is an error. What is in several names, one file has; what has no name at the end, is gone.
//!
//! Must not know: how records are written down, files on disk.

use super::content::Content;
use super::dir::{Dir, Entry};
use super::key::{Key, ROOT};
use super::node::{Kind, Node};
use super::watch::Watch;
use super::{Mem, SIZE_MAX};
use crate::fs::{At, NodeRecord, Record, TARGET_BYTES_MAX, User, mode};
use std::collections::HashMap;
use std::fmt;

/// Why a record cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is not enough memory for the bytes of all files.
    Memory,
    /// The record contradicts those before it.
    Contradiction(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Memory => write!(f, "not enough memory for the bytes of all files"),
            Unfit::Contradiction(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for Unfit {}

/// What was found when all records were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records of files that were not there.
    pub skipped: u64,
    /// Files without a name, which are gone: they were open.
    pub nameless: u64,
    /// Names that were to be removed when their files were closed.
    pub doomed: u64,
}

/// A tree that is being built.
pub struct Replay<W: Watch> {
    mem: Mem<W>,
    /// Places of files by their numbers.
    keys: HashMap<u64, Key>,
    /// Records may name files that are not there.
    is_partial: bool,
    /// Bytes of a file that are not written yet, and where they go: what comes in several records and lies together takes no
    /// more memory than it took when it was written at once.
    data: Vec<u8>,
    place: (Key, u64),
    /// Writing these has failed.
    unfit: Option<Unfit>,
    found: Found,
}

/// Bytes that are written at once, at most a record more.
const DATA_BYTES: usize = 1 << 20;

impl<W: Watch> Replay<W> {
    /// Begins with a tree that was just made. The bound on its inodes does not hold for what is built.
    pub fn new(mem: Mem<W>) -> Replay<W> {
        let keys = HashMap::from([(mem.nodes[ROOT].path, ROOT)]);
        let (data, place) = (Vec::new(), (ROOT, 0));
        Replay { mem, keys, is_partial: false, data, place, unfit: None, found: Found::default() }
    }

    /// Whether the records that come now may name files that are not there: they go on from a tree that was not told as a
    /// whole yet. Such records are skipped. Otherwise they are contradictions.
    pub fn set_partial(&mut self, is_partial: bool) {
        self.is_partial = is_partial;
    }

    fn skip(&mut self, what: &'static str) -> Result<(), Unfit> {
        self.found.skipped += 1;
        if self.is_partial { Ok(()) } else { Err(Unfit::Contradiction(what)) }
    }

    /// The tree so far, to look at.
    pub fn tree(&mut self) -> &mut Mem<W> {
        self.flush();
        &mut self.mem
    }

    /// Applies a record. That it does not fit may be said with a later one.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), Unfit> {
        if !matches!(record, Record::Data { .. }) {
            self.flush();
        }
        self.unfit.map_or(Ok(()), Err)?;
        let (Record::NoEntry { dir: path, .. }
        | Record::Entry { dir: path, .. }
        | Record::Gone { path }
        | Record::Node(NodeRecord { path, .. })
        | Record::Data { path, .. }
        | Record::Xattr { path, .. }
        | Record::NoXattr { path, .. }
        | Record::Next { path }) = *record;
        let key = match (self.keys.get(&path), record) {
            (_, Record::Next { path }) => {
                self.mem.nodes.skip_to(*path);
                return Ok(());
            }
            (Some(&key), _) => key,
            (None, Record::Node(node)) => self.add(node)?,
            (None, _) => return self.skip("a record of a file that is not there"),
        };
        match *record {
            Record::Next { .. } => {}
            Record::NoEntry { cookie, .. } => self.take_entry(key, cookie)?,
            Record::Gone { path } => self.drop_file(key, path)?,
            Record::Node(node) => self.change(key, &node)?,
            Record::Data { offset, bytes, .. } => self.write(key, offset, bytes)?,
            Record::Entry { cookie, path, doomed, name, .. } => self.put_entry(key, cookie, path, doomed, name)?,
            Record::Xattr { name, value, .. } => self.mem.apply_xattr(key, name, Some(value))?,
            Record::NoXattr { name, .. } => self.mem.apply_xattr(key, name, None)?,
        }
        Ok(())
    }

    /// Makes a file that was not there.
    fn add(&mut self, node: &NodeRecord) -> Result<Key, Unfit> {
        let (major, minor) = node.rdev;
        let kind = match node.mode & mode::IFMT {
            mode::IFREG => Kind::File(Content::default()),
            mode::IFDIR => Kind::Dir(Box::new(Dir::new(ROOT))),
            mode::IFLNK => Kind::Symlink(Content::default()),
            mode::IFBLK => Kind::Device { block: true, major, minor },
            mode::IFCHR => Kind::Device { block: false, major, minor },
            mode::IFIFO => Kind::Fifo,
            mode::IFSOCK => Kind::Socket,
            _ => return Err(Unfit::Contradiction("a file of no known type")),
        };
        let nobody = User { uid: 0, gid: None, vouched: false, peer: 0 };
        let made = Node::new(kind, node.path, 0, 0, nobody, 0, At::default());
        let key = self.mem.nodes.add(made);
        self.keys.insert(node.path, key);
        self.mem.nodes.skip_to(node.path.saturating_add(1));
        Ok(key)
    }

    fn change(&mut self, key: Key, to: &NodeRecord) -> Result<(), Unfit> {
        let Mem { nodes, store, .. } = &mut self.mem;
        let node = &mut nodes[key];
        if node.mode() & mode::IFMT != to.mode & mode::IFMT {
            return Err(Unfit::Contradiction("a file changes its type"));
        }
        node.version = to.version;
        node.permissions = to.mode & mode::PERM;
        node.bits = to.bits;
        (node.uid, node.gid, node.muid) = (to.uid, to.gid, to.muid);
        (node.atime, node.mtime, node.ctime, node.btime) = (to.atime, to.mtime, to.ctime, to.btime);
        match &mut node.kind {
            Kind::File(content) => {
                if to.size > SIZE_MAX {
                    return Err(Unfit::Contradiction("a file beyond the largest size"));
                }
                let kept = content.size.min(to.kept);
                content.set_size(store, kept).map_err(|_| Unfit::Memory)?;
                content.set_size(store, to.size).map_err(|_| Unfit::Memory)?;
            }
            // The target of a link is in one block, and has no holes. Zeros are there until its bytes come.
            Kind::Symlink(content) => {
                if !(1..=TARGET_BYTES_MAX as u64).contains(&to.size) {
                    return Err(Unfit::Contradiction("a symbolic link with a target of no bytes or too many"));
                }
                let kept = content.size.min(to.kept).min(to.size);
                content.set_size(store, kept).map_err(|_| Unfit::Memory)?;
                let zeros = [0; TARGET_BYTES_MAX];
                content.write(store, kept, &zeros[kept as usize..to.size as usize]).map_err(|_| Unfit::Memory)?;
            }
            Kind::Dir(dir) => dir.skip_to(to.size),
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, key: Key, offset: u64, bytes: &[u8]) -> Result<(), Unfit> {
        let content = self.mem.nodes[key].charged_mut().ok_or(Unfit::Contradiction("bytes of a file that has none"))?;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > content.size) {
            return Err(Unfit::Contradiction("bytes beyond the size of a file"));
        }
        let (of, at) = self.place;
        let goes_on = of == key && at + self.data.len() as u64 == offset;
        if !goes_on || self.data.len() >= DATA_BYTES {
            self.flush();
            self.place = (key, offset);
        }
        self.data.extend_from_slice(bytes);
        self.unfit.map_or(Ok(()), Err)
    }

    /// Writes what waits.
    fn flush(&mut self) {
        let (key, at) = self.place;
        if self.data.is_empty() {
            return;
        }
        let Mem { nodes, store, .. } = &mut self.mem;
        if let Some(content) = nodes[key].charged_mut()
            && content.write(store, at, &self.data).is_err()
        {
            self.unfit = Some(Unfit::Memory);
        }
        self.data.clear();
    }

    fn take_entry(&mut self, dir: Key, cookie: u64) -> Result<(), Unfit> {
        let inside =
            self.mem.nodes[dir].dir().ok_or(Unfit::Contradiction("an entry of a file that is no directory"))?;
        if inside.get(cookie).is_some() {
            self.mem.take_name(dir, cookie);
        }
        Ok(())
    }

    fn put_entry(&mut self, dir: Key, cookie: u64, path: u64, doomed: bool, name: &[u8]) -> Result<(), Unfit> {
        self.take_entry(dir, cookie)?;
        let Some(&node) = self.keys.get(&path) else { return self.skip("an entry of a file that is not there") };
        if node == ROOT || self.mem.nodes[node].is_dir() && self.mem.nodes[node].links > 0 {
            return Err(Unfit::Contradiction("a directory with two names"));
        }
        if self.mem.nodes[node].links == u32::MAX {
            return Err(Unfit::Contradiction("a file with too many names"));
        }
        if self.mem.last_cookie(dir) < cookie {
            return Err(Unfit::Contradiction("a cookie that was not given"));
        }
        let entry = Entry { doomed, ..self.mem.new_entry(name, node) };
        self.mem.insert_name(dir, Some(cookie), entry, None);
        Ok(())
    }

    fn drop_file(&mut self, key: Key, path: u64) -> Result<(), Unfit> {
        let node = &self.mem.nodes[key];
        if node.links > 0 || node.dir().is_some_and(|dir| !dir.is_empty()) {
            return Err(Unfit::Contradiction("a file with names or entries is gone"));
        }
        self.keys.remove(&path);
        self.mem.free_if_unused(key);
        Ok(())
    }

    /// The tree as it is.
    pub fn into_tree(mut self) -> Mem<W> {
        self.flush();
        self.mem
    }

    /// Makes a tree that can be served: files without a name are removed, and so are doomed names. A watched tree has
    /// marks of the doomed names alone. To be called once, after the last record.
    pub fn finish(&mut self, at: At) -> Result<Found, Unfit> {
        self.flush();
        self.unfit.map_or(Ok(()), Err)?;
        let mem = &mut self.mem;
        let nameless: Vec<Key> = self.keys.values().copied().filter(|&key| mem.nodes[key].links == 0).collect();
        let mut doomed = Vec::new();
        // Every directory that can be reached from the root; there are no others, or some are in a circle.
        let (mut waiting, mut reached) = (vec![ROOT], 0);
        while let Some(key) = waiting.pop() {
            reached += 1;
            let Some(dir) = mem.nodes[key].dir() else { continue };
            for (cookie, entry) in dir.between(0, u64::MAX) {
                if dir.find(&mem.hashes, &entry.name).is_none_or(|(first, _)| first != cookie) {
                    return Err(Unfit::Contradiction("a directory with a name twice"));
                }
                if mem.nodes[entry.node].is_dir() {
                    waiting.push(entry.node);
                } else if entry.doomed {
                    doomed.push((key, cookie));
                }
            }
        }
        self.found.nameless = nameless.len() as u64;
        let dirs = self.keys.values().filter(|&&key| mem.nodes[key].is_dir() && mem.nodes[key].links > 0).count();
        if reached != dirs {
            return Err(Unfit::Contradiction("a directory that is not below the root"));
        }
        for key in nameless {
            if mem.nodes[key].dir().is_some_and(|dir| !dir.is_empty()) {
                return Err(Unfit::Contradiction("entries in a directory without a name"));
            }
            mem.free_if_unused(key);
        }
        mem.watch.told(mem.nodes.path_of_next());
        self.found.doomed = doomed.len() as u64;
        let nobody = User { uid: 0, gid: None, vouched: false, peer: 0 };
        doomed.into_iter().for_each(|(dir, cookie)| mem.take_out(dir, cookie, nobody, at));
        Ok(self.found)
    }
}
