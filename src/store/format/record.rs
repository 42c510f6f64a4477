//! One record: a word with its kind and its length, then its fields.
//!
//! Must not know: batches, trees.

use super::cut::Cut;
use super::{PAGE_BYTES, Wrong, checksum};
use crate::fs::{NAME_BYTES_MAX, NodeRecord, Record, XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX, check_name, mode};
use crate::wire::qt;

/// The kinds, in the lower 8 bits of the first word. The upper 24 bits are the bytes behind the word.
mod kind {
    pub(super) const NEXT: u8 = 1;
    pub(super) const NO_ENTRY: u8 = 2;
    pub(super) const GONE: u8 = 3;
    pub(super) const NODE: u8 = 4;
    pub(super) const DATA: u8 = 5;
    pub(super) const PAGES: u8 = 6;
    pub(super) const ENTRY: u8 = 7;
    pub(super) const XATTR: u8 = 8;
    pub(super) const NO_XATTR: u8 = 9;
}

/// Most bytes of data that one record has inline: below this, data is not worth a page of its own.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Most pages that one record names.
const PAGES_MAX: usize = 256;
/// Cookies begin behind those of "." and "..", and stay below 2^63.
const COOKIES: std::ops::Range<u64> = 3..1 << 63;
/// One past the largest size of a file (off_t).
const SIZE_END: u64 = 1 << 63;

/// A record as it is written down.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// All of it is here.
    Record(Record<'a>),
    /// Data that is in the next pages of the batch.
    Pages { path: u64, offset: u64, checksums: Checksums<'a> },
}

/// Checksums of pages, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksums<'a>(&'a [u8]);

impl Iterator for Checksums<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len() / 4, Some(self.0.len() / 4))
    }
}

impl ExactSizeIterator for Checksums<'_> {}

/// Appends a record.
pub(super) fn emit(record: &Record<'_>, to: &mut Vec<u8>) {
    match *record {
        Record::Next { path } => put(kind::NEXT, &[&path.to_le_bytes()], to),
        Record::NoEntry { dir, cookie } => put(kind::NO_ENTRY, &[&dir.to_le_bytes(), &cookie.to_le_bytes()], to),
        Record::Gone { path } => put(kind::GONE, &[&path.to_le_bytes()], to),
        Record::Node(node) => emit_node(&node, to),
        Record::Data { path, offset, bytes } => {
            assert!((1..=INLINE_BYTES_MAX).contains(&bytes.len()), "data of a record");
            put(kind::DATA, &[&path.to_le_bytes(), &offset.to_le_bytes(), bytes], to);
        }
        Record::Entry { dir, cookie, path, doomed, name } => {
            let [dir, cookie, path] = [dir, cookie, path].map(u64::to_le_bytes);
            put(kind::ENTRY, &[&dir, &cookie, &path, &[u8::from(doomed)], name], to);
        }
        Record::Xattr { path, name, value } => {
            put(kind::XATTR, &[&path.to_le_bytes(), &[name.len() as u8], name, value], to);
        }
        Record::NoXattr { path, name } => put(kind::NO_XATTR, &[&path.to_le_bytes(), name], to),
    }
}

/// Appends the record that names whole pages.
pub(super) fn emit_pages(path: u64, offset: u64, pages: &[u8], to: &mut Vec<u8>) {
    let is_whole = pages.len().is_multiple_of(PAGE_BYTES) && offset.is_multiple_of(PAGE_BYTES as u64);
    assert!(is_whole && (1..=PAGES_MAX).contains(&(pages.len() / PAGE_BYTES)), "whole pages of a file");
    put_word(kind::PAGES, 16 + pages.len() / PAGE_BYTES * 4, to);
    to.extend_from_slice(&path.to_le_bytes());
    to.extend_from_slice(&offset.to_le_bytes());
    for page in pages.chunks_exact(PAGE_BYTES) {
        to.extend_from_slice(&checksum(page).to_le_bytes());
    }
}

fn put_word(kind: u8, len: usize, to: &mut Vec<u8>) {
    to.extend_from_slice(&(u32::from(kind) | (len as u32) << 8).to_le_bytes());
}

fn put(kind: u8, fields: &[&[u8]], to: &mut Vec<u8>) {
    put_word(kind, fields.iter().map(|field| field.len()).sum(), to);
    fields.iter().for_each(|field| to.extend_from_slice(field));
}

fn emit_node(node: &NodeRecord, to: &mut Vec<u8>) {
    let NodeRecord { path, version, mode, bits, uid, gid, muid, rdev: (major, minor), size, kept, .. } = *node;
    put_word(kind::NODE, 8 + 8 * 4 + 2 * 8 + 4 * 12, to);
    to.extend_from_slice(&path.to_le_bytes());
    for number in [version, mode, u32::from(bits), uid, gid, muid, major, minor] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    to.extend_from_slice(&size.to_le_bytes());
    to.extend_from_slice(&kept.to_le_bytes());
    for time in [node.atime, node.mtime, node.ctime, node.btime] {
        to.extend_from_slice(&time.sec.to_le_bytes());
        to.extend_from_slice(&time.nsec.to_le_bytes());
    }
}

/// Takes a record off the front.
pub(super) fn parse<'a>(from: &mut Cut<'a>) -> Result<Found<'a>, Wrong> {
    let word = from.u32()?;
    let mut cut = Cut(from.bytes((word >> 8) as usize)?);
    let record = match word as u8 {
        kind::NEXT => Record::Next { path: path(&mut cut)? },
        kind::NO_ENTRY => Record::NoEntry { dir: path(&mut cut)?, cookie: cookie(&mut cut)? },
        kind::GONE => Record::Gone { path: path(&mut cut)? },
        kind::NODE => Record::Node(parse_node(&mut cut)?),
        kind::DATA => {
            let (path, offset) = (path(&mut cut)?, cut.u64()?);
            let bytes = cut.rest();
            check_range(offset, bytes.len(), INLINE_BYTES_MAX)?;
            Record::Data { path, offset, bytes }
        }
        kind::PAGES => {
            let (path, offset, checksums) = (path(&mut cut)?, cut.u64()?, cut.rest());
            if !checksums.len().is_multiple_of(4) || !offset.is_multiple_of(PAGE_BYTES as u64) {
                return Err(Wrong::Field("pages"));
            }
            check_range(offset, checksums.len() / 4 * PAGE_BYTES, PAGES_MAX * PAGE_BYTES)?;
            return Ok(Found::Pages { path, offset, checksums: Checksums(checksums) });
        }
        kind::ENTRY => parse_entry(&mut cut)?,
        kind::XATTR => {
            let (path, len) = (path(&mut cut)?, cut.u8()?);
            let (name, value) = (cut.bytes(len.into())?, cut.rest());
            check_attr_name(name)?;
            if value.len() > XATTR_BYTES_MAX {
                return Err(Wrong::Field("value of an extended attribute"));
            }
            Record::Xattr { path, name, value }
        }
        kind::NO_XATTR => {
            let (path, name) = (path(&mut cut)?, cut.rest());
            check_attr_name(name)?;
            Record::NoXattr { path, name }
        }
        other => return Err(Wrong::Kind(other)),
    };
    if cut.is_empty() { Ok(Found::Record(record)) } else { Err(Wrong::Field("length of a record")) }
}

fn parse_entry<'a>(cut: &mut Cut<'a>) -> Result<Record<'a>, Wrong> {
    let (dir, cookie, path) = (path(cut)?, cookie(cut)?, path(cut)?);
    let doomed = match cut.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Wrong::Field("flag of an entry")),
    };
    let name = cut.rest();
    check_name(name).map_err(|_| Wrong::Field("name"))?;
    Ok(Record::Entry { dir, cookie, path, doomed, name })
}

fn parse_node(cut: &mut Cut<'_>) -> Result<NodeRecord, Wrong> {
    let node = NodeRecord {
        path: path(cut)?,
        version: cut.u32()?,
        mode: cut.u32()?,
        bits: u8::try_from(cut.u32()?).map_err(|_| Wrong::Field("bits"))?,
        uid: cut.u32()?,
        gid: cut.u32()?,
        muid: cut.u32()?,
        rdev: (cut.u32()?, cut.u32()?),
        size: cut.u64()?,
        kept: cut.u64()?,
        atime: cut.time()?,
        mtime: cut.time()?,
        ctime: cut.time()?,
        btime: cut.time()?,
    };
    let kind = node.mode & mode::IFMT;
    let kinds =
        [mode::IFREG, mode::IFDIR, mode::IFLNK, mode::IFBLK, mode::IFCHR, mode::IFIFO, mode::IFSOCK].contains(&kind);
    if !kinds || node.mode & !(mode::IFMT | mode::PERM) != 0 {
        return Err(Wrong::Field("mode"));
    }
    if node.bits & !(qt::APPEND | qt::EXCL | qt::TMP) != 0 {
        return Err(Wrong::Field("bits"));
    }
    if node.version == 0 {
        return Err(Wrong::Field("version"));
    }
    if ![mode::IFBLK, mode::IFCHR].contains(&kind) && node.rdev != (0, 0) {
        return Err(Wrong::Field("device"));
    }
    let (sizes, kept) = match kind {
        mode::IFREG => (0..SIZE_END, node.kept <= node.size),
        mode::IFLNK => (1..crate::fs::TARGET_BYTES_MAX as u64 + 1, node.kept <= node.size),
        mode::IFDIR => (COOKIES, node.kept == 0),
        _ => (0..1, node.kept == 0),
    };
    if !sizes.contains(&node.size) || !kept {
        return Err(Wrong::Field("size"));
    }
    Ok(node)
}

/// The number of a file, from 1 on.
fn path(cut: &mut Cut<'_>) -> Result<u64, Wrong> {
    let path = cut.u64()?;
    if (1..1 << 63).contains(&path) { Ok(path) } else { Err(Wrong::Field("number of a file")) }
}

fn cookie(cut: &mut Cut<'_>) -> Result<u64, Wrong> {
    let cookie = cut.u64()?;
    if COOKIES.contains(&cookie) { Ok(cookie) } else { Err(Wrong::Field("cookie")) }
}

fn check_range(offset: u64, len: usize, most: usize) -> Result<(), Wrong> {
    let fits = (1..=most).contains(&len) && offset.checked_add(len as u64).is_some_and(|end| end < SIZE_END);
    if fits { Ok(()) } else { Err(Wrong::Field("range of data")) }
}

fn check_attr_name(name: &[u8]) -> Result<(), Wrong> {
    let fits = (1..=XATTR_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(&0);
    if fits { Ok(()) } else { Err(Wrong::Field("name of an extended attribute")) }
}

const _: () = assert!(XATTR_NAME_BYTES_MAX <= u8::MAX as usize && NAME_BYTES_MAX <= u8::MAX as usize);
