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

use crate::fs::Error as Errno;
use crate::wire::{self, Dialect, HEAD, IOHDR, Kind, Message, NOTAG, READ_HEAD, Tag};
use std::collections::VecDeque;
use std::fmt;

/// What the inbox starts with, in bytes; it grows to the largest reply that is announced.
const INBOX_BYTES_MIN: usize = 16 << 10;
/// How large an answer to Tversion may be, in bytes.
const VERSION_BYTES_MAX: u32 = 8192;
/// What is shown of a server's text, in bytes.
const TEXT_BYTES_MAX: usize = 240;

/// What can go wrong with a call, beside I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server refused: an errno, and its text where it sent one.
    Refused(Errno, Option<Box<str>>),
    /// The server does not speak 9P as agreed.
    Protocol(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(_, Some(text)) => f.write_str(text),
            Error::Refused(errno, None) => write!(f, "{errno}"),
            Error::Protocol(what) => write!(f, "protocol error: {what}"),
        }
    }
}

impl std::error::Error for Error {}

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

fn refusal(message: &Message<'_>) -> Option<Error> {
    match *message {
        Message::Rlerror { ecode } => Some(Error::Refused(number(ecode).unwrap_or(Errno::EIO), None)),
        Message::Rerror { ename, errno } => {
            let text = String::from_utf8_lossy(ename);
            let errno = number(errno.0).or_else(|| errno_of(&text)).unwrap_or(Errno::EIO);
            Some(Error::Refused(errno, Some(readable(ename).into())))
        }
        _ => None,
    }
}

/// A server's text as it may be shown to a person: not too long, and nothing in it that a terminal obeys.
fn readable(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]);
    let mut line = String::with_capacity(shown.len());
    for c in shown.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    if text.len() > TEXT_BYTES_MAX {
        line.push_str(" ...");
    }
    line
}

/// An errno is 1 to 4095 (Linux: `net/9p/client.c`, safe_errno).
fn number(errno: u32) -> Option<Errno> {
    u16::try_from(errno).ok().filter(|errno| (1..4096).contains(errno)).map(Errno)
}

/// The errno behind a text of plain 9P2000: strerror's wording, or what Plan 9 and its ports say (Linux: `net/9p/error.c`; plan9port:
/// `src/lib9p/srv.c`). Plan 9 puts names in front or behind, so its texts are searched for.
fn errno_of(text: &str) -> Option<Errno> {
    const PLAN9: &[(&str, Errno)] = &[
        ("does not exist", Errno::ENOENT),
        ("not found", Errno::ENOENT),
        ("no such file", Errno::ENOENT),
        ("permission denied", Errno::EACCES),
        ("not owner", Errno::EPERM),
        ("wstat prohibited", Errno::EPERM),
        ("already exists", Errno::EEXIST),
        ("file exists", Errno::EEXIST),
        ("not a directory", Errno::ENOTDIR),
        ("is a directory", Errno::EISDIR),
        ("in a non-directory", Errno::ENOTDIR),
        ("not empty", Errno::ENOTEMPTY),
        ("unknown fid", Errno::EBADF),
        ("fid unknown", Errno::EBADF),
        ("fid already in use", Errno::EINVAL),
        ("duplicate fid", Errno::EINVAL),
        ("bad offset", Errno::EINVAL),
        ("bad use of fid", Errno::EBADF),
        ("illegal", Errno::EINVAL),
        ("file in use", Errno::EBUSY),
        ("exclusive use", Errno::EBUSY),
        ("read-only file", Errno::EROFS),
        ("read only file", Errno::EROFS),
        ("file too big", Errno::EFBIG),
        ("file system full", Errno::ENOSPC),
        ("disk full", Errno::ENOSPC),
        ("no space", Errno::ENOSPC),
        ("authentication failed", Errno::EACCES),
        ("not supported", Errno::EOPNOTSUPP),
        ("not implemented", Errno::EOPNOTSUPP),
        ("unknown message", Errno::EOPNOTSUPP),
        ("i/o error", Errno::EIO),
    ];
    let plan9 = || {
        let text = text.to_ascii_lowercase();
        PLAN9.iter().find(|(known, _)| text.contains(known)).map(|(_, errno)| *errno)
    };
    Errno::from_text(text.as_bytes()).or_else(plan9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Data, UOnly};

    fn frame(message: &Message<'_>, tag: Tag) -> Vec<u8> {
        let mut out = Vec::new();
        message.emit(tag, Dialect::L, &mut out);
        out
    }

    #[test]
    fn an_inbox_that_is_lent_keeps_what_is_there() {
        let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
        let tags = [0; 2].map(|_| conn.call(&Message::Tclunk { fid: 1 }));
        let bytes: Vec<u8> = tags.iter().flat_map(|tag| frame(&Message::Rclunk {}, *tag)).collect();
        conn.received(&bytes[..10]);
        let see = |tag, _: Result<Message<'_>, Error>| tag;
        assert_eq!(conn.next_reply(see), Ok(Some(tags[0])));
        let (mut buffer, filled) = conn.lend(100);
        assert_eq!((buffer.len(), filled, conn.next_reply(see)), (103, 3, Ok(None)));
        buffer[3..7].copy_from_slice(&bytes[10..]);
        conn.give_back(buffer, 7);
        assert_eq!(conn.next_reply(see), Ok(Some(tags[1])));
        // The room is no larger than was asked for, whatever the inbox has grown to.
        let (buffer, filled) = conn.lend(50);
        assert_eq!((buffer.len(), filled), (50, 0));
    }

    #[test]
    fn replies_find_their_requests_in_any_order_and_in_any_pieces() {
        let payload = vec![7; 40_000];
        for step in (1..64).chain([20_000, 100_000]) {
            let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
            let clunk = conn.call(&Message::Tclunk { fid: 1 });
            let read = conn.call(&Message::Tread { fid: 2, offset: 0, count: 40_000 });
            assert_ne!(clunk, read);
            let mut bytes = frame(&Message::Rread { data: Data::Here(&payload) }, read);
            bytes.extend_from_slice(&frame(&Message::Rlerror { ecode: 9 }, clunk));
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                conn.received(piece);
                let see = |tag, reply: Result<Message<'_>, Error>| match reply {
                    Ok(reply) => (tag, reply == Message::Rread { data: Data::Here(&payload) }),
                    Err(error) => (tag, error == Error::Refused(Errno::EBADF, None)),
                };
                while let Some(reply) = conn.next_reply(see).expect("a sound server") {
                    seen.push(reply);
                }
            }
            assert_eq!(seen, [(read, true), (clunk, true)], "in pieces of {step}");
            assert_eq!(conn.in_flight(), 0);
        }
    }

    #[test]
    fn buffers_stop_growing() {
        let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
        let payload = vec![7; 30_000];
        let mut sizes = Vec::new();
        for _ in 0..100 {
            for _ in 0..8 {
                let tag = conn.call(&Message::Tread { fid: 2, offset: 0, count: 30_000 });
                conn.received(&frame(&Message::Rread { data: Data::Here(&payload) }, tag));
            }
            while conn.next_reply(|_, _| ()).expect("a sound server").is_some() {}
            // A socket that never takes all.
            conn.sent(conn.outgoing().len() - 1);
            sizes.push((conn.inbox.capacity(), conn.out.capacity()));
        }
        assert_eq!(sizes[2], sizes[99]);
    }

    #[test]
    fn what_is_sent_in_pieces_is_what_was_queued() {
        let mut conn = Conn::new(Dialect::L, 8192, 100);
        let (mut whole, mut sent) = (Vec::new(), Vec::new());
        for fid in 0..50 {
            let tag = conn.call(&Message::Tclunk { fid });
            Message::Tclunk { fid }.emit(tag, Dialect::L, &mut whole);
            let n = conn.outgoing().len().min(7);
            sent.extend_from_slice(&conn.outgoing()[..n]);
            conn.sent(n);
        }
        sent.extend_from_slice(conn.outgoing());
        assert_eq!(sent, whole);
    }

    #[test]
    fn what_a_server_must_not_do_is_an_error() {
        let see = |bytes: &[u8]| {
            let mut conn = Conn::new(Dialect::L, 8192, 8);
            conn.call(&Message::Tclunk { fid: 1 });
            conn.received(bytes);
            conn.next_reply(|_, _| ()).expect_err("an unsound server").to_string()
        };
        assert!(see(&frame(&Message::Rclunk {}, 5)).contains("no request"));
        assert!(see(&frame(&Message::Rclunk {}, NOTAG)).contains("no request"));
        assert!(see(&frame(&Message::Rremove {}, 0)).contains("another request"));
        assert!(see(b"\xff\xff\xff\x7f\x79\0\0").contains("bytes"));
        assert!(see(b"\x06\0\0\0\x79\0\0").contains("bytes"));
        assert!(see(b"\x08\0\0\0\x79\0\0\0").contains("left behind"));
    }

    #[test]
    fn a_reply_brings_no_more_than_was_asked_for() {
        let see = |request: &Message<'_>, reply: &Message<'_>| {
            let mut conn = Conn::new(Dialect::L, 8192, 8);
            let tag = conn.call(request);
            conn.received(&frame(reply, tag));
            conn.next_reply(|_, reply| reply.is_ok())
        };
        let qids = [crate::wire::Qid::default(); 2];
        for n in [1, 2] {
            let wanted = n == 1;
            let data = Data::Here(&[1, 2][..n]);
            let read = Message::Tread { fid: 1, offset: 0, count: 1 };
            assert_eq!(see(&read, &Message::Rread { data }).is_ok(), wanted);
            let list = Message::Treaddir { fid: 1, offset: 0, count: 1 };
            assert_eq!(see(&list, &Message::Rreaddir { data }).is_ok(), wanted);
            let write = Message::Twrite { fid: 1, offset: 0, data: Data::Here(b"x") };
            assert_eq!(see(&write, &Message::Rwrite { count: n as u32 }).is_ok(), wanted);
            let walk = Message::Twalk { fid: 1, newfid: 2, wnames: crate::wire::Names::list(&[b"a"]) };
            assert_eq!(see(&walk, &Message::Rwalk { wqids: crate::wire::Qids::list(&qids[..n]) }).is_ok(), wanted);
        }
    }

    #[test]
    fn texts_of_a_server_cannot_speak_to_a_terminal() {
        assert_eq!(readable(b"file '\x1b[2Jx' \xff\n \xc2\x9b"), "file '\\u{1b}[2Jx' \u{fffd}\\n \\u{9b}");
        let long = readable(&[b'x'; 65535]);
        assert!(long.len() < 250 && long.ends_with("xx ..."));
    }

    #[test]
    fn a_reply_may_come_once_only() {
        let mut conn = Conn::new(Dialect::L, 8192, 8);
        let tag = conn.call(&Message::Tclunk { fid: 1 });
        for _ in 0..2 {
            conn.received(&frame(&Message::Rclunk {}, tag));
        }
        assert_eq!(conn.next_reply(|tag, _| tag), Ok(Some(tag)));
        assert!(conn.next_reply(|tag, _| tag).is_err());
    }

    /// flush(9P): the tag of a request that is flushed is used again once the flush is answered.
    #[test]
    fn the_tag_of_a_flushed_request_waits_for_the_flush() {
        for answers_both in [false, true] {
            let mut conn = Conn::new(Dialect::L, 8192, 2);
            let read = conn.call(&Message::Tread { fid: 1, offset: 0, count: 1 });
            let flush = conn.call(&Message::Tflush { oldtag: read });
            if answers_both {
                conn.received(&frame(&Message::Rread { data: Data::Here(b"x") }, read));
                assert_eq!(conn.next_reply(|tag, _| tag), Ok(Some(read)));
                assert!(!conn.has_room());
            }
            conn.received(&frame(&Message::Rflush {}, flush));
            assert_eq!(conn.next_reply(|tag, _| tag), Ok(Some(flush)));
            assert_eq!((conn.in_flight(), conn.free.len()), (0, 2));
            conn.received(&frame(&Message::Rread { data: Data::Here(b"x") }, read));
            assert!(conn.next_reply(|tag, _| tag).is_err());
        }
    }

    #[test]
    fn a_large_payload_is_left_to_the_caller() {
        let payload = vec![7; 5000];
        let read = |most| {
            let mut conn = Conn::new(Dialect::L, 8192, 8);
            let tag = conn.call(&Message::Tread { fid: 1, offset: 0, count: most });
            let bytes = frame(&Message::Rread { data: Data::Here(&payload) }, tag);
            conn.received(&bytes[..READ_HEAD - 1]);
            assert_eq!(conn.begun_read(5000, |_, _, _| panic!("its head is not whole")), Ok(false));
            conn.received(&bytes[READ_HEAD - 1..100]);
            assert_eq!(conn.begun_read(5001, |_, _, _| panic!("it is smaller")), Ok(false));
            let mut seen = None;
            conn.begun_read(5000, |tag, size, here| seen = Some((tag, size, here.len()))).map(|begun| {
                assert_eq!((begun, seen, conn.in_flight()), (true, Some((tag, 5000, 100 - READ_HEAD)), 0));
                conn.received(&frame(&Message::Rclunk {}, tag));
                assert!(conn.next_reply(|_, _| ()).is_err(), "nothing of the payload is left here");
            })
        };
        assert_eq!(read(5000), Ok(()));
        assert!(read(4999).is_err());
    }

    #[test]
    fn texts_become_errnos() {
        let errno = |ename: &[u8], errno| match refusal(&Message::Rerror { ename, errno: UOnly(errno) }) {
            Some(Error::Refused(errno, _)) => errno,
            other => panic!("{other:?}"),
        };
        assert_eq!(errno(b"whatever", 13), Errno::EACCES);
        assert_eq!(errno(b"No such file or directory", !0), Errno::ENOENT);
        assert_eq!(errno(b"'x' file does not exist", 0), Errno::ENOENT);
        assert_eq!(errno(b"file already exists", 0), Errno::EEXIST);
        assert_eq!(errno(b"create in a non-directory", 0), Errno::ENOTDIR);
        assert_eq!(errno(b"the moon is full", 0), Errno::EIO);
        for ecode in [0, 4096, !0] {
            assert_eq!(refusal(&Message::Rlerror { ecode }), Some(Error::Refused(Errno::EIO, None)));
        }
    }

    #[test]
    fn versions_are_agreed_on() {
        let agree = |msize, version: &[u8]| {
            let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
            conn.version();
            conn.received(&frame(&Message::Rversion { msize, version }, NOTAG));
            conn.agree().map(|agreed| (agreed, conn.msize()))
        };
        assert_eq!(agree(8192, b"9P2000.L"), Ok((true, 8192)));
        assert!(agree(8192, b"9P2000").expect_err("lower").to_string().contains("9P2000"));
        assert!(agree(8192, b"unknown").is_err());
        assert!(agree(2 << 20, b"9P2000.L").is_err());
        assert!(agree(24, b"9P2000.L").is_err());
    }
}
