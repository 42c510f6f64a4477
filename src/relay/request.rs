//! The message of a stage.
//!
//! Must not know: replies.

use super::link::Slot;
use super::op::{LockBuf, Op, Payload, Stage, Thing};
use super::stat::{classic_mode, linux_flags};
use super::{Listing, Relay};
use crate::arena::Arena;
use crate::client::{dm_bits, record_of, setattr_message};
use crate::fs::{Iovec, LockKind, OpId, Open, Result, SetXattr, mode};
use crate::wire::{
    self, Data, Dialect, Ext, Fid, Message, NOFID, Names, Opt, REMOVEDIR, STATS_ALL, UOnly, dm, lock_type, lopen, qt,
    xattr,
};

/// Bytes of a listing that are asked for at once.
const LIST_BYTES: u32 = 32 << 10;
/// The same where three more requests follow for each entry.
const STATS_BYTES: u32 = 2 << 10;

impl Relay {
    /// Makes the request of the operation's stage. There is room for it. EMSGSIZE: the far server could not receive it.
    pub(super) fn send(&mut self, id: OpId, op: &mut Op) -> Result<()> {
        let fid = match (op.last, op.file) {
            (Some(last), _) => last,
            (None, Some(file)) => self.fid(file)?,
            (None, None) => NOFID,
        };
        let other = op.other.map_or(Ok(NOFID), |other| self.fid(other))?;
        let new = match op.new {
            Some(new) => new,
            None if op.stage.makes_fid() => self.link.new_fid(),
            None => NOFID,
        };
        op.new = Some(new).filter(|&new| new != NOFID);
        let dialect = self.link.dialect();
        let is_linux = dialect == Dialect::L;
        let chunk = self.link.chunk();
        let slot = Slot::Op(id, op.stage == Stage::Read);
        let (name, new_name) = (&*op.name, &*op.new_name);
        let tag = match op.stage {
            Stage::Attach => {
                let uname = self.config.users.name_of_user(op.uid);
                let attach =
                    Message::Tattach { fid: new, afid: NOFID, uname: &uname, aname: name, n_uname: Ext(op.uid) };
                self.link.call(&attach, slot)
            }
            Stage::Walk => {
                let names: Vec<&[u8]> = op.names.iter().map(|name| &**name).collect();
                self.walk(fid, new, &names, slot)
            }
            Stage::Clone => self.walk(fid, new, &[], slot),
            Stage::Step => self.walk(fid, new, &[name], slot),
            Stage::StepUp => self.walk(fid, new, &[b".."], slot),
            Stage::Probe => self.walk(fid, new, &[b"..", new_name], slot),
            Stage::EntryStep => {
                let name = op.entries.last().map_or(&b""[..], |(_, _, name)| name);
                self.walk(fid, new, &[name], slot)
            }
            Stage::Open => self.link.call(&open(fid, op.flags, dialect), slot),
            Stage::OpenNew => self.link.call(&open(new, op.flags, dialect), slot),
            Stage::Create if is_linux => {
                let flags = linux_flags(op.flags) | lopen::CREATE | if op.or_open { 0 } else { lopen::EXCL };
                self.link.call(&Message::Tlcreate { fid, name, flags, mode: op.mode, gid: op.gid }, slot)
            }
            Stage::Create | Stage::CreateNew => {
                let fid = if op.stage == Stage::Create { fid } else { new };
                let (perm, extension) = record_mode(op, other, dialect);
                // What is made is opened, too. What was asked for without an open is opened to read.
                let flags = if op.stage == Stage::Create { op.flags } else { Open { read: true, ..Open::NONE } };
                let mode = classic_mode(Open { truncate: false, ..flags }, dialect);
                self.link.call(&Message::Tcreate { fid, name, perm, mode, extension: UOnly(&extension) }, slot)
            }
            Stage::Make => {
                let Op { mode: permissions, gid, .. } = *op;
                let message = match op.thing {
                    Thing::Dir => Message::Tmkdir { dfid: fid, name, mode: permissions, gid },
                    Thing::Symlink => Message::Tsymlink { fid, name, target: &op.target, gid },
                    Thing::Special(kind, (major, minor)) => {
                        Message::Tmknod { dfid: fid, name, mode: kind | permissions, major, minor, gid }
                    }
                    Thing::File | Thing::Link => {
                        Message::Tmknod { dfid: fid, name, mode: mode::IFREG | permissions, major: 0, minor: 0, gid }
                    }
                };
                self.link.call(&message, slot)
            }
            Stage::Read => self.link.call(&Message::Tread { fid, offset: op.offset, count: op.room.min(chunk) }, slot),
            Stage::List if is_linux => {
                let count = chunk.min(if op.stats { STATS_BYTES } else { LIST_BYTES });
                self.link.call(&Message::Treaddir { fid, offset: op.offset, count }, slot)
            }
            Stage::List => {
                let offset = self.listing(op).map_or(0, |listing| listing.next(op.offset));
                self.link.call(&Message::Tread { fid, offset, count: chunk.min(LIST_BYTES) }, slot)
            }
            Stage::Parent | Stage::Stat => self.link.call(&stat(fid, is_linux), slot),
            Stage::EntryStat => self.link.call(&stat(new, is_linux), slot),
            Stage::Target => self.link.call(&Message::Treadlink { fid }, slot),
            Stage::EntryTarget => self.link.call(&Message::Treadlink { fid: new }, slot),
            Stage::ReadLink if is_linux => self.link.call(&Message::Treadlink { fid }, slot),
            Stage::ReadLink => self.link.call(&stat(fid, false), slot),
            Stage::Write | Stage::XattrWrite => {
                let (fid, offset) = if op.stage == Stage::Write { (fid, op.offset) } else { (new, 0) };
                let n = (op.payload.len - op.payload.done).min(chunk as usize);
                let offset = offset.saturating_add(op.payload.done as u64);
                let tag = self.link.call(&Message::Twrite { fid, offset, data: Data::Away(n as u32) }, slot)?;
                op.payload.put(&mut self.arena, n, self.link.payload());
                Ok(tag)
            }
            Stage::Wstat if is_linux => self.link.call(&setattr_message(fid, &op.change), slot),
            Stage::Wstat => {
                let qid = self.named(op)?.qid;
                let kind = if qid.kind & qt::DIR != 0 { mode::IFDIR } else { mode::IFREG };
                let mut stat = record_of(&op.change, (kind, qid), dialect);
                if let (Some(bits), true) = (op.change.bits, stat.mode != !0) {
                    const BITS: u32 = ((qt::APPEND | qt::EXCL | qt::TMP) as u32) << 24;
                    stat.mode = stat.mode & !BITS | u32::from(bits) << 24;
                }
                (stat.name, stat.gid) = (new_name, &op.target);
                self.link.call(&Message::Twstat { fid, stat }, slot)
            }
            Stage::Name => self.link.call(&rename(fid, new_name), slot),
            Stage::NameNew => self.link.call(&rename(new, new_name), slot),
            Stage::RenameUp => self.link.call(&Message::Trename { fid, dfid: new, name: new_name }, slot),
            Stage::RenameTo => self.link.call(&Message::Trename { fid, dfid: other, name: new_name }, slot),
            Stage::Rename => {
                let message = Message::Trenameat { olddirfid: fid, oldname: name, newdirfid: other, newname: new_name };
                self.link.call(&message, slot)
            }
            Stage::Link => self.link.call(&Message::Tlink { dfid: fid, fid: other, name }, slot),
            Stage::Unlink => {
                let flags = if op.flags.directory { REMOVEDIR } else { 0 };
                self.link.call(&Message::Tunlinkat { dfid: fid, name, flags }, slot)
            }
            Stage::Remove => self.link.call(&Message::Tremove { fid }, slot),
            Stage::RemoveNew => self.link.call(&Message::Tremove { fid: new }, slot),
            Stage::ClunkNew | Stage::EntryClunk => self.link.call(&Message::Tclunk { fid: new }, slot),
            Stage::Fsync if is_linux => {
                self.link.call(&Message::Tfsync { fid, datasync: Opt(op.data_only.into()) }, slot)
            }
            Stage::Fsync => self.link.call(&Message::Twstat { fid, stat: wire::Stat::dont_touch() }, slot),
            Stage::XattrWalk => self.link.call(&Message::Txattrwalk { fid, newfid: new, name }, slot),
            Stage::XattrRead => {
                let offset = if let super::op::Shown::Bytes(bytes) = &op.shown { bytes.len() as u64 } else { 0 };
                let count = op.room - offset as u32;
                self.link.call(&Message::Tread { fid: new, offset, count: count.min(chunk) }, slot)
            }
            Stage::XattrCreate => {
                let flags = match op.how {
                    _ if op.removes => xattr::REPLACE,
                    Some(SetXattr::Create) => xattr::CREATE,
                    Some(SetXattr::Replace) => xattr::REPLACE,
                    Some(SetXattr::Any) | None => 0,
                };
                let attr_size = op.payload.len as u64;
                self.link.call(&Message::Txattrcreate { fid: new, name, attr_size, flags }, slot)
            }
            Stage::Lock | Stage::Conflict => {
                let Some(lock) = &op.lock else { return Err(crate::fs::Error::EINVAL) };
                self.link.call(&lock_message(fid, lock, op.stage == Stage::Conflict), slot)
            }
            Stage::StatFs => self.link.call(&Message::Tstatfs { fid }, slot),
        }?;
        op.tag = Some(tag);
        Ok(())
    }

    fn walk(&mut self, fid: Fid, newfid: Fid, names: &[&[u8]], slot: Slot) -> Result<wire::Tag> {
        self.link.call(&Message::Twalk { fid, newfid, wnames: Names::list(names) }, slot)
    }
}

impl Stage {
    /// Whether the request leaves no trace once the fid that it has made, if any, is clunked.
    pub(super) fn changes_nothing(self) -> bool {
        use Stage::{Conflict, EntryClunk, EntryStat, EntryTarget, List, Parent, Read, ReadLink, Stat, StatFs};
        matches!(self, Parent | Read | List | EntryStat | EntryTarget | EntryClunk | Stat | Stage::Target | ReadLink)
            || matches!(self, Conflict | StatFs | Stage::XattrRead)
            || self.makes_fid()
    }

    /// Whether the request names a fid that the far server does not have yet.
    pub(super) fn makes_fid(self) -> bool {
        use Stage::{Attach, Clone, EntryStep, Probe, Step, StepUp, Walk, XattrWalk};
        matches!(self, Attach | Walk | Clone | Step | StepUp | Probe | EntryStep | XattrWalk)
    }
}

impl Listing {
    /// Where the far server is read from next, for what comes behind a cookie. A directory is read from its start, or
    /// from where the last read has ended (read(9P)).
    pub(super) fn next(&self, cookie: u64) -> u64 {
        let end = self.start + self.bytes.len() as u64;
        if cookie.saturating_sub(Listing::DOTS) >= end { end } else { 0 }
    }
}

impl Payload {
    /// Appends the next `n` bytes.
    fn put(&self, arena: &mut Arena, n: usize, out: &mut Iovec) {
        if self.blocks.is_empty() {
            return out.put_copy(&self.plain[self.done..self.done + n]);
        }
        let (mut skip, mut left) = (self.done, n);
        for (block, range) in &self.blocks {
            let here = skip.min(range.len());
            skip -= here;
            let part = range.start + here..range.end.min(range.start + here + left);
            left -= part.len();
            if !part.is_empty() {
                out.put_slice(arena.slice(block, part));
            }
        }
    }
}

fn open(fid: Fid, flags: Open, dialect: Dialect) -> Message<'static> {
    match dialect {
        Dialect::L => Message::Tlopen { fid, flags: linux_flags(flags) },
        _ => Message::Topen { fid, mode: classic_mode(flags, dialect) },
    }
}

fn stat(fid: Fid, is_linux: bool) -> Message<'static> {
    if is_linux { Message::Tgetattr { fid, request_mask: STATS_ALL } } else { Message::Tstat { fid } }
}

fn rename(fid: Fid, name: &[u8]) -> Message<'_> {
    Message::Twstat { fid, stat: wire::Stat { name, ..wire::Stat::dont_touch() } }
}

/// The mode of a stat record for what is made, and what its extension says.
fn record_mode(op: &Op, other: Fid, dialect: Dialect) -> (u32, Vec<u8>) {
    let bits = u32::from(op.bits) << 24;
    let (kind, extension) = match op.thing {
        Thing::File => (mode::IFREG, Vec::new()),
        Thing::Dir => (mode::IFDIR, Vec::new()),
        Thing::Symlink => (mode::IFLNK, op.target.to_vec()),
        Thing::Special(kind, (major, minor)) if matches!(kind, mode::IFCHR | mode::IFBLK) => {
            let letter = if kind == mode::IFBLK { 'b' } else { 'c' };
            (kind, format!("{letter} {major} {minor}").into_bytes())
        }
        Thing::Special(kind, _) => (kind, Vec::new()),
        // The number of the fid, as v9fs sends it.
        Thing::Link => return (dm::LINK, format!("{other}\n").into_bytes()),
    };
    (dm_bits(kind | op.mode, dialect) | bits, extension)
}

fn lock_message(fid: Fid, lock: &LockBuf, asks: bool) -> Message<'_> {
    let type_ = match lock.kind {
        LockKind::Shared => lock_type::SHARED,
        LockKind::Exclusive => lock_type::EXCLUSIVE,
        LockKind::None => lock_type::NONE,
    };
    let (start, proc_id, client_id) = (lock.range.start, lock.process, &*lock.client);
    let length = if lock.range.end == u64::MAX { 0 } else { lock.range.end - start };
    match asks {
        true => Message::Tgetlock { fid, type_, start, length, proc_id, client_id },
        false => Message::Tlock { fid, type_, flags: 0, start, length, proc_id, client_id },
    }
}
