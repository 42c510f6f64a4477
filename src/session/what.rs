//! What the answer to an operation means, and how an operation goes on: it is asked for, or it has waited.
//!
//! Must not know: sessions.

use super::fids::State;
use crate::fs::{Answer, At, Call, Error, FileId, Gate, NAME_BYTES_MAX, OpId, Open, Outcome, Service, Show, StatFs};
use crate::wire::{Fid, Message, Qid};

/// V9FS_MAGIC (Linux: `include/uapi/linux/magic.h`).
const STATFS_TYPE: u32 = 0x0102_1997;

/// What the answer to an operation means.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// The root for a new fid.
    Attach { fid: Fid },
    /// A file for a new fid, or for the one it started from.
    Walk { fid: Fid, newfid: Fid, steps: u8 },
    /// The fid's file is open, maybe a new one. No flags: it is new, and neither file nor directory.
    Open { fid: Fid, flags: Option<Open> },
    /// Rread with at most this many bytes.
    Read { room: u32 },
    /// Rread with stat records of a directory: from this cookie on, at this offset.
    Records { fid: Fid, offset: u64, cookie: u64, room: u32 },
    /// Rreaddir.
    Entries { room: u32 },
    /// Rwrite.
    Count,
    /// A part of a payload of so many bytes.
    Part { bytes: u32 },
    /// A reply without fields.
    Plain,
    /// The same after the fid has gone: Rclunk.
    Closed,
    /// The same, and the file is closed: Rremove, and Rclunk of an attribute.
    Remove { file: FileId },
    /// Rstat.
    Stat,
    /// Rgetattr.
    Attributes { mask: u64 },
    /// Twstat: what it changes depends on what the file shows.
    Look { file: FileId },
    /// Rstatfs.
    StatFs,
    /// Rreadlink.
    Link,
    /// The qid of something new.
    Made,
    /// An attribute for a new fid.
    Xattr { newfid: Fid },
    /// The fid stands for an attribute from now on.
    XattrCreate { fid: Fid },
    /// Rlock.
    Lock,
    /// Rgetlock.
    Conflict,
}

impl What {
    /// The fids that the answer changes.
    pub(super) fn changes(self) -> [Option<Fid>; 2] {
        match self {
            What::Attach { fid } | What::Open { fid, .. } | What::XattrCreate { fid } | What::Records { fid, .. } => {
                [Some(fid), None]
            }
            What::Walk { fid, newfid, .. } => [Some(newfid), Some(fid).filter(|_| fid == newfid)],
            What::Xattr { newfid } => [Some(newfid), None],
            _ => [None; 2],
        }
    }

    /// Whether a file goes with it, whatever becomes of the request.
    pub(super) fn ends_file(self) -> bool {
        matches!(self, What::Closed | What::Remove { .. })
    }

    /// Whether the answer needs the message.
    pub(super) fn needs_message(self) -> bool {
        matches!(self, What::Look { .. } | What::XattrCreate { .. } | What::Conflict)
    }
}

/// The kinds of answers, each a constant: what a request asks is known where it asks.
pub(super) mod kind {
    pub(in crate::session) const ATTACH: u8 = 0;
    pub(in crate::session) const WALK: u8 = 1;
    pub(in crate::session) const OPEN: u8 = 2;
    pub(in crate::session) const READ: u8 = 3;
    pub(in crate::session) const RECORDS: u8 = 4;
    pub(in crate::session) const ENTRIES: u8 = 5;
    pub(in crate::session) const COUNT: u8 = 6;
    pub(in crate::session) const PART: u8 = 7;
    pub(in crate::session) const PLAIN: u8 = 8;
    pub(in crate::session) const CLOSED: u8 = 9;
    pub(in crate::session) const REMOVE: u8 = 10;
    pub(in crate::session) const STAT: u8 = 11;
    pub(in crate::session) const ATTRIBUTES: u8 = 12;
    pub(in crate::session) const LOOK: u8 = 13;
    pub(in crate::session) const STAT_FS: u8 = 14;
    pub(in crate::session) const LINK: u8 = 15;
    pub(in crate::session) const MADE: u8 = 16;
    pub(in crate::session) const XATTR: u8 = 17;
    pub(in crate::session) const XATTR_CREATE: u8 = 18;
    pub(in crate::session) const LOCK: u8 = 19;
    pub(in crate::session) const CONFLICT: u8 = 20;
}

/// How an operation goes on.
pub(super) trait How<S> {
    fn go(self, fs: &mut S, op: OpId, show: Show<'_>, at: At) -> Outcome;
}

/// It is asked for.
pub(super) struct Asking<'a>(pub(super) Call<'a>);

/// It has waited.
pub(super) struct Finishing;

impl<S: Service> How<S> for Asking<'_> {
    #[inline(always)]
    fn go(self, fs: &mut S, op: OpId, show: Show<'_>, at: At) -> Outcome {
        fs.call(op, self.0, show, at)
    }
}

impl<S: Service> How<S> for Finishing {
    fn go(self, fs: &mut S, op: OpId, show: Show<'_>, at: At) -> Outcome {
        fs.finish(op, show, at)
    }
}

/// A message, and its bytes for as long as it waits.
pub(super) type Shown<'a> = Option<(&'a Message<'a>, &'a [u8])>;

/// How an operation has ended, or whether it waits for news.
#[inline(always)]
pub(super) fn ended(outcome: Outcome) -> std::result::Result<Answer, bool> {
    match outcome {
        Outcome::Done(answer) => Ok(answer),
        Outcome::Pending => Err(false),
        Outcome::Waiting => Err(true),
    }
}

/// A listing whose first entry does not fit the room is an error.
#[inline(always)]
pub(super) fn listed(outcome: Outcome, is_too_small: bool) -> Outcome {
    match outcome {
        Outcome::Done(Answer { result: Ok(_), gate }) if is_too_small => {
            Outcome::Done(Answer { result: Err(Error::EINVAL), gate })
        }
        outcome => outcome,
    }
}

/// The gate that a reply has to wait for; [`Gate::OPEN`] if it need not wait.
#[inline(always)]
pub(super) fn closed<S: Service>(fs: &S, gate: Gate) -> Gate {
    if gate == Gate::OPEN || fs.is_open(gate) { Gate::OPEN } else { gate }
}

/// The state that an open leads to.
pub(super) fn opened(qid: Qid, flags: Open) -> State {
    if qid.kind & crate::wire::qt::DIR != 0 {
        State::OpenDir { next_offset: 0, cookie: 0 }
    } else {
        State::Open { read: flags.read || flags.exec, write: flags.write }
    }
}

pub(super) fn statfs(of: &StatFs) -> Message<'static> {
    Message::Rstatfs {
        type_: STATFS_TYPE,
        bsize: of.bsize,
        blocks: of.blocks,
        bfree: of.bfree,
        bavail: of.bfree,
        files: of.files,
        ffree: of.ffree,
        fsid: of.fsid,
        namelen: NAME_BYTES_MAX as u32,
    }
}
