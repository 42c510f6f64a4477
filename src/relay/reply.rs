//! What a reply of the far server means for its operation: how it goes on, or how it ends.
//!
//! Must not know: how a request is made.

use super::op::{Flow, LockBuf, Op, Shown, Stage, Thing};
use super::stat::{StatBuf, check_record, check_text, same_file};
use super::{File, Listing, Relay};
use crate::client::CallError;
use crate::fs::{
    Done, Error, FileId, LockKind, NAME_BYTES_MAX, Open, Result, SetXattr, StatFs, TARGET_BYTES_MAX, XATTR_BYTES_MAX,
    limited, mode,
};
use crate::session::Users;
use crate::wire::{self, Data, Dialect, DirEntry, Message, Qid, lock_status, lock_type, qt};

/// A reply as it outlives its message.
#[derive(Debug)]
pub(super) enum Reply {
    Plain,
    Qid(Qid, u32),
    Qids(Vec<Qid>),
    Count(u32),
    Bytes(Vec<u8>),
    Stat(Box<StatBuf>),
    Size(u64),
    Status(u8),
    /// `None`: the range is free.
    Lock(Option<LockBuf>),
    StatFs(StatFs),
}

impl Reply {
    pub(super) fn of(reply: std::result::Result<Message<'_>, CallError>, users: &Users) -> Result<Reply> {
        Ok(match reply {
            Err(CallError::Refused(error, _)) => return Err(error),
            Err(CallError::Protocol(_)) => return Err(Error::EPROTO),
            Ok(Message::Rattach { qid } | Message::Rsymlink { qid }) => Reply::Qid(qid, 0),
            Ok(Message::Rmknod { qid } | Message::Rmkdir { qid }) => Reply::Qid(qid, 0),
            Ok(Message::Ropen { qid, iounit } | Message::Rcreate { qid, iounit }) => Reply::Qid(qid, iounit),
            Ok(Message::Rlopen { qid, iounit } | Message::Rlcreate { qid, iounit }) => Reply::Qid(qid, iounit),
            Ok(Message::Rwalk { wqids }) => Reply::Qids(wqids.iter().collect()),
            Ok(Message::Rwrite { count }) => Reply::Count(count),
            Ok(Message::Rread { data: Data::Here(bytes) } | Message::Rreaddir { data: Data::Here(bytes) }) => {
                Reply::Bytes(bytes.to_vec())
            }
            Ok(Message::Rreadlink { target }) => {
                check_text(target, TARGET_BYTES_MAX)?;
                Reply::Bytes(target.to_vec())
            }
            Ok(message @ Message::Rgetattr { .. }) => {
                Reply::Stat(Box::new(StatBuf::of_attributes(&message).ok_or(Error::EPROTO)?))
            }
            Ok(Message::Rstat { stat }) => Reply::Stat(Box::new(StatBuf::of_record(&stat, users)?)),
            Ok(Message::Rxattrwalk { size }) => Reply::Size(size),
            Ok(Message::Rlock { status }) => Reply::Status(status),
            Ok(Message::Rgetlock { type_, start, length, proc_id, client_id }) => {
                let kind = if type_ == lock_type::SHARED { LockKind::Shared } else { LockKind::Exclusive };
                let end = if length == 0 { u64::MAX } else { start.saturating_add(length) };
                let lock = LockBuf { kind, range: start..end, process: proc_id, client: unprefixed(client_id).into() };
                Reply::Lock(Some(lock).filter(|_| type_ != lock_type::NONE))
            }
            Ok(Message::Rstatfs { bsize, blocks, bfree, files, ffree, fsid, .. }) => {
                Reply::StatFs(StatFs { bsize, blocks, bfree, files, ffree, fsid })
            }
            Ok(_) => Reply::Plain,
        })
    }
}

impl Relay {
    /// Takes in the reply to the operation's stage.
    pub(super) fn take(&mut self, op: &mut Op, reply: Result<Reply>) -> Result<Flow> {
        let stage = op.stage;
        match stage {
            // The fid is gone whatever the far server says.
            Stage::Remove => {
                let file = op.file.and_then(|file| self.file_mut(file).ok());
                let fid = op.last.or_else(|| file.and_then(|file| file.fid.take()));
                fid.into_iter().for_each(|fid| self.link.free_fid(fid));
            }
            Stage::ClunkNew | Stage::EntryClunk | Stage::RemoveNew => {
                op.lives = false;
                op.new.take().into_iter().for_each(|fid| self.link.free_fid(fid));
            }
            _ => {}
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return self.refused(op, error),
        };
        if let (Stage::Attach | Stage::XattrWalk, _) | (_, Reply::Qids(_)) = (stage, &reply) {
            op.lives = has_come(op, &reply);
        }
        match (stage, reply) {
            (Stage::Attach, Reply::Qid(qid, _)) => {
                let file = self.adopt(op, qid, b"/".as_slice().into(), op.peer);
                Ok(Flow::End(Ok(Done::File { file, qid })))
            }
            (Stage::Walk, Reply::Qids(qids)) => self.walked(op, &qids),
            (Stage::Probe, Reply::Qids(_)) if op.lives => Err(Error::EEXIST),
            (Stage::Probe, Reply::Qids(_)) => Ok(Flow::Next(Done::Nothing)),
            (Stage::EntryStep, Reply::Qids(_)) => Ok(if op.lives { Flow::To(Stage::EntryStat) } else { no_entry(op) }),
            (Stage::Clone, Reply::Qids(_)) => Ok(Flow::Next(Done::Nothing)),
            (Stage::Step | Stage::StepUp, Reply::Qids(qids)) => {
                op.new_qid = *qids.first().filter(|_| op.lives).ok_or(Error::ENOENT)?;
                self.stepped(op)
            }
            (Stage::Open, Reply::Qid(qid, iounit)) => {
                self.opened(op, qid)?;
                Ok(Flow::Next(Done::Opened { qid, iounit: self.iounit(iounit) }))
            }
            (Stage::Create, Reply::Qid(qid, iounit)) => {
                self.opened(op, qid)?;
                op.file.map(|file| self.file_mut(file)).transpose()?.into_iter().for_each(|file| {
                    file.name = std::mem::take(&mut op.name);
                });
                Ok(Flow::Next(Done::Opened { qid, iounit: self.iounit(iounit) }))
            }
            (Stage::OpenNew, Reply::Qid(qid, iounit)) => {
                op.new_qid = qid;
                Ok(Flow::Next(Done::Opened { qid, iounit: self.iounit(iounit) }))
            }
            (Stage::CreateNew, Reply::Qid(qid, _)) => {
                op.new_qid = qid;
                Ok(Flow::Next(if op.enters { Done::Opened { qid, iounit: 0 } } else { made(op, qid) }))
            }
            (Stage::Make, Reply::Qid(qid, _)) => Ok(Flow::Next(Done::Made(qid))),
            (Stage::Read | Stage::ReadLink, Reply::Bytes(bytes)) => {
                op.shown = Shown::Bytes(bytes);
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::List, Reply::Bytes(bytes)) => self.listed(op, bytes),
            (Stage::Parent, Reply::Stat(stat)) => looked_at(op, &stat),
            (Stage::Stat, Reply::Stat(stat)) => {
                let needs_target = op.wants_target && stat.is_link() && self.link.dialect() == Dialect::L;
                op.shown = Shown::Stat(stat);
                Ok(if needs_target { Flow::To(Stage::Target) } else { Flow::Next(Done::Nothing) })
            }
            (Stage::Target, Reply::Bytes(target)) => {
                if let Shown::Stat(stat) = &mut op.shown {
                    stat.target = target.into();
                }
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::EntryStat, Reply::Stat(mut stat)) => {
                let Some((cookie, _, name)) = op.entries.pop() else { return Err(Error::EIO) };
                stat.name = name;
                let is_link = stat.is_link();
                if let Shown::Stats(stats) = &mut op.shown {
                    stats.push((cookie, *stat));
                }
                Ok(Flow::To(if is_link { Stage::EntryTarget } else { Stage::EntryClunk }))
            }
            (Stage::EntryTarget, Reply::Bytes(target)) => {
                if let Shown::Stats(stats) = &mut op.shown
                    && let Some((_, stat)) = stats.last_mut()
                {
                    stat.target = target.into();
                }
                Ok(Flow::To(Stage::EntryClunk))
            }
            (Stage::EntryClunk, _) => Ok(next_entry(op)),
            (Stage::ReadLink, Reply::Stat(stat)) => {
                op.shown = Shown::Bytes(stat.target.to_vec());
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::Write | Stage::XattrWrite, Reply::Count(count)) => written(op, count),
            (Stage::Name | Stage::RenameUp | Stage::RenameTo, Reply::Plain) => {
                self.renamed(op);
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::Wstat, Reply::Plain) => {
                if !op.new_name.is_empty() && self.link.dialect() != Dialect::L {
                    self.renamed(op);
                }
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::XattrWalk, Reply::Size(size)) => match op.how {
                Some(SetXattr::Create) => Err(Error::EEXIST),
                Some(_) => Ok(Flow::Next(Done::Nothing)),
                None if size > XATTR_BYTES_MAX as u64 => Err(Error::E2BIG),
                None => {
                    (op.room, op.shown) = (size as u32, Shown::Bytes(Vec::new()));
                    if size == 0 { self.attribute(op) } else { Ok(Flow::Next(Done::Nothing)) }
                }
            },
            (Stage::XattrRead, Reply::Bytes(part)) => {
                let Shown::Bytes(bytes) = &mut op.shown else { return Err(Error::EIO) };
                if part.is_empty() {
                    // It is shorter than it was.
                    return Err(Error::EIO);
                }
                bytes.extend_from_slice(&part);
                if bytes.len() < op.room as usize { Ok(Flow::To(Stage::XattrRead)) } else { self.attribute(op) }
            }
            (Stage::XattrCreate, Reply::Plain) => {
                if op.payload.len == 0 {
                    op.then.retain(|stage| *stage != Stage::XattrWrite);
                }
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::Lock, Reply::Status(status)) => match status {
                lock_status::SUCCESS => Ok(Flow::Next(Done::Locked(true))),
                lock_status::BLOCKED => Ok(Flow::Next(Done::Locked(false))),
                _ => Err(Error::ENOLCK),
            },
            (Stage::Conflict, Reply::Lock(lock)) => {
                op.shown = lock.map_or(Shown::Nothing, Shown::Lock);
                Ok(Flow::Next(Done::Nothing))
            }
            (Stage::StatFs, Reply::StatFs(of)) => {
                op.shown = Shown::StatFs(of);
                Ok(Flow::Next(Done::Nothing))
            }
            (_, Reply::Plain) => Ok(Flow::Next(Done::Nothing)),
            _ => Err(Error::EPROTO),
        }
    }

    /// The far server has refused a stage.
    fn refused(&mut self, op: &mut Op, error: Error) -> Result<Flow> {
        match op.stage {
            // The steps in front of the first name were taken. A walk of no name is a clone, which has failed.
            Stage::Walk if op.steps.first() == Some(&false) && !op.names.is_empty() => self.walked(op, &[]),
            // What is there already is opened instead.
            Stage::Create if error == Error::EEXIST && op.or_open => {
                op.enters = true;
                op.then = vec![Stage::OpenNew];
                Ok(Flow::To(Stage::Step))
            }
            Stage::Probe if matches!(error, Error::ENOENT) => Ok(Flow::Next(Done::Nothing)),
            // The entry has gone meanwhile.
            Stage::EntryStep => Ok(no_entry(op)),
            Stage::EntryStat => {
                op.entries.pop();
                Ok(Flow::To(Stage::EntryClunk))
            }
            Stage::EntryTarget => Ok(Flow::To(Stage::EntryClunk)),
            Stage::EntryClunk => Ok(next_entry(op)),
            Stage::Target if error != Error::EPROTO => Ok(Flow::Next(Done::Nothing)),
            // The file is closed, whether its name was there or not.
            Stage::Remove if op.last.is_some() => Ok(Flow::End(Ok(Done::Nothing))),
            // .L removes what must be there, but this may be there or not.
            Stage::XattrCreate | Stage::ClunkNew
                if op.removes && op.how == Some(SetXattr::Any) && error == Error::ENODATA =>
            {
                Ok(Flow::End(Ok(Done::Nothing)))
            }
            // Parts that were taken before are in the file.
            Stage::Write if op.payload.done > 0 => Ok(Flow::End(Ok(Done::Count(op.payload.done as u32)))),
            Stage::XattrWalk if op.how == Some(SetXattr::Create) && error == Error::ENODATA => {
                Ok(Flow::End(Ok(Done::Nothing)))
            }
            _ => Err(error),
        }
    }

    /// A file of what the new fid is.
    fn adopt(&mut self, op: &mut Op, qid: Qid, name: Box<[u8]>, peer: u32) -> FileId {
        op.lives = false;
        let (fid, generation) = (op.new.take(), self.link.generation);
        self.hold(File { fid, qid, name, peer, generation, ..File::default() })
    }

    fn walked(&mut self, op: &mut Op, wire: &[Qid]) -> Result<Flow> {
        let from = self.named(op)?;
        let (mut last, mut name, peer) = (from.qid, from.name.clone(), from.peer);
        let mut wire = wire.iter();
        let mut steps = Vec::new();
        for moves in &op.steps {
            if *moves {
                let Some(qid) = wire.next() else { break };
                last = *qid;
            }
            steps.push(last);
        }
        let is_whole = steps.len() == op.steps.len();
        if steps.is_empty() && !is_whole {
            return Err(Error::ENOENT);
        }
        op.shown = Shown::Steps(steps);
        if let Some(step) = op.names.last() {
            name = step.clone();
        }
        let file = (is_whole && !op.ends_early && op.lives).then(|| self.adopt(op, last, name, peer));
        Ok(Flow::End(Ok(Done::Walked(file))))
    }

    fn stepped(&mut self, op: &mut Op) -> Result<Flow> {
        let (kind, next) = (op.new_qid.kind, op.then.last());
        match next {
            Some(Stage::RemoveNew) if op.flags.directory && kind & qt::DIR == 0 => Err(Error::ENOTDIR),
            Some(Stage::RemoveNew) if !op.flags.directory && kind & qt::DIR != 0 => Err(Error::EISDIR),
            Some(Stage::OpenNew) if op.or_open && kind & qt::DIR != 0 => Err(Error::EISDIR),
            Some(Stage::Name) => {
                let to = op.other.map(|other| self.file(other)).transpose()?.ok_or(Error::EIO)?;
                // A stat record changes a name within its directory.
                if same_file(to.qid, op.new_qid) { Ok(Flow::Next(Done::Nothing)) } else { Err(Error::EXDEV) }
            }
            _ => Ok(Flow::Next(Done::Opened { qid: op.new_qid, iounit: 0 })),
        }
    }

    /// The file's fid is open.
    fn opened(&mut self, op: &Op, qid: Qid) -> Result<()> {
        let dialect = self.link.dialect();
        let Some(id) = op.file else { return Err(Error::EIO) };
        let file = self.file_mut(id)?;
        file.qid = qid;
        file.opened(op.flags, dialect);
        self.put_listing(id, None).map(|_| ())
    }

    /// Bytes of an atomic read or write. A larger one takes several messages.
    fn iounit(&self, iounit: u32) -> u32 {
        let chunk = self.link.chunk();
        if iounit == 0 { chunk } else { iounit.min(chunk) }
    }

    fn renamed(&mut self, op: &mut Op) {
        if let Some(Ok(file)) = op.file.map(|file| self.file_mut(file)) {
            file.name = std::mem::take(&mut op.new_name);
        }
    }

    /// The file that stands for an attribute which was read. It has no fid: the value is here, so that of the far server
    /// is clunked at once, since a far server may allow few of them for a peer.
    fn attribute(&mut self, op: &mut Op) -> Result<Flow> {
        let from = self.named(op)?;
        let (qid, name, peer) = (from.qid, from.name.clone(), from.peer);
        let generation = self.link.generation;
        let file = self.hold(File { fid: None, qid, name, peer, generation, ..File::default() });
        Ok(Flow::End(Ok(Done::File { file, qid })))
    }

    /// Bytes of a directory. Their form is checked here: what is shown later is sound.
    fn listed(&mut self, op: &mut Op, bytes: Vec<u8>) -> Result<Flow> {
        let dialect = self.link.dialect();
        if dialect == Dialect::L {
            let mut rest = &*bytes;
            let mut entries = Vec::new();
            while !rest.is_empty() {
                let (entry, behind) = DirEntry::parse(rest).map_err(|_| Error::EPROTO)?;
                check_text(entry.name, NAME_BYTES_MAX)?;
                if op.stats {
                    entries.push((entry.offset, entry.qid, entry.name.into()));
                }
                rest = behind;
            }
            if !op.stats {
                op.shown = Shown::Entries(bytes);
                return Ok(Flow::Next(Done::Nothing));
            }
            entries.reverse();
            (op.entries, op.shown) = (entries, Shown::Stats(Vec::new()));
            return Ok(next_entry(op));
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let (record, behind) = wire::Stat::parse(rest, dialect).map_err(|_| Error::EPROTO)?;
            check_record(&record)?;
            rest = behind;
        }
        let id = op.file.ok_or(Error::EIO)?;
        let start = self.listing(op).map_or(0, |listing| listing.next(op.offset));
        let (is_end, end) = (bytes.is_empty(), start + bytes.len() as u64);
        self.put_listing(id, Some(Box::new(Listing { start, bytes })))?;
        let has_come = is_end || op.offset < end + Listing::DOTS;
        Ok(if has_come { Flow::Next(Done::Nothing) } else { Flow::To(Stage::List) })
    }
}

impl File {
    /// Notes what the dialect cannot say of an open file.
    pub(super) fn opened(&mut self, flags: Open, dialect: Dialect) {
        self.appends = flags.append && dialect == Dialect::P9;
        self.removes = flags.remove_on_close && dialect == Dialect::L;
    }
}

/// Whether the far server has the new fid now: a walk has come to its end (walk(9P)).
fn has_come(op: &Op, reply: &Reply) -> bool {
    let names = match op.stage {
        Stage::Walk => op.names.len(),
        Stage::Clone => 0,
        Stage::Probe => 2,
        _ => 1,
    };
    if let Reply::Qids(qids) = reply { qids.len() == names } else { true }
}

/// The next entry of a listing whose attributes are asked for.
fn next_entry(op: &mut Op) -> Flow {
    // The attributes of these two are not shown.
    while op.entries.last().is_some_and(|(_, _, name)| matches!(&**name, b"." | b"..")) {
        if let (Some((cookie, qid, name)), Shown::Stats(stats)) = (op.entries.pop(), &mut op.shown) {
            stats.push((cookie, StatBuf::of_dir(qid, &name)));
        }
    }
    if op.entries.is_empty() { Flow::Next(Done::Nothing) } else { Flow::To(Stage::EntryStep) }
}

/// The entry has gone meanwhile.
fn no_entry(op: &mut Op) -> Flow {
    op.entries.pop();
    next_entry(op)
}

/// What a part of a payload has come to.
fn written(op: &mut Op, count: u32) -> Result<Flow> {
    let count = count as usize;
    op.payload.done += count;
    if op.payload.done > op.payload.len {
        return Err(Error::EPROTO);
    }
    if op.payload.done < op.payload.len && count > 0 {
        return Ok(Flow::To(op.stage));
    }
    if op.stage == Stage::XattrWrite && op.payload.done < op.payload.len {
        return Err(Error::EIO);
    }
    Ok(Flow::Next(Done::Count(op.payload.done as u32)))
}

/// What a file is now, for what is done behind that.
fn looked_at(op: &mut Op, stat: &StatBuf) -> Result<Flow> {
    match op.then.last() {
        Some(Stage::Write) => op.offset = stat.stat().size,
        Some(Stage::Wstat) => op.change.mode = Some(stat.mode() & mode::PERM),
        _ if stat.mode() & mode::IFMT != mode::IFDIR => return Err(Error::ENOTDIR),
        _ => op.mode = limited(op.mode, stat.mode(), op.thing == Thing::Dir),
    }
    Ok(Flow::Next(Done::Nothing))
}

/// What the answer to a call that makes something is.
fn made(op: &Op, qid: Qid) -> Done {
    if op.thing == Thing::Link { Done::Nothing } else { Done::Made(qid) }
}

/// The client's own name in a lock that this relay has asked for. Others are shown as they are.
fn unprefixed(client: &[u8]) -> &[u8] {
    match client.iter().position(|&byte| byte == b':') {
        Some(at) if (1..=8).contains(&at) && client[..at].iter().all(u8::is_ascii_hexdigit) => &client[at + 1..],
        _ => client,
    }
}
