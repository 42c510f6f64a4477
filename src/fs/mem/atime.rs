//! When a read moves a file's access time by itself (mount(8): strictatime, relatime, noatime).

use super::node::Node;
use crate::fs::{At, Time};

/// The rule for all files of a tree. Times that a client sets are not its matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atime {
    /// Every read moves it.
    Always,
    /// A read moves it if the file was changed since, or if it is a day old. Linux mounts file systems so unless told otherwise.
    #[default]
    Relatime,
    /// No read moves it.
    Never,
}

/// How old an access time may become under [`Atime::Relatime`], in seconds.
const AGE_MAX_SEC: i64 = 24 * 60 * 60;

impl Atime {
    /// Bytes of a file, entries of a directory or the target of a link were read.
    pub(super) fn read(self, node: &mut Node, at: At) {
        // Most reads of a turn come after another one of the same file, and move nothing.
        if node.atime != at.wall && self.moves(node, at.wall) {
            node.atime = at.wall;
        }
    }

    /// A change in the same moment counts as one since (Linux: `fs/inode.c`, relatime_need_update).
    fn moves(self, node: &Node, now: Time) -> bool {
        match self {
            Atime::Always => true,
            Atime::Relatime => {
                let Node { atime, mtime, ctime, .. } = node;
                atime <= mtime || atime <= ctime || now.sec.saturating_sub(atime.sec) >= AGE_MAX_SEC
            }
            Atime::Never => false,
        }
    }
}
