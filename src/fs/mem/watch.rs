//! What has changed since it was asked last: which files, entries, attributes and bytes, but not how.
//!
//! [`Watched`] keeps marks. [`Mem::tell`] then says how everything that is marked is by now, so a file that was written to a
//! hundred times is told once. [`Unwatched`] is the default, and does nothing: its calls are compiled to no instruction.
//!
//! Must not know: how records are written down, files on disk.

use super::key::Key;
use super::node::{Kind, Node};
use super::parts::PAGE;
use super::{Content, Mem, Store};
use crate::arena::Slice;
use crate::fs::mem::content::{BLOCK, part};
use crate::fs::{NodeRecord, Record, XATTR_BYTES_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a memfs tells of its changes: nothing, or what a [`Watched`] keeps.
pub trait Watch: marks::Marks {}

/// Nobody asks what has changed.
#[derive(Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
impl marks::Marks for Unwatched {
    const ON: bool = false;
}

mod marks {
    use std::ops::Range;

    /// The marks that an operation leaves. Files are named by their places, and have a name while they are marked.
    pub trait Marks: Default {
        const ON: bool;

        /// A file was made.
        #[inline(always)]
        fn made(&mut self, _key: u32) {}
        /// Anything of a file has changed but its bytes, its entries and its extended attributes.
        #[inline(always)]
        fn node(&mut self, _key: u32) {}
        /// Bytes of a file have changed.
        #[inline(always)]
        fn data(&mut self, _key: u32, _range: Range<u64>) {}
        /// The size of a file was set. What comes to light is 0.
        #[inline(always)]
        fn resized(&mut self, _key: u32, _size: u64) {}
        /// An entry was put in.
        #[inline(always)]
        fn entry(&mut self, _dir: u32, _cookie: u64) {}
        /// An entry was taken out.
        #[inline(always)]
        fn no_entry(&mut self, _dir: u32, _cookie: u64) {}
        /// An extended attribute was set or removed.
        #[inline(always)]
        fn xattr(&mut self, _key: u32, _name: &[u8]) {}
        /// A file has lost its last name. It is not marked again, although it may still be in use.
        #[inline(always)]
        fn gone(&mut self, _key: u32, _path: u64) {}
        /// Everything was told, and the next new file has this number.
        #[inline(always)]
        fn told(&mut self, _next_path: u64) {}
    }
}

use marks::Marks;

/// Takes what [`Mem::tell`] tells.
pub trait Listener {
    /// A record with all that belongs to it.
    fn record(&mut self, record: Record<'_>);

    /// Whole pages of a file, pinned: [`Record::Data`] for bytes that need not be copied. `offset` and the length are
    /// multiples of [`PAGE_BYTES`](super::PAGE_BYTES), and the length is at most 64 KiB.
    fn pages(&mut self, path: u64, offset: u64, pages: Slice);
}

/// Marks of what has changed.
#[derive(Debug, Default)]
pub struct Watched {
    nodes: BTreeMap<Key, Marked>,
    /// Entries by directory and cookie, each with whether one was taken out there.
    entries: BTreeMap<(Key, u64), bool>,
    xattrs: BTreeSet<(Key, Box<[u8]>)>,
    /// Files that are gone and were told.
    gone: Vec<u64>,
    /// Entries that were taken out of directories that are gone.
    gone_entries: Vec<(u64, u64)>,
    /// The number of the next new file, when it was told last.
    next_path: u64,
    /// Marks since the start.
    count: u64,
    /// Bytes that all that is marked takes, or fewer, once it is told.
    bytes: u64,
}

/// Bytes of what is told of one mark, or fewer, beside bytes of the file: a state of a file, or an entry with its name.
pub(super) const MARK_BYTES: u64 = 320;

/// Largest length of what is told of `bytes` bytes of a file, with these bytes: each page may be in a record of its own.
pub(super) fn told_bytes(bytes: u64) -> u64 {
    bytes + bytes / 128
}

/// What is marked of a file.
#[derive(Debug)]
pub(super) struct Marked {
    /// It was made since.
    is_new: bool,
    /// The smallest size that was set since; 0 for a new file.
    pub(super) kept: u64,
    /// Bytes that have changed, in order, apart from each other, and below the size.
    pub(super) ranges: Vec<Range<u64>>,
}

impl Default for Marked {
    fn default() -> Marked {
        Marked { is_new: false, kept: u64::MAX, ranges: Vec::new() }
    }
}

impl Marked {
    pub(super) fn add(&mut self, new: Range<u64>) {
        // Most writes go on where the last one ended, or repeat it.
        if let Some(last) = self.ranges.last_mut()
            && last.start <= new.start
            && new.start <= last.end
        {
            last.end = last.end.max(new.end);
            return;
        }
        let first = self.ranges.partition_point(|range| range.end < new.start);
        let behind = self.ranges.partition_point(|range| range.start <= new.end);
        let mut whole = new;
        if let (Some(one), Some(other)) = (self.ranges.get(first), self.ranges[..behind].last())
            && first < behind
        {
            whole = whole.start.min(one.start)..whole.end.max(other.end);
        }
        self.ranges.splice(first..behind, [whole]);
    }

    pub(super) fn cut(&mut self, size: u64) {
        self.kept = self.kept.min(size);
        while let Some(last) = self.ranges.last_mut()
            && last.end > size
        {
            last.end = size;
            if last.is_empty() {
                self.ranges.pop();
            }
        }
    }
}

impl Watch for Watched {}
impl Marks for Watched {
    const ON: bool = true;

    fn made(&mut self, key: u32) {
        self.count(0);
        self.nodes.insert(key, Marked { is_new: true, kept: 0, ranges: Vec::new() });
    }

    fn node(&mut self, key: u32) {
        self.count(0);
        self.nodes.entry(key).or_default();
    }

    fn data(&mut self, key: u32, range: Range<u64>) {
        if !range.is_empty() {
            self.count(range.end - range.start);
            self.nodes.entry(key).or_default().add(range);
        }
    }

    fn resized(&mut self, key: u32, size: u64) {
        self.count(0);
        self.nodes.entry(key).or_default().cut(size);
    }

    fn entry(&mut self, dir: u32, cookie: u64) {
        self.count(0);
        self.entries.entry((dir, cookie)).or_default();
    }

    fn no_entry(&mut self, dir: u32, cookie: u64) {
        self.count(0);
        self.entries.insert((dir, cookie), true);
    }

    fn xattr(&mut self, key: u32, name: &[u8]) {
        // How long the value is, is not known here.
        self.count(XATTR_BYTES_MAX as u64);
        self.xattrs.insert((key, name.into()));
    }

    fn gone(&mut self, key: u32, path: u64) {
        self.count(0);
        let is_new = self.nodes.remove(&key).is_some_and(|marked| marked.is_new);
        // Another file may get its place before anything is told.
        let cookies: Vec<u64> =
            self.entries.range((key, 0)..=(key, u64::MAX)).map(|((_, cookie), _)| *cookie).collect();
        for &cookie in &cookies {
            self.entries.remove(&(key, cookie));
        }
        while let Some(xattr) = self.xattrs.range((key, Box::default())..).next().filter(|(of, _)| *of == key).cloned()
        {
            self.xattrs.remove(&xattr);
        }
        if !is_new {
            self.gone.push(path);
            self.gone_entries.extend(cookies.into_iter().map(|cookie| (path, cookie)));
        }
    }

    fn told(&mut self, next_path: u64) {
        *self = Watched { next_path, count: self.count, ..Watched::default() };
    }
}

impl Watched {
    fn count(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += MARK_BYTES + told_bytes(bytes);
    }

    /// The number of the next new file is told with the next change, although it is the same.
    pub(super) fn tell_next(&mut self) {
        self.next_path = 0;
    }

    /// Marks a file again, although nothing of it has changed. `bytes`: what is told of it takes no more. Returns these.
    pub(super) fn node_again(&mut self, key: Key, bytes: u64) -> u64 {
        self.nodes.entry(key).or_default();
        self.bytes += bytes;
        bytes
    }

    /// The same for bytes of a file.
    pub(super) fn data_again(&mut self, key: Key, range: Range<u64>, bytes: u64) -> u64 {
        self.nodes.entry(key).or_default().add(range);
        self.bytes += bytes;
        bytes
    }

    /// The same for an entry of a directory.
    pub(super) fn entry_again(&mut self, dir: Key, cookie: u64, bytes: u64) -> u64 {
        self.entries.entry((dir, cookie)).or_default();
        self.bytes += bytes;
        bytes
    }

    /// The same for an extended attribute.
    pub(super) fn xattr_again(&mut self, key: Key, name: &[u8], bytes: u64) -> u64 {
        self.xattrs.insert((key, name.into()));
        self.bytes += bytes;
        bytes
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        let Watched { nodes, entries, xattrs, gone, .. } = self;
        nodes.is_empty() && entries.is_empty() && xattrs.is_empty() && gone.is_empty()
    }
}

impl Mem<Watched> {
    /// Whether anything has changed since [`tell`](Self::tell).
    pub fn has_changes(&self) -> bool {
        !self.watch.is_empty()
    }

    /// A number that grows with each change.
    pub fn changes(&self) -> u64 {
        self.watch.count
    }

    /// Bytes that what has changed since [`tell`](Self::tell) takes, or fewer.
    pub fn changed_bytes(&self) -> u64 {
        self.watch.bytes
    }

    /// Tells how everything is that has changed since the last call, and forgets that it has changed. Records come in the
    /// order in which they can be applied: see [`Replay`](super::Replay).
    pub fn tell(&mut self, listener: &mut impl Listener) {
        let watch = &mut self.watch;
        let told = Watched { count: watch.count, ..Watched::default() };
        let Watched { nodes, entries, xattrs, gone, gone_entries, next_path, .. } = std::mem::replace(watch, told);
        let next = self.nodes.path_of_next();
        self.watch.told(next);
        if next != next_path {
            listener.record(Record::Next { path: next });
        }
        for (dir, cookie) in gone_entries {
            listener.record(Record::NoEntry { dir, cookie });
        }
        // Of a directory that was made since, no entry was told.
        let is_new = |dir: &Key| nodes.get(dir).is_some_and(|marked| marked.is_new);
        for (&(dir, cookie), _) in entries.iter().filter(|&(&(dir, _), &taken)| taken && !is_new(&dir)) {
            listener.record(Record::NoEntry { dir: self.nodes[dir].path, cookie });
        }
        gone.into_iter().for_each(|path| listener.record(Record::Gone { path }));
        for (&key, marked) in &nodes {
            listener.record(Record::Node(node_record(&self.nodes[key], marked.kept)));
        }
        for (key, marked) in nodes {
            let node = &self.nodes[key];
            if let Kind::File(content) | Kind::Symlink(content) = &node.kind {
                let ranges = marked.ranges.into_iter();
                ranges.for_each(|range| tell_data(content, &mut self.store, node.path, range, listener));
            }
        }
        for (dir, cookie) in entries.into_keys() {
            let node = &self.nodes[dir];
            let Some(entry) = node.dir().and_then(|dir| dir.get(cookie)) else { continue };
            let path = self.nodes[entry.node].path;
            listener.record(Record::Entry { dir: node.path, cookie, path, doomed: entry.doomed, name: &entry.name });
        }
        for (key, name) in xattrs {
            let path = self.nodes[key].path;
            listener.record(match self.attrs.value(&self.store.arena, key, &name) {
                Some(value) => Record::Xattr { path, name: &name, value },
                None => Record::NoXattr { path, name: &name },
            });
        }
    }
}

/// Everything about a file but names, bytes and attributes. `kept`: no smaller size was set since it was told.
fn node_record(node: &Node, kept: u64) -> NodeRecord {
    let size = match &node.kind {
        Kind::File(content) | Kind::Symlink(content) => content.size,
        Kind::Dir(dir) => dir.last_cookie() + 1,
        _ => 0,
    };
    let has_bytes = matches!(node.kind, Kind::File(_) | Kind::Symlink(_));
    NodeRecord {
        path: node.path,
        version: node.version,
        mode: node.mode(),
        bits: node.bits,
        uid: node.uid,
        gid: node.gid,
        muid: node.muid,
        rdev: if let Kind::Device { major, minor, .. } = node.kind { (major, minor) } else { (0, 0) },
        size,
        kept: if has_bytes { kept.min(size) } else { 0 },
        atime: node.atime,
        mtime: node.mtime,
        ctime: node.ctime,
        btime: node.btime,
    }
}

/// Tells bytes of a file: whole pages as they are, the others copied.
fn tell_data(content: &Content, store: &mut Store, path: u64, range: Range<u64>, listener: &mut impl Listener) {
    let Store { arena, table, zeros, .. } = store;
    let Range { mut start, end } = range;
    while start < end {
        let index = start / BLOCK;
        let mut want = part(&(start..end), index);
        let in_page = want.start % PAGE;
        let is_paged = in_page == 0 && want.len() >= PAGE;
        if is_paged {
            want.end -= want.len() % PAGE;
        } else {
            want.end = want.end.min(want.start - in_page + PAGE);
        }
        let (place, len) = content.run(arena, table, index, want);
        match place {
            Some((block, place)) if is_paged => listener.pages(path, start, arena.slice(block, place)),
            Some((block, place)) => {
                listener.record(Record::Data { path, offset: start, bytes: arena.bytes(block, place) });
            }
            None if is_paged => listener.pages(path, start, zeros.slice(len)),
            None => listener.record(Record::Data { path, offset: start, bytes: &zeros.slice(len) }),
        }
        start += len as u64;
    }
}
