//! A tree that nobody changes: what would change it answers EROFS, as on a file system that is mounted read-only (open(2)).
//! Locks may be taken: they are not kept in the tree.

use super::Hook;
use crate::fs::{At, Call, Error, OpId, Outcome, Service, Show};

/// Makes a tree read-only.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

impl Hook for ReadOnly {
    #[inline(always)]
    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        // No file is open for writing, so no payload comes.
        let changes = match &call {
            Call::Open { flags, .. } => flags.write || flags.truncate || flags.remove_on_close,
            Call::Create { .. } | Call::Write { .. } | Call::Commit { .. } | Call::Wstat { .. } => true,
            Call::Make { .. } | Call::Link { .. } | Call::Unlink { .. } | Call::Remove { .. } => true,
            Call::Rename { .. } | Call::RenameFile { .. } => true,
            Call::CheckXattr { .. } | Call::SetXattr { .. } => true,
            _ => false,
        };
        if changes { Outcome::now(Err(Error::EROFS)) } else { tree.call(op, call, show, at) }
    }
}
