//! The bytes of a store: superblock, batches and records, and back. docs/store-format.md has the layout.
//!
//! - `superblock`: which store it is, and where its log begins.
//! - `batch`: the unit of a commit: a head, records, and whole pages of files.
//! - `record`: one result.
//! - `log`: which batch may follow which one. `scan`: goes through a log, and says how it ends.
//! - `front`: what superblocks and heads begin with. `cut`: fields off the front of some bytes.
//!
//! Whatever the bytes are, decoding ends with a value or with [`Wrong`], and what is accepted is encoded to the same bytes.
//!
//! Must not know: files on disk, the arena, trees.

mod batch;
mod cut;
mod front;
mod log;
mod record;
mod scan;
mod superblock;

pub use batch::{Batch, HEAD_BYTES, Head, Writer};
pub use log::Next;
pub use scan::{Damage, End, Place, Torn, scan};
pub use superblock::{SUPERBLOCK_BYTES, Superblock};

use std::fmt;

/// Version of the format that this module reads and writes.
pub const VERSION: u32 = 1;
/// Unit of everything on disk in bytes: a batch begins at a multiple of it, and a page of a file has this length.
pub const PAGE_BYTES: usize = 4096;
/// Largest batch in bytes. It bounds the memory of a reader.
pub const BATCH_BYTES_MAX: usize = 32 << 20;

/// Numbers of changes (LSN) are below it: a gate has 8 bits of a `u64` for the tree.
const LSN_END: u64 = 1 << 56;

/// Tells stores apart: random bytes from when the store was made.
pub type StoreId = [u8; 16];

/// Why some bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// They end too early.
    Short,
    /// They do not begin like a batch or a superblock.
    Magic,
    /// They are of this version of the format.
    Version(u32),
    /// The checksum of a head or of a superblock differs.
    HeadChecksum,
    /// The checksum of the records of a batch differs.
    RecordsChecksum,
    /// The checksum of this page of a batch differs, counted from 0.
    PageChecksum(u32),
    /// A field has a value that it must not have.
    Field(&'static str),
    /// There is no record of this kind.
    Kind(u8),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Short => write!(f, "the bytes end too early"),
            Wrong::Magic => write!(f, "the magic number differs"),
            Wrong::Version(version) => write!(f, "format version {version}; this program reads version {VERSION}"),
            Wrong::HeadChecksum => write!(f, "the checksum of the head differs"),
            Wrong::RecordsChecksum => write!(f, "the checksum of the records differs"),
            Wrong::PageChecksum(page) => write!(f, "the checksum of page {page} differs"),
            Wrong::Field(what) => write!(f, "invalid {what}"),
            Wrong::Kind(kind) => write!(f, "unknown kind of record {kind}"),
        }
    }
}

impl std::error::Error for Wrong {}

/// CRC32C of some bytes.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests;
