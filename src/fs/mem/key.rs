//! The number by which memfs names a node: directories, locks and attributes keep it.
//!
//! Must not know: what a node is.

/// A place in the table of nodes. It is used again once its node is gone; `path` of a node is not.
pub(super) type Key = u32;

/// The root directory.
pub(super) const ROOT: Key = 0;
