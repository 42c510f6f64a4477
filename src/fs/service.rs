//! What a session asks of a tree: one [`Call`] for each message, and one [`Answer`], now or later.
//!
//! - A call borrows from the message. A tree that answers later keeps a [`CallBuf`](super::CallBuf) of it.
//! - An [`Answer`] is `Copy`. What does not fit into it is shown: [`Show`] is where to.
//! - A call that is [`Outcome::Pending`] has shown nothing. [`Service::ready`] names it once it can go on, and
//!   [`Service::finish`] is given a new `Show`.
//! - Nothing that is shown or answered borrows from the tree: slices are pinned, the rest is copied.
//! - A file is closed once, after the last operation that names it has ended.
//!
//! Must not know: fids, tags, messages, sockets.

use super::{Ask, AskId, At, Change, Entry, Error, Grant, Lock, Make, Open, Out, Result, SetXattr, Stat, StatFs, User};
use crate::wire::{Names, Qid};

/// Names a file that a tree has given out, until it is closed. What is known of an open file is the tree's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    place: u32,
    /// The tree, in the upper 8 bits, and a number that tells the files of a place apart.
    check: u32,
}

impl FileId {
    const CHECK: u32 = 0xff_ffff;
    /// A name that no file has.
    pub const NONE: FileId = FileId { place: u32::MAX, check: u32::MAX };

    /// The file at this place of a tree. `number` tells it from those that were there before, by its lower 24 bits.
    #[inline]
    pub fn new(place: u32, number: u32) -> FileId {
        FileId { place, check: number & Self::CHECK }
    }

    /// Where its tree has it.
    #[inline]
    pub fn place(self) -> usize {
        self.place as usize
    }

    /// The lower 24 bits of its number.
    #[inline]
    pub fn number(self) -> u32 {
        self.check & Self::CHECK
    }

    /// Whether it was made with this number, of which the lower 24 bits count.
    #[inline]
    pub fn has_number(self, number: u32) -> bool {
        self.number() == number & Self::CHECK
    }

    /// Which of the trees that are joined has it: 0 is the first one.
    #[inline]
    pub fn tree(self) -> u8 {
        (self.check >> 24) as u8
    }

    /// The same as a join of trees names it where its tree is `steps` further on.
    #[inline]
    pub(super) fn behind(self, steps: u8) -> FileId {
        FileId { check: self.check.wrapping_add(u32::from(steps) << 24), ..self }
    }

    /// The same as the tree behind the first one names it.
    #[inline]
    pub(super) fn in_rest(self) -> FileId {
        FileId { check: self.check.wrapping_sub(1 << 24), ..self }
    }
}

/// Names an operation from its call until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId {
    /// Whose session asks.
    pub peer: u32,
    /// Which of its operations. The number of one that was pending is never used again.
    pub serial: u64,
}

/// A position in a tree's log: a reply leaves only once its gate is open. The upper 8 bits are the tree's among
/// those that are joined; below that, gates of a tree open in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gate(pub u64);

impl Gate {
    /// The gate of what nobody waits for. It is always open.
    pub const OPEN: Gate = Gate(0);

    /// Which of the trees that are joined it belongs to.
    pub fn tree(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The first gate behind those of the same tree. `None` if there is no further tree.
    pub fn next_tree(self) -> Option<Gate> {
        (u64::from(self.tree()) + 1).checked_mul(1 << 56).map(Gate)
    }

    /// As a join names it where its tree is `steps` further on.
    pub(super) fn behind(self, steps: u8) -> Gate {
        if self == Gate::OPEN { self } else { Gate(self.0.wrapping_add(u64::from(steps) << 56)) }
    }

    pub(super) fn in_rest(self) -> Gate {
        Gate(self.0.wrapping_sub(1 << 56))
    }
}

/// What one message asks of a tree. Names have been checked by [`check_name`](super::check_name), but for those of a walk.
#[derive(Debug)]
#[expect(missing_docs, reason = "fields have the names of what 9P and Linux call them; each variant says what it does")]
pub enum Call<'a> {
    /// The root that this user sees under this name: [`Done::File`]. ENOENT if there is no such tree.
    Attach { user: User, aname: &'a [u8] },
    /// Steps down, and up with ".."; `dots`: "." is a step, too, and otherwise ENOENT. Shows the qid of each step that was
    /// taken in [`Show::Steps`]: [`Done::Walked`], with a new file if that was all of them. The first step that fails is an
    /// error. No names: another file for the same one, not open.
    Walk { from: FileId, names: Names<'a>, dots: bool },
    /// Checks permission and opens: [`Done::Opened`].
    Open { file: FileId, flags: Open },
    /// Makes and opens: [`Done::Opened`]. `dir` becomes the new file.
    Create { dir: FileId, name: &'a [u8], new: New },
    /// Bytes of an open file into [`Show::Data`]: [`Done::Nothing`].
    Read { file: FileId, offset: u64 },
    /// Entries behind a cookie into [`Show::Entries`]: [`Done::Nothing`]. `stats`: all attributes of each entry are looked
    /// at. Otherwise its qid, the type bits of its mode and its name are enough.
    List { dir: FileId, cookie: u64, stats: bool },
    /// [`Done::Count`]: how many bytes were taken.
    Write { file: FileId, offset: u64, data: &'a [u8] },
    /// Publishes a payload that has landed whole: [`Done::Count`]. Cannot fail for want of memory.
    Commit { file: FileId, grant: Grant },
    /// What the file shows, in [`Show::Stat`]: [`Done::Nothing`]. `target`: the target of a symbolic link is looked at. Otherwise
    /// it may be empty.
    Stat { file: FileId, target: bool },
    /// Changes what is not `None`, all or nothing: [`Done::Nothing`].
    Wstat { file: FileId, change: Change<'a> },
    /// The target of a symbolic link in [`Show::Bytes`]: [`Done::Nothing`]. It is a read of it; EINVAL for other files.
    ReadLink { file: FileId },
    /// Makes something that is not opened: [`Done::Made`]. `enter`: `dir` becomes it, [`Done::Opened`] without being open;
    /// and its permissions are limited by those of the directory (open(9P)).
    Make { dir: FileId, name: &'a [u8], what: Make<'a>, mode: u32, gid: Option<u32>, enter: bool },
    /// A further name for a file. `enter` as for `Make`; otherwise [`Done::Nothing`].
    Link { dir: FileId, name: &'a [u8], file: FileId, enter: bool },
    /// Removes a name: [`Done::Nothing`].
    Unlink { dir: FileId, name: &'a [u8], want_dir: bool },
    /// rename(2): [`Done::Nothing`]. EXDEV between two trees.
    Rename { from: FileId, name: &'a [u8], to: FileId, new_name: &'a [u8] },
    /// rename(2) of the file by the name it was reached by: [`Done::Nothing`].
    RenameFile { file: FileId, to: FileId, new_name: &'a [u8] },
    /// Unlinks the file by the name it was reached by: [`Done::Nothing`]. It is closed by another call.
    Remove { file: FileId },
    /// The last call for this file, which is gone even if it fails: [`Done::Nothing`].
    Close { file: FileId },
    /// Everything acknowledged so far is as durable as this tree can make it: [`Done::Nothing`].
    Fsync { file: FileId, data_only: bool },
    /// The value of an extended attribute in [`Show::Bytes`]; if the name is empty the names of all, each with a NUL.
    /// [`Done::File`]: another file for the same one.
    Xattr { file: FileId, name: &'a [u8] },
    /// What setting this attribute is sure to fail with, ahead of it: [`Done::Nothing`].
    CheckXattr { file: FileId, name: &'a [u8], how: SetXattr },
    /// Sets or removes an extended attribute: [`Done::Nothing`].
    SetXattr { file: FileId, name: &'a [u8], value: Option<&'a [u8]>, how: SetXattr },
    /// Locks a range or gives it back, without waiting: [`Done::Locked`].
    Lock { file: FileId, lock: Lock<'a> },
    /// The lock that is in the way of this one, if there is one, in [`Show::Lock`]: [`Done::Nothing`].
    Conflict { file: FileId, lock: Lock<'a> },
    /// Sizes and counts of the tree, in [`Show::StatFs`]: [`Done::Nothing`].
    StatFs { file: FileId },
}

impl Call<'_> {
    /// The files that it names. An attach names none.
    #[inline(always)]
    pub fn files(&mut self) -> [Option<&mut FileId>; 2] {
        match self {
            Call::Attach { .. } => [None, None],
            Call::Walk { from: file, .. }
            | Call::Open { file, .. }
            | Call::Create { dir: file, .. }
            | Call::Read { file, .. }
            | Call::List { dir: file, .. }
            | Call::Write { file, .. }
            | Call::Commit { file, .. }
            | Call::Stat { file, .. }
            | Call::Wstat { file, .. }
            | Call::ReadLink { file }
            | Call::Make { dir: file, .. }
            | Call::Unlink { dir: file, .. }
            | Call::Remove { file }
            | Call::Close { file }
            | Call::Fsync { file, .. }
            | Call::Xattr { file, .. }
            | Call::CheckXattr { file, .. }
            | Call::SetXattr { file, .. }
            | Call::Lock { file, .. }
            | Call::Conflict { file, .. }
            | Call::StatFs { file } => [Some(file), None],
            Call::Link { dir: one, file: other, .. }
            | Call::Rename { from: one, to: other, .. }
            | Call::RenameFile { file: one, to: other, .. } => [Some(one), Some(other)],
        }
    }
}

/// How a file or directory is made by [`Call::Create`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct New {
    /// How it is opened.
    pub flags: Open,
    /// IFREG or IFDIR, and permissions.
    pub mode: u32,
    /// The QTAPPEND, QTEXCL and QTTMP bits of qid.kind.
    pub bits: u8,
    /// `None`: the directory's.
    pub gid: Option<u32>,
    /// What is there already is opened instead, but no directory (open(2), O_CREAT without O_EXCL).
    pub or_open: bool,
    /// Permissions are limited by those of the directory (open(9P)).
    pub inherits: bool,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Nothing,
    /// Here is a file.
    File {
        /// To be closed by who has asked.
        file: FileId,
        /// What it is.
        qid: Qid,
    },
    /// So far the walk came.
    Walked(Option<FileId>),
    /// The file is open.
    Opened {
        /// What it is.
        qid: Qid,
        /// Bytes of an atomic read or write; 0 is what msize allows.
        iounit: u32,
    },
    /// It was made.
    Made(Qid),
    /// So many bytes were written.
    Count(u32),
    /// Whether the lock was granted.
    Locked(bool),
}

/// The answer to a call: what became of it, and what the reply must wait for, an error as well as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it. An error has changed nothing.
    pub result: Result<Done>,
    /// The reply leaves once this gate is open.
    pub gate: Gate,
}

const _: () = assert!(size_of::<Answer>() <= 48);

impl Answer {
    /// One that waits for nothing.
    #[inline]
    pub fn now(result: Result<Done>) -> Answer {
        Answer { result, gate: Gate::OPEN }
    }
}

/// How far a call has come: nothing ever blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended.
    Done(Answer),
    /// It ends by itself later: [`Service::ready`] names it then.
    Pending,
    /// The same, but nothing is certain to end it (a read that waits for the next line of a log). It is cancelled where
    /// nobody could take it back any more.
    Waiting,
}

impl Outcome {
    /// It has ended, and its reply waits for nothing.
    #[inline]
    pub fn now(result: Result<Done>) -> Outcome {
        Outcome::Done(Answer::now(result))
    }
}

/// Where a tree puts what does not fit into an [`Answer`]. Which one a call has, [`Call`] says for each.
pub enum Show<'a> {
    /// There is nothing to show, or the request was taken back.
    Nothing,
    /// Bytes of a file.
    Data(Out<'a>),
    /// Qids of the steps of a walk, 16 at most.
    Steps(&'a mut dyn FnMut(Qid)),
    /// What a file shows.
    Stat(&'a mut dyn FnMut(&Stat<'_>)),
    /// Entries of a directory, until it says false, which means that it did not take that entry.
    Entries(&'a mut dyn FnMut(&Entry<'_>) -> bool),
    /// A text. An error of it is the operation's.
    Bytes(&'a mut dyn FnMut(&[u8]) -> Result<()>),
    /// The lock that is in the way.
    Lock(&'a mut dyn FnMut(&Lock<'_>)),
    /// The numbers of statfs(2).
    StatFs(&'a mut StatFs),
}

/// The answer to [`Service::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// As if it had never been asked for; its name is void.
    Cancelled,
    /// It has taken effect or will: the answer comes as usual.
    TooLate,
}

/// Where the payload of a large write goes.
#[derive(Debug)]
pub enum Payload {
    /// Into this memory, then [`Call::Commit`].
    Memory(Grant),
    /// Nowhere: the file takes any bytes and keeps none.
    Discarded,
    /// Through [`Call::Write`], in parts as they come.
    Parts,
}

/// A tree that answers now or later. [`Simple`](super::Simple) makes one of a [`Filesystem`](super::Filesystem).
pub trait Service {
    /// Bytes of memory that a file takes, open or not, beside what it is: each counts for whoever has it.
    const FILE_BYTES: usize;

    /// Whether it asks for anything. A driver that executes no asks refuses such a tree.
    const NEEDS_ASKS: bool = false;

    /// Before serving starts.
    fn init(&mut self, at: At) -> Result<()> {
        let _ = at;
        Ok(())
    }

    /// After serving ended: everything is released. Every file is closed, unless the tree has not ended the last operations
    /// when it was not waited for any more.
    fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    /// As [`Filesystem::is_private`](super::Filesystem::is_private).
    fn is_private(&self, aname: &[u8]) -> bool {
        let _ = aname;
        false
    }

    /// An operation. `op` names it if it is not done at once; nothing else has this name until it is.
    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome;

    /// Goes on with an operation that [`ready`](Self::ready) has named. Mostly it is done; if it is not after all, `ready` names it again.
    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let _ = (op, show, at);
        Outcome::now(Err(Error::EIO))
    }

    /// Takes back an operation that is not done, if that is still possible.
    fn cancel(&mut self, op: OpId) -> Cancel {
        let _ = op;
        Cancel::TooLate
    }

    /// Where a payload of `count` bytes goes that is about to arrive. It is asked for between two calls, and answers at once.
    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        let _ = (file, offset, count, at);
        Ok(Payload::Parts)
    }

    /// More space for a grant: its space is filled, and bytes are [`missing`](Grant::missing).
    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        let _ = (file, grant);
        Err(Error::EIO)
    }

    /// The next operation that can go on. A driver asks once per turn, until `None`.
    fn ready(&mut self) -> Option<OpId> {
        None
    }

    /// Whether something is left for [`ready`](Self::ready) of the next turn, which then begins at once.
    fn has_work(&self) -> bool {
        false
    }

    /// The gate of the error that [`grant`](Self::grant) or [`extend`](Self::extend) has answered just now.
    fn refused(&self, file: FileId) -> Gate {
        let _ = file;
        Gate::OPEN
    }

    /// Whether replies with this gate may leave.
    fn is_open(&self, gate: Gate) -> bool {
        let _ = gate;
        true
    }

    /// Whether sessions must not ask for more now: too many changes are not durable yet, or too many operations wait.
    /// Tflush, Tclunk and Tversion are served nonetheless.
    fn is_behind(&self) -> bool {
        false
    }

    /// Bytes of memory that the files which are held take, used or not: those that were closed may keep some of it.
    #[inline]
    fn file_memory_bytes(&self) -> usize {
        0
    }

    /// As [`Filesystem::tick`](super::Filesystem::tick).
    fn tick(&mut self, at: At) {
        let _ = at;
    }

    /// As [`Filesystem::spent`](super::Filesystem::spent).
    fn spent(&mut self) -> u32 {
        0
    }

    /// The next ask of this tree, if it has one. The loop calls this only while it has a free place, so a tree
    /// may have to wait until an earlier ask has its result. A name may be used again once [`answered`](Self::answered) had it.
    ///
    /// Connects, sends, receives and timers may take any time. The loop holds 192 of these, and refuses one with EAGAIN where
    /// the tree has as many in flight as are left for others: a tree alone has 96. Other asks, and cancellations, have a place
    /// after a while.
    fn ask(&mut self) -> Option<(AskId, Ask)> {
        None
    }

    /// The result of an ask, which comes back with its memory.
    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, at: At) {
        let _ = (id, ask, result, at);
    }

    /// Whether an ask is in flight or wanted. After [`retire`](Self::retire) serving ends once this is false.
    fn has_asks(&self) -> bool {
        false
    }

    /// Serving ends, and every file is closed; or the time that a drain has is over, and files are open only because this tree
    /// has not ended their operations. It is to end these now. From now on it asks only for what it needs in order to end.
    fn retire(&mut self, at: At) {
        let _ = at;
    }
}
