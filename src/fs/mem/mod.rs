//! memfs: a complete tree of files in the arena.
//!
//! - `node`: files of every kind, without their names; a flat table, so nothing recurses. `key`: their places in it.
//! - `dir`: names and cookies.
//! - `content`, `blocks`, `parts`: where the bytes of files are. `change`: how bytes of a large file change.
//! - `landing`, `store`: how large payloads arrive and are published; the memory behind it all.
//! - `permit`: who may do what.
//! - `atime`: when a read moves an access time.
//! - `attrs`, `locks`: extended attributes and record locks, beside the nodes.
//! - `tree`: names come and go.
//! - `waste`: what files have let go of, until it is freed.
//!
//! Must not know: fids, messages, sockets.

mod atime;
mod attrs;
mod blocks;
mod change;
mod content;
mod dir;
mod key;
mod landing;
pub mod locks;
mod node;
mod parts;
mod permit;
mod store;
mod tree;
mod waste;

use super::mount::Names;
use super::{
    At, Change, Entry, Error, Filesystem, Grant, Lock, Make, Open, Out, Outcome, Result, SetTime, SetXattr, Stat,
    StatFs, Token, User, mode,
};
use crate::arena::{Arena, BLOCK_BYTES_MAX, Space};
use crate::wire::{Qid, qt};
pub use atime::Atime;
pub use blocks::NODE_BYTES;
pub use parts::{PAGE as PAGE_BYTES, PARTS_BYTES};
pub use permit::Groups;

use attrs::Attrs;
use content::Content;
use dir::{DOT, DOT_DOT, Dir};
use key::{Key, ROOT};
use locks::Locks;
use node::{Kind, Node, Nodes};
use permit::Rights;
use std::cell::Cell;
use std::collections::BTreeMap;
use store::Store;

/// Attach names of the tree.
pub const ATTACH_NAMES: Names = &[b"", b"/"];

/// Largest size of a file (off_t).
const SIZE_MAX: u64 = i64::MAX as u64;
/// Blocks that a turn takes back of those that replies were the last to hold.
const COLLECT_MAX: usize = 1024;
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

/// The tree.
pub struct Mem {
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
    hash_key: u64,
}

/// A file as one session holds it.
#[derive(Debug)]
pub struct File {
    node: Key,
    user: User,
    link: Link,
    open: Option<Open>,
    /// Tells it apart from others once it has locked something; 0 until then.
    locker: u64,
    /// Of an open directory: the last cookie that its listing hands out. It was the last one given when the directory was opened, or listed from its start.
    last_cookie: u64,
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
            hash_key,
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
            self.wrote(key, user, at);
        }
        self.nodes[key].opens += 1;
        Ok(())
    }
}

fn enospc<E>(_: E) -> Error {
    Error::ENOSPC
}

impl Filesystem for Mem {
    type File = File;

    fn init(&mut self, at: At) -> Result<()> {
        let root = &mut self.nodes[ROOT];
        (root.atime, root.mtime, root.ctime, root.btime) = (at.wall, at.wall, at.wall, at.wall);
        Ok(())
    }

    fn cleanup(&mut self) -> Result<()> {
        self.locks.clear();
        self.drop_all_xattrs();
        // The root stays, empty, and so does what is still in use, without its bytes: nothing that is held becomes invalid.
        let store = &mut self.store;
        self.nodes.retain(|key, node| {
            if let Some(content) = node.charged_mut() {
                content.clear(store);
            }
            if let Some(dir) = node.dir_mut() {
                *dir = Dir::new(key);
            }
            let is_root = key == ROOT;
            node.links = u32::from(is_root);
            is_root || node.uses > 0
        });
        self.others.clear();
        self.further_names = 0;
        self.store.release(usize::MAX);
        self.store.arena.collect();
        Ok(())
    }

    fn attach(&mut self, user: User, aname: &[u8]) -> Result<File> {
        if !ATTACH_NAMES.contains(&aname) {
            return Err(Error::ENOENT);
        }
        self.nodes[ROOT].uses += 1;
        Ok(File::walked(ROOT, user, Link { dir: ROOT, cookie: 0, id: 0 }))
    }

    fn lookup(&mut self, dir: &File, name: &[u8]) -> Result<File> {
        let node = &self.nodes[dir.node];
        let entries = node.dir().ok_or(Error::ENOTDIR)?;
        self.rights.check(node, dir.user, permit::EXEC)?;
        let (key, link) = match name {
            b"." => (dir.node, dir.link),
            b".." => (entries.parent, self.link_of(entries.parent)),
            name => {
                let (cookie, entry) = entries.find(self.hash_key, name).ok_or(Error::ENOENT)?;
                (entry.node, Link { dir: dir.node, cookie, id: entry.id })
            }
        };
        self.nodes[key].uses += 1;
        Ok(File::walked(key, dir.user, link))
    }

    fn duplicate(&mut self, file: &File) -> File {
        self.nodes[file.node].uses += 1;
        File::walked(file.node, file.user, file.link)
    }

    fn attr(&self, file: &File) -> Qid {
        self.nodes[file.node].qid()
    }

    fn open(&mut self, file: &mut File, flags: Open, at: At) -> Result<()> {
        let node = &self.nodes[file.node];
        self.rights.check(node, file.user, permit::wanted(node, flags))?;
        if flags.remove_on_close {
            let (parent, _) = self.name_of(file)?;
            self.rights.check_removal(&self.nodes[parent], &self.nodes[file.node], file.user)?;
        }
        self.open_node(file.node, file.user, flags, at)?;
        file.open = Some(flags);
        file.last_cookie = self.last_cookie(file.node);
        Ok(())
    }

    fn create(
        &mut self,
        dir: &mut File,
        name: &[u8],
        flags: Open,
        mode: u32,
        bits: u8,
        gid: Option<u32>,
        at: At,
    ) -> Result<()> {
        let what = if mode & mode::IFMT == mode::IFDIR { Make::Dir } else { Make::File };
        if what == Make::Dir && (flags.write || flags.truncate || flags.remove_on_close) {
            return Err(Error::EISDIR);
        }
        let (key, link) = self.add(dir, name, what, mode, bits, gid, at)?;
        let last_cookie = self.last_cookie(key);
        let made = File { open: Some(flags), last_cookie, ..File::walked(key, dir.user, link) };
        self.nodes[key].uses += 1;
        self.nodes[key].opens = 1;
        let parent = std::mem::replace(dir, made);
        self.let_go(&parent);
        Ok(())
    }

    fn read(&mut self, file: &mut File, offset: u64, mut out: Out<'_>, at: At) -> Result<Outcome<()>> {
        let node = &mut self.nodes[file.node];
        let content = node.content_mut().ok_or(Error::EINVAL)?;
        content.read(&mut self.store, offset, &mut out);
        self.atime.read(node, at);
        Ok(Outcome::Done(()))
    }

    fn write(&mut self, file: &mut File, offset: u64, data: &[u8], at: At) -> Result<Outcome<u32>> {
        // Nothing goes anywhere, so no offset is too far (write(2)).
        if !data.is_empty() {
            let range = self.write_range(file, offset, data.len())?;
            let (content, store) = self.content(file.node)?;
            content.write(store, range.start, data).map_err(enospc)?;
            self.wrote(file.node, file.user, at);
        }
        Ok(Outcome::Done(data.len() as u32))
    }

    fn grant(&mut self, file: &mut File, offset: u64, count: u32, _: At) -> Result<Option<Grant>> {
        let range = self.write_range(file, offset, count as usize)?;
        let place = range.start;
        let (content, store) = self.content(file.node)?;
        let mut space = Space::default();
        content.grant(store, &mut space, range).map_err(enospc)?;
        Ok(Some(Grant { space, offset, place, count }))
    }

    fn extend(&mut self, file: &mut File, grant: &mut Grant) -> Result<()> {
        let start = grant.place + grant.space.len() as u64;
        let rest = start..start + grant.missing() as u64;
        let (content, store) = self.content(file.node)?;
        content.grant(store, &mut grant.space, rest).map_err(enospc)
    }

    fn commit(&mut self, file: &mut File, grant: Grant, at: At) -> Result<Outcome<u32>> {
        let Grant { space, offset, place, count } = grant;
        if space.left() > 0 || space.len() < count as usize {
            // What has not arrived is whatever the memory held before.
            return Err(Error::EIO);
        }
        let range = self.write_range(file, offset, count as usize)?;
        let (content, store) = self.content(file.node)?;
        content.commit(store, space, place, range.start).map_err(enospc)?;
        self.wrote(file.node, file.user, at);
        Ok(Outcome::Done(count))
    }

    fn close(&mut self, file: File, at: At) -> Result<()> {
        if file.locker != 0 {
            self.locks.release(file.node, file.user.peer, file.locker);
            self.spend(self.locks.spent());
        }
        if file.open.is_some_and(|open| open.remove_on_close)
            && let Ok((parent, cookie)) = self.name_of(&file)
        {
            self.take_out(parent, cookie, file.user, at);
        }
        self.let_go(&file);
        Ok(())
    }

    fn remove(&mut self, file: &mut File, at: At) -> Result<()> {
        let (parent, cookie) = self.name_of(file)?;
        self.rights.check_removal(&self.nodes[parent], &self.nodes[file.node], file.user)?;
        if self.nodes[file.node].dir().is_some_and(|dir| !dir.is_empty()) {
            return Err(Error::ENOTEMPTY);
        }
        self.take_out(parent, cookie, file.user, at);
        Ok(())
    }

    fn stat(&self, file: &File) -> Result<Stat<'_>> {
        let name: &[u8] = match self.entry_of(file) {
            Ok((_, entry)) => &entry.name,
            Err(_) if file.node == ROOT => b"/",
            Err(_) => b"",
        };
        Ok(self.stat_named(&self.nodes[file.node], name))
    }

    fn wstat(&mut self, file: &mut File, change: &Change<'_>, at: At) -> Result<()> {
        let node = &self.nodes[file.node];
        self.rights.check_change(node, file.user, change, file.open.is_some_and(|open| open.write))?;
        if change.size.is_some_and(|size| size > SIZE_MAX) {
            return Err(Error::EFBIG);
        }
        let renamed = match change.name {
            Some(name) => self.check_rename_here(file, name, change.replace)?,
            None => None,
        };
        // What is checked is the whole request. What acts is the part of it that differs from the file.
        let change = &permit::effective(&self.nodes[file.node], change, renamed.is_some());
        if *change == Change::default() {
            return Ok(());
        }
        // The size is the one change that can still fail.
        if let Some(size) = change.size {
            let (content, store) = self.content(file.node)?;
            content.set_size(store, size).map_err(enospc)?;
            self.wrote(file.node, file.user, at);
        }
        if let (Some(renamed), Some(name)) = (renamed, change.name) {
            self.move_name(renamed, name, file.user, at);
        }
        let node = &mut self.nodes[file.node];
        let time = |set: SetTime| match set {
            SetTime::Now => at.wall,
            SetTime::To(time) => time,
        };
        if change.uid.is_some() || change.gid.is_some() {
            (node.uid, node.gid) = (change.uid.unwrap_or(node.uid), change.gid.unwrap_or(node.gid));
            if !node.is_dir() {
                node.permissions = permit::without_set_id(node.permissions);
            }
            self.drop_capability(file.node);
        }
        let node = &mut self.nodes[file.node];
        if let Some(asked) = change.mode {
            node.permissions = self.rights.granted(file.user, node.gid, asked & mode::PERM);
        }
        node.bits = change.bits.map_or(node.bits, |asked| asked & node::BITS);
        node.atime = change.atime.map_or(node.atime, time);
        node.mtime = change.mtime.map_or(node.mtime, time);
        node.ctime = at.wall;
        Ok(())
    }

    fn list(&mut self, dir: &mut File, cookie: u64, at: At, each: &mut dyn FnMut(&Entry<'_>) -> bool) -> Result<()> {
        let node = &mut self.nodes[dir.node];
        if node.is_dir() {
            self.atime.read(node, at);
        }
        if cookie == 0 {
            dir.last_cookie = self.last_cookie(dir.node);
        }
        let entries = self.nodes[dir.node].dir().ok_or(Error::ENOTDIR)?;
        let dots: [(u64, Key, &[u8]); 2] = [(DOT, dir.node, b"."), (DOT_DOT, entries.parent, b"..")];
        for (own, key, name) in dots {
            if cookie < own && !each(&Entry { cookie: own, stat: self.stat_named(&self.nodes[key], name) }) {
                return Ok(());
            }
        }
        for (own, entry) in entries.between(cookie, dir.last_cookie) {
            if !each(&Entry { cookie: own, stat: self.stat_named(&self.nodes[entry.node], &entry.name) }) {
                break;
            }
        }
        Ok(())
    }

    fn make(&mut self, dir: &File, name: &[u8], what: Make<'_>, mode: u32, gid: Option<u32>, at: At) -> Result<Qid> {
        let (key, _) = self.add(dir, name, what, mode, 0, gid, at)?;
        Ok(self.nodes[key].qid())
    }

    fn link(&mut self, dir: &File, name: &[u8], file: &File, at: At) -> Result<()> {
        self.link_in(dir, name, file, at)
    }

    fn unlink(&mut self, dir: &File, name: &[u8], want_dir: bool, at: At) -> Result<()> {
        let (cookie, key) = self.entry_for(dir.node, name, dir.user)?;
        let node = &self.nodes[key];
        self.rights.check_removal(&self.nodes[dir.node], node, dir.user)?;
        match node.dir() {
            Some(_) if !want_dir => return Err(Error::EISDIR),
            None if want_dir => return Err(Error::ENOTDIR),
            Some(inside) if !inside.is_empty() => return Err(Error::ENOTEMPTY),
            _ => {}
        }
        self.take_out(dir.node, cookie, dir.user, at);
        Ok(())
    }

    fn rename(&mut self, from: &File, name: &[u8], to: &File, new_name: &[u8], at: At) -> Result<()> {
        let (cookie, _) = self.entry_for(from.node, name, from.user)?;
        self.move_entry((from.node, cookie), to.node, new_name, from.user, at)
    }

    fn rename_file(&mut self, file: &mut File, to: &File, new_name: &[u8], at: At) -> Result<()> {
        let link = self.name_of(file)?;
        self.move_entry(link, to.node, new_name, file.user, at)
    }

    fn xattr(&self, file: &File, name: &[u8]) -> Result<&[u8]> {
        self.find_xattr(file.node, file.user, name)
    }

    fn xattrs(&self, file: &File, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.list_xattrs(file.node, file.user, each);
        Ok(())
    }

    fn set_xattr(&mut self, file: &File, name: &[u8], value: Option<&[u8]>, how: SetXattr, at: At) -> Result<()> {
        self.put_xattr(file.node, file.user, name, value, how, at)
    }

    fn lock(&mut self, file: &mut File, lock: &Lock<'_>) -> Result<bool> {
        if file.locker == 0 {
            self.lockers += 1;
            file.locker = self.lockers;
        }
        let set = self.locks.set(file.node, file.user.peer, file.locker, lock);
        self.spend(self.locks.spent());
        set
    }

    fn conflict(&self, file: &File, lock: &Lock<'_>) -> Result<Option<Lock<'_>>> {
        let found = self.locks.conflict(file.node, file.user.peer, lock);
        self.spend(self.locks.spent());
        Ok(found)
    }

    fn spent(&mut self) -> u32 {
        self.spent.take().saturating_add(self.store.spent())
    }

    fn target_read(&mut self, file: &File, at: At) {
        self.atime.read(&mut self.nodes[file.node], at);
    }

    fn statfs(&self, _: &File) -> Result<StatFs> {
        Ok(StatFs {
            bsize: UNIT_BYTES as u32,
            blocks: self.store.arena.usable_bytes() as u64 / UNIT_BYTES,
            bfree: self.store.free_bytes() / UNIT_BYTES,
            files: self.inodes_max as u64,
            ffree: self.inodes_free() as u64,
            fsid: 0,
        })
    }

    /// Nothing in memory waits. What replies and files have let go of is freed here, a part in each turn.
    fn ready(&mut self) -> Option<Token> {
        self.store.arena.collect_some(COLLECT_MAX);
        if self.store.has_waste() {
            self.store.release(waste::TURN_MAX);
            self.store.spent();
        }
        None
    }

    fn has_work(&self) -> bool {
        self.store.has_waste() || self.store.arena.has_returns()
    }
}

const _: () = assert!(BLOCK_BYTES_MAX as u64 >= UNIT_BYTES);

#[cfg(test)]
mod tests;
