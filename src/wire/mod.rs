//! Bytes to messages of the three dialects and back. Pure: no state, no I/O, no allocation to parse.
//!
//! `table.rs` declares each message once; parse, emit, size, the one-line print and its inverse come from that line, through the `Field` of each type.
//! Everything is little endian; a message is `size[4] type[1] tag[2] ...`, its size counts itself (intro(9P)).
//!
//! Must not know: anything else of ours.

mod bits;
mod error;
mod field;
mod kind;
mod lists;
mod stat;
mod table;
mod text;
mod types;

pub use bits::{REMOVEDIR, STATS_ALL, dm, lock_status, lock_type, lopen, open, qt, setattr, xattr};
pub use error::Error;
pub use kind::Kind;
pub use lists::{Names, Qids};
pub use stat::{DirEntry, Stat};
pub use table::{Line, Message};
pub use text::TextError;
pub use types::{Data, Dialect, Ext, Opt, Qid, UOnly};

/// Names a request until its reply.
pub type Tag = u16;
/// Names a file on a connection.
pub type Fid = u32;

/// The tag of Tversion.
pub const NOTAG: Tag = !0;
/// No fid.
pub const NOFID: Fid = !0;
/// Bytes of `size type tag`.
pub const HEAD: usize = 7;
/// Bytes in front of the payload of Rread and Rreaddir.
pub const READ_HEAD: usize = HEAD + 4;
/// Bytes in front of the payload of Twrite.
pub const WRITE_HEAD: usize = HEAD + 4 + 8 + 4;
/// What clients take off msize for the head of a read or a write (plan9port: `include/fcall.h`, IOHDRSZ).
pub const IOHDR: u32 = 24;
/// Most names in a walk (walk(9P), MAXWELEM).
pub const NAMES_MAX: usize = 16;

/// The first bytes of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the whole message, these included.
    pub size: u32,
    /// Its type.
    pub kind: Kind,
    /// Its tag.
    pub tag: Tag,
}

/// The head of the message that starts here, once its seven bytes are there.
#[inline]
pub fn head(bytes: &[u8]) -> Option<Head> {
    let head = bytes.first_chunk::<HEAD>()?;
    let [a, b, c, d, kind, low, high] = *head;
    Some(Head { size: u32::from_le_bytes([a, b, c, d]), kind: Kind(kind), tag: u16::from_le_bytes([low, high]) })
}

/// Bytes of a qid.
pub const QID_BYTES: usize = 13;
/// Bytes of an Rwalk in front of its qids.
pub const WALK_HEAD: usize = HEAD + 2;

/// Writes a qid.
#[inline(always)]
pub fn put_qid(qid: Qid, bytes: &mut [u8]) {
    bytes[0] = qid.kind;
    bytes[1..5].copy_from_slice(&qid.version.to_le_bytes());
    bytes[5..QID_BYTES].copy_from_slice(&qid.path.to_le_bytes());
}

/// Writes what is in front of the `count` qids of an Rwalk.
#[inline]
pub fn put_walk_head(bytes: &mut [u8], tag: Tag, count: usize) {
    put_head(&mut bytes[..HEAD], Kind::TWALK.reply(), tag);
    bytes[0..2].copy_from_slice(&((WALK_HEAD + count * QID_BYTES) as u16).to_le_bytes());
    bytes[HEAD..WALK_HEAD].copy_from_slice(&(count as u16).to_le_bytes());
}

/// Writes a message without fields: nothing but a head, of [`HEAD`] bytes.
#[inline]
pub fn put_head(bytes: &mut [u8], kind: Kind, tag: Tag) {
    let [a, b] = tag.to_le_bytes();
    bytes.copy_from_slice(&[HEAD as u8, 0, 0, 0, kind.0, a, b]);
}

#[cfg(test)]
mod tests;
