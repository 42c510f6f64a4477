//! One connection, without I/O: requests become bytes, bytes become replies.
//!
//! ```text
//! call(message) -> tag      queues bytes;  outgoing() / sent(n) move them out
//! space() / filled(n)       bytes come in, straight into the inbox (received(bytes) copies them there)
//! lend(n) / give_back(..)   the same for a receive that has to own its buffer
//! next_reply()              hands out whole replies in the server's order
//! ```
//! In steady state nothing is allocated: the buffers keep what they once grew to, a tag is an index.
//!
//! Must not know: sockets, clocks, files.

use super::refusal::{Error, readable, refusal};
use crate::wire::{self, Dialect, HEAD, IOHDR, Kind, Message, NOTAG, READ_HEAD, Tag};
use std::collections::VecDeque;

/// What the inbox starts with, in bytes; it grows to the largest reply that is announced.
const INBOX_BYTES_MIN: usize = 16 << 10;
/// How large an answer to Tversion may be, in bytes.
const VERSION_BYTES_MAX: u32 = 8192;
/// What a reply must fit.
#[derive(Clone, Copy, Debug)]
struct Asked {
    kind: Kind,
    /// Bytes or names at most.
    most: usize,
    /// The request that this one flushes.
    flushes: Option<Tag>,
    /// A Tflush names it: its tag is free once that is answered (flush(9P)).
    flushed: bool,
    answered: bool,
}

impl Asked {
    fn of(message: &Message<'_>) -> Asked {
        let most = match message {
            Message::Tread { count, .. } | Message::Treaddir { count, .. } => *count as usize,
            Message::Twrite { data, .. } => data.len(),
            Message::Twalk { wnames, .. } => wnames.len(),
            _ => 0,
        };
        let flushes = if let Message::Tflush { oldtag } = message { Some(*oldtag) } else { None };
        Asked { kind: message.kind(), most, flushes, flushed: false, answered: false }
    }

    fn check(self, reply: &Message<'_>) -> Result<(), Error> {
        if reply.kind() != self.kind.reply() {
            return Err(Error::Protocol(format!("{} answers another request", reply.kind())));
        }
        let came = match reply {
            Message::Rread { data } | Message::Rreaddir { data } => data.len(),
            Message::Rwrite { count } => *count as usize,
            Message::Rwalk { wqids } => wqids.len(),
            _ => 0,
        };
        if came > self.most {
            return Err(Error::Protocol(format!("{} has {came} where {} were asked for", reply.kind(), self.most)));
        }
        Ok(())
    }
}

/// The requests in flight, and the bytes on their way.
#[derive(Debug)]
pub struct Conn {
    dialect: Dialect,
    msize: u32,
    /// Bytes to send are `out[out_start..]`.
    out: Vec<u8>,
    out_start: usize,
    /// Bytes that came in are `inbox[inbox_start..inbox_end]`; behind them is space.
    inbox: Vec<u8>,
    inbox_start: usize,
    inbox_end: usize,
    /// By tag: the request that waits for its reply.
    waiting: Vec<Option<Asked>>,
    free: VecDeque<Tag>,
    in_flight: usize,
}

impl Conn {
    /// A connection that will speak this dialect, with messages of at most `msize` bytes and at most `calls_max` requests in flight.
    pub fn new(dialect: Dialect, msize: u32, calls_max: u16) -> Conn {
        Conn {
            dialect,
            msize,
            out: Vec::new(),
            out_start: 0,
            inbox: vec![0; INBOX_BYTES_MIN],
            inbox_start: 0,
            inbox_end: 0,
            waiting: vec![None; calls_max.into()],
            free: (0..calls_max).collect(),
            in_flight: 0,
        }
    }

    /// The dialect spoken.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Largest message in bytes.
    pub fn msize(&self) -> u32 {
        self.msize
    }

    /// Requests without a reply.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether bytes of a message have come in that is not handed out yet.
    pub fn has_begun(&self) -> bool {
        self.inbox_start < self.inbox_end
    }

    /// Whether one more request may be made.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Queues the first message.
    pub fn version(&mut self) {
        let message = Message::Tversion { msize: self.msize, version: self.dialect.name().as_bytes() };
        message.emit(NOTAG, self.dialect, &mut self.out);
    }

    /// Takes in the answer to the first message; true once it is there. A lower dialect than asked for is an error that names it: what a caller wants to do in
    /// one may be impossible in the other.
    pub fn agree(&mut self) -> Result<bool, Error> {
        self.answer_to_version().and_then(|answer| answer.map_or(Ok(false), |agreed| agreed.map(|()| true)))
    }

    /// Takes in the answer to the first message, for a caller that tries several dialects. `None`: it is not whole yet. The
    /// inner error says that the server does not speak this dialect. A new `Conn` may then ask for another one on the same
    /// socket.
    pub fn answer_to_version(&mut self) -> Result<Option<Result<(), Error>>, Error> {
        let Some(size) = self.whole(VERSION_BYTES_MAX)? else { return Ok(None) };
        let frame = &self.inbox[self.inbox_start..][..size];
        self.inbox_start += size;
        let parsed = Message::parse(frame, self.dialect).map_err(|error| Error::Protocol(error.to_string()));
        let msize = match parsed.map(|(_, message)| message) {
            Ok(Message::Rversion { msize, version }) if version == self.dialect.name().as_bytes() => msize,
            Ok(Message::Rversion { version, .. }) => {
                let (wanted, offered) = (self.dialect.name(), readable(version));
                let text = format!("the server does not speak {wanted}; it offers \"{offered}\"");
                return Ok(Some(Err(Error::Protocol(text))));
            }
            Ok(reply) => {
                let unexpected = || Error::Protocol(format!("{} answers Tversion", reply.kind()));
                return Ok(Some(Err(refusal(&reply).unwrap_or_else(unexpected))));
            }
            // It may be a refusal in another dialect, which is whole nonetheless.
            Err(error) => return Ok(Some(Err(error))),
        };
        // version(9P): the server may only answer a smaller one; and one in which nothing fits is of no use.
        if msize > self.msize || msize <= IOHDR {
            return Err(Error::Protocol(format!("the server answers msize {msize} to {}", self.msize)));
        }
        self.msize = msize;
        Ok(Some(Ok(())))
    }

    /// Queues a request. Panics where [`has_room`](Self::has_room) is false.
    pub fn call(&mut self, message: &Message<'_>) -> Tag {
        let tag = self.free.pop_front().expect("the caller has asked for room");
        if let Message::Tflush { oldtag } = message
            && let Some(Some(asked)) = self.waiting.get_mut(usize::from(*oldtag))
        {
            asked.flushed = true;
        }
        self.waiting[usize::from(tag)] = Some(Asked::of(message));
        self.in_flight += 1;
        message.emit(tag, self.dialect, &mut self.out);
        tag
    }

    /// Bytes to send.
    pub fn outgoing(&self) -> &[u8] {
        &self.out[self.out_start..]
    }

    /// The first `n` of them were sent.
    pub fn sent(&mut self, n: usize) {
        self.out_start += n;
        debug_assert!(self.out_start <= self.out.len());
        if self.out_start == self.out.len() {
            self.out.clear();
            self.out_start = 0;
        } else if self.out_start > self.out.len() / 2 {
            // A queue that never runs dry must not grow for ever.
            self.out.drain(..self.out_start);
            self.out_start = 0;
        }
    }

    /// Where bytes may be received: never empty, and room for all that is missing of the reply that has begun.
    pub fn space(&mut self) -> &mut [u8] {
        if self.inbox_start == self.inbox_end {
            (self.inbox_start, self.inbox_end) = (0, 0);
        }
        let pending = &self.inbox[self.inbox_start..self.inbox_end];
        // A size beyond msize is refused by `whole`; nothing is made of it here.
        let size = wire::head(pending).map_or(HEAD, |head| head.size.min(self.msize) as usize);
        let wanted = size.max(pending.len() + 1);
        if self.inbox.len() - self.inbox_start < wanted {
            self.inbox.copy_within(self.inbox_start..self.inbox_end, 0);
            self.inbox_end -= self.inbox_start;
            self.inbox_start = 0;
            if self.inbox.len() < wanted {
                // A quarter more: the head of the next reply comes with the end of this one.
                self.inbox.resize(wanted + wanted / 4, 0);
            }
        }
        &mut self.inbox[self.inbox_end..]
    }

    /// The first `n` bytes of the [`space`](Self::space) were received.
    pub fn filled(&mut self, n: usize) {
        self.inbox_end += n;
        debug_assert!(self.inbox_end <= self.inbox.len());
    }

    /// Lends the inbox to a receive that may take any time: a buffer with `room` bytes of room, and how many
    /// bytes in front of that are filled. Until it is [given back](Self::give_back) no reply is there.
    pub fn lend(&mut self, room: usize) -> (Vec<u8>, usize) {
        let mut buffer = std::mem::take(&mut self.inbox);
        let filled = self.inbox_end - self.inbox_start;
        buffer.copy_within(self.inbox_start..self.inbox_end, 0);
        (self.inbox_start, self.inbox_end) = (0, 0);
        buffer.resize(filled + room, 0);
        (buffer, filled)
    }

    /// Takes back what was [lent](Self::lend): the bytes at its front that are filled now are those that came in.
    pub fn give_back(&mut self, buffer: Vec<u8>, filled: usize) {
        debug_assert!(self.inbox.is_empty() && filled <= buffer.len());
        (self.inbox, self.inbox_end) = (buffer, filled);
    }

    /// Takes in bytes from elsewhere.
    pub fn received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.filled(n);
            bytes = &bytes[n..];
        }
    }

    /// The next whole reply, in the order in which the server answers. A refusal is the reply to its tag; an error of this function ends the connection.
    pub fn next_reply<T>(
        &mut self,
        see: impl FnOnce(Tag, Result<Message<'_>, Error>) -> T,
    ) -> Result<Option<T>, Error> {
        let Some(size) = self.whole(self.msize)? else { return Ok(None) };
        let frame = &self.inbox[self.inbox_start..][..size];
        let (tag, message) = Message::parse(frame, self.dialect).map_err(|error| Error::Protocol(error.to_string()))?;
        let asked = settle(&mut self.waiting, &mut self.free, &mut self.in_flight, tag)?;
        let reply = match refusal(&message) {
            Some(error) => Err(error),
            None => asked.check(&message).map(|()| Ok(message))?,
        };
        let seen = see(tag, reply);
        self.inbox_start += size;
        Ok(Some(seen))
    }

    /// Takes a reply to Tread of which the head is there, but not all of the payload, if that is `bytes_min` bytes or more.
    /// Shows its tag, the size of the payload and what is there of it. The rest of the payload passes this connection by:
    /// the caller receives it, and the next byte behind it is that of a new reply. True if there was such a reply.
    pub fn begun_read(&mut self, bytes_min: usize, see: impl FnOnce(Tag, usize, &[u8])) -> Result<bool, Error> {
        let pending = &self.inbox[self.inbox_start..self.inbox_end];
        let Some(head) = wire::head(pending).filter(|head| head.kind == Kind::TREAD.reply()) else { return Ok(false) };
        let size = head.size as usize;
        if pending.len() < READ_HEAD || pending.len() >= size || size < READ_HEAD + bytes_min || head.size > self.msize
        {
            return Ok(false);
        }
        let (tag, message) =
            Message::parse_head(pending, self.dialect).map_err(|error| Error::Protocol(error.to_string()))?;
        settle(&mut self.waiting, &mut self.free, &mut self.in_flight, tag)?.check(&message)?;
        see(tag, size - READ_HEAD, &pending[READ_HEAD..]);
        self.inbox_start = self.inbox_end;
        Ok(true)
    }

    /// Size of the message at the front, if it is whole.
    fn whole(&self, size_max: u32) -> Result<Option<usize>, Error> {
        let pending = &self.inbox[self.inbox_start..self.inbox_end];
        let Some(head) = wire::head(pending) else { return Ok(None) };
        let size = head.size as usize;
        if size < HEAD || head.size > size_max {
            return Err(Error::Protocol(format!("a reply of {size} bytes, where {HEAD} to {size_max} are agreed on")));
        }
        Ok((pending.len() >= size).then_some(size))
    }
}

/// The request of a reply. Its tag is free from now on, unless a Tflush names it that is not answered yet.
fn settle(slots: &mut [Option<Asked>], free: &mut VecDeque<Tag>, calls: &mut usize, tag: Tag) -> Result<Asked, Error> {
    let slot = slots.get_mut(usize::from(tag)).and_then(|slot| slot.as_mut()).filter(|asked| !asked.answered);
    let Some(slot) = slot else {
        return Err(Error::Protocol(format!("a reply to tag {tag}, which has no request")));
    };
    slot.answered = true;
    let asked = *slot;
    for tag in [Some(tag).filter(|_| !asked.flushed), asked.flushes].into_iter().flatten() {
        if slots.get_mut(usize::from(tag)).and_then(Option::take).is_some() {
            *calls -= 1;
            free.push_back(tag);
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests;
