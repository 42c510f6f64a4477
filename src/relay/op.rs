//! An operation of the relay: a sequence of requests to the far server, one at a time, and what came of them.
//!
//! Must not know: connections.

use super::stat::StatBuf;
use crate::arena::{Block, Slice};
use crate::fs::{Change, Done, Error, FileId, LockKind, Make, Open, Outcome, Result, SetXattr, StatFs};
use crate::wire::{Fid, Qid, Tag};
use std::ops::Range;

/// A request of an operation. `New` at the end of a name: the request names the operation's own fid, not that of its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Tattach of the new fid.
    Attach,
    /// Twalk of all names to the new fid.
    Walk,
    /// Twalk of no name to the new fid.
    Clone,
    /// Twalk of the first name to the new fid.
    Step,
    /// Twalk of ".." to the new fid.
    StepUp,
    /// Twalk of ".." and the new name, which must not be there.
    Probe,
    /// Tstat or Tgetattr in front of another stage. A create and a make need the permissions of the directory. A write that
    /// appends needs the size of the file. A Twstat needs the permissions that it keeps.
    Parent,
    Open,
    OpenNew,
    Create,
    CreateNew,
    /// Tmkdir, Tsymlink or Tmknod.
    Make,
    Read,
    /// Treaddir, or Tread of a directory.
    List,
    /// Twalk to an entry of a listing, Tgetattr, Treadlink and Tclunk of it.
    EntryStep,
    EntryStat,
    EntryTarget,
    EntryClunk,
    Write,
    #[default]
    Stat,
    /// Treadlink behind Tgetattr.
    Target,
    /// Treadlink, or Tstat.
    ReadLink,
    /// Tsetattr, or Twstat.
    Wstat,
    /// Twstat of the name.
    Name,
    NameNew,
    /// Trename to the directory of the new fid.
    RenameUp,
    /// Trename to the other file.
    RenameTo,
    /// Trenameat.
    Rename,
    Link,
    Unlink,
    Remove,
    RemoveNew,
    ClunkNew,
    Fsync,
    XattrWalk,
    XattrRead,
    XattrCreate,
    XattrWrite,
    Lock,
    Conflict,
    StatFs,
}

/// What an operation has to show.
#[derive(Debug, Default)]
pub(super) enum Shown {
    #[default]
    Nothing,
    Steps(Vec<Qid>),
    /// Bytes of a read, of a link, or of an attribute.
    Bytes(Vec<u8>),
    /// Bytes that have landed in the arena.
    Slices(Vec<Slice>),
    Stat(Box<StatBuf>),
    /// The payload of Rreaddir.
    Entries(Vec<u8>),
    /// Entries with their attributes, each with its cookie.
    Stats(Vec<(u64, StatBuf)>),
    Lock(LockBuf),
    StatFs(StatFs),
}

/// What is written: plain bytes, or blocks in which a payload has landed.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) plain: Vec<u8>,
    pub(super) blocks: Vec<(Block, Range<usize>)>,
    /// Bytes in all, and those that the far server has taken.
    pub(super) len: usize,
    pub(super) done: usize,
}

/// A lock that is asked for, or one that is in its way.
#[derive(Debug)]
pub(super) struct LockBuf {
    pub(super) kind: LockKind,
    pub(super) range: Range<u64>,
    pub(super) process: u32,
    pub(super) client: Box<[u8]>,
}

/// What [`Stage::Create`] and [`Stage::Make`] make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Thing {
    #[default]
    File,
    Dir,
    Symlink,
    /// Type bits of its mode, and numbers of a device.
    Special(u32, (u32, u32)),
    /// A further name for the other file.
    Link,
}

impl Thing {
    pub(super) fn of(make: Make<'_>) -> (Thing, &[u8]) {
        use crate::fs::mode;
        match make {
            Make::File => (Thing::File, b""),
            Make::Dir => (Thing::Dir, b""),
            Make::Symlink(target) => (Thing::Symlink, target),
            Make::Device { block, major, minor } => {
                (Thing::Special(if block { mode::IFBLK } else { mode::IFCHR }, (major, minor)), b"")
            }
            Make::Fifo => (Thing::Special(mode::IFIFO, (0, 0)), b""),
            Make::Socket => (Thing::Special(mode::IFSOCK, (0, 0)), b""),
        }
    }
}

/// An operation. Which fields count depends on its stages: `request.rs` and `reply.rs` say which stage uses which field.
#[derive(Debug, Default)]
pub(super) struct Op {
    pub(super) stage: Stage,
    /// What is asked for behind it, the next one last.
    pub(super) then: Vec<Stage>,
    /// The connection on which it is asked for.
    pub(super) generation: u32,
    pub(super) tag: Option<Tag>,
    /// A request was made that [changes](Stage::changes_nothing) something.
    pub(super) has_changed: bool,
    /// A client has taken it back, but it had changed something, or its payload was arriving.
    pub(super) is_given_up: bool,
    pub(super) file: Option<FileId>,
    pub(super) other: Option<FileId>,
    /// A fid of its own, and whether the far server has it.
    pub(super) new: Option<Fid>,
    pub(super) lives: bool,
    /// The qid of that fid.
    pub(super) new_qid: Qid,
    /// The fid of a file that is being closed.
    pub(super) last: Option<Fid>,
    pub(super) uid: u32,
    pub(super) peer: u32,
    pub(super) name: Box<[u8]>,
    pub(super) new_name: Box<[u8]>,
    /// Names of a walk as they are sent.
    pub(super) names: Vec<Box<[u8]>>,
    /// For each step of a walk, whether it is one of these names. Otherwise it is ".".
    pub(super) steps: Vec<bool>,
    /// A name behind these is one that no directory has.
    pub(super) ends_early: bool,
    pub(super) flags: Open,
    pub(super) thing: Thing,
    pub(super) target: Box<[u8]>,
    pub(super) mode: u32,
    pub(super) bits: u8,
    pub(super) gid: u32,
    pub(super) or_open: bool,
    /// The file becomes what the new fid is.
    pub(super) enters: bool,
    pub(super) offset: u64,
    pub(super) room: u32,
    /// The listing shows all attributes.
    pub(super) stats: bool,
    /// The target of a link is to be shown among its attributes.
    pub(super) wants_target: bool,
    /// Entries whose attributes are not there yet.
    pub(super) entries: Vec<(u64, Qid, Box<[u8]>)>,
    pub(super) change: Change<'static>,
    pub(super) how: Option<SetXattr>,
    pub(super) removes: bool,
    pub(super) data_only: bool,
    pub(super) payload: Payload,
    pub(super) lock: Option<LockBuf>,
    pub(super) shown: Shown,
    pub(super) result: Option<Result<Done>>,
}

/// How an operation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// With this stage, which may be the same once more.
    To(Stage),
    /// With the next one that was planned. If there is none it has ended with this.
    Next(Done),
    /// It has ended.
    End(Result<Done>),
}

impl Op {
    /// The outcome of a call whose operation has not ended. A read may take any time, since its file may be a log.
    pub(super) fn unended(&self) -> Outcome {
        if self.stage == Stage::Read { Outcome::Waiting } else { Outcome::Pending }
    }

    /// The result of an operation that is given up. Parts of a write that the far server has taken are in the file.
    pub(super) fn interrupted(&self) -> Result<Done> {
        let done = if self.stage == Stage::Write { self.payload.done as u32 } else { 0 };
        if done > 0 { Ok(Done::Count(done)) } else { Err(Error::EINTR) }
    }
}
