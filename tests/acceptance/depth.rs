//! F4: a hundred thousand directories inside of each other. Nothing recurses.

use super::tree::{Limits, MakeTree, READ, ROOT, Tree};
use ring9::fs::{Error, Filesystem, mode};
use std::thread;

const DEPTH: usize = 100_000;
/// Directories that a move looks at on the way up before it fails with ELOOP.
const PARENTS_MAX: usize = 4096;
const FAR: usize = PARENTS_MAX + 1;
/// Less than a byte per level.
const STACK_BYTES: usize = 64 << 10;

fn deep<F: Filesystem>(make: MakeTree<F>) -> Tree<F> {
    let mut tree = Tree::with(make, &Limits { files: DEPTH + 10, ..Limits::default() });
    let mut at = tree.root(ROOT);
    for _ in 0..DEPTH {
        tree.create_in(at, "d", READ, mode::IFDIR | 0o755).expect("room");
    }
    assert_eq!(tree.names("d"), ["d"]);
    let top = tree.root(ROOT);
    assert_eq!(tree.rename_in(top, "d", at, "x"), Err(Error::ELOOP), "the way up is longer than PARENTS_MAX");
    for level in (0..DEPTH).rev() {
        let up = tree.lookup(at, "..").expect("a directory always has one above");
        tree.close(at);
        at = up;
        // From `at` the topmost directory is found in `level` steps, and the root in one more.
        let moved = match level {
            FAR => Error::ELOOP,
            PARENTS_MAX | 1 => Error::EINVAL,
            _ => continue,
        };
        assert_eq!(tree.rename_in(top, "d", at, "x"), Err(moved), "{level} steps");
    }
    assert_eq!(tree.qid(at), tree.qid(top));
    tree
}

pub fn a_hundred_thousand_directories_are_built_and_removed<F: Filesystem>(make: MakeTree<F>) {
    on_a_small_stack(make, Tree::end);
}

pub fn a_hundred_thousand_directories_are_dropped_on_a_small_stack<F: Filesystem>(make: MakeTree<F>) {
    on_a_small_stack(make, drop);
}

fn on_a_small_stack<F: Filesystem>(make: MakeTree<F>, end: fn(Tree<F>)) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        let ran = thread.spawn_scoped(scope, || end(deep(make))).expect("a thread").join();
        ran.expect("a small stack is enough");
    });
}
