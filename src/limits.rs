//! Every bound of a server as a sum of its holders, and the relations between them.

use crate::arena::BLOCK_BYTES_MAX;
use crate::uring::{VIEWS_MAX, WINDOW_BYTES};

/// Largest message in bytes, and the default. v9fs asks for no more over a socket (Linux: `net/9p/trans_fd.c`, MAX_SOCK_BUF).
pub const MSIZE_MAX: u32 = 1 << 20;
/// Smallest message size in bytes that a client may ask for (Linux: `net/9p/client.c`, p9_client_create).
pub const MSIZE_MIN: u32 = 4096;
/// Connections at a time.
pub const PEERS_MAX: usize = 10_000;
/// Smallest `--memory` in bytes: a largest message, its copy, and some room.
pub const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// Files and directories: what fits the default memory with a smallest block and about 300 bytes of heap each.
pub const INODES_MAX: usize = 4 << 20;

// A payload that is no landing fits a window with its head.
const _: () = assert!(WINDOW_BYTES >= crate::session::BULK_BYTES_MIN);
// A whole largest reply is one gather.
const _: () = assert!(VIEWS_MAX > 2 * (MSIZE_MAX as usize / BLOCK_BYTES_MAX + 2));
// Every name and target that may be in a message that is no write.
const _: () = assert!(WINDOW_BYTES > 16 * (2 + 255) + 64 && WINDOW_BYTES > 4095 + 255 + 64);
