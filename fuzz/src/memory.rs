//! Trees for one input after the other, all in the same memory.
//!
//! An arena is never unmapped, and millions of them would be too many. So a thread has one, which each tree finds full of what the last one left, or poisoned:
//! what a file shows that was never written to it is then different from run to run.

use crate::support::AT;
use ring9::arena::Arena;
use ring9::fs::Filesystem;
use ring9::fs::dev::Dev;
use ring9::fs::mem::{Mem, Options};
use ring9::fs::mount::Join;
use std::cell::Cell;

/// The files under "" and the devices under "dev", as the server joins them.
pub type Trees = Join<Mem, Dev>;

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

/// Runs something on an empty tree whose memory is full of `poison`, if that is asked for. The tree must come back with nothing in use by any session.
pub fn with_trees<T>(poison: Option<u8>, options: Options, run: impl FnOnce(Trees) -> (Trees, T)) -> T {
    let kept = KEPT.take();
    let mut kept =
        kept.unwrap_or_else(|| Kept { arena: Arena::new(MEMORY_BYTES).expect("a small mapping"), poison: None });
    if let Some(poison) = poison
        && kept.poison != Some(poison)
    {
        fill(&mut kept.arena, poison);
    }
    let (gauge, zeros) = (kept.arena.gauge(), kept.arena.zeros());
    let written = || {
        gauge.written_bytes()
            + gauge.filled_bytes()
            + gauge.landed_bytes()
            + gauge.grown_bytes()
            + gauge.rewritten_bytes()
    };
    let before = written();
    let mem = Mem::new(kept.arena, options);
    let mut trees = Join::new((&[b"", b"/"], mem), (&[b"dev"], Dev::new(zeros, [7; 32])));
    trees.init(AT).expect("memory is there");
    let (trees, result) = run(trees);
    assert_eq!((gauge.pins(), gauge.granted_bytes()), (0, 0), "pins and granted bytes after all sessions are closed");
    let arena = trees.into_parts().0.into_arena();
    assert_eq!(
        (gauge.used_bytes(), gauge.orphaned_bytes()),
        (0, 0),
        "bytes in use and orphaned after the tree was emptied"
    );
    let poison = poison.filter(|_| written() == before);
    KEPT.set(Some(Kept { arena, poison }));
    result
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
