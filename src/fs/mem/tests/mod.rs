//! What memfs promises, seen through the interface alone. Arenas are small, so that they run full.

mod atime;
mod copies;
mod model;
mod names;
mod rights;
mod sizes;
mod traps;
mod watch;

use super::*;
use crate::fs::{Change, Entry, Grant, Iovec, Make, SetTime, SetXattr, Time, mode};
use crate::wire::Qid;

const ROOT_USER: User = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };
const READ_WRITE: Open = Open { read: true, write: true, ..Open::NONE };
const READ: Open = Open { write: false, ..READ_WRITE };
const APPEND: Open = Open { append: true, ..READ_WRITE };
const BLOCK: usize = BLOCK_BYTES_MAX;

fn user(uid: u32) -> User {
    User { uid, gid: Some(uid), vouched: true, peer: 0 }
}

fn at(sec: i64) -> At {
    At { wall: Time { sec, nsec: 0 }, mono_ns: 0 }
}

/// A tree in 14 blocks of 64 KiB, which anyone may write to.
fn small_tree() -> Mem {
    tree_of(1 << 20)
}

fn tree_of(bytes: usize) -> Mem {
    let options = Options { inodes_max: 100, hash_key: 7, root: (0, 0, 0o777), ..Options::default() };
    tree_with(bytes, options)
}

fn tree_with(bytes: usize, options: Options) -> Mem {
    let mut mem = Mem::new(Arena::new(bytes).expect("a small mapping"), options);
    mem.init(at(1)).expect("memory is always ready");
    mem
}

fn root(mem: &mut Mem, user: User) -> File {
    mem.attach(user, b"").expect("the root is there")
}

/// A new file in the root, open for everything.
fn create(mem: &mut Mem, name: &[u8], flags: Open) -> File {
    create_as(mem, ROOT_USER, name, flags, 0o644).expect("a new name")
}

fn create_as(mem: &mut Mem, user: User, name: &[u8], flags: Open, mode: u32) -> Result<File> {
    let mut file = root(mem, user);
    match mem.create(&mut file, name, flags, mode, 0, None, at(2)) {
        Ok(()) => Ok(file),
        Err(error) => {
            mem.close(file, at(2)).expect("nothing to do");
            Err(error)
        }
    }
}

/// Walks from the root by names with slashes between.
fn walk(mem: &mut Mem, user: User, path: &str) -> Result<File> {
    let mut file = root(mem, user);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let next = mem.lookup(&file, name.as_bytes());
        mem.close(file, at(2)).expect("nothing to do");
        file = next?;
    }
    Ok(file)
}

/// Walks and opens.
fn open(mem: &mut Mem, user: User, path: &str, flags: Open) -> Result<File> {
    let mut file = walk(mem, user, path)?;
    match mem.open(&mut file, flags, at(3)) {
        Ok(()) => Ok(file),
        Err(error) => {
            mem.close(file, at(3)).expect("nothing to do");
            Err(error)
        }
    }
}

fn make(mem: &mut Mem, dir: &str, name: &[u8], what: Make<'_>, mode: u32) {
    let dir = walk(mem, ROOT_USER, dir).expect("the directory is there");
    mem.make(&dir, name, what, mode, None, at(2)).expect("a new name");
    mem.close(dir, at(2)).expect("nothing to do");
}

fn write(mem: &mut Mem, file: &mut File, offset: u64, data: &[u8]) -> Result<u32> {
    mem.write(file, offset, data, at(4))
}

/// A grant whose payload has arrived whole.
fn landed(mem: &mut Mem, file: &mut File, offset: u64, data: &[u8]) -> Result<Grant> {
    let count = u32::try_from(data.len()).expect("a small payload");
    let mut grant = mem.grant(file, offset, count, at(5))?.expect("memfs always has memory to land in");
    let mut done = grant.space.fill(data);
    while grant.missing() > 0 {
        mem.extend(file, &mut grant)?;
        done += grant.space.fill(&data[done..]);
    }
    assert_eq!(done, data.len());
    Ok(grant)
}

fn commit(mem: &mut Mem, file: &mut File, grant: Grant) -> u32 {
    mem.commit(file, grant, at(6)).expect("a commit does not fail for want of memory")
}

/// Views of at most `count` bytes.
fn views(mem: &mut Mem, file: &mut File, offset: u64, count: u32) -> Iovec {
    let mut iovec = Iovec::default();
    mem.read(file, offset, iovec.out(count), at(7)).expect("readable");
    iovec
}

fn content(mem: &mut Mem, file: &mut File) -> Vec<u8> {
    let all = views(mem, file, 0, u32::MAX).to_vec();
    assert_eq!(all.len() as u64, mem.stat(file).expect("a file").size);
    all
}

fn resize(mem: &mut Mem, file: &mut File, size: u64) -> Result<()> {
    mem.wstat(file, &Change { size: Some(size), ..Change::default() }, at(8))
}

fn list(mem: &mut Mem, path: &str) -> Vec<String> {
    let mut dir = open(mem, ROOT_USER, path, READ).expect("a directory");
    let mut names = Vec::new();
    let each = &mut |entry: &Entry<'_>| {
        names.push(String::from_utf8_lossy(entry.stat.name).into_owned());
        true
    };
    mem.list(&mut dir, 0, at(9), each).expect("a directory");
    mem.close(dir, at(9)).expect("nothing to do");
    names
}

impl Mem {
    /// Panics unless the content of every file is in order, and all memory is that of a file, of an attribute, of an operation, or waits.
    fn check_content(&self) {
        for node in self.nodes.iter() {
            if let Kind::File(content) | Kind::Symlink(content) = &node.kind {
                content.check(&self.store);
            }
        }
    }
}

/// Nobody holds anything: all memory is free again.
fn nothing_left(mut mem: Mem) {
    mem.check_content();
    mem.cleanup().expect("memory is always released");
    assert_eq!(mem.store.table.nodes, 0, "nodes of maps");
    assert_eq!(mem.store.table.in_use(), 0, "units in parts");
    assert_eq!(mem.arena().gauge().used_bytes(), 0);
    assert_eq!(mem.arena().gauge().pins(), 0);
}
