//! Trees for one input after the other, all in the same memory.
//!
//! An arena is never unmapped, and millions of them would be too many. So a thread has one, which each tree finds full of what the last one left, or poisoned:
//! what a file shows that was never written to it is then different from run to run.

use crate::support::AT;
use ring9::arena::Arena;
use ring9::fs::dev::{ATTACH_NAMES as DEV_NAMES, Dev};
use ring9::fs::join::{End, Join};
use ring9::fs::mem::{ATTACH_NAMES as MEM_NAMES, Mem, Options};
use ring9::fs::{Filesystem, Service, SetXattr, Simple, StatFs, User, mode};
use std::cell::Cell;
use std::mem;

/// The files under "" and the devices under "dev", as the server joins them.
pub type Trees = Join<Simple<Mem>, Join<Simple<Dev>, End>>;

/// Small, so that it is soon full.
const MEMORY_BYTES: usize = 2 << 20;
/// Largest block, and unit of poisoning.
const BLOCK_BYTES: usize = ring9::arena::BLOCK_BYTES_MAX;

struct Kept {
    arena: Arena,
    /// The byte that free memory is full of; `None` after a tree that wrote something.
    poison: Option<u8>,
}

thread_local! {
    static KEPT: Cell<Option<Kept>> = const { Cell::new(None) };
}

/// Runs something on empty trees whose memory is full of `poison`, if that is asked for. They must come back with nothing in use by any session.
pub fn with_trees<T>(poison: Option<u8>, options: Options, run: impl FnOnce(Trees) -> (Trees, T)) -> T {
    with_mem(poison, options, |mem| {
        let zeros = mem.arena().zeros();
        let dev = Join::new((DEV_NAMES, Dev::new(zeros, [7; 32]).into()), End);
        let mut trees: Trees = Join::new((MEM_NAMES, mem.into()), dev);
        trees.init(AT).expect("memory is there");
        let (trees, result) = run(trees);
        let (files, mut devices) = trees.into_parts();
        assert_eq!((files.held(), devices.first().held()), (0, 0), "files after all sessions are closed");
        (files.into_inner(), result)
    })
}

/// The same without devices, and before the tree is started.
pub fn with_mem<T>(poison: Option<u8>, options: Options, run: impl FnOnce(Mem) -> (Mem, T)) -> T {
    let kept = KEPT.take();
    let mut kept =
        kept.unwrap_or_else(|| Kept { arena: Arena::new(MEMORY_BYTES).expect("a small mapping"), poison: None });
    if let Some(poison) = poison
        && kept.poison != Some(poison)
    {
        fill(&mut kept.arena, poison);
    }
    let gauge = kept.arena.gauge();
    let written = || {
        gauge.written_bytes()
            + gauge.filled_bytes()
            + gauge.landed_bytes()
            + gauge.grown_bytes()
            + gauge.merged_bytes()
            + gauge.pinned_bytes()
    };
    let before = written();
    let (mut mem, result) = run(Mem::new(kept.arena, options));
    assert_eq!((gauge.pins(), gauge.granted_bytes()), (0, 0), "pins and granted bytes after all sessions are closed");
    assert_eq!(mem.locks(), 0, "locks after all sessions are closed");
    remove_all(&mut mem);
    let arena = mem.into_arena();
    assert_eq!(
        (gauge.used_bytes(), gauge.orphaned_bytes()),
        (0, 0),
        "bytes in use and orphaned after the tree was emptied"
    );
    let poison = poison.filter(|_| written() == before);
    KEPT.set(Some(Kept { arena, poison }));
    result
}

/// Removes every name, and the attributes of the root, which stays. A file that is in no directory and in nobody's hands must be gone.
fn remove_all(mem: &mut Mem) {
    let root = mem.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 0 }, b"").expect("there are files");
    let mut path: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut dir = mem.duplicate(&root);
        for name in &path {
            let below = mem.lookup(&dir, name).expect("just listed");
            mem.close(mem::replace(&mut dir, below), AT).expect("merely walked to");
        }
        let mut names: Vec<(Vec<u8>, bool)> = Vec::new();
        let listed = mem.list(&mut dir, 0, AT, &mut |entry| {
            let is_dir = entry.stat.mode & mode::IFMT == mode::IFDIR;
            names.push((entry.stat.name.to_vec(), is_dir));
            true
        });
        listed.expect("a directory");
        names.retain(|(name, _)| !matches!(&name[..], b"." | b".."));
        let full = names.into_iter().find(|(name, is_dir)| mem.unlink(&dir, name, *is_dir, AT).is_err());
        mem.close(dir, AT).expect("merely walked to");
        match full {
            Some((name, _)) => path.push(name),
            None => {
                if path.pop().is_none() {
                    break;
                }
            }
        }
    }
    let mut attributes: Vec<Vec<u8>> = Vec::new();
    mem.xattrs(&root, &mut |name| attributes.push(name.to_vec())).expect("the root may list its own");
    for name in attributes {
        mem.set_xattr(&root, &name, None, SetXattr::Any, AT).expect("just listed");
    }
    let StatFs { files, ffree, .. } = mem.statfs(&root).expect("sizes are known");
    assert_eq!(files - ffree, 1, "files in nobody's hands, the root included");
    mem.close(root, AT).expect("merely walked to");
}

/// Fills all memory that blocks are made of.
fn fill(arena: &mut Arena, poison: u8) {
    let bytes = vec![poison; BLOCK_BYTES];
    let blocks: Vec<_> = std::iter::from_fn(|| arena.alloc(BLOCK_BYTES).ok()).collect();
    for block in blocks {
        arena.write(&block, 0, &bytes);
        arena.free(block);
    }
}
