//! A tree that is another 9P server. Each call becomes requests to it, in the best dialect that it speaks.
//!
//! ```text
//! call -> plan.rs: stages -> request.rs: a message -> link.rs -> asks of the loop -> far server
//! finish <- ready <- reply.rs: the next stage, or the end <- link.rs <- asks of the loop <-
//! ```
//! - A user that attaches here attaches there. All users and peers share one connection, which the first attach makes.
//! - Each file has a fid of its own at the far server. When the connection fails, what is pending and all that is asked
//!   of its files answers EIO; the next attach makes a new connection.
//! - A call that finds no tag waits in a queue. While that is long the tree is behind, so that sessions wait.
//! - The payload of a large read is received into memory of the arena, and that of a large write is sent from there.
//!
//! Must not know: sockets, rings, sessions.

mod link;
mod op;
mod plan;
mod reply;
mod request;
mod share;
mod show;
mod stat;
mod watch;

use crate::arena::{Arena, Piece, Space};
use crate::fs::places::Places;
use crate::fs::{
    Answer, Ask, AskId, At, Call, Cancel, Done, Error, FileId, Gate, Grant, Incoming, OpId, Outcome, Payload, Remote,
    Result, Service, Show,
};
use crate::session::Users;
use crate::wire::{Fid, Qid, Tag};
use link::{Event, Landing, Link, Slot};
use op::{Flow, Op, Shown, Stage};
use reply::Reply;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Operations that wait for a tag or for a connection. Beyond that the tree is behind, or refuses attaches.
const WAITING_MAX: usize = 1024;
/// Bytes of a piece that a payload lands in.
const PIECE_BYTES: usize = crate::arena::BLOCK_BYTES_MAX;
/// The payload of a smaller read is copied.
const LANDING_BYTES_MIN: usize = 16 << 10;
/// Payloads on their way hold at most 1/2 of the arena. Further ones go through the heap.
const GRANTED_SHARE: usize = 2;

/// Bytes of the heap that a relay takes at most beside its arena: a payload in each direction for each request in flight,
/// the message that arrives with the receive behind it, and directories that were read in part.
pub const fn heap_bytes_max(msize: u32) -> u64 {
    let messages = 2 * link::CALLS_MAX as u64 + 2;
    messages * msize as u64 + (link::BUFFER_BYTES + show::LISTING_BYTES_ALL) as u64
}

/// Where the far server is, and how it is asked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address.
    pub to: Remote,
    /// The tree to attach to. `None`: the one that the client names.
    pub aname: Option<Box<[u8]>>,
    /// Largest message in bytes.
    pub msize: u32,
    /// Names of users, for dialects that have no numbers.
    pub users: Arc<Users>,
}

/// A file of the far server.
#[derive(Debug, Default)]
struct File {
    number: u32,
    /// The connection that it belongs to.
    generation: u32,
    /// `None`: a Tremove has clunked it, or the file stands for an attribute that was read.
    fid: Option<Fid>,
    qid: Qid,
    /// The peer that holds the file.
    peer: u32,
    /// The last element of its path.
    name: Box<[u8]>,
    /// Each write goes to the end of the file, and the dialect has no flag for it.
    appends: bool,
    /// The close removes the file, and the dialect has no flag for it.
    removes: bool,
    /// What was read of a directory last, in dialects that read it as a stream.
    listing: Option<Box<Listing>>,
}

/// Stat records of a directory.
#[derive(Debug)]
struct Listing {
    start: u64,
    bytes: Vec<u8>,
}

impl Listing {
    /// Number of cookies that come first: those of "." and "..", which these dialects do not list.
    const DOTS: u64 = 2;
}

/// A tree that is another 9P server.
pub struct Relay {
    config: Config,
    arena: Arena,
    link: Link,
    files: Places<File>,
    /// The number of the file that was held last.
    number: u32,
    /// Bytes of all listings.
    listing_bytes: usize,
    ops: BTreeMap<OpId, Box<Op>>,
    /// Operations that wait for a tag, or for a connection.
    waiting: VecDeque<OpId>,
    ready: VecDeque<OpId>,
}

impl Relay {
    /// The tree of a far server, which the first attach connects to. Payloads go through the arena.
    pub fn new(config: Config, arena: Arena) -> Relay {
        let link = Link::new(config.to.clone(), config.msize);
        let (files, ops) = (Places::default(), BTreeMap::new());
        let (waiting, ready) = (VecDeque::new(), VecDeque::new());
        Relay { config, arena, link, files, number: 0, listing_bytes: 0, ops, waiting, ready }
    }

    /// Files that are held.
    pub fn held(&self) -> usize {
        self.files.len()
    }

    /// Bytes of the arena that operations hold, or replies that show what they have read.
    pub fn arena_bytes(&mut self) -> usize {
        self.arena.collect();
        self.arena.usable_bytes() - self.arena.free_bytes()
    }

    /// The file with this name. EBADF: no file has it. EIO: the connection of the file has failed.
    fn file(&self, id: FileId) -> Result<&File> {
        match self.files.get(id.place()) {
            Some(file) if !id.has_number(file.number) => Err(Error::EBADF),
            Some(file) if file.generation != self.link.generation || !self.link.is_up() => Err(Error::EIO),
            Some(file) => Ok(file),
            None => Err(Error::EBADF),
        }
    }

    fn file_mut(&mut self, id: FileId) -> Result<&mut File> {
        self.file(id)?;
        self.files.get_mut(id.place()).ok_or(Error::EBADF)
    }

    /// The file that an operation names.
    fn named(&self, op: &Op) -> Result<&File> {
        self.file(op.file.ok_or(Error::EIO)?)
    }

    /// The listing of that file.
    fn listing(&self, op: &Op) -> Option<&Listing> {
        self.named(op).ok()?.listing.as_deref()
    }

    fn hold(&mut self, file: File) -> FileId {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        FileId::new(self.files.put(File { number, ..file }) as u32, number)
    }

    /// Asks for an operation's stage, now or once there is a tag.
    fn go(&mut self, id: OpId, op: Box<Op>) {
        if op.stage == Stage::List && self.is_listed(&op) {
            return self.end(id, op, Ok(Done::Nothing));
        }
        // `pump` has asked for each waiting operation that may go, so this one overtakes none of those.
        if !self.link.has_room() || !self.link.has_share(id.peer, op.stage == Stage::Read) {
            if op.stage == Stage::Attach {
                self.link.want();
            }
            self.waiting.push_back(id);
            self.ops.insert(id, op);
            return;
        }
        self.request(id, op);
    }

    /// Makes the request of an operation's stage, for which there is room. Where it cannot be made the operation ends.
    fn request(&mut self, id: OpId, mut op: Box<Op>) {
        if op.is_given_up && matches!(op.stage, Stage::Write | Stage::XattrWrite) {
            let result = op.interrupted();
            return self.end(id, op, result);
        }
        op.generation = self.link.generation;
        op.has_changed |= !op.stage.changes_nothing();
        if let Err(error) = self.send(id, &mut op) {
            return self.end(id, op, Err(error));
        }
        // The operation waits for the reply to this request, although it was given up.
        if let (true, Some(tag)) = (op.is_given_up, op.tag) {
            self.link.flush(tag, id);
        }
        self.ops.insert(id, op);
    }

    /// Asks for what has waited for a tag.
    fn pump(&mut self) {
        self.link.clunk_some();
        // Peers that have their share of requests, and the place of the next operation that may go.
        let (mut sated, mut place) = (BTreeSet::new(), 0);
        while self.link.has_room()
            && let Some(&id) = self.waiting.get(place)
        {
            let is_read = || self.ops.get(&id).is_some_and(|op| op.stage == Stage::Read);
            if sated.contains(&id.peer) || !self.link.has_share(id.peer, is_read()) {
                if !self.link.has_share(id.peer, false) {
                    sated.insert(id.peer);
                }
                place += 1;
                continue;
            }
            self.waiting.remove(place);
            if let Some(op) = self.ops.remove(&id) {
                self.request(id, op);
            }
        }
    }

    /// The operation has ended: its answer waits until it is asked for.
    fn end(&mut self, id: OpId, mut op: Box<Op>, result: Result<Done>) {
        op.tag = None;
        if op.enters && result.is_ok() {
            self.enter(&mut op);
        }
        self.let_go(&mut op);
        if result.is_err() {
            op.shown = Shown::Nothing;
        }
        op.result = Some(result);
        self.ops.insert(id, op);
        self.ready.push_back(id);
    }

    /// The file gets the new fid. Its old fid becomes the operation's own, which `let_go` clunks.
    fn enter(&mut self, op: &mut Op) {
        let (Some(id), Some(new), true) = (op.file, op.new, op.lives) else { return };
        let (qid, name) = (op.new_qid, std::mem::take(&mut op.name));
        let dialect = self.link.dialect();
        if let Ok(file) = self.file_mut(id) {
            (file.qid, file.name) = (qid, name);
            if op.stage == Stage::OpenNew {
                file.opened(op.flags, dialect);
            }
            op.new = file.fid.replace(new);
            let _ = self.put_listing(id, None);
        }
    }

    /// Gives back what an operation has of its own.
    fn let_go(&mut self, op: &mut Op) {
        for (block, _) in op.payload.blocks.drain(..) {
            self.arena.free(block);
        }
        let Some(fid) = op.new.take().filter(|_| op.generation == self.link.generation && self.link.is_up()) else {
            return;
        };
        if std::mem::take(&mut op.lives) { self.link.clunk(fid) } else { self.link.free_fid(fid) }
    }

    /// Bytes have come in: serves all replies that are whole.
    fn came(&mut self) {
        loop {
            match self.next() {
                Ok(true) => {}
                Ok(false) => break self.link.note_begun(),
                Err(error) => {
                    log::warn!(target: "ring9::relay", "{}: {error}", self.config.to);
                    self.link.fail(Error::EIO);
                    return self.fail(Error::EIO);
                }
            }
        }
        self.pump();
    }

    /// Serves the next reply, if it is whole.
    fn next(&mut self) -> std::result::Result<bool, crate::client::CallError> {
        if let Some(landing) = self.link.landing.take_if(|landing| landing.into.left() == 0) {
            self.link.watch.whole();
            self.landed_read(landing);
            return Ok(true);
        }
        if self.link.landing.is_some() {
            return Ok(false);
        }
        let Relay { link, arena, config, .. } = self;
        let mut begun = None;
        link.conn.begun_read(LANDING_BYTES_MIN, |tag, size, here| {
            let into = match space(arena, size) {
                Some(mut space) => {
                    space.fill(here);
                    Incoming::space(space)
                }
                None => {
                    let mut into = Incoming::buffer(vec![0; size]);
                    into.buffer[..here.len()].copy_from_slice(here);
                    into.advance(here.len());
                    into
                }
            };
            begun = Some((tag, into));
        })?;
        if let Some((tag, into)) = begun {
            let slot = self.link.take_slot(tag);
            let op = if let Slot::Op(id, _) = slot { Some(id) } else { None };
            if let Slot::Orphan(_, _, Some(fid)) = slot {
                self.link.clunk(fid);
            }
            if let Some(op) = op.and_then(|id| self.ops.get_mut(&id)) {
                // From now on another request may have the tag.
                op.tag = None;
            }
            // The payload of a request that was taken back is received, too: it is in front of the next message.
            self.link.landing = Some(Landing { op, into });
            return Ok(true);
        }
        let users = &config.users;
        let Some((tag, reply)) = link.conn.next_reply(|tag, reply| (tag, Reply::of(reply, users)))? else {
            return Ok(false);
        };
        self.link.watch.whole();
        match self.link.take_slot(tag) {
            Slot::Op(id, _) => self.replied(id, reply),
            Slot::Flush(id, oldtag) => match self.link.take_slot(oldtag) {
                Slot::Orphan(_, _, fid) => fid.into_iter().for_each(|fid| self.link.clunk(fid)),
                _ => self.flushed(id, oldtag),
            },
            Slot::Orphan(_, _, fid) => fid.into_iter().for_each(|fid| self.link.clunk(fid)),
            Slot::Clunk(fid) => self.link.free_fid(fid),
            Slot::Free => {}
        }
        Ok(true)
    }

    /// A payload is whole.
    fn landed_read(&mut self, landing: Landing) {
        let Landing { op, into } = landing;
        let Some(id) = op else { return };
        let is_read = self.ops.get(&id).is_some_and(|op| op.stage == Stage::Read);
        let (pieces, _) = into.space.into_parts();
        if !is_read || pieces.is_empty() {
            let mut bytes = into.buffer;
            bytes.extend(pieces.iter().flat_map(Piece::bytes));
            return self.replied(id, Ok(Reply::Bytes(bytes)));
        }
        let slices = pieces.into_iter().map(|piece| {
            let range = piece.range();
            let block = self.arena.adopt(piece);
            let slice = self.arena.slice(&block, range);
            self.arena.free(block);
            slice
        });
        let slices = slices.collect();
        if let Some(mut op) = self.ops.remove(&id) {
            op.shown = Shown::Slices(slices);
            self.end(id, op, Ok(Done::Nothing));
        }
    }

    /// The reply to an operation's request.
    fn replied(&mut self, id: OpId, reply: Result<Reply>) {
        let Some(mut op) = self.ops.remove(&id) else { return };
        op.tag = None;
        let flow = self.take(&mut op, reply).unwrap_or_else(|error| Flow::End(Err(error)));
        let stage = match flow {
            Flow::End(result) => return self.end(id, op, result),
            Flow::Next(done) => match op.then.pop() {
                Some(stage) => stage,
                None => return self.end(id, op, Ok(done)),
            },
            Flow::To(stage) => stage,
        };
        op.stage = stage;
        if self.link.has_room() {
            return self.request(id, op);
        }
        // An operation that has begun goes in front of those that have not.
        self.waiting.push_front(id);
        self.ops.insert(id, op);
    }

    /// A Tflush is answered. A request that has no reply by now never gets one (flush(9P)).
    fn flushed(&mut self, id: OpId, tag: Tag) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        // A walk may have made its fid nonetheless, so it is clunked before its number is used again.
        op.lives |= op.tag == Some(tag) && op.stage.makes_fid();
        if op.tag == Some(tag)
            && let Some(op) = self.ops.remove(&id)
        {
            let result = op.interrupted();
            self.end(id, op, result);
        }
    }

    /// The connection has failed. All operations that have not ended end now: those that were asked for on it, and those
    /// that wait.
    fn fail(&mut self, error: Error) {
        self.waiting.clear();
        let pending: Vec<OpId> = self.ops.iter().filter(|(_, op)| op.result.is_none()).map(|(&id, _)| id).collect();
        for id in pending {
            if let Some(op) = self.ops.remove(&id) {
                // The file of a close is gone with its connection.
                let is_close = op.last.is_some();
                self.end(id, op, if is_close { Ok(Done::Nothing) } else { Err(error) });
            }
        }
    }
}

/// Memory for a payload. `None`: there is none left, or payloads already hold [their share](GRANTED_SHARE).
fn space(arena: &mut Arena, bytes: usize) -> Option<Space> {
    if arena.gauge().granted_bytes() + bytes > arena.usable_bytes() / GRANTED_SHARE {
        return None;
    }
    let parts = (0..bytes).step_by(PIECE_BYTES).map(|start| (bytes - start).min(PIECE_BYTES));
    let pieces: std::result::Result<Vec<Piece>, _> = parts.map(|len| arena.land_fresh(len, 0..len)).collect();
    pieces.ok().map(|pieces| Space::new(pieces, 0))
}

impl Service for Relay {
    /// A file with the longest name that it may have.
    const FILE_BYTES: usize = Places::<File>::VALUE_BYTES + crate::fs::NAME_BYTES_MAX;
    const NEEDS_ASKS: bool = true;

    fn call(&mut self, id: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        match self.plan(call, &show, at) {
            Ok(Some(_)) if !self.link.is_up() && self.waiting.len() >= WAITING_MAX => Outcome::now(Err(Error::EAGAIN)),
            Ok(Some(op)) => {
                let outcome = op.unended();
                self.go(id, Box::new(op));
                outcome
            }
            Ok(None) => Outcome::now(Ok(Done::Nothing)),
            Err(error) => Outcome::now(Err(error)),
        }
    }

    fn finish(&mut self, id: OpId, show: Show<'_>, _: At) -> Outcome {
        match self.ops.remove(&id) {
            Some(op) if op.result.is_none() => {
                let outcome = op.unended();
                self.ops.insert(id, op);
                outcome
            }
            Some(op) => {
                let result = self.shown(*op, show);
                Outcome::Done(Answer { result, gate: Gate::OPEN })
            }
            None => Outcome::now(Err(Error::EIO)),
        }
    }

    /// Sends a Tflush. An operation that has changed nothing so far ends at once, and does not wait for the Rflush. Any other
    /// operation answers as usual.
    fn cancel(&mut self, id: OpId) -> Cancel {
        let Some(op) = self.ops.get_mut(&id).filter(|op| op.result.is_none()) else { return Cancel::TooLate };
        // The payload of the read is arriving, and another request may have its tag.
        let is_landing =
            op.stage == Stage::Read && self.link.landing.as_ref().is_some_and(|landing| landing.op == Some(id));
        if op.has_changed || is_landing {
            if let (false, Some(tag)) = (std::mem::replace(&mut op.is_given_up, true), op.tag) {
                self.link.flush(tag, id);
            }
            return Cancel::TooLate;
        }
        let Some(mut op) = self.ops.remove(&id) else { return Cancel::TooLate };
        match (op.tag, op.stage) {
            (Some(tag), Stage::EntryClunk) => {
                op.new.take().into_iter().for_each(|fid| self.link.abandon_clunk(tag, fid));
            }
            (Some(tag), _) => self.link.abandon(tag, id, op.new.take()),
            (None, _) => self.waiting.retain(|waiting| *waiting != id),
        }
        self.let_go(&mut op);
        Cancel::Cancelled
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, _: At) -> Result<Payload> {
        self.file(file)?;
        let space = space(&mut self.arena, count as usize);
        Ok(space.map_or(Payload::Parts, |space| Payload::Memory(Grant { space, offset, place: offset, count })))
    }

    fn ready(&mut self) -> Option<OpId> {
        self.ready.pop_front()
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    fn is_behind(&self) -> bool {
        self.link.is_up() && self.waiting.len() >= WAITING_MAX
    }

    fn file_memory_bytes(&self) -> usize {
        self.files.bytes() + self.files.len() * crate::fs::NAME_BYTES_MAX
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        self.link.ask()
    }

    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, _: At) {
        match self.link.answered(id, ask, result) {
            Event::Nothing => {}
            Event::Up => {
                log::info!(target: "ring9::relay", "{}: {}", self.config.to, self.link.dialect().name());
                self.pump();
            }
            Event::Came => self.came(),
            Event::Failed(error) => {
                log::warn!(target: "ring9::relay", "{}: {error}", self.config.to);
                self.fail(error);
            }
        }
    }

    fn has_asks(&self) -> bool {
        self.link.has_asks()
    }

    fn retire(&mut self, _: At) {
        self.link.retire();
        self.fail(Error::EIO);
    }
}
