//! A tree under test: files by number, a clock that steps, short forms of what the cases do.
//!
//! Names are walked from the root, as a client does; whatever a case leaves open or lying about, [`Tree::end`] closes and removes, and then the tree must have as much room as
//! in the beginning.

use ring9::fs::{At, Change, Entry, Error, Filesystem, Iovec, Make, Open, Result, Stat, StatFs, Time, User};
use ring9::wire::Qid;

/// What a case asks of a fresh tree, which belongs to root (uid and gid 0) and where anyone may make files (mode 0777).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory in bytes; a little more or less will do.
    pub bytes: usize,
    /// Files and directories, with the root; exactly.
    pub files: usize,
    /// Pairs of uid and gid, if the tree shall know who is in which group.
    pub groups: Option<&'static [(u32, u32)]>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 2 << 20, files: 2000, groups: None }
    }
}

/// Makes a fresh tree, not initialised.
pub type MakeTree<F> = fn(&Limits) -> F;

pub const ROOT: User = User { uid: 0, gid: Some(0), vouched: true, peer: 1 };
pub const READ: Open = Open { read: true, ..Open::NONE };
pub const WRITE: Open = Open { read: false, write: true, ..READ };
pub const BOTH: Open = Open { write: true, ..READ };
pub const APPEND: Open = Open { append: true, ..BOTH };
pub const NONE: Change<'static> = Change {
    mode: None,
    bits: None,
    uid: None,
    gid: None,
    size: None,
    atime: None,
    mtime: None,
    name: None,
    replace: false,
    touch_ctime: false,
};

pub fn user(uid: u32) -> User {
    User { uid, gid: Some(uid), vouched: true, peer: 1 }
}

/// A user of a peer that may not act for others, and whose own group is known or not.
pub fn claimed(uid: u32, gid: Option<u32>) -> User {
    User { uid, gid, vouched: false, peer: 1 }
}

/// A file value of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// A [`Stat`] that borrows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub qid: Qid,
    pub mode: u32,
    /// Owner, group, last writer.
    pub owners: (u32, u32, u32),
    pub nlink: u64,
    pub rdev: (u32, u32),
    pub size: u64,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub name: Vec<u8>,
    pub target: Vec<u8>,
}

impl From<Stat<'_>> for Shown {
    fn from(of: Stat<'_>) -> Shown {
        Shown {
            qid: of.qid,
            mode: of.mode,
            owners: (of.uid, of.gid, of.muid),
            nlink: of.nlink,
            rdev: of.rdev,
            size: of.size,
            blocks: of.blocks,
            atime: of.atime,
            mtime: of.mtime,
            ctime: of.ctime,
            btime: of.btime,
            name: of.name.to_vec(),
            target: of.target.to_vec(),
        }
    }
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub cookie: u64,
    pub name: String,
    pub qid: Qid,
    pub mode: u32,
}

pub struct Tree<F: Filesystem> {
    pub fs: F,
    files: Vec<Option<F::File>>,
    second: i64,
    fresh: StatFs,
}

impl<F: Filesystem> Tree<F> {
    pub fn new(make: MakeTree<F>) -> Tree<F> {
        Tree::with(make, &Limits::default())
    }

    pub fn with(make: MakeTree<F>, limits: &Limits) -> Tree<F> {
        let mut tree = Tree { fs: make(limits), files: Vec::new(), second: 1_000, fresh: StatFs::default() };
        let at = tree.at();
        tree.fs.init(at).expect("a fresh tree starts");
        tree.fresh = tree.statfs();
        tree
    }

    /// The next moment: a second and 1001 nanoseconds after the last.
    pub fn at(&mut self) -> At {
        self.second += 1;
        self.now()
    }

    /// So many seconds go by.
    pub fn pass(&mut self, seconds: i64) {
        self.second += seconds;
    }

    /// The moment of the latest operation.
    pub fn now(&self) -> At {
        let wall = Time { sec: self.second, nsec: (self.second * 1001 % 1_000_000_000) as u32 };
        At { wall, mono_ns: self.second as u64 * 1_000_000_000 }
    }

    fn keep(&mut self, file: F::File) -> Id {
        self.files.push(Some(file));
        Id(self.files.len() - 1)
    }

    pub fn root(&mut self, user: User) -> Id {
        let file = self.fs.attach(user, b"").expect("the root is there");
        self.keep(file)
    }

    /// Does something with the tree and a file of it.
    pub fn with_file<T>(&mut self, id: Id, does: impl FnOnce(&mut F, &mut F::File) -> T) -> T {
        does(&mut self.fs, held_mut(&mut self.files, id))
    }

    pub fn lookup(&mut self, dir: Id, name: &str) -> Result<Id> {
        let file = held(&self.files, dir);
        let found = self.fs.lookup(file, name.as_bytes())?;
        Ok(self.keep(found))
    }

    pub fn duplicate(&mut self, id: Id) -> Id {
        let file = held(&self.files, id);
        let copy = self.fs.duplicate(file);
        self.keep(copy)
    }

    /// From the root down, by names with slashes between.
    pub fn walk(&mut self, user: User, path: &str) -> Result<Id> {
        let mut at = self.root(user);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let next = self.lookup(at, name);
            self.close(at);
            at = next?;
        }
        Ok(at)
    }

    /// The directory of a path, and the last name.
    fn walk_to_last<'a>(&mut self, user: User, path: &'a str) -> Result<(Id, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.walk(user, dir)?, name))
    }

    pub fn close(&mut self, id: Id) {
        let at = self.at();
        let file = self.files[id.0].take().expect("not closed yet");
        self.fs.close(file, at).expect("a close in memory does not fail");
        if id.0 + 1 == self.files.len() {
            self.files.pop();
        }
    }

    pub fn open(&mut self, user: User, path: &str, flags: Open) -> Result<Id> {
        let id = self.walk(user, path)?;
        self.open_it(id, flags).inspect_err(|_| self.close(id))?;
        Ok(id)
    }

    pub fn open_it(&mut self, id: Id, flags: Open) -> Result<()> {
        let at = self.at();
        self.fs.open(held_mut(&mut self.files, id), flags, at)
    }

    /// A new file, open.
    pub fn create(&mut self, user: User, path: &str, flags: Open, mode: u32) -> Result<Id> {
        self.create_with(user, path, flags, mode, 0)
    }

    pub fn create_with(&mut self, user: User, path: &str, flags: Open, mode: u32, bits: u8) -> Result<Id> {
        let (id, name) = self.walk_to_last(user, path)?;
        let at = self.at();
        let dir = held_mut(&mut self.files, id);
        let made = self.fs.create(dir, name.as_bytes(), flags, mode, bits, None, at);
        made.inspect_err(|_| self.close(id))?;
        Ok(id)
    }

    /// The same in a directory, which becomes the new file.
    pub fn create_in(&mut self, dir: Id, name: &str, flags: Open, mode: u32) -> Result<()> {
        let at = self.at();
        self.fs.create(held_mut(&mut self.files, dir), name.as_bytes(), flags, mode, 0, None, at)
    }

    /// A new regular file of root's with this content, closed.
    pub fn file_with(&mut self, path: &str, data: &[u8]) {
        let id = self.create(ROOT, path, BOTH, 0o644).expect("a new name");
        assert_eq!(self.write(id, 0, data), Ok(data.len() as u32));
        self.close(id);
    }

    pub fn make(&mut self, user: User, path: &str, what: Make<'_>, mode: u32) -> Result<Qid> {
        self.make_of(user, path, what, mode, None)
    }

    pub fn make_of(&mut self, user: User, path: &str, what: Make<'_>, mode: u32, gid: Option<u32>) -> Result<Qid> {
        let (dir, name) = self.walk_to_last(user, path)?;
        let at = self.at();
        let made = self.fs.make(held(&self.files, dir), name.as_bytes(), what, mode, gid, at);
        self.close(dir);
        made
    }

    pub fn make_in(&mut self, dir: Id, name: &str, what: Make<'_>) -> Result<()> {
        let at = self.at();
        self.fs.make(held(&self.files, dir), name.as_bytes(), what, 0o644, None, at).map(|_| ())
    }

    pub fn mkdir(&mut self, path: &str) {
        self.make(ROOT, path, Make::Dir, 0o755).expect("a new name");
    }

    pub fn unlink(&mut self, user: User, path: &str, want_dir: bool) -> Result<()> {
        let (dir, name) = self.walk_to_last(user, path)?;
        let result = self.unlink_in(dir, name, want_dir);
        self.close(dir);
        result
    }

    pub fn unlink_in(&mut self, dir: Id, name: &str, want_dir: bool) -> Result<()> {
        let at = self.at();
        self.fs.unlink(held(&self.files, dir), name.as_bytes(), want_dir, at)
    }

    pub fn rename(&mut self, user: User, from: &str, to: &str) -> Result<()> {
        let (from, name) = self.walk_to_last(user, from)?;
        let (to, new_name) = self.walk_to_last(user, to)?;
        let result = self.rename_in(from, name, to, new_name);
        self.close(to);
        self.close(from);
        result
    }

    pub fn rename_in(&mut self, dir: Id, name: &str, to: Id, new_name: &str) -> Result<()> {
        let at = self.at();
        let (from, to) = (held(&self.files, dir), held(&self.files, to));
        self.fs.rename(from, name.as_bytes(), to, new_name.as_bytes(), at)
    }

    /// Trename: the file by the name it was reached by.
    pub fn rename_it(&mut self, id: Id, to: &str) -> Result<()> {
        let (dir, new_name) = self.walk_to_last(ROOT, to)?;
        let at = self.at();
        let mut file = self.files[id.0].take().expect("not closed yet");
        let result = self.fs.rename_file(&mut file, held(&self.files, dir), new_name.as_bytes(), at);
        self.files[id.0] = Some(file);
        self.close(dir);
        result
    }

    pub fn link(&mut self, user: User, file: &str, path: &str) -> Result<()> {
        let file = self.walk(user, file)?;
        let result = self.link_it(user, file, path);
        self.close(file);
        result
    }

    pub fn link_it(&mut self, user: User, file: Id, path: &str) -> Result<()> {
        let (dir, name) = self.walk_to_last(user, path)?;
        let result = self.link_in(dir, name, file);
        self.close(dir);
        result
    }

    pub fn link_in(&mut self, dir: Id, name: &str, file: Id) -> Result<()> {
        let at = self.at();
        self.fs.link(held(&self.files, dir), name.as_bytes(), held(&self.files, file), at)
    }

    pub fn remove_it(&mut self, id: Id) -> Result<()> {
        let at = self.at();
        self.fs.remove(held_mut(&mut self.files, id), at)
    }

    pub fn wstat(&mut self, id: Id, change: &Change<'_>) -> Result<()> {
        let at = self.at();
        self.fs.wstat(held_mut(&mut self.files, id), change, at)
    }

    pub fn change(&mut self, user: User, path: &str, change: &Change<'_>) -> Result<()> {
        let id = self.walk(user, path)?;
        let result = self.wstat(id, change);
        self.close(id);
        result
    }

    pub fn chmod(&mut self, path: &str, mode: u32) {
        self.change(ROOT, path, &Change { mode: Some(mode), ..NONE }).expect("root may");
    }

    pub fn resize(&mut self, id: Id, size: u64) -> Result<()> {
        self.wstat(id, &Change { size: Some(size), ..NONE })
    }

    pub fn write(&mut self, id: Id, offset: u64, data: &[u8]) -> Result<u32> {
        let at = self.at();
        self.fs.write(held_mut(&mut self.files, id), offset, data, at)
    }

    /// The same by a grant, where the tree gives one: the payload arrives and is published.
    pub fn land(&mut self, id: Id, offset: u64, data: &[u8]) -> Result<u32> {
        let at = self.at();
        let file = held_mut(&mut self.files, id);
        let Some(mut grant) = self.fs.grant(file, offset, data.len() as u32, at)? else {
            return self.write(id, offset, data);
        };
        let mut arrived = grant.space.fill(data);
        while grant.missing() > 0 {
            self.fs.extend(file, &mut grant)?;
            arrived += grant.space.fill(&data[arrived..]);
        }
        assert_eq!(arrived, data.len());
        self.fs.commit(file, grant, at)
    }

    /// A payload that stops in the middle.
    pub fn land_partly(&mut self, id: Id, offset: u64, count: u32, data: &[u8]) -> Result<()> {
        let at = self.at();
        let file = held_mut(&mut self.files, id);
        if let Some(mut grant) = self.fs.grant(file, offset, count, at)? {
            grant.space.fill(data);
        }
        Ok(())
    }

    /// A reply, as it waits to be sent.
    pub fn reply(&mut self, id: Id, offset: u64, count: u32) -> Iovec {
        let at = self.at();
        let mut iovec = Iovec::default();
        let file = held_mut(&mut self.files, id);
        self.fs.read(file, offset, iovec.out(count), at).expect("readable");
        iovec
    }

    pub fn read(&mut self, id: Id, offset: u64, count: u32) -> Vec<u8> {
        self.reply(id, offset, count).to_vec()
    }

    /// All of a file that fits one read.
    pub fn content(&mut self, user: User, path: &str) -> Vec<u8> {
        let id = self.open(user, path, READ).expect("readable");
        let data = self.read(id, 0, u32::MAX);
        assert_eq!(data.len() as u64, self.stat(id).size);
        self.close(id);
        data
    }

    pub fn qid(&self, id: Id) -> Qid {
        self.fs.attr(held(&self.files, id))
    }

    pub fn stat(&self, id: Id) -> Shown {
        self.fs.stat(held(&self.files, id)).expect("a file shows itself").into()
    }

    pub fn stat_of(&mut self, path: &str) -> Shown {
        let id = self.walk(ROOT, path).expect("the file is there");
        let shown = self.stat(id);
        self.close(id);
        shown
    }

    pub fn exists(&mut self, path: &str) -> bool {
        match self.walk(ROOT, path) {
            Ok(id) => {
                self.close(id);
                true
            }
            Err(error) => {
                assert_eq!(error, Error::ENOENT);
                false
            }
        }
    }

    pub fn mode(&mut self, path: &str) -> u32 {
        self.stat_of(path).mode & 0o7777
    }

    /// At most `count` entries behind a cookie. The tree may offer one more, which is not taken.
    pub fn list(&mut self, dir: Id, cookie: u64, count: usize) -> Result<Vec<Listed>> {
        let at = self.at();
        let (mut taken, mut refused) = (Vec::new(), 0);
        let each = &mut |entry: &Entry<'_>| {
            if taken.len() == count {
                refused += 1;
                return false;
            }
            let name = String::from_utf8(entry.stat.name.to_vec()).expect("names of the suite are texts");
            let (qid, mode) = (entry.stat.qid, entry.stat.mode);
            taken.push(Listed { cookie: entry.cookie, name, qid, mode });
            true
        };
        self.fs.list(held_mut(&mut self.files, dir), cookie, at, each)?;
        assert!(refused <= 1, "a listing goes on behind an entry that was not taken");
        Ok(taken)
    }

    /// The names of a directory without "." and "..", sorted.
    pub fn names(&mut self, path: &str) -> Vec<String> {
        let dir = self.open(ROOT, path, READ).expect("a directory");
        let all = self.list(dir, 0, usize::MAX).expect("a directory");
        self.close(dir);
        let mut names: Vec<_> =
            all.into_iter().map(|entry| entry.name).filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }

    pub fn statfs(&mut self) -> StatFs {
        // What replies have let go of is free from here on.
        self.fs.work();
        let root = self.fs.attach(ROOT, b"").expect("the root is there");
        let shown = self.fs.statfs(&root).expect("the suite needs its numbers");
        let now = self.now();
        self.fs.close(root, now).expect("nothing to do");
        shown
    }

    /// Closes and removes everything, step by step: then there is as much room as in the beginning.
    pub fn end(mut self) {
        for place in (0..self.files.len()).filter(|&place| self.files[place].is_some()).collect::<Vec<_>>() {
            self.close(Id(place));
        }
        self.files.clear();
        let mut path = vec![(self.root(ROOT), String::new())];
        while let Some((dir, _)) = path.last() {
            let dir = *dir;
            let mut batch = self.list(dir, 0, 1000).expect("a directory");
            batch.retain(|entry| entry.name != "." && entry.name != "..");
            let mut below = None;
            for entry in &batch {
                match self.unlink_in(dir, &entry.name, entry.mode & ring9::fs::mode::IFMT == ring9::fs::mode::IFDIR) {
                    Err(Error::ENOTEMPTY) => {
                        below = Some(entry.name.clone());
                        break;
                    }
                    result => result.expect("root may remove everything"),
                }
            }
            if let Some(name) = below {
                path.push((self.lookup(dir, &name).expect("just listed"), name));
            } else if batch.is_empty() {
                let (_, name) = path.pop().expect("not at its end");
                self.close(dir);
                if let Some((above, _)) = path.last() {
                    self.unlink_in(*above, &name, true).expect("empty now");
                }
            }
        }
        let (left, fresh) = (self.statfs(), self.fresh);
        assert_eq!(left, fresh, "everything that was taken is free again");
        self.fs.cleanup().expect("nothing is in use");
    }
}

fn held<T>(files: &[Option<T>], id: Id) -> &T {
    files[id.0].as_ref().expect("not closed yet")
}

fn held_mut<T>(files: &mut [Option<T>], id: Id) -> &mut T {
    files[id.0].as_mut().expect("not closed yet")
}
