//! The 9P state of one peer: fids, tags, flush, dialect. Messages in, replies out.
//!
//! This is the driver contract: every I/O layer (the ring, epoll, threads, a runtime) drives a [`Session`] in the same way, and must produce the same bytes.
//!
//! ```text
//! loop {
//!     bytes from the socket  -> receive(fs, at, bytes)      serves whole messages, up to a cap (Need); the caller keeps what was not consumed
//!     landing()              -> receive the payload of a large write straight into its blocks -> landed(fs, landing, n, at)
//!     Need::skip             -> throw that many bytes away -> skipped(fs, n, at)        (or just show them to receive)
//!     take(fs)               -> send the views -> Segments::advance(n) -> recycle(segments)
//!     fs.ready()             -> complete(fs, token, at) of the session that the token names
//!     fs.tick(at)            about once a second, for trees that have a use for it
//! }
//! close(fs, at)
//! ```
//! A driver that has room for larger messages may call `set_whole_bytes` between two calls of `receive`; its inbox then has room for that many bytes.
//!
//! The caller owns the tree and every buffer. A [`Landing`] and [`Segments`] are owned and `Send`: a driver may hand them to the kernel or another thread, and
//! drops them only after their operation's terminal completion, even if the session is gone.
//!
//! Must not know: descriptors, clocks, runtimes, locks, concrete trees.

mod answer;
mod budget;
mod classic;
mod common;
mod convert;
mod fids;
mod fidstore;
mod linux;
mod lock;
mod outgoing;
mod payload;
mod pending;
mod queue;
mod reply;
mod terms;
mod users;
mod what;
mod xattr;

pub use budget::{ATTR_BYTES_ALL, Budget, FID_BYTES_OWN, LATE_BYTES_ALL};
pub use fids::ATTRS_MAX;
pub use outgoing::{Reply, Segments, View};
pub use payload::Landing;
pub use terms::{Broken, Config, Need, Received};
pub use users::{NOBODY, Trust, Users};

use crate::fs::{At, Error, Gate, OpId, Service};
use crate::wire::{self, Dialect, HEAD, Head, Kind, Message, NOTAG, Tag, WRITE_HEAD};
use fids::Fids;
use outgoing::Outgoing;
use payload::Inbound;
use pending::Pending;
pub use pending::discard;
use queue::Queue;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A larger write starts before its payload is there, unless it is whole in what is shown. Other messages may not be
/// larger than this many bytes.
pub const BULK_BYTES_MIN: usize = 16 << 10;
/// Largest message before a Tversion.
const FIRST_MESSAGE_BYTES_MAX: u32 = 8 << 10;
/// Smallest message size in bytes that a client may ask for (Linux: `net/9p/client.c`, p9_client_create).
pub const MSIZE_MIN: u32 = 4096;
/// A peer whose queued replies use this many bytes of memory that no file holds is not served, and no listing is larger.
pub const OWN_BYTES_MAX: usize = 64 << 10;
/// Most memory of one batch of replies, in bytes: a batch below [`OWN_BYTES_MAX`] gets one more listing, and a list
/// that grows doubles its memory.
pub const BATCH_BYTES_MAX: usize = 4 * OWN_BYTES_MAX;
/// Largest listing in bytes while replies take all the memory that they may: an entry with the longest names fits.
pub const TIGHT_LISTING_BYTES_MAX: usize = 8 << 10;
/// Units of work that the messages of one turn may take. A unit is about a thousand instructions; each
/// message is counted as one, and as more where its work depends on its size or on what is stored. A peer
/// that has used up its units goes on in the next turn. What the last message took beyond them counts there.
pub const WORK_MAX: u32 = 128;
/// Files that are closed at once when a session ends.
const CLOSED_MAX: u32 = 64;
/// Bytes for which a message is counted as one unit more: of a listing, which takes some 200 instructions
/// for each entry of 25 bytes and more, and of what is only copied or shown.
const LISTED_BYTES_PER_UNIT: usize = 128;
const SHOWN_BYTES_PER_UNIT: usize = 16 << 10;
/// The same for the payload of a write that is copied.
const COPIED_BYTES_PER_UNIT: usize = 2048;
/// Names of a walk for which it is counted as one unit more.
const NAMES_PER_UNIT: usize = 4;
/// After so many messages that are none, the peer is not worth listening to.
const PROTOCOL_ERRORS_MAX: u32 = 64;

/// How long `bytes` may take: 30 s and a second for each 64 KiB, in total.
pub fn allowance_ns(bytes: usize) -> u64 {
    30_000_000_000 + bytes as u64 * 1_000_000_000 / (64 << 10)
}

/// A request as its reply needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    tag: Tag,
    kind: Kind,
    at_ns: u64,
}

/// The state of one peer.
pub struct Session<S: Service> {
    config: Config,
    /// `None` until a Tversion was agreed to.
    dialect: Option<Dialect>,
    msize: u32,
    fids: Fids,
    pending: Pending,
    queue: Queue,
    serves_queue: bool,
    /// Of the next operation.
    serial: u64,
    inbound: Inbound,
    out: Outgoing,
    errors: u32,
    begun: Option<Begun>,
    /// Units of work of this turn.
    work: u32,
    /// The message that is being served wants to be shown again: a part of its work is left.
    unfinished: bool,
    /// A write of more bytes starts before its payload is there.
    whole_bytes: u32,
    /// Bytes of the message that is being served, or of the part of a payload.
    message_bytes: u32,
    tree: PhantomData<fn(&mut S)>,
}

/// A message of which not everything has arrived.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// When its first byte was seen.
    at_ns: u64,
    /// All of it, or its head as long as that is incomplete.
    bytes: NonZeroU32,
}

/// What Ropen and Rlopen say: 0 of a tree means that msize is the only bound.
fn allowed_iounit(iounit: u32, msize: u32) -> u32 {
    match iounit {
        0 => msize - wire::IOHDR,
        iounit => iounit.min(msize - wire::IOHDR),
    }
}

impl<S: Service> Session<S> {
    /// A peer that has said nothing yet. Panics where the tree needs a driver that executes asks, and this one does not.
    pub fn new(config: Config) -> Session<S> {
        assert!(!S::NEEDS_ASKS, "this tree asks for I/O, and this driver does none");
        Session::with_asks(config)
    }

    /// The same for a driver that executes what the tree asks for.
    pub fn with_asks(config: Config) -> Session<S> {
        Session {
            dialect: None,
            msize: FIRST_MESSAGE_BYTES_MAX,
            fids: Fids::new(config.fids_max, S::FILE_BYTES, config.hash_key, Arc::clone(&config.budget)),
            pending: Pending::default(),
            queue: Queue::default(),
            serves_queue: false,
            serial: config.first_op,
            inbound: Inbound::Between,
            out: Outgoing::new(Arc::clone(&config.budget)),
            errors: 0,
            begun: None,
            work: 0,
            unfinished: false,
            whole_bytes: BULK_BYTES_MIN as u32,
            message_bytes: 0,
            tree: PhantomData,
            config,
        }
    }

    /// Serves every whole message in `bytes`, in order, and takes what belongs to a large payload. The caller keeps the rest and shows it again in front of
    /// what comes next. Not to be called while a [`Landing`] is lent. Each call is a turn of its own, in which one message at least is served.
    #[inline]
    pub fn receive(&mut self, fs: &mut S, at: At, bytes: &[u8]) -> Result<Received, Broken> {
        self.begin_turn();
        self.work = self.work.min(WORK_MAX - 1);
        self.receive_in_turn(fs, at, bytes)
    }

    /// The same for a driver that calls it several times in a turn, and [`begin_turn`](Self::begin_turn) once. Nothing is served once the turn's units of work are used up.
    pub fn receive_in_turn(&mut self, fs: &mut S, at: At, bytes: &[u8]) -> Result<Received, Broken> {
        if self.queue.is_cut() {
            self.serve_queue(fs, at);
        }
        let mut consumed = 0;
        let mut need = Need::default();
        let mut served = 0;
        let (mut begun, mut large_whole) = (0, 0);
        loop {
            let rest = &bytes[consumed..];
            if !self.inbound.is_between() {
                let taken = self.payload(fs, rest, at);
                consumed += taken;
                if self.inbound.is_between() {
                    self.begun = None;
                    continue;
                }
                if taken > 0 && taken < rest.len() {
                    // There is memory for more of it now.
                    continue;
                }
                (need.more, need.skip, need.held) = (self.inbound.left(), self.inbound.skip(), self.inbound.waits());
                break;
            }
            let Some(head) = wire::head(rest) else {
                if !rest.is_empty() {
                    need.more = HEAD - rest.len();
                    self.begin(HEAD, at);
                }
                break;
            };
            let size = self.check_size(head)?;
            let whole = rest.len() >= size;
            let bulk = size > BULK_BYTES_MIN && self.is_bulk(head.kind, size, whole);
            if !(whole || bulk && (head.kind != Kind::TWRITE || rest.len() >= WRITE_HEAD)) {
                need.more = if bulk { WRITE_HEAD } else { size } - rest.len();
                self.begin(size, at);
                break;
            }
            let capped = self.is_capped(fs, head.kind) || bulk && self.is_bulk_blocked(rest);
            let used_up = self.work >= WORK_MAX || served == self.config.messages_max;
            if capped || used_up {
                // That it waits is not the peer's doing.
                self.begun = None;
                (need.held, need.again) = (true, !capped);
                break;
            }
            served += 1;
            let request = Request { tag: head.tag, kind: head.kind, at_ns: at.mono_ns };
            if bulk && head.kind == Kind::TWRITE {
                self.check_tag(request)?;
                self.begin(size, at);
                begun = head.size;
                self.begin_bulk(fs, request, &rest[..WRITE_HEAD], at)?;
                self.charge_bytes(size, SHOWN_BYTES_PER_UNIT);
                consumed += WRITE_HEAD;
            } else if bulk {
                self.check_tag(request)?;
                self.begin(size, at);
                self.refuse(request, Error::EMSGSIZE, size - HEAD)?;
                consumed += HEAD;
            } else {
                self.begun = None;
                self.serve(fs, request, &rest[..size], at)?;
                if std::mem::take(&mut self.unfinished) {
                    (need.held, need.again) = (true, true);
                    break;
                }
                consumed += size;
                if size > BULK_BYTES_MIN {
                    large_whole = head.size;
                }
            }
            // Each is a unit of work by itself.
            self.charge(fs.spent().saturating_add(1));
        }
        if self.queue.is_cut() {
            need.held = true;
            need.again |= !self.has_too_many_replies() && !fs.is_behind();
        }
        Ok(Received { consumed, need, bulk: begun, whole: large_whole })
    }

    /// Whether a message above [`BULK_BYTES_MIN`] is not served like others. A write that is whole is copied once, like a
    /// small one: memory of its own would not save that copy.
    #[cold]
    fn is_bulk(&self, kind: Kind, size: usize, whole: bool) -> bool {
        !(kind == Kind::TWRITE && (whole || size <= self.whole_bytes as usize))
    }

    /// From now on writes whose message has at most `bytes` are served once all of it is there, like other messages: the
    /// driver has room for as much. Never less than [`BULK_BYTES_MIN`], and that much at first.
    pub fn set_whole_bytes(&mut self, bytes: usize) {
        self.whole_bytes = bytes.clamp(BULK_BYTES_MIN, u32::MAX as usize) as u32;
    }

    /// The peer has another turn, and so [`WORK_MAX`] units of work less what its last message took too much.
    pub fn begin_turn(&mut self) {
        self.work = self.work.saturating_sub(WORK_MAX);
    }

    /// The message that is being served takes so many units of work more.
    fn charge(&mut self, units: u32) {
        self.work = self.work.saturating_add(units);
    }

    fn charge_bytes(&mut self, bytes: usize, per_unit: usize) {
        self.charge((bytes / per_unit) as u32);
    }

    /// A message of `bytes` has begun, now or some calls ago.
    fn begin(&mut self, bytes: usize, at: At) {
        let at_ns = self.begun.map_or(at.mono_ns, |begun| begun.at_ns);
        // No message is empty, nor its head.
        let bytes = NonZeroU32::new(bytes as u32).unwrap_or(NonZeroU32::MIN);
        self.begun = Some(Begun { at_ns, bytes });
    }

    fn check_size(&self, head: Head) -> Result<usize, Broken> {
        match head.size {
            size if (size as usize) < HEAD => Err(Broken::TooSmall(size)),
            size if size > self.msize => Err(Broken::TooLarge(size)),
            size => Ok(size as usize),
        }
    }

    /// What ends waiting must not wait behind what waits, or a peer whose requests all block could never take one back. It has as many places again.
    #[inline(always)]
    fn is_capped(&self, fs: &S, next: Kind) -> bool {
        // The usual case, and no bound is that low.
        let is_quiet = self.out.is_empty() && self.has_nothing_pending();
        (!is_quiet || fs.is_behind()) && self.is_capped_with(fs, next)
    }

    #[inline(never)]
    fn is_capped_with(&self, fs: &S, next: Kind) -> bool {
        let ends_waiting = matches!(next, Kind::TFLUSH | Kind::TCLUNK | Kind::TVERSION);
        if fs.is_behind() && !ends_waiting {
            return true;
        }
        let pending_max = if ends_waiting { 2 * self.config.pending_max } else { self.config.pending_max };
        self.has_too_many_replies()
            || self.pending.in_all() + self.queue.len() >= pending_max
            || !ends_waiting && self.waits_enough()
    }

    /// No further request may wait: those that do take all the memory that they may.
    fn waits_enough(&self) -> bool {
        self.queue.bytes() >= OWN_BYTES_MAX || self.config.budget.is_late() && !self.has_nothing_pending()
    }

    fn has_too_many_replies(&self) -> bool {
        self.out.bytes() >= self.config.queued_bytes_max
            || self.out.own_bytes() >= OWN_BYTES_MAX
            || (self.config.budget.is_tight() && self.out.bytes() > 0)
    }

    #[inline]
    fn has_nothing_pending(&self) -> bool {
        self.pending.is_empty() && self.queue.is_empty()
    }

    /// How much a listing may say at once. Unlike what is read from files, it takes memory of its own.
    fn listing_room(&self, count: u32) -> usize {
        // Several that have waited may end before a reply leaves.
        let is_tight = self.config.budget.is_tight() || self.out.own_bytes() >= OWN_BYTES_MAX;
        let most = if is_tight { TIGHT_LISTING_BYTES_MAX } else { OWN_BYTES_MAX };
        (count.min(self.msize - wire::IOHDR) as usize).min(most)
    }

    /// Requests of a peer that has not agreed on a version, and tags in use, end it.
    fn check_tag(&self, request: Request) -> Result<(), Broken> {
        if self.dialect.is_none() && request.kind != Kind::TVERSION {
            return Err(Broken::NotNegotiated(request.kind));
        }
        let waits = !self.has_nothing_pending() && (self.pending.has(request.tag) || self.queue.has(request.tag));
        if waits || self.out.gate_of(request.tag).is_some() { Err(Broken::TagInFlight(request.tag)) } else { Ok(()) }
    }

    /// The payload of a large write waits with its message where its fid is about to change.
    #[cold]
    fn is_bulk_blocked(&self, head: &[u8]) -> bool {
        let fid = head.get(HEAD..HEAD + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        fid.is_some_and(|fid| self.is_blocked(fid))
    }

    fn serve(&mut self, fs: &mut S, request: Request, frame: &[u8], at: At) -> Result<(), Broken> {
        self.message_bytes = frame.len() as u32;
        if request.kind != Kind::TVERSION {
            self.check_tag(request)?;
        }
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        // Numbers that no message has are found by the parser.
        if request.kind.is_reply() {
            return self.protocol_error(request, Error::EOPNOTSUPP);
        }
        let message = match Message::parse(frame, dialect) {
            Ok((_, message)) => message,
            Err(wire::Error::Unknown(_)) => return self.protocol_error(request, Error::EOPNOTSUPP),
            Err(_) => return self.protocol_error(request, Error::EINVAL),
        };
        self.trace('>', &message, request.tag);
        if request.tag == NOTAG && request.kind != Kind::TVERSION {
            return self.protocol_error(request, Error::EINVAL);
        }
        if !self.has_nothing_pending() && self.queues(request, &message, frame) {
            return Ok(());
        }
        if let Err(error) = self.dispatch(fs, request, &message, frame, at) {
            self.reply_error(Gate::OPEN, request, error);
        }
        Ok(())
    }

    /// Answers a message that is none. Frames are whole, so one can go on; but not for ever.
    fn protocol_error(&mut self, request: Request, error: Error) -> Result<(), Broken> {
        self.errors += 1;
        if self.errors >= PROTOCOL_ERRORS_MAX {
            return Err(Broken::TooManyErrors);
        }
        self.reply_error(Gate::OPEN, request, error);
        Ok(())
    }

    /// Queued replies whose gate is open, as one batch.
    pub fn take(&mut self, fs: &S) -> Option<Segments> {
        self.out.take(|gate| fs.is_open(gate))
    }

    /// Gives back the memory of a batch that was sent or given up; it becomes the next one.
    pub fn recycle(&mut self, segments: Segments) {
        self.out.recycle(segments);
    }

    /// Whether replies take all the memory that they may. Then the next batch is to have memory of its own, no larger
    /// than it needs.
    pub fn is_tight(&self) -> bool {
        self.config.budget.is_tight()
    }

    /// Whether there is memory for the next batch. A driver of many sessions keeps it for whoever has something to say, by [`recycle`](Self::recycle) and
    /// [`take_spare`](Self::take_spare).
    pub fn has_spare(&self) -> bool {
        self.out.has_spare()
    }

    /// The memory of the next batch.
    pub fn take_spare(&mut self) -> Option<Segments> {
        self.out.take_spare()
    }

    /// Monotonic nanoseconds by which the message that has begun must be whole. `None` between messages, and while the
    /// tree is slow to take a part of a payload.
    pub fn deadline(&self) -> Option<u64> {
        self.begun.filter(|_| !self.inbound.waits()).map(|begun| begun.at_ns + allowance_ns(begun.bytes.get() as usize))
    }

    /// Ends everything: what is pending is taken back, fids are closed, queued replies are dropped.
    pub fn close(&mut self, fs: &mut S, at: At) {
        while !self.close_part(fs, at) {}
    }

    /// The same in parts, for a driver of many sessions. True once everything is closed; until then it is
    /// to be called again, and nothing else.
    pub fn close_part(&mut self, fs: &mut S, at: At) -> bool {
        self.out.clear();
        self.inbound = Inbound::Between;
        self.begun = None;
        self.dialect = None;
        self.reset_part(fs, at)
    }

    /// Takes back what is pending, forgets what waits behind it, and closes some fids. True once there are none. Operations that
    /// could not be taken back may be left: see [`is_ending`](Self::is_ending).
    fn reset_part(&mut self, fs: &mut S, at: At) -> bool {
        if !self.has_nothing_pending() {
            self.forget_pending(fs);
            self.ended(fs, at);
        }
        let mut units = 0;
        while units < CLOSED_MAX {
            let Some(held) = self.fids.leave() else { return true };
            // There is nobody to tell.
            self.drop_file(fs, held.file, None, at);
            units += 1 + fs.spent();
        }
        self.charge(units);
        self.fids.len() == 0
    }

    /// An operation of this peer can go on. If its request is gone, what it answers is thrown away.
    pub fn complete(&mut self, fs: &mut S, op: OpId, at: At) {
        self.go_on(fs, op, at);
        self.charge(fs.spent());
    }

    /// Whether requests that waited behind others are to be served by another call of `receive`, as after [`Need::held`], or of
    /// [`serve_held`](Self::serve_held).
    pub fn is_held(&self) -> bool {
        self.queue.is_cut()
    }

    /// Whether the tree still has operations of this session, or closes of its files. It may have them after the session is closed.
    pub fn is_ending(&self) -> bool {
        self.pending.is_ending()
    }

    /// The gates that replies wait for: the first one of each tree.
    pub fn gates(&self) -> impl Iterator<Item = Gate> {
        self.out.gates()
    }

    /// Gives back memory that only a busy peer has a use for.
    pub fn trim(&mut self) {
        self.out.trim();
        self.pending.trim();
        self.fids.trim();
    }

    /// Bytes of replies that wait.
    pub fn queued_bytes(&self) -> usize {
        self.out.bytes()
    }

    /// Memory in bytes of replies that wait, without what they show of files.
    pub fn queued_memory_bytes(&self) -> usize {
        self.out.memory_bytes()
    }

    /// Fids in use.
    pub fn fids(&self) -> usize {
        self.fids.len()
    }

    /// Requests that wait for their tree, and flushes that wait for those.
    pub fn pending(&self) -> usize {
        self.pending.len() + self.queue.len()
    }

    /// The name of the dialect that was agreed on.
    pub fn dialect(&self) -> Option<&'static str> {
        self.dialect.map(Dialect::name)
    }

    /// Largest message in bytes, as agreed on.
    pub fn msize(&self) -> u32 {
        self.msize
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod testtree;
