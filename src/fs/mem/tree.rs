//! Names: adding, removing and renaming them, and finding the name by which a file was reached.
//!
//! A file value keeps the name it was walked to, as directory, cookie and the number of the name.
//! If the name has moved, it is found through its node, which knows its latest name, or in
//! `others`, which has the further names of files with several. So an operation never acts on a
//! name that was not walked to.

use super::dir::{Dir, Entry};
use super::key::{Key, ROOT};
use super::node::{Kind, Node};
use super::watch::Watch;
use super::{File, Link, Mem, enospc, permit};
use crate::fs::mem::content::Content;
use crate::fs::{At, Error, Make, Result, User, mode};

/// Directories that a move of a directory looks at, from the new parent up to the root: as many as the
/// longest path has bytes (PATH_MAX). Beyond that the move fails with ELOOP, so the cost of a rename does
/// not grow with the depth of the tree.
pub(super) const PARENTS_MAX: usize = 4096;
/// Of those, a unit of work: 18 instructions each.
const PARENTS_PER_UNIT: usize = 64;

/// A rename that was checked: the directory and cookie of the name, where it goes, and the cookie of the name there that it replaces.
pub(super) struct Move {
    from: (Key, u64),
    to: Key,
    replaced: Option<u64>,
}

impl<W: Watch> Mem<W> {
    /// The directory and the cookie of the name by which a file was reached, wherever that is now. EBUSY for the root, which has none; ENOENT once it is gone.
    pub(super) fn name_of(&self, file: &File) -> Result<(Key, u64)> {
        self.entry_of(file).map(|(link, _)| link)
    }

    /// The same with the entry itself.
    pub(super) fn entry_of(&self, file: &File) -> Result<((Key, u64), &Entry)> {
        if file.node == ROOT {
            return Err(Error::EBUSY);
        }
        let Link { dir, cookie, id } = file.link;
        let named = |link| self.entry_at(link).filter(|entry| entry.id == id).map(|entry| (link, entry));
        let latest = || named(self.nodes[file.node].link);
        let other = || self.others.get(&id).and_then(|&link| named(link));
        named((dir, cookie)).or_else(latest).or_else(other).ok_or(Error::ENOENT)
    }

    fn entry_at(&self, (dir, cookie): (Key, u64)) -> Option<&Entry> {
        self.nodes.find(dir)?.dir()?.get(cookie)
    }

    /// The latest name of a directory, which has no others; nothing for the root and for one without a name.
    pub(super) fn link_of(&self, key: Key) -> Link {
        let (dir, cookie) = self.nodes[key].link;
        let entry = self.entry_at((dir, cookie)).filter(|entry| entry.node == key);
        Link { dir, cookie, id: entry.map_or(0, |entry| entry.id) }
    }

    /// The entry of a name in a directory.
    pub(super) fn entry(&self, dir: Key, name: &[u8]) -> Result<(u64, Key)> {
        let dir = self.nodes[dir].dir().ok_or(Error::ENOTDIR)?;
        let (cookie, entry) = dir.find(&self.hashes, name).ok_or(Error::ENOENT)?;
        Ok((cookie, entry.node))
    }

    /// The entry of a name that a request removes or moves. The right to search the directory is checked before the
    /// look-up: without it, the answer is the same for every name.
    pub(super) fn entry_for(&self, dir: Key, name: &[u8], user: User) -> Result<(u64, Key)> {
        let node = &self.nodes[dir];
        if node.is_dir() {
            self.rights.check(node, user, permit::EXEC)?;
        }
        self.entry(dir, name)
    }

    /// Makes a node under a new name.
    #[expect(clippy::too_many_arguments, reason = "what create(9P) and mknod(2) say of a new file")]
    pub(super) fn add(
        &mut self,
        dir: &File,
        name: &[u8],
        what: Make<'_>,
        permissions: u32,
        bits: u8,
        named: Option<u32>,
        at: At,
    ) -> Result<(Key, Link)> {
        self.check_new_name(dir.node, name, dir.user)?;
        let parent = &self.nodes[dir.node];
        // Linux: a set-gid directory passes its group on, and the bit to directories (inode(7)).
        let inherits = parent.permissions & mode::ISGID != 0;
        let gid = match named {
            Some(gid) if !inherits && gid != parent.gid => {
                self.rights.check_group(dir.user, gid)?;
                gid
            }
            _ => parent.gid,
        };
        self.store.make_inode_room();
        if self.inodes_free() == 0 {
            return Err(Error::ENOSPC);
        }
        let (kind, extra) = match what {
            Make::File => (Kind::File(Content::default()), 0),
            Make::Dir => (Kind::Dir(Box::new(Dir::new(dir.node))), if inherits { mode::ISGID } else { 0 }),
            Make::Symlink(target) => {
                let mut content = Content::default();
                content.write(&mut self.store, 0, target).map_err(enospc)?;
                (Kind::Symlink(content), 0)
            }
            Make::Device { block, major, minor } => (Kind::Device { block, major, minor }, 0),
            Make::Fifo => (Kind::Fifo, 0),
            Make::Socket => (Kind::Socket, 0),
        };
        let permissions = self.rights.granted_new(dir.user, gid, named, permissions) | extra;
        let path = self.nodes.next_path();
        let key = self.nodes.add(Node::new(kind, path, permissions, bits, dir.user, gid, at));
        self.watch.made(key);
        if let Make::Symlink(target) = what {
            self.watch.data(key, 0..target.len() as u64);
        }
        let entry = self.new_entry(name, key);
        let id = entry.id;
        let cookie = self.put_name(dir.node, None, entry, dir.user, at);
        Ok((key, Link { dir: dir.node, cookie, id }))
    }

    /// Files that can still be made. As in tmpfs(5) a further name of a file counts as one: it takes memory like one. So does an extended attribute.
    pub(super) fn inodes_free(&self) -> usize {
        self.inodes_max.saturating_sub(self.inodes())
    }

    pub(super) fn new_entry(&mut self, name: &[u8], node: Key) -> Entry {
        self.last_name += 1;
        Entry { name: name.into(), node, id: self.last_name, doomed: false }
    }

    /// Whether a name can be made in a directory that still has one itself.
    fn check_new_name(&self, dir: Key, name: &[u8], user: User) -> Result<()> {
        let node = &self.nodes[dir];
        let entries = node.dir().ok_or(Error::ENOTDIR)?;
        if node.links == 0 {
            return Err(Error::ENOENT);
        }
        self.rights.check(node, user, permit::EXEC)?;
        if entries.find(&self.hashes, name).is_some() {
            return Err(Error::EEXIST);
        }
        self.rights.check(node, user, permit::WRITE)
    }

    /// Puts a name into a directory, at this cookie or at a new one. The caller has checked everything.
    pub(super) fn put_name(&mut self, dir: Key, cookie: Option<u64>, entry: Entry, user: User, at: At) -> u64 {
        let key = entry.node;
        let cookie = self.insert_name(dir, cookie, entry, Some((user, at)));
        self.watch.node(dir);
        self.watch.node(key);
        self.watch.entry(dir, cookie);
        cookie
    }

    /// The same without a mark. `by`: who changes times and versions by it, and when.
    #[inline(always)]
    pub(super) fn insert_name(&mut self, dir: Key, cookie: Option<u64>, entry: Entry, by: Option<(User, At)>) -> u64 {
        let key = entry.node;
        let node = &self.nodes[key];
        if node.links > 0 {
            self.further_names += 1;
            let link = node.link;
            // A latest name that has gone is no name.
            if let Some(latest) = self.entry_at(link).filter(|latest| latest.node == key) {
                self.others.insert(latest.id, link);
            }
        }
        let is_dir = self.nodes[key].is_dir();
        let parent = &mut self.nodes[dir];
        if let Some((user, at)) = by {
            parent.changed(user.uid, at);
        }
        let entries = parent.dir_mut().expect("names are put into directories");
        let cookie = entries.put(&self.hashes, cookie, entry);
        entries.subdirs += u64::from(is_dir);
        let node = &mut self.nodes[key];
        node.links += 1;
        if let Some((_, at)) = by {
            node.ctime = at.wall;
        }
        node.link = (dir, cookie);
        if let Some(inside) = node.dir_mut() {
            inside.parent = dir;
        }
        cookie
    }

    /// Takes a name away and leaves the node, which may have none now.
    pub(super) fn take_name(&mut self, dir: Key, cookie: u64) -> Entry {
        let entries = self.nodes[dir].dir_mut().expect("names are taken out of directories");
        let entry = entries.take(&self.hashes, cookie).expect("the name was just found");
        let node = &mut self.nodes[entry.node];
        node.links -= 1;
        if node.links > 0 {
            self.further_names -= 1;
        }
        self.others.remove(&entry.id);
        if self.nodes[entry.node].is_dir() {
            self.nodes[dir].dir_mut().expect("still a directory").subdirs -= 1;
        }
        entry
    }

    /// Removes a name for good. A directory must be empty, unless it stays in use; then it is left alone.
    pub(super) fn take_out(&mut self, dir: Key, cookie: u64, user: User, at: At) {
        let key = self.take_name(dir, cookie).node;
        self.watch.no_entry(dir, cookie);
        self.watch.node(dir);
        self.nodes[dir].changed(user.uid, at);
        let node = &mut self.nodes[key];
        node.ctime = at.wall;
        if node.links > 0 {
            self.watch.node(key);
        } else {
            self.watch.gone(key, node.path);
        }
        if let Some(inside) = node.dir_mut() {
            // The directory above may go before those who are still in here.
            inside.parent = key;
        }
        self.free_if_unused(key);
    }

    /// One file value less.
    pub(super) fn let_go(&mut self, file: &File) {
        let node = &mut self.nodes[file.node];
        node.uses -= 1;
        node.opens -= u32::from(file.open.is_some());
        self.free_if_unused(file.node);
    }

    pub(super) fn free_if_unused(&mut self, key: Key) {
        if self.nodes[key].links == 0 && self.nodes[key].uses == 0 {
            self.drop_xattrs(key);
            self.nodes.remove_with_bytes(key, &mut self.store);
        }
    }

    pub(super) fn link_in(&mut self, dir: &File, name: &[u8], file: &File, at: At) -> Result<()> {
        let node = &self.nodes[file.node];
        if node.is_dir() {
            return Err(Error::EPERM);
        }
        if node.links == 0 {
            return Err(Error::ENOENT);
        }
        if node.links == u32::MAX {
            return Err(Error::EMLINK);
        }
        self.check_new_name(dir.node, name, dir.user)?;
        self.store.make_inode_room();
        if self.inodes_free() == 0 {
            return Err(Error::ENOSPC);
        }
        let entry = self.new_entry(name, file.node);
        self.put_name(dir.node, None, entry, dir.user, at);
        Ok(())
    }

    /// Whether a file may get a new name in its own directory. `None`: nothing is to be done, since it has that name. A name that is there is an error (stat(9P)), or
    /// with `replace` is replaced (rename(2)).
    pub(super) fn check_rename_here(&self, file: &File, name: &[u8], replace: bool) -> Result<Option<Move>> {
        let (parent, cookie) = self.name_of(file)?;
        if self.entry(parent, name) == Ok((cookie, file.node)) {
            return Ok(None);
        }
        self.rights.check_removal(&self.nodes[parent], &self.nodes[file.node], file.user)?;
        if !replace {
            self.check_new_name(parent, name, file.user)?;
        }
        let target = self.check_target(file.node, parent, name, file.user)?;
        Ok(target.map(|replaced| Move { from: (parent, cookie), to: parent, replaced }))
    }

    /// What a rename of a file to this name replaces, if anything: its cookie. `None`: it is a name of the same file, so nothing is to be done (rename(2)).
    fn check_target(&self, key: Key, to: Key, name: &[u8], user: User) -> Result<Option<Option<u64>>> {
        let Ok((cookie, there)) = self.entry(to, name) else { return Ok(Some(None)) };
        if there == key {
            return Ok(None);
        }
        self.rights.check_removal(&self.nodes[to], &self.nodes[there], user)?;
        match (self.nodes[key].is_dir(), self.nodes[there].dir()) {
            (true, None) => Err(Error::ENOTDIR),
            (false, Some(_)) => Err(Error::EISDIR),
            (true, Some(inside)) if !inside.is_empty() => Err(Error::ENOTEMPTY),
            _ => Ok(Some(Some(cookie))),
        }
    }

    /// Does a rename that was checked.
    pub(super) fn move_name(&mut self, rename: Move, new_name: &[u8], user: User, at: At) {
        let Move { from: (from, cookie), to, replaced } = rename;
        let place = match replaced {
            Some(old) => {
                self.take_out(to, old, user, at);
                Some(old)
            }
            None => (from == to).then_some(cookie),
        };
        let entry = self.take_name(from, cookie);
        self.watch.no_entry(from, cookie);
        self.watch.node(from);
        self.nodes[from].changed(user.uid, at);
        self.put_name(to, place, Entry { name: new_name.into(), ..entry }, user, at);
    }

    /// rename(2).
    pub(super) fn move_entry(
        &mut self,
        (from, cookie): (Key, u64),
        to: Key,
        new_name: &[u8],
        user: User,
        at: At,
    ) -> Result<()> {
        let key = self.nodes[from].dir().and_then(|dir| dir.get(cookie)).ok_or(Error::ENOENT)?.node;
        let target = &self.nodes[to];
        if !target.is_dir() {
            return Err(Error::ENOTDIR);
        }
        if target.links == 0 {
            return Err(Error::ENOENT);
        }
        self.rights.check_removal(&self.nodes[from], &self.nodes[key], user)?;
        self.rights.check(target, user, permit::WRITE | permit::EXEC)?;
        let is_dir = self.nodes[key].is_dir();
        // A directory that stays in its own parent cannot come to be inside of itself.
        if is_dir && from != to && self.is_inside(to, key)? {
            return Err(Error::EINVAL);
        }
        if is_dir && from != to {
            // Its ".." changes (rename(2), EACCES).
            self.rights.check(&self.nodes[key], user, permit::WRITE)?;
        }
        if let Some(replaced) = self.check_target(key, to, new_name, user)? {
            self.move_name(Move { from: (from, cookie), to, replaced }, new_name, user, at);
        }
        Ok(())
    }

    /// Whether `dir` is `top` or below it. Goes up step by step: [`PARENTS_MAX`] steps, then ELOOP.
    fn is_inside(&self, dir: Key, top: Key) -> Result<bool> {
        if dir != top && self.nodes[top].dir().is_none_or(|top| top.subdirs == 0) {
            // A directory without subdirectories has nothing below it that could be `dir`.
            return Ok(false);
        }
        let mut at = dir;
        for steps in 0..PARENTS_MAX {
            if at == top || at == ROOT {
                self.spend((steps / PARENTS_PER_UNIT) as u32);
                return Ok(at == top);
            }
            at = self.nodes[at].dir().map_or(ROOT, |dir| dir.parent);
        }
        self.spend((PARENTS_MAX / PARENTS_PER_UNIT) as u32);
        Err(Error::ELOOP)
    }
}
