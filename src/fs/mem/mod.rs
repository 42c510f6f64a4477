//! memfs: a complete tree of files in the arena.
//!
//! - `interface`: the operations, as the trait names them.
//! - `node`: files of every kind, without their names; a flat table, so nothing recurses. `key`: their places in it.
//! - `dir`: names and cookies. `index`: cookies by the hashes of names.
//! - `content`, `blocks`, `parts`: where the bytes of files are. `change`: how bytes of a large file change.
//! - `landing`, `store`: how large payloads arrive and are published; the memory behind it all.
//! - `permit`: who may do what.
//! - `atime`: when a read moves an access time.
//! - `attrs`, `locks`: extended attributes and record locks, beside the nodes.
//! - `tree`: names come and go.
//! - `waste`: what files have let go of, until it is freed.
//! - `watch`: what has changed, for a store that keeps the tree elsewhere. `sweep`: marks everything, for a checkpoint.
//! - `replay`: a tree from what was told of another one.
//!
//! Must not know: fids, messages, sockets.

mod atime;
mod attrs;
mod blocks;
mod change;
mod content;
mod dir;
mod index;
mod interface;
mod key;
mod landing;
pub mod locks;
mod node;
mod parts;
mod permit;
mod replay;
mod store;
mod sweep;
mod tree;
mod waste;
mod watch;

use super::join::AttachNames;
use super::{At, Error, Filesystem, Open, Result, Stat, Time, User};
use crate::arena::{Arena, BLOCK_BYTES_MAX};
use crate::wire::qt;
pub use atime::Atime;
pub use blocks::NODE_BYTES;
pub use parts::{PAGE as PAGE_BYTES, PARTS_BYTES};
pub use permit::Groups;
pub use replay::{Found, Replay, Unfit};
pub use sweep::Sweep;
pub use watch::{Listener, Unwatched, Watch, Watched};

use attrs::Attrs;
use content::Content;
use dir::Dir;
use index::Hashes;
use key::{Key, ROOT};
use locks::Locks;
use node::{Kind, Node, Nodes};
use permit::Rights;
use std::cell::Cell;
use std::collections::BTreeMap;
use store::Store;

/// Attach names of the tree.
pub const ATTACH_NAMES: AttachNames = &[b"", b"/"];

/// Largest size of a file (off_t).
const SIZE_MAX: u64 = i64::MAX as u64;
/// Unit of statfs and preferred size of a small request, in bytes.
const UNIT_BYTES: u64 = 4096;

/// How a memfs is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files and directories at a time; a further name of a file counts as one, and so does an extended attribute. At most 2^32 - 1.
    pub inodes_max: usize,
    /// A secret for the index of names.
    pub hash_key: u64,
    /// Owner, group and permissions of the root.
    pub root: (u32, u32, u32),
    /// Who is in which group; `None`: nobody knows.
    pub groups: Option<Groups>,
    /// Which reads move access times.
    pub atime: Atime,
}

impl Default for Options {
    /// Anyone may make files, and remove their own, as in /tmp.
    fn default() -> Options {
        Options { inodes_max: 1 << 20, hash_key: 0, root: (0, 0, 0o1777), groups: None, atime: Atime::default() }
    }
}

/// The tree. `W` keeps what has changed, or nothing.
pub struct Mem<W: Watch = Unwatched> {
    nodes: Nodes,
    /// Where the names of files with several are, but for each file's latest; by number.
    others: BTreeMap<u64, (Key, u64)>,
    /// Names beyond the first of each file.
    further_names: usize,
    /// The number that was given to a name last.
    last_name: u64,
    attrs: Attrs,
    locks: Locks,
    /// File values that have locked something, ever.
    lockers: u64,
    /// What [`Filesystem::spent`] answers next.
    spent: Cell<u32>,
    store: Store,
    rights: Rights,
    atime: Atime,
    inodes_max: usize,
    hashes: Hashes,
    watch: W,
}

/// A file as one session holds it. What it uses is counted by who makes one, so [`Filesystem::duplicate`] is more than a copy.
#[derive(Clone, Debug)]
pub struct File {
    node: Key,
    user: User,
    link: Link,
    open: Option<Opened>,
    /// Tells it apart from others once it has locked something; 0 until then.
    locker: u64,
    /// Of an open directory: the last cookie that its listing hands out. It was the last one given when the directory was opened, or listed from its start.
    last_cookie: u64,
}

/// How a file is open, as far as it matters later.
#[derive(Clone, Copy, Debug)]
struct Opened {
    write: bool,
    append: bool,
    remove_on_close: bool,
}

impl From<Open> for Opened {
    fn from(flags: Open) -> Opened {
        let Open { write, append, remove_on_close, .. } = flags;
        Opened { write, append, remove_on_close }
    }
}

/// The name by which a file was reached.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Where it was then: directory and cookie.
    dir: Key,
    cookie: u64,
    /// Its number, which it keeps wherever it goes; 0 is no name's.
    id: u64,
}

impl File {
    /// Walked to, not open.
    fn walked(node: Key, user: User, link: Link) -> File {
        File { node, user, link, open: None, locker: 0, last_cookie: u64::MAX }
    }
}

impl Mem {
    /// An empty tree in this memory.
    pub fn new(arena: Arena, options: Options) -> Mem {
        Mem::empty(arena, options)
    }
}

impl Mem<Watched> {
    /// An empty tree that keeps what has changed. [`init`](Filesystem::init) is its first change.
    pub fn watched(arena: Arena, options: Options) -> Mem<Watched> {
        Mem::empty(arena, options)
    }
}

impl<W: Watch> Mem<W> {
    fn empty(arena: Arena, options: Options) -> Mem<W> {
        let Options { inodes_max, hash_key, root: (uid, gid, permissions), groups, atime } = options;
        let mut mem = Mem {
            nodes: Nodes::new(),
            others: BTreeMap::new(),
            further_names: 0,
            last_name: 0,
            attrs: Attrs::default(),
            locks: Locks::default(),
            lockers: 0,
            spent: Cell::new(0),
            store: Store::new(arena),
            rights: Rights { groups },
            atime,
            inodes_max,
            hashes: Hashes::new(hash_key),
            watch: W::default(),
        };
        let owner = User { uid, gid: Some(gid), vouched: false, peer: 0 };
        let path = mem.nodes.next_path();
        let mut root = Node::new(Kind::Dir(Box::new(Dir::new(ROOT))), path, permissions, 0, owner, gid, At::default());
        root.links = 1;
        let key = mem.nodes.add(root);
        debug_assert_eq!(key, ROOT);
        mem
    }

    /// The allocation of this number fails.
    #[cfg(test)]
    pub(crate) fn fail_at(&mut self, number: usize) {
        self.store.arena.fails_in = Some(number);
    }

    /// Whether it has come to that.
    #[cfg(test)]
    pub(crate) fn has_failed(&self) -> bool {
        self.store.arena.fails_in.is_some_and(|left| left == 0 || left > usize::MAX / 2)
    }

    /// The memory behind it.
    pub fn arena(&self) -> &Arena {
        &self.store.arena
    }

    /// Bytes that no file holds.
    pub fn free_bytes(&self) -> usize {
        self.store.free_bytes() as usize
    }

    /// Ranges of bytes that are locked.
    pub fn locks(&self) -> usize {
        self.locks.len()
    }

    /// Files of all types but directories, and the bytes of the regular ones.
    pub fn count(&self) -> (usize, u64) {
        self.nodes.iter().filter(|node| !node.is_dir()).fold((0, 0u64), |(files, bytes), node| {
            let size = if let Kind::File(content) = &node.kind { content.size } else { 0 };
            (files + 1, bytes.saturating_add(size))
        })
    }

    /// When anything was changed last. Looks at all files.
    pub fn last_change(&self) -> Time {
        self.nodes.iter().map(|node| node.ctime).max().unwrap_or_default()
    }

    /// So many numbers of files are not given any more.
    pub fn skip_paths(&mut self, count: u64) {
        self.nodes.skip_to(self.nodes.path_of_next().saturating_add(count));
    }

    /// What counts against the bound on inodes.
    pub fn inodes(&self) -> usize {
        self.nodes.len() + self.further_names + self.attrs.len()
    }

    /// Empties the tree and gives its memory back, for the next one: an arena is never unmapped, so whoever makes many trees makes them in the same.
    pub fn into_arena(mut self) -> Arena {
        self.cleanup().expect("memory is always released");
        self.store.arena
    }

    /// An operation has taken so many units beyond that of an ordinary one.
    fn spend(&self, units: u32) {
        self.spent.set(self.spent.get().saturating_add(units));
    }

    fn stat_named<'a>(&'a self, node: &'a Node, name: &'a [u8]) -> Stat<'a> {
        let (size, blocks) = match &node.kind {
            Kind::File(content) | Kind::Symlink(content) => {
                (content.size, content.allocated(&self.store.arena).div_ceil(512))
            }
            _ => (0, 0),
        };
        let rdev = if let Kind::Device { major, minor, .. } = node.kind { (major, minor) } else { (0, 0) };
        let target: &[u8] = match &node.kind {
            Kind::Symlink(content) => {
                content.small().map_or(b"", |block| self.store.arena.bytes(block, 0..size as usize))
            }
            _ => b"",
        };
        let nlink = match node.dir() {
            Some(dir) if node.links > 0 => 2 + dir.subdirs,
            _ => node.links.into(),
        };
        Stat {
            qid: node.qid(),
            mode: node.mode(),
            uid: node.uid,
            gid: node.gid,
            muid: node.muid,
            nlink,
            rdev,
            size,
            blocks,
            blksize: UNIT_BYTES,
            atime: node.atime,
            mtime: node.mtime,
            ctime: node.ctime,
            btime: node.btime,
            name,
            target,
        }
    }

    /// The last cookie that a listing of this directory hands out if it starts now.
    fn last_cookie(&self, key: Key) -> u64 {
        self.nodes[key].dir().map_or(u64::MAX, Dir::last_cookie)
    }

    /// The file and its content, for reading or writing.
    fn content(&mut self, key: Key) -> Result<(&mut Content, &mut Store)> {
        let content = self.nodes[key].content_mut().ok_or(Error::EINVAL)?;
        Ok((content, &mut self.store))
    }

    /// Where a write goes: its offset, or the end.
    fn write_range(&self, file: &File, offset: u64, count: usize) -> Result<std::ops::Range<u64>> {
        let node = &self.nodes[file.node];
        let Kind::File(content) = &node.kind else { return Err(Error::EINVAL) };
        let appends = node.bits & qt::APPEND != 0 || file.open.is_some_and(|open| open.append);
        let start = if appends { content.size } else { offset };
        match start.checked_add(count as u64) {
            Some(end) if end <= SIZE_MAX => Ok(start..end),
            _ => Err(Error::EFBIG),
        }
    }

    /// The content was changed; whoever may do that must not inherit the rights of a set-id program, but root may (write(2)).
    fn wrote(&mut self, key: Key, user: User, at: At) {
        let node = &mut self.nodes[key];
        node.changed(user.uid, at);
        if user.uid != 0 {
            node.permissions = permit::without_set_id(node.permissions);
        }
        self.drop_capability(key);
        if W::ON && self.has_name(key) {
            self.watch.node(key);
        }
    }

    /// Whether the file would be found again, so that its changes matter to a store that keeps the tree elsewhere.
    fn has_name(&self, key: Key) -> bool {
        self.nodes[key].links > 0
    }

    /// Bytes of a file were changed.
    #[inline(always)]
    fn wrote_bytes(&mut self, key: Key, range: std::ops::Range<u64>) {
        if W::ON && self.has_name(key) {
            self.watch.data(key, range);
        }
    }

    /// The name by which a file was reached goes when the file is closed, or at a restart.
    fn doom(&mut self, file: &File) {
        if let Ok(((dir, cookie), entry)) = self.entry_of(file)
            && !entry.doomed
        {
            self.nodes[dir].dir_mut().into_iter().for_each(|dir| dir.doom(cookie));
            self.watch.entry(dir, cookie);
        }
    }

    /// The size of a file was set by this user.
    fn resized(&mut self, key: Key, size: u64, user: User, at: At) {
        if W::ON && self.has_name(key) {
            self.watch.resized(key, size);
        }
        self.wrote(key, user, at);
    }

    fn open_node(&mut self, key: Key, user: User, flags: Open, at: At) -> Result<()> {
        let node = &mut self.nodes[key];
        match &node.kind {
            Kind::Dir(_) if flags.write || flags.truncate || flags.remove_on_close => return Err(Error::EISDIR),
            Kind::Symlink(_) => return Err(Error::ELOOP),
            Kind::Device { .. } | Kind::Fifo | Kind::Socket => return Err(Error::ENXIO),
            Kind::File(_) if node.bits & qt::EXCL != 0 && node.opens > 0 => return Err(Error::EBUSY),
            _ => {}
        }
        // open(9P): truncation of an append-only file is ignored.
        if flags.truncate && node.bits & qt::APPEND == 0 {
            let (content, store) = self.content(key)?;
            content.set_size(store, 0).map_err(enospc)?;
            self.resized(key, 0, user, at);
        }
        self.nodes[key].opens += 1;
        Ok(())
    }
}

fn enospc<E>(_: E) -> Error {
    Error::ENOSPC
}

const _: () = assert!(BLOCK_BYTES_MAX as u64 >= UNIT_BYTES);

#[cfg(test)]
mod tests;
