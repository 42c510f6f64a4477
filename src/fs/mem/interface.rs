//! The operations of memfs as the [`Filesystem`] trait names them. Each checks rights first, then calls
//! the files beside this one.
//!
//! Must not know: fids, messages, sockets.

use super::dir::{DOT, DOT_DOT, Dir};
use super::key::{Key, ROOT};
use super::watch::Watch;
use super::{ATTACH_NAMES, File, Link, Mem, SIZE_MAX, UNIT_BYTES, enospc, node, permit, waste};
use crate::arena::Space;
use crate::fs::{
    At, Change, Entry, Error, Filesystem, Grant, Lock, Make, Open, Out, Result, SetTime, SetXattr, Stat, StatFs, User,
    mode,
};
use crate::wire::Qid;

/// Limit on the blocks that one turn takes back from replies that have left.
const COLLECT_MAX: usize = 1024;

impl<W: Watch> Filesystem for Mem<W> {
    type File = File;

    fn init(&mut self, at: At) -> Result<()> {
        let root = &mut self.nodes[ROOT];
        (root.atime, root.mtime, root.ctime, root.btime) = (at.wall, at.wall, at.wall, at.wall);
        self.watch.node(ROOT);
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
                let (cookie, entry) = entries.find(&self.hashes, name).ok_or(Error::ENOENT)?;
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
        if W::ON && flags.remove_on_close {
            self.doom(file);
        }
        file.open = Some(flags.into());
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
        let made = File { open: Some(flags.into()), last_cookie, ..File::walked(key, dir.user, link) };
        if W::ON && flags.remove_on_close {
            self.doom(&made);
        }
        self.nodes[key].uses += 1;
        self.nodes[key].opens = 1;
        let parent = std::mem::replace(dir, made);
        self.let_go(&parent);
        Ok(())
    }

    fn read(&mut self, file: &mut File, offset: u64, mut out: Out<'_>, at: At) -> Result<()> {
        let node = &mut self.nodes[file.node];
        let content = node.content_mut().ok_or(Error::EINVAL)?;
        content.read(&mut self.store, offset, &mut out);
        self.atime.read(node, at);
        Ok(())
    }

    fn write(&mut self, file: &mut File, offset: u64, data: &[u8], at: At) -> Result<u32> {
        // Nothing goes anywhere, so no offset is too far (write(2)).
        if !data.is_empty() {
            let range = self.write_range(file, offset, data.len())?;
            let (content, store) = self.content(file.node)?;
            content.write(store, range.start, data).map_err(enospc)?;
            self.wrote_bytes(file.node, range);
            self.wrote(file.node, file.user, at);
        }
        Ok(data.len() as u32)
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

    fn commit(&mut self, file: &mut File, grant: Grant, at: At) -> Result<u32> {
        let Grant { space, offset, place, count } = grant;
        if space.left() > 0 || space.len() < count as usize {
            // What has not arrived is whatever the memory held before.
            return Err(Error::EIO);
        }
        let range = self.write_range(file, offset, count as usize)?;
        let (content, store) = self.content(file.node)?;
        content.commit(store, space, place, range.start).map_err(enospc)?;
        self.wrote_bytes(file.node, range);
        self.wrote(file.node, file.user, at);
        Ok(count)
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
            self.resized(file.node, size, file.user, at);
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
        if W::ON && self.has_name(file.node) {
            self.watch.node(file.node);
        }
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
    fn work(&mut self) {
        self.store.arena.collect_some(COLLECT_MAX);
        if self.store.has_waste() {
            self.store.release(waste::TURN_MAX);
            self.store.spent();
        }
    }

    fn has_work(&self) -> bool {
        self.store.has_waste() || self.store.arena.has_returns()
    }
}
