//! Which requests to the far server a call becomes, in its dialect.
//!
//! Must not know: replies.

use super::op::{LockBuf, Op, Payload, Stage, Thing};
use super::stat::same_file;
use super::{File, Relay};
use crate::fs::{
    At, Call, Change, Error, FileId, Grant, Lock, NAME_BYTES_MAX, New, Result, SetTime, SetXattr, Show,
    TARGET_BYTES_MAX, XATTR_NAME_BYTES_MAX, check_step, mode,
};
use crate::wire::{Dialect, Fid, Names, qt};

/// The number that stands for no group (Linux: -1).
const NO_GROUP: u32 = !0;

impl Relay {
    /// The operation of a call, or `None` if nothing has to be asked for.
    pub(super) fn plan(&mut self, call: Call<'_>, show: &Show<'_>, at: At) -> Result<Option<Op>> {
        if let Call::Attach { user, aname } = call {
            if aname.len() > TARGET_BYTES_MAX {
                return Err(Error::ENAMETOOLONG);
            }
            let name = self.config.aname.clone().unwrap_or_else(|| aname.into());
            let stage = Stage::Attach;
            return Ok(Some(Op { stage, uid: user.uid, peer: user.peer, name, ..Op::default() }));
        }
        if let Call::Close { file } = call {
            return self.close(file);
        }
        let mut op = Op { generation: self.link.generation, ..Op::default() };
        let is_linux = self.link.dialect() == Dialect::L;
        if let Call::Xattr { name, .. } | Call::CheckXattr { name, .. } | Call::SetXattr { name, .. } = call
            && name.len() > XATTR_NAME_BYTES_MAX
        {
            return Err(Error::ERANGE);
        }
        match call {
            Call::Attach { .. } | Call::Close { .. } => {}
            Call::Walk { from, names, dots } => {
                op.file = Some(from);
                walk(&mut op, names, dots)?;
            }
            Call::Open { file, flags } => {
                let qid = self.file(file)?.qid;
                if flags.directory && qid.kind & qt::DIR == 0 {
                    return Err(Error::ENOTDIR);
                }
                (op.stage, op.file, op.flags) = (Stage::Open, Some(file), flags);
            }
            Call::Create { dir, name, new } => {
                (op.file, op.name) = (Some(dir), name.into());
                create(&mut op, new, is_linux)?;
            }
            Call::Read { file, offset } => {
                (op.stage, op.file, op.offset) = (Stage::Read, Some(file), offset);
                op.room = if let Show::Data(out) = show { out.room() } else { 0 };
            }
            Call::List { dir, cookie, stats } => {
                (op.stage, op.file, op.offset, op.stats) = (Stage::List, Some(dir), cookie, stats);
            }
            Call::Write { file, offset, data } => {
                op.payload = Payload { plain: data.to_vec(), len: data.len(), ..Payload::default() };
                self.write(&mut op, file, offset)?;
            }
            Call::Commit { file, grant } => {
                // What has landed is given back where the call fails.
                let offset = grant.offset;
                op.payload = self.landed(grant);
                if let Err(error) = self.write(&mut op, file, offset) {
                    self.let_go(&mut op);
                    return Err(error);
                }
            }
            Call::Stat { file, target } => (op.file, op.wants_target) = (Some(file), target),
            Call::Wstat { file, change } => {
                op.file = Some(file);
                self.wstat(&mut op, file, &change, at)?;
            }
            Call::ReadLink { file } => {
                if self.file(file)?.qid.kind & qt::SYMLINK == 0 && !is_linux {
                    return Err(Error::EINVAL);
                }
                (op.stage, op.file) = (Stage::ReadLink, Some(file));
            }
            Call::Make { dir, name, what, mode, gid, enter } => {
                let (thing, target) = Thing::of(what);
                (op.file, op.name, op.thing, op.target) = (Some(dir), name.into(), thing, target.into());
                (op.mode, op.gid) = (mode, gid.unwrap_or(NO_GROUP));
                self.make(&mut op, Stage::Make, enter, is_linux)?;
                if enter && is_linux {
                    op.then.push(std::mem::replace(&mut op.stage, Stage::Parent));
                }
            }
            Call::Link { dir, name, file, enter } => {
                (op.file, op.name, op.thing, op.other) = (Some(dir), name.into(), Thing::Link, Some(file));
                self.make(&mut op, Stage::Link, enter, is_linux)?;
            }
            Call::Unlink { dir, name, want_dir } => {
                (op.file, op.name, op.flags.directory) = (Some(dir), name.into(), want_dir);
                op.start(if is_linux { &[Stage::Unlink] } else { &[Stage::Step, Stage::RemoveNew] });
            }
            Call::Rename { from, name, to, new_name } => {
                (op.file, op.name, op.other, op.new_name) = (Some(from), name.into(), Some(to), new_name.into());
                op.start(if is_linux { &[Stage::Rename] } else { &[Stage::Step, Stage::NameNew] });
                // A stat record changes a name within its directory.
                if !is_linux && !same_file(self.file(from)?.qid, self.file(to)?.qid) {
                    return Err(Error::EXDEV);
                }
            }
            Call::RenameFile { file, to, new_name } => {
                (op.file, op.other, op.new_name) = (Some(file), Some(to), new_name.into());
                op.start(if is_linux { &[Stage::RenameTo] } else { &[Stage::StepUp, Stage::Name] });
            }
            Call::Remove { file } => (op.stage, op.file) = (Stage::Remove, Some(file)),
            Call::Fsync { file, data_only } => {
                (op.stage, op.file, op.data_only) = (Stage::Fsync, Some(file), data_only);
            }
            Call::Xattr { file, name } => {
                (op.file, op.name) = (Some(file), name.into());
                op.start(&[Stage::XattrWalk, Stage::XattrRead]);
            }
            Call::CheckXattr { how: SetXattr::Any, .. } if is_linux => return Ok(None),
            Call::CheckXattr { file, name, how } => {
                (op.stage, op.file, op.name, op.how) = (Stage::XattrWalk, Some(file), name.into(), Some(how));
            }
            Call::SetXattr { file, name, value, how } => {
                (op.file, op.name, op.how, op.removes) = (Some(file), name.into(), Some(how), value.is_none());
                let plain = value.unwrap_or_default().to_vec();
                op.payload = Payload { len: plain.len(), plain, ..Payload::default() };
                op.start(&[Stage::Clone, Stage::XattrCreate, Stage::XattrWrite, Stage::ClunkNew]);
            }
            Call::Lock { file, lock } => self.lock(&mut op, Stage::Lock, file, &lock)?,
            Call::Conflict { file, lock } => self.lock(&mut op, Stage::Conflict, file, &lock)?,
            Call::StatFs { file } => (op.stage, op.file) = (Stage::StatFs, Some(file)),
        }
        for file in [op.file, op.other].into_iter().flatten() {
            if let Err(error) = self.file(file) {
                self.let_go(&mut op);
                return Err(error);
            }
        }
        if !is_linux && (op.stage.is_linux_only() || op.how.is_some()) {
            return Err(Error::EOPNOTSUPP);
        }
        Ok(Some(op))
    }

    /// Closes a file. No operation waits for the Tclunk: the file is gone whatever the far server says. A file that its
    /// close removes has an operation, which waits for the Tremove. Nothing is asked for where a Tremove or the end of the
    /// connection has taken the fid.
    pub(super) fn close(&mut self, id: FileId) -> Result<Option<Op>> {
        let is_it = |file: &File| id.has_number(file.number);
        let file = self.files.take_if(id.place(), is_it).ok_or(Error::EBADF)?;
        self.listing_bytes -= file.listing.map_or(0, |listing| listing.bytes.len());
        let Some(fid) = file.fid.filter(|_| file.generation == self.link.generation) else { return Ok(None) };
        if file.removes {
            let stage = Stage::Remove;
            return Ok(Some(Op { stage, last: Some(fid), generation: file.generation, ..Op::default() }));
        }
        self.link.clunk(fid);
        Ok(None)
    }

    fn write(&mut self, op: &mut Op, file: FileId, offset: u64) -> Result<()> {
        (op.file, op.offset) = (Some(file), offset);
        let appends = self.file(file)?.appends;
        op.start(if appends { &[Stage::Parent, Stage::Write] } else { &[Stage::Write] });
        Ok(())
    }

    /// The memory of a payload becomes blocks that are shown as often as a request is made of them.
    fn landed(&mut self, grant: Grant) -> Payload {
        let (pieces, _) = grant.space.into_parts();
        let blocks = pieces.into_iter().map(|piece| {
            let range = piece.range();
            (self.arena.adopt(piece), range)
        });
        Payload { blocks: blocks.collect(), len: grant.count as usize, ..Payload::default() }
    }

    fn wstat(&mut self, op: &mut Op, file: FileId, change: &Change<'_>, at: At) -> Result<()> {
        let now = |time: SetTime| if time == SetTime::Now { SetTime::To(at.wall) } else { time };
        let rest = Change { name: None, replace: false, ..*change };
        op.change = rest;
        op.new_name = change.name.unwrap_or_default().into();
        match self.link.dialect() {
            Dialect::L if change.bits.is_some() => return Err(Error::EOPNOTSUPP),
            // .L renames from one directory to another, and ".." leads up from directories alone.
            Dialect::L if change.name.is_some() && self.file(file)?.qid.kind & qt::DIR == 0 => {
                return Err(Error::EOPNOTSUPP);
            }
            // Two requests, of which the second one may be refused: then the first one has changed something.
            Dialect::L if change.name.is_some() && rest != Change::default() => return Err(Error::EOPNOTSUPP),
            Dialect::L => {
                let stages: &[Stage] = match change.name {
                    None => &[Stage::Wstat],
                    Some(_) if change.replace => &[Stage::StepUp, Stage::RenameUp],
                    Some(_) => &[Stage::Probe, Stage::StepUp, Stage::RenameUp],
                };
                op.start(stages);
            }
            dialect => {
                if dialect == Dialect::P9 {
                    if change.uid.is_some() {
                        return Err(Error::EPERM);
                    }
                    op.target = change.gid.map(|gid| self.config.users.name_of_group(gid)).unwrap_or_default().into();
                }
                // All bits are "don't touch" (stat(9P)).
                if change.size == Some(u64::MAX) {
                    return Err(Error::EFBIG);
                }
                (op.change.atime, op.change.mtime) = (change.atime.map(now), change.mtime.map(now));
                let looks = change.bits.is_some() && change.mode.is_none();
                op.start(if looks { &[Stage::Parent, Stage::Wstat] } else { &[Stage::Wstat] });
            }
        }
        Ok(())
    }

    /// .L makes a name in a directory. The other dialects make a file of a copy of the directory's fid.
    fn make(&mut self, op: &mut Op, stage: Stage, enter: bool, is_linux: bool) -> Result<()> {
        op.enters = enter;
        if is_linux {
            op.start(if enter { &[Stage::Make, Stage::Step] } else { &[Stage::Make] });
            op.stage = stage;
            return Ok(());
        }
        if self.link.dialect() == Dialect::P9 && !matches!(op.thing, Thing::File | Thing::Dir) {
            return Err(Error::EOPNOTSUPP);
        }
        op.start(&[Stage::Clone, Stage::CreateNew]);
        Ok(())
    }

    fn lock(&mut self, op: &mut Op, stage: Stage, file: FileId, lock: &Lock<'_>) -> Result<()> {
        let peer = self.file(file)?.peer;
        if lock.client.len() > NAME_BYTES_MAX {
            return Err(Error::ENAMETOOLONG);
        }
        // The far server sees one connection for all peers, so their names have to differ.
        let client = [format!("{peer:x}:").as_bytes(), lock.client].concat();
        let Lock { kind, range, process, .. } = lock;
        op.lock = Some(LockBuf { kind: *kind, range: range.clone(), process: *process, client: client.into() });
        (op.stage, op.file) = (stage, Some(file));
        Ok(())
    }

    /// The fid of a file.
    pub(super) fn fid(&self, id: FileId) -> Result<Fid> {
        self.file(id)?.fid.ok_or(Error::EBADF)
    }
}

impl Op {
    /// These stages are asked for in this order.
    pub(super) fn start(&mut self, stages: &[Stage]) {
        self.then = stages.iter().rev().copied().collect();
        self.stage = self.then.pop().unwrap_or_default();
    }
}

fn walk(op: &mut Op, names: Names<'_>, dots: bool) -> Result<()> {
    op.stage = Stage::Walk;
    for name in names.iter() {
        if let Err(error) = check_step(name, dots) {
            op.ends_early = true;
            return if op.steps.is_empty() { Err(error) } else { Ok(()) };
        }
        op.steps.push(name != b".");
        if name != b"." {
            op.names.push(name.into());
        }
    }
    Ok(())
}

fn create(op: &mut Op, new: New, is_linux: bool) -> Result<()> {
    (op.flags, op.mode, op.bits) = (new.flags, new.mode & mode::PERM, new.bits);
    (op.gid, op.or_open) = (new.gid.unwrap_or(NO_GROUP), new.or_open);
    let is_dir = new.mode & mode::IFMT == mode::IFDIR;
    if is_dir {
        op.thing = Thing::Dir;
        if new.flags.write || new.flags.truncate || new.flags.remove_on_close {
            return Err(Error::EISDIR);
        }
    }
    if !is_linux {
        op.stage = Stage::Create;
        return Ok(());
    }
    if new.bits != 0 {
        return Err(Error::EOPNOTSUPP);
    }
    op.enters = is_dir;
    op.start(if is_dir { &[Stage::Make, Stage::Step, Stage::OpenNew] } else { &[Stage::Create] });
    if new.inherits {
        op.then.push(std::mem::replace(&mut op.stage, Stage::Parent));
    }
    Ok(())
}

impl Stage {
    /// Whether the other dialects have nothing like it.
    fn is_linux_only(self) -> bool {
        matches!(self, Stage::XattrWalk | Stage::Lock | Stage::Conflict | Stage::StatFs)
    }
}
