//! A file system as naive as can be: vectors, maps, and scans of everything. It knows the rules and nothing of memory.

mod attrs;
mod locks;

use locks::Locked;
use ring9::fs::{Error, Make, Open, Result, Time, User, mode};
use ring9::wire::qt;
use std::collections::{BTreeMap, BTreeSet};

pub const ROOT: usize = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    File,
    Dir,
    Symlink(Vec<u8>),
    Device { block: bool, major: u32, minor: u32 },
    Fifo,
    Socket,
}

/// A file. Never leaves the list of all files, so that its place names it for ever.
#[derive(Clone, Debug)]
pub struct Inode {
    pub what: What,
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub permissions: u32,
    pub bits: u8,
    pub uid: u32,
    pub gid: u32,
    pub muid: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    /// Changes of content so far.
    pub changes: u64,
    /// The directory above, of a directory.
    parent: usize,
}

/// A name. Keeps its place in the list of all names while it is changed and moved; `None` once it is gone.
#[derive(Clone, Debug)]
struct Name {
    dir: usize,
    name: Vec<u8>,
    node: usize,
    /// When it came to be as it is: a number that only grows.
    since: u64,
}

/// A file value.
#[derive(Clone, Debug)]
pub struct Handle {
    pub node: usize,
    pub user: User,
    /// The name it was reached by.
    name: Option<usize>,
    pub open: Option<Open>,
}

#[derive(Clone)]
pub struct Model {
    pub inodes: Vec<Inode>,
    names: Vec<Option<Name>>,
    pub handles: Vec<Option<Handle>>,
    pub files_max: usize,
    groups: Option<BTreeSet<(u32, u32)>>,
    locks: Vec<Locked>,
    pub now: Time,
    /// Names that came to be so far.
    named: u64,
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const EXEC: u32 = 1;

impl Model {
    pub fn new(files_max: usize, groups: Option<&[(u32, u32)]>, now: Time) -> Model {
        let groups = groups.map(|pairs| pairs.iter().copied().collect());
        let mut model = Model {
            inodes: Vec::new(),
            names: Vec::new(),
            handles: Vec::new(),
            files_max,
            groups,
            locks: Vec::new(),
            now,
            named: 0,
        };
        let root = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };
        model.add_inode(What::Dir, 0o777, 0, root, 0, ROOT);
        model
    }

    fn add_inode(&mut self, what: What, permissions: u32, bits: u8, user: User, gid: u32, parent: usize) -> usize {
        let now = self.now;
        self.inodes.push(Inode {
            what,
            data: Vec::new(),
            xattrs: BTreeMap::new(),
            permissions,
            bits,
            uid: user.uid,
            gid,
            muid: user.uid,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            changes: 0,
            parent,
        });
        self.inodes.len() - 1
    }

    /// Names of a file, or of everything in a directory, by their places.
    fn names_where(&self, wanted: impl Fn(&Name) -> bool) -> Vec<usize> {
        (0..self.names.len()).filter(|&place| self.names[place].as_ref().is_some_and(&wanted)).collect()
    }

    pub fn find(&self, dir: usize, name: &[u8]) -> Option<usize> {
        self.names_where(|entry| entry.dir == dir && entry.name == name).first().copied()
    }

    fn entry(&self, place: usize) -> &Name {
        self.names[place].as_ref().expect("a name that is there")
    }

    /// What is in a directory, by name.
    pub fn entries(&self, dir: usize) -> BTreeMap<Vec<u8>, usize> {
        let names = self.names_where(|entry| entry.dir == dir);
        names.into_iter().map(|place| (self.entry(place).name.clone(), self.entry(place).node)).collect()
    }

    /// Names of all files.
    pub fn names(&self) -> usize {
        self.names.iter().flatten().count()
    }

    /// When each name in a directory came to be as it is.
    pub fn since(&self, dir: usize) -> BTreeMap<Vec<u8>, u64> {
        let names = self.names_where(|entry| entry.dir == dir);
        names.into_iter().map(|place| (self.entry(place).name.clone(), self.entry(place).since)).collect()
    }

    fn named(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    pub fn parent(&self, dir: usize) -> usize {
        if self.links(dir) == 0 { dir } else { self.inodes[dir].parent }
    }

    fn is_dir(&self, node: usize) -> bool {
        self.inodes[node].what == What::Dir
    }

    /// Names of a file; the root has one though it has none.
    fn links(&self, node: usize) -> usize {
        usize::from(node == ROOT) + self.names_where(|entry| entry.node == node).len()
    }

    pub fn nlink(&self, node: usize) -> u64 {
        let subdirs = self.names_where(|entry| entry.dir == node && self.is_dir(entry.node)).len();
        let links = self.links(node);
        (if self.is_dir(node) && links > 0 { 2 + subdirs } else { links }) as u64
    }

    pub fn mode(&self, node: usize) -> u32 {
        let kind = match self.inodes[node].what {
            What::File => mode::IFREG,
            What::Dir => mode::IFDIR,
            What::Symlink(_) => mode::IFLNK,
            What::Device { block: true, .. } => mode::IFBLK,
            What::Device { block: false, .. } => mode::IFCHR,
            What::Fifo => mode::IFIFO,
            What::Socket => mode::IFSOCK,
        };
        kind | self.inodes[node].permissions
    }

    /// The name that a handle shows.
    pub fn name_of(&self, handle: &Handle) -> Vec<u8> {
        match handle.name.and_then(|place| self.names[place].as_ref()) {
            Some(entry) => entry.name.clone(),
            None if handle.node == ROOT => b"/".to_vec(),
            None => Vec::new(),
        }
    }

    /// Files in use, and further names.
    pub fn files_used(&self) -> usize {
        let nameless = |&node: &usize| self.links(node) == 0;
        let held: BTreeSet<usize> = self.handles.iter().flatten().map(|handle| handle.node).filter(nameless).collect();
        let with_xattrs = (0..self.inodes.len()).filter(|&node| !self.inodes[node].xattrs.is_empty());
        let used = with_xattrs.filter(|node| self.links(*node) > 0 || held.contains(node));
        let xattrs: usize = used.map(|node| self.inodes[node].xattrs.len()).sum();
        // The root, every name, what is only held, and every attribute.
        1 + self.names() + held.len() + xattrs
    }

    fn member(&self, user: User, gid: u32) -> bool {
        let own = user.uid == 0 || user.gid == Some(gid);
        own || self.groups.as_ref().is_some_and(|groups| groups.contains(&(user.uid, gid)))
    }

    /// Whether the user counts as a member where the request names the group, or acts on a file of it.
    fn accepted(&self, user: User, gid: u32) -> bool {
        self.member(user, gid) || self.groups.is_none() && user.vouched
    }

    fn may(&self, node: usize, user: User, want: u32) -> Result<()> {
        let inode = &self.inodes[node];
        let (owner, group, other) = (inode.permissions >> 6 & 7, inode.permissions >> 3 & 7, inode.permissions & 7);
        let has = if user.uid == 0 {
            let exec = self.is_dir(node) || owner & 1 != 0 || group & 1 != 0 || other & 1 != 0;
            if exec { 7 } else { 6 }
        } else if user.uid == inode.uid {
            owner
        } else if self.groups.is_none() {
            group | other
        } else if self.member(user, inode.gid) {
            group
        } else {
            other
        };
        if has & want == want { Ok(()) } else { Err(Error::EACCES) }
    }

    fn may_remove(&self, dir: usize, node: usize, user: User) -> Result<()> {
        self.may(dir, user, WRITE | EXEC)?;
        let sticky = self.inodes[dir].permissions & 0o1000 != 0;
        let owns = [0, self.inodes[dir].uid, self.inodes[node].uid].contains(&user.uid);
        if sticky && !owns { Err(Error::EPERM) } else { Ok(()) }
    }

    fn may_add(&self, dir: usize, name: &[u8], user: User) -> Result<()> {
        if !self.is_dir(dir) {
            return Err(Error::ENOTDIR);
        }
        if self.links(dir) == 0 {
            return Err(Error::ENOENT);
        }
        self.may(dir, user, EXEC)?;
        if self.find(dir, name).is_some() {
            return Err(Error::EEXIST);
        }
        self.may(dir, user, WRITE)
    }

    fn changed(&mut self, node: usize, user: User) {
        let inode = &mut self.inodes[node];
        inode.changes += 1;
        (inode.mtime, inode.ctime, inode.muid) = (self.now, self.now, user.uid);
    }

    fn wrote(&mut self, node: usize, user: User) {
        self.changed(node, user);
        self.inodes[node].xattrs.remove(&b"security.capability"[..]);
        if user.uid != 0 {
            self.drop_set_id(node);
        }
    }

    fn drop_set_id(&mut self, node: usize) {
        let permissions = &mut self.inodes[node].permissions;
        *permissions &= !0o4000;
        if *permissions & 0o010 != 0 {
            *permissions &= !0o2000;
        }
    }

    pub fn keep(&mut self, handle: Handle) -> usize {
        let free = self.handles.iter().position(Option::is_none);
        let at = free.unwrap_or(self.handles.len());
        if at == self.handles.len() {
            self.handles.push(None);
        }
        self.handles[at] = Some(handle);
        at
    }

    pub fn handle(&self, at: usize) -> Handle {
        self.handles[at].clone().expect("a handle in use")
    }

    pub fn attach(&mut self, user: User) -> usize {
        self.keep(Handle { node: ROOT, user, name: None, open: None })
    }

    pub fn lookup(&mut self, at: usize, name: &[u8]) -> Result<usize> {
        let dir = self.handle(at);
        if !self.is_dir(dir.node) {
            return Err(Error::ENOTDIR);
        }
        self.may(dir.node, dir.user, EXEC)?;
        let (node, place) = match name {
            b"." => (dir.node, dir.name),
            b".." => {
                let parent = self.parent(dir.node);
                (parent, self.names_where(|entry| entry.node == parent).first().copied())
            }
            name => {
                let place = self.find(dir.node, name).ok_or(Error::ENOENT)?;
                (self.entry(place).node, Some(place))
            }
        };
        Ok(self.keep(Handle { node, user: dir.user, name: place, open: None }))
    }

    pub fn duplicate(&mut self, at: usize) -> usize {
        let handle = self.handle(at);
        self.keep(Handle { open: None, ..handle })
    }

    pub fn open(&mut self, at: usize, flags: Open) -> Result<()> {
        let handle = self.handle(at);
        let node = handle.node;
        let lists = flags.exec && self.is_dir(node);
        let wants = [(flags.read || lists, READ), (flags.write || flags.truncate, WRITE), (flags.exec, EXEC)];
        self.may(node, handle.user, wants.iter().filter(|(wanted, _)| *wanted).map(|(_, bit)| bit).sum())?;
        if flags.remove_on_close {
            let place = self.own_name(&handle)?;
            self.may_remove(self.entry(place).dir, node, handle.user)?;
        }
        let exclusive = self.inodes[node].bits & qt::EXCL != 0;
        let is_open = self.handles.iter().flatten().any(|other| other.node == node && other.open.is_some());
        match self.inodes[node].what {
            What::Dir if flags.write || flags.truncate || flags.remove_on_close => return Err(Error::EISDIR),
            What::Dir => {}
            What::Symlink(_) => return Err(Error::ELOOP),
            What::File if exclusive && is_open => return Err(Error::EBUSY),
            What::File => {}
            _ => return Err(Error::ENXIO),
        }
        if flags.truncate && self.inodes[node].bits & qt::APPEND == 0 {
            self.inodes[node].data.clear();
            self.wrote(node, handle.user);
        }
        self.handles[at].as_mut().expect("a handle in use").open = Some(flags);
        Ok(())
    }

    fn own_name(&self, handle: &Handle) -> Result<usize> {
        match handle.name.filter(|&place| self.names[place].is_some()) {
            _ if handle.node == ROOT => Err(Error::EBUSY),
            Some(place) => Ok(place),
            None => Err(Error::ENOENT),
        }
    }

    fn add(
        &mut self,
        dir: &Handle,
        name: &[u8],
        what: What,
        permissions: u32,
        bits: u8,
        named: Option<u32>,
    ) -> Result<(usize, usize)> {
        self.may_add(dir.node, name, dir.user)?;
        let above = &self.inodes[dir.node];
        let passes_on = above.permissions & 0o2000 != 0;
        let gid = if passes_on { above.gid } else { named.unwrap_or(above.gid) };
        if gid != above.gid && !self.accepted(dir.user, gid) {
            return Err(Error::EPERM);
        }
        if self.files_used() >= self.files_max {
            return Err(Error::ENOSPC);
        }
        let mut permissions = permissions & 0o7777;
        let checked = named == Some(gid) && self.accepted(dir.user, gid);
        if !checked && !self.member(dir.user, gid) {
            permissions &= !0o2000;
        }
        if passes_on && what == What::Dir {
            permissions |= 0o2000;
        }
        let node = self.add_inode(what, permissions, bits, dir.user, gid, dir.node);
        let place = self.add_name(dir.node, name, node, dir.user);
        Ok((node, place))
    }

    fn add_name(&mut self, dir: usize, name: &[u8], node: usize, user: User) -> usize {
        let since = self.named();
        self.names.push(Some(Name { dir, name: name.to_vec(), node, since }));
        self.changed(dir, user);
        self.inodes[node].ctime = self.now;
        self.names.len() - 1
    }

    pub fn make(&mut self, at: usize, name: &[u8], make: Make<'_>, mode: u32, gid: Option<u32>) -> Result<usize> {
        let what = match make {
            Make::File => What::File,
            Make::Dir => What::Dir,
            Make::Symlink(target) => What::Symlink(target.to_vec()),
            Make::Device { block, major, minor } => What::Device { block, major, minor },
            Make::Fifo => What::Fifo,
            Make::Socket => What::Socket,
        };
        let dir = self.handle(at);
        self.add(&dir, name, what, mode, 0, gid).map(|(node, _)| node)
    }

    pub fn create(&mut self, at: usize, name: &[u8], flags: Open, mode: u32, bits: u8, gid: Option<u32>) -> Result<()> {
        let dir = self.handle(at);
        let what = if mode & mode::IFMT == mode::IFDIR { What::Dir } else { What::File };
        if what == What::Dir && (flags.write || flags.truncate || flags.remove_on_close) {
            return Err(Error::EISDIR);
        }
        let (node, place) = self.add(&dir, name, what, mode, bits, gid)?;
        self.handles[at] = Some(Handle { node, user: dir.user, name: Some(place), open: Some(flags) });
        Ok(())
    }

    /// The time of access moves if the file was changed since, or if it is a day old (mount(8), relatime).
    pub fn was_read(&mut self, node: usize) {
        let now = self.now;
        let inode = &mut self.inodes[node];
        let changed_since = inode.mtime >= inode.atime || inode.ctime >= inode.atime;
        if changed_since || now.sec - inode.atime.sec >= 86_400 {
            inode.atime = now;
        }
    }

    pub fn read(&mut self, at: usize, offset: usize, count: usize) -> Vec<u8> {
        let node = self.handle(at).node;
        self.was_read(node);
        let inode = &self.inodes[node];
        inode.data.iter().skip(offset).take(count).copied().collect()
    }

    pub fn write(&mut self, at: usize, offset: usize, data: &[u8]) {
        let handle = self.handle(at);
        if data.is_empty() {
            return;
        }
        let inode = &mut self.inodes[handle.node];
        let appends = inode.bits & qt::APPEND != 0 || handle.open.is_some_and(|open| open.append);
        let start = if appends { inode.data.len() } else { offset };
        if inode.data.len() < start + data.len() {
            inode.data.resize(start + data.len(), 0);
        }
        inode.data[start..start + data.len()].copy_from_slice(data);
        self.wrote(handle.node, handle.user);
    }

    /// Only a name goes away: a file without one is no longer found, and that is all.
    fn take_out(&mut self, place: usize, user: User) {
        let entry = self.names[place].take().expect("a name that is there");
        self.changed(entry.dir, user);
        self.inodes[entry.node].ctime = self.now;
    }

    pub fn close(&mut self, at: usize) {
        let handle = self.handles[at].take().expect("a handle in use");
        self.locks.retain(|lock| lock.by != at);
        if handle.open.is_some_and(|open| open.remove_on_close)
            && let Ok(place) = self.own_name(&handle)
        {
            self.take_out(place, handle.user);
        }
    }

    pub fn remove(&mut self, at: usize) -> Result<()> {
        let handle = self.handle(at);
        let place = self.own_name(&handle)?;
        self.may_remove(self.entry(place).dir, handle.node, handle.user)?;
        if !self.entries(handle.node).is_empty() {
            return Err(Error::ENOTEMPTY);
        }
        self.take_out(place, handle.user);
        Ok(())
    }

    pub fn unlink(&mut self, at: usize, name: &[u8], want_dir: bool) -> Result<()> {
        let dir = self.handle(at);
        if !self.is_dir(dir.node) {
            return Err(Error::ENOTDIR);
        }
        self.may(dir.node, dir.user, EXEC)?;
        let place = self.find(dir.node, name).ok_or(Error::ENOENT)?;
        let node = self.entry(place).node;
        self.may_remove(dir.node, node, dir.user)?;
        match (self.is_dir(node), want_dir) {
            (true, false) => return Err(Error::EISDIR),
            (false, true) => return Err(Error::ENOTDIR),
            _ if !self.entries(node).is_empty() => return Err(Error::ENOTEMPTY),
            _ => {}
        }
        self.take_out(place, dir.user);
        Ok(())
    }

    pub fn link(&mut self, dir: usize, name: &[u8], file: usize) -> Result<()> {
        let (dir, node) = (self.handle(dir), self.handle(file).node);
        if self.is_dir(node) {
            return Err(Error::EPERM);
        }
        if self.links(node) == 0 {
            return Err(Error::ENOENT);
        }
        self.may_add(dir.node, name, dir.user)?;
        if self.files_used() >= self.files_max {
            return Err(Error::ENOSPC);
        }
        self.add_name(dir.node, name, node, dir.user);
        Ok(())
    }

    pub fn rename(&mut self, from: usize, name: &[u8], to: usize, new_name: &[u8]) -> Result<()> {
        let from = self.handle(from);
        if !self.is_dir(from.node) {
            return Err(Error::ENOTDIR);
        }
        self.may(from.node, from.user, EXEC)?;
        let place = self.find(from.node, name).ok_or(Error::ENOENT)?;
        self.move_name(place, to, new_name, from.user)
    }

    pub fn rename_file(&mut self, file: usize, to: usize, new_name: &[u8]) -> Result<()> {
        let handle = self.handle(file);
        let place = self.own_name(&handle)?;
        self.move_name(place, to, new_name, handle.user)
    }

    fn move_name(&mut self, place: usize, to: usize, new_name: &[u8], user: User) -> Result<()> {
        let to = self.handle(to).node;
        let Name { dir: from, node, .. } = self.entry(place).clone();
        if !self.is_dir(to) {
            return Err(Error::ENOTDIR);
        }
        if self.links(to) == 0 {
            return Err(Error::ENOENT);
        }
        self.may_remove(from, node, user)?;
        self.may(to, user, WRITE | EXEC)?;
        let mut above = to;
        while above != ROOT && above != node {
            above = self.inodes[above].parent;
        }
        if above == node {
            return Err(Error::EINVAL);
        }
        if self.is_dir(node) && from != to {
            self.may(node, user, WRITE)?;
        }
        if let Some(there) = self.find(to, new_name) {
            if self.entry(there).node == node {
                return Ok(());
            }
            self.may_replace(there, node, user)?;
            self.take_out(there, user);
        }
        let since = self.named();
        self.names[place] = Some(Name { dir: to, name: new_name.to_vec(), node, since });
        self.changed(from, user);
        self.changed(to, user);
        self.inodes[node].ctime = self.now;
        self.inodes[node].parent = to;
        Ok(())
    }

    /// Whether a file may come in the place of this name.
    fn may_replace(&self, there: usize, node: usize, user: User) -> Result<()> {
        let Name { dir, node: replaced, .. } = *self.entry(there);
        self.may_remove(dir, replaced, user)?;
        match (self.is_dir(node), self.is_dir(replaced)) {
            (true, false) => Err(Error::ENOTDIR),
            (false, true) => Err(Error::EISDIR),
            _ if !self.entries(replaced).is_empty() => Err(Error::ENOTEMPTY),
            _ => Ok(()),
        }
    }
}
