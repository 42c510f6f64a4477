//! The connection to the far server: what it asks of the loop, in which dialect it speaks, its fids and tags.
//!
//! ```text
//! Down -> Wanted -> Connecting -> Greeting -> Up          Tversion: .L, then .u, then 9P2000
//!   ^       ^           |            |         |
//!   |       |           v            v         v
//!   +-------+------- BackOff <-------+       Down
//! ```
//! A connection that has failed leaves: its receive and its send are ended by a shutdown, then its socket is closed. That
//! may still be going on while the next connection is made.
//!
//! Must not know: files of the tree, operations beyond their names.

use super::share::Shares;
use super::watch::{WATCH_NS, Watch};
use crate::client::Conn;
use crate::fs::{Ask, AskId, Descriptor, Error, Incoming, Iovec, OpId, Outgoing, Remote, Result};
use crate::wire::{Dialect, Fid, IOHDR, Kind, Message, Tag};
use std::collections::{BTreeMap, VecDeque};

/// Requests in flight at most. Each may have a Tflush beside it.
pub(super) const CALLS_MAX: u16 = 128;
/// Bytes of a receive that is no payload of its own: 16 replies to reads of 4 KiB, and some more. A large payload that
/// arrives together with its head is copied up to here.
pub(super) const BUFFER_BYTES: usize = 72 << 10;
/// The smallest msize that a far server may agree to, in bytes. A reply with 16 qids and a request with two names of 255
/// bytes fit. Below it the connection is not used, and attaches answer EPROTO.
const MSIZE_MIN: u32 = 4096;
/// Bytes of a request that is no write. Beyond that is EMSGSIZE: other servers than ring9 may have no larger buffer for
/// such a request, whatever their msize is.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Tclunks in flight that no operation waits for. Further ones wait, so that a client which leaves with many fids leaves
/// tags to the others.
const CLUNKS_MAX: usize = 16;
/// Views of one send, beyond which the next request goes to another one.
const VIEWS_MAX: usize = 64;
/// Connections that have failed and are not closed yet. At this many no new one is made until one is closed.
const LEAVING_MAX: usize = 4;
/// How long the far server may take to connect and to agree on a version.
const GREETING_NS: u64 = 10_000_000_000;
/// The pause before the next attempt, after the first failure and at most. It doubles with each failure in a row.
const BACK_OFF_NS: (u64, u64) = (100_000_000, 5_000_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no connection, and no request for one.
    Down,
    /// A connection is to be made.
    Wanted,
    Connecting,
    Greeting,
    Up,
    /// The last attempt has failed. True: an attach waits for the next one.
    BackOff(bool),
}

/// What an ask in flight is for. Those of a socket name the connection that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Connect(u32),
    Send(u32),
    Receive(u32),
    Close,
    Timer,
    Cancel,
}

/// A connection that has failed.
#[derive(Debug)]
struct Leaving {
    generation: u32,
    socket: Descriptor,
}

/// What has become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Nothing,
    /// Requests may be made.
    Up,
    /// Bytes came in.
    Came,
    /// It has failed, or could not be made.
    Failed(Error),
}

/// Who gets the reply to a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Free,
    /// The request of an operation, and whether it reads a file, which may take any time.
    Op(OpId, bool),
    /// A request of this peer that was taken back, whether it reads a file, and the fid that it may have made. The fid is
    /// clunked once the request or its Tflush is answered.
    Orphan(u32, bool, Option<Fid>),
    /// A Tflush of the operation's request with this tag.
    Flush(OpId, Tag),
    /// A Tclunk of a fid that no file has any more.
    Clunk(Fid),
}

/// The payload of a large read on its way.
#[derive(Debug)]
pub(super) struct Landing {
    /// `None`: the read was taken back.
    pub(super) op: Option<OpId>,
    pub(super) into: Incoming,
}

#[derive(Debug)]
pub(super) struct Link {
    to: Remote,
    msize_max: u32,
    /// The number of the connection. It grows by one at each failure.
    pub(super) generation: u32,
    state: State,
    socket: Option<Descriptor>,
    pub(super) conn: Conn,
    /// Requests to be sent, in order; each is one send.
    out: VecDeque<Outgoing>,
    open: Iovec,
    is_sending: bool,
    is_receiving: bool,
    /// While a receive into it is in flight the ask has its memory, and `into` is empty.
    pub(super) landing: Option<Landing>,
    slots: Vec<Slot>,
    next_fid: Fid,
    /// The one that has been free for the longest time comes first.
    free_fids: VecDeque<Fid>,
    /// Fids to be clunked once there is a tag.
    clunks: VecDeque<Fid>,
    /// Fids whose Tclunk is in flight.
    clunking: usize,
    shares: Shares,
    pub(super) watch: Watch,
    asks: BTreeMap<AskId, For>,
    serial: u64,
    leaving: Vec<Leaving>,
    cancels: VecDeque<AskId>,
    timer: Option<AskId>,
    wants_timer: Option<u64>,
    failures: u32,
    is_retired: bool,
}

impl Link {
    pub(super) fn new(to: Remote, msize_max: u32) -> Link {
        Link {
            to,
            msize_max,
            generation: 0,
            state: State::Down,
            socket: None,
            conn: Conn::new(Dialect::L, msize_max, 0),
            out: VecDeque::new(),
            open: Iovec::default(),
            is_sending: false,
            is_receiving: false,
            landing: None,
            slots: Vec::new(),
            next_fid: 0,
            free_fids: VecDeque::new(),
            clunks: VecDeque::new(),
            clunking: 0,
            shares: Shares::default(),
            watch: Watch::default(),
            asks: BTreeMap::new(),
            serial: 0,
            leaving: Vec::new(),
            cancels: VecDeque::new(),
            timer: None,
            wants_timer: None,
            failures: 0,
            is_retired: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether a request may be made: there is a tag for it, and one for its Tflush.
    pub(super) fn has_room(&self) -> bool {
        self.is_up() && self.conn.in_flight() < CALLS_MAX.into()
    }

    /// Whether a peer may have one more request in flight.
    pub(super) fn has_share(&self, peer: u32, is_read: bool) -> bool {
        self.shares.has(peer, is_read, self.conn.in_flight())
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.conn.dialect()
    }

    /// Bytes of payload that fit one message.
    pub(super) fn chunk(&self) -> u32 {
        self.conn.msize() - IOHDR
    }

    /// An attach needs a connection.
    pub(super) fn want(&mut self) {
        match self.state {
            State::Down => self.state = State::Wanted,
            State::BackOff(_) => self.state = State::BackOff(true),
            _ => {}
        }
    }

    pub(super) fn new_fid(&mut self) -> Fid {
        self.free_fids.pop_front().unwrap_or_else(|| {
            self.next_fid += 1;
            self.next_fid - 1
        })
    }

    /// The far server has no such fid.
    pub(super) fn free_fid(&mut self, fid: Fid) {
        self.free_fids.push_back(fid);
    }

    /// Clunks a fid. No operation waits for the reply.
    pub(super) fn clunk(&mut self, fid: Fid) {
        self.clunks.push_back(fid);
        self.clunk_some();
    }

    /// Clunks what waits for a tag.
    pub(super) fn clunk_some(&mut self) {
        while self.has_room()
            && self.clunking < CLUNKS_MAX
            && let Some(fid) = self.clunks.pop_front()
        {
            self.clunking += 1;
            self.put(&Message::Tclunk { fid }, Slot::Clunk(fid));
        }
    }

    /// Makes a request. Panics where [`has_room`](Self::has_room) is false. The payload of a write that is elsewhere follows
    /// by [`payload`](Self::payload). EMSGSIZE: it is larger than what the far server has agreed to receive.
    pub(super) fn call(&mut self, message: &Message<'_>, slot: Slot) -> Result<Tag> {
        let bytes_max = match message.kind() {
            Kind::TWRITE => self.conn.msize() as usize,
            _ => REQUEST_BYTES_MAX.min(self.conn.msize() as usize),
        };
        if message.size(self.dialect()) > bytes_max {
            return Err(Error::EMSGSIZE);
        }
        Ok(self.put(message, slot))
    }

    fn put(&mut self, message: &Message<'_>, slot: Slot) -> Tag {
        if self.open.parts().len() > VIEWS_MAX {
            self.out.push_back(std::mem::take(&mut self.open).into());
        }
        let tag = self.conn.call(message);
        self.slots[usize::from(tag)] = slot;
        if let Slot::Op(OpId { peer, .. }, is_read) = slot {
            self.shares.take(peer, is_read);
        }
        self.drain();
        tag
    }

    fn drain(&mut self) {
        let bytes = self.conn.outgoing();
        self.open.put_copy(bytes);
        let n = bytes.len();
        self.conn.sent(n);
    }

    /// Where the caller appends the payload of the write that was made last.
    pub(super) fn payload(&mut self) -> &mut Iovec {
        &mut self.open
    }

    /// Flushes the request with this tag, whose operation waits for that. There is always a tag for a Tflush.
    pub(super) fn flush(&mut self, oldtag: Tag, op: OpId) {
        let tag = self.put(&Message::Tflush { oldtag }, Slot::Flush(op, oldtag));
        self.watch.flush(tag);
    }

    /// Flushes the request with this tag for an operation that has ended. `fid`: the one that the request may have made.
    pub(super) fn abandon(&mut self, oldtag: Tag, op: OpId, fid: Option<Fid>) {
        if let Some(slot) = self.slots.get_mut(usize::from(oldtag))
            && let Slot::Op(OpId { peer, .. }, is_read) = *slot
        {
            *slot = Slot::Orphan(peer, is_read, fid);
        }
        self.put(&Message::Tflush { oldtag }, Slot::Flush(op, oldtag));
    }

    /// The operation that waits for the Tclunk with this tag was taken back. The reply frees the fid.
    pub(super) fn abandon_clunk(&mut self, tag: Tag, fid: Fid) {
        self.take_slot(tag);
        if let Some(slot) = self.slots.get_mut(usize::from(tag)) {
            *slot = Slot::Clunk(fid);
            self.clunking += 1;
        }
    }

    /// Notes whether a message has begun.
    pub(super) fn note_begun(&mut self) {
        let has_begun = self.landing.is_some() || self.conn.has_begun();
        self.watch.begun(has_begun);
    }

    /// Returns who gets the reply to this tag. The slot is free from then on.
    pub(super) fn take_slot(&mut self, tag: Tag) -> Slot {
        let slot = self.slots.get_mut(usize::from(tag)).map_or(Slot::Free, |slot| std::mem::replace(slot, Slot::Free));
        match slot {
            Slot::Free => {}
            Slot::Op(OpId { peer, .. }, is_read) | Slot::Orphan(peer, is_read, _) => {
                self.shares.give_back(peer, is_read)
            }
            Slot::Flush(..) => self.watch.flushed(tag),
            Slot::Clunk(_) => self.clunking -= 1,
        }
        slot
    }

    /// The next thing to be done.
    pub(super) fn ask(&mut self) -> Option<(AskId, Ask)> {
        let (what, ask) = self.next_ask()?;
        self.serial += 1;
        let id = AskId(self.serial);
        self.asks.insert(id, what);
        if what == For::Timer {
            self.timer = Some(id);
        }
        Some((id, ask))
    }

    fn next_ask(&mut self) -> Option<(For, Ask)> {
        if let Some(of) = self.cancels.pop_front() {
            return Some((For::Cancel, Ask::Cancel { of }));
        }
        // A socket is closed once its receive and its send have ended.
        let is_idle = |leaving: &Leaving| self.in_flight(leaving.generation).next().is_none();
        if let Some(gone) = self.leaving.iter().position(is_idle) {
            let descriptor = self.leaving.swap_remove(gone).socket;
            return Some((For::Close, Ask::Close { descriptor }));
        }
        let generation = self.generation;
        if self.state == State::Wanted && self.leaving.len() < LEAVING_MAX {
            self.state = State::Connecting;
            self.wants_timer = Some(GREETING_NS);
            return Some((For::Connect(generation), Ask::Connect { to: self.to.clone() }));
        }
        if self.state == State::Up && self.watch.is_needed() && self.timer.is_none() {
            self.wants_timer = Some(WATCH_NS);
        }
        if let Some(ns) = self.wants_timer.take() {
            return Some((For::Timer, Ask::Timer { ns }));
        }
        let socket = self.socket.filter(|_| matches!(self.state, State::Greeting | State::Up))?;
        if !self.is_sending {
            let open = (!self.open.is_empty()).then(|| std::mem::take(&mut self.open).into());
            self.out.extend(open);
            if let Some(data) = self.out.pop_front() {
                self.is_sending = true;
                let quiet = self.out.is_empty();
                return Some((For::Send(generation), Ask::Send { socket, data, quiet }));
            }
        }
        if self.is_receiving {
            return None;
        }
        self.is_receiving = true;
        let whole = self.landing.is_some();
        let into = match &mut self.landing {
            Some(landing) => std::mem::take(&mut landing.into),
            None => {
                let (buffer, filled) = self.conn.lend(BUFFER_BYTES);
                Incoming { filled, ..Incoming::buffer(buffer) }
            }
        };
        Some((For::Receive(generation), Ask::Receive { socket, into, whole }))
    }

    /// The result of an ask.
    pub(super) fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>) -> Event {
        match self.asks.remove(&id) {
            Some(For::Connect(generation)) => self.connected(generation, result),
            Some(For::Send(generation)) if generation == self.generation => {
                self.is_sending = false;
                self.sent(ask, result)
            }
            Some(For::Receive(generation)) if generation == self.generation => {
                self.is_receiving = false;
                self.came(ask, result)
            }
            Some(For::Timer) if self.timer == Some(id) => {
                self.timer = None;
                self.timed_out()
            }
            Some(_) | None => Event::Nothing,
        }
    }

    /// The receive and the send of a connection that have not ended.
    fn in_flight(&self, generation: u32) -> impl Iterator<Item = AskId> {
        let is_of = move |what: &For| matches!(*what, For::Send(of) | For::Receive(of) if of == generation);
        self.asks.iter().filter(move |(_, what)| is_of(what)).map(|(&id, _)| id)
    }

    fn connected(&mut self, generation: u32, result: Result<u32>) -> Event {
        let is_current = generation == self.generation && self.state == State::Connecting;
        match result {
            Ok(socket) if is_current => {
                self.socket = Some(Descriptor(socket as i32));
                self.state = State::Greeting;
                self.greet(Dialect::L);
                Event::Nothing
            }
            Ok(socket) => {
                self.leaving.push(Leaving { generation, socket: Descriptor(socket as i32) });
                Event::Nothing
            }
            Err(error) if is_current => self.fail(error),
            Err(_) => Event::Nothing,
        }
    }

    fn greet(&mut self, dialect: Dialect) {
        self.conn = Conn::new(dialect, self.msize_max, 2 * CALLS_MAX);
        self.conn.version();
        self.drain();
    }

    fn timed_out(&mut self) -> Event {
        match self.state {
            State::BackOff(wanted) => {
                self.state = if wanted { State::Wanted } else { State::Down };
                Event::Nothing
            }
            State::Connecting | State::Greeting => self.fail(Error::EIO),
            State::Up if self.watch.is_late(self.conn.msize()) => self.fail(Error::EIO),
            _ => Event::Nothing,
        }
    }

    fn sent(&mut self, ask: Ask, result: Result<u32>) -> Event {
        let Ask::Send { mut data, .. } = ask else { return self.fail(Error::EIO) };
        match result {
            Ok(n) if n > 0 && n as usize <= data.left() => {
                data.advance(n as usize);
                if data.left() > 0 {
                    self.out.push_front(data);
                }
                Event::Nothing
            }
            _ => self.fail(Error::EIO),
        }
    }

    fn came(&mut self, ask: Ask, result: Result<u32>) -> Event {
        let Ask::Receive { mut into, .. } = ask else { return self.fail(Error::EIO) };
        match result {
            Ok(n) if n > 0 && n as usize <= into.left() => into.advance(n as usize),
            _ => return self.fail(Error::EIO),
        }
        if let Some(landing) = &mut self.landing {
            landing.into = into;
            return Event::Came;
        }
        self.conn.give_back(into.buffer, into.filled);
        if self.state == State::Up {
            return Event::Came;
        }
        self.agree()
    }

    /// version(9P): the far server says which dialect it speaks. Not all of them name the best one that they have.
    fn agree(&mut self) -> Event {
        let next = match (self.conn.answer_to_version(), self.conn.dialect()) {
            (Ok(None), _) => return Event::Nothing,
            (Ok(Some(Ok(()))), _) if self.conn.msize() < MSIZE_MIN => return self.fail(Error::EPROTO),
            (Ok(Some(Ok(()))), _) => {
                self.state = State::Up;
                self.failures = 0;
                self.slots = vec![Slot::Free; 2 * usize::from(CALLS_MAX)];
                self.end_timer();
                return Event::Up;
            }
            (Ok(Some(Err(_))), Dialect::L) => Dialect::U,
            (Ok(Some(Err(_))), Dialect::U) => Dialect::P9,
            (Ok(Some(Err(_))), Dialect::P9) | (Err(_), _) => return self.fail(Error::EPROTO),
        };
        self.greet(next);
        Event::Nothing
    }

    fn end_timer(&mut self) {
        self.wants_timer = None;
        self.cancels.extend(self.timer.take());
    }

    /// Gives up the connection, or the attempt to make one. Everything that belongs to it is forgotten.
    pub(super) fn fail(&mut self, error: Error) -> Event {
        self.end_timer();
        if let Some(socket) = self.socket.take() {
            // One shutdown ends both, but one of them may have ended by itself.
            let in_flight: Vec<AskId> = self.in_flight(self.generation).collect();
            self.cancels.extend(in_flight);
            self.leaving.push(Leaving { generation: self.generation, socket });
        } else if self.state == State::Connecting {
            let connect = self.asks.iter().find(|(_, what)| **what == For::Connect(self.generation));
            self.cancels.extend(connect.map(|(&id, _)| id));
        }
        self.state = if self.state == State::Up || self.is_retired {
            State::Down
        } else {
            self.wants_timer = Some((BACK_OFF_NS.0 << self.failures.min(16)).min(BACK_OFF_NS.1));
            self.failures += 1;
            State::BackOff(false)
        };
        self.generation += 1;
        (self.is_sending, self.is_receiving) = (false, false);
        self.landing = None;
        self.out.clear();
        self.open = Iovec::default();
        self.slots.clear();
        self.clunks.clear();
        self.clunking = 0;
        (self.shares, self.watch) = (Shares::default(), Watch::default());
        (self.next_fid, self.free_fids) = (0, VecDeque::new());
        Event::Failed(error)
    }

    /// No connection is made any more, and this one ends.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
        if !matches!(self.state, State::Down) {
            self.fail(Error::EIO);
        }
        self.wants_timer = None;
    }

    /// Whether an ask is in flight or wanted.
    pub(super) fn has_asks(&self) -> bool {
        !self.asks.is_empty() || !self.leaving.is_empty() || !self.cancels.is_empty() || self.state != State::Down
    }
}
