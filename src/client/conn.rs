//! One connection, without I/O: requests become bytes, bytes become replies.
//!
//! ```text
//! call(message) -> tag      queues bytes;  outgoing() / sent(n) move them out
//! received(bytes)           what came in;  next_reply() hands out whole replies in the server's order
//! ```
//! Must not know: sockets, clocks, files.

use crate::fs::Error as Errno;
use crate::wire::{self, Dialect, HEAD, Kind, Message, NOTAG, Tag};
use bytes::{Buf, BytesMut};
use std::fmt;

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

/// The requests in flight, and the bytes on their way.
#[derive(Debug)]
pub struct Conn {
    dialect: Dialect,
    msize: u32,
    out: BytesMut,
    inbox: BytesMut,
    /// By tag: the type of a request that waits for its reply.
    waiting: Vec<Option<Kind>>,
    free: Vec<Tag>,
    in_flight: usize,
}

impl Conn {
    /// A connection that will speak this dialect, with messages of at most `msize` bytes and at most `calls_max` requests in flight.
    pub fn new(dialect: Dialect, msize: u32, calls_max: u16) -> Conn {
        Conn {
            dialect,
            msize,
            out: BytesMut::new(),
            inbox: BytesMut::new(),
            waiting: vec![None; calls_max.into()],
            free: (0..calls_max).rev().collect(),
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

    /// Whether one more request may be made.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Queues the first message.
    pub fn version(&mut self) {
        let message = Message::Tversion { msize: self.msize, version: self.dialect.name().as_bytes() };
        message.emit(NOTAG, self.dialect, &mut self.out);
    }

    /// Takes in the answer to the first message; true once it is there.
    pub fn agree(&mut self) -> Result<bool, Error> {
        let Some(head) = wire::head(&self.inbox) else { return Ok(false) };
        let size = head.size as usize;
        if !(HEAD..=8192).contains(&size) {
            return Err(Error::Protocol("what answers is no 9P server".into()));
        }
        if self.inbox.len() < size {
            return Ok(false);
        }
        let frame = self.inbox.split_to(size);
        match Message::parse(&frame, self.dialect) {
            Ok((_, Message::Rversion { msize, version })) if version == self.dialect.name().as_bytes() => {
                self.msize = self.msize.min(msize);
                Ok(true)
            }
            Ok((_, Message::Rversion { version, .. })) => {
                let offered = String::from_utf8_lossy(version);
                Err(Error::Protocol(format!(
                    "the server does not speak {}; it offers {offered:?}",
                    self.dialect.name()
                )))
            }
            Ok((_, reply)) => Err(refusal(&reply).unwrap_or_else(|| unexpected(reply.kind()))),
            Err(error) => Err(Error::Protocol(error.to_string())),
        }
    }

    /// Queues a request. Panics without [`room`](Self::has_room).
    pub fn call(&mut self, message: &Message<'_>) -> Tag {
        let tag = self.free.pop().expect("the caller has asked for room");
        self.waiting[usize::from(tag)] = Some(message.kind());
        self.in_flight += 1;
        message.emit(tag, self.dialect, &mut self.out);
        tag
    }

    /// Bytes to send.
    pub fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// The first `n` of them were sent.
    pub fn sent(&mut self, n: usize) {
        self.out.advance(n);
    }

    /// Takes in bytes.
    pub fn received(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// The next whole reply, in the order in which the server answers. A refusal is the reply to its tag; an error of this function ends the connection.
    pub fn next_reply<T>(
        &mut self,
        see: impl FnOnce(Tag, Result<Message<'_>, Error>) -> T,
    ) -> Result<Option<T>, Error> {
        let Some(head) = wire::head(&self.inbox) else { return Ok(None) };
        let size = head.size as usize;
        if size < HEAD || head.size > self.msize {
            return Err(Error::Protocol(format!("a reply of {size} bytes")));
        }
        if self.inbox.len() < size {
            return Ok(None);
        }
        let asked = self.waiting.get_mut(usize::from(head.tag)).and_then(Option::take);
        let Some(asked) = asked else {
            return Err(Error::Protocol(format!("a reply to tag {}, which has no request", head.tag)));
        };
        self.in_flight -= 1;
        self.free.push(head.tag);
        let (tag, message) =
            Message::parse(&self.inbox[..size], self.dialect).map_err(|error| Error::Protocol(error.to_string()))?;
        let reply = match refusal(&message) {
            Some(error) => Err(error),
            None if message.kind() == asked.reply() => Ok(message),
            None => return Err(unexpected(message.kind())),
        };
        let seen = see(tag, reply);
        self.inbox.advance(size);
        Ok(Some(seen))
    }
}

fn unexpected(kind: Kind) -> Error {
    Error::Protocol(format!("{kind} answers another request"))
}

fn refusal(message: &Message<'_>) -> Option<Error> {
    match *message {
        Message::Rlerror { ecode } => Some(Error::Refused(Errno(ecode.min(4095) as u16), None)),
        Message::Rerror { ename, errno } => {
            let known = u16::try_from(errno.0).ok().filter(|&errno| errno != 0 && errno != u16::MAX).map(Errno);
            let errno = known.or_else(|| errno_of(ename)).unwrap_or(Errno::EIO);
            Some(Error::Refused(errno, Some(String::from_utf8_lossy(ename).into())))
        }
        _ => None,
    }
}

/// The errno behind a text of plain 9P2000: strerror's wording, or Plan 9's.
fn errno_of(ename: &[u8]) -> Option<Errno> {
    const PLAN9: &[(&str, Errno)] = &[
        ("file does not exist", Errno::ENOENT),
        ("file not found", Errno::ENOENT),
        ("directory entry not found", Errno::ENOENT),
        ("permission denied", Errno::EACCES),
        ("file already exists", Errno::EEXIST),
        ("not a directory", Errno::ENOTDIR),
        ("is a directory", Errno::EISDIR),
        ("directory is not empty", Errno::ENOTEMPTY),
    ];
    let text = String::from_utf8_lossy(ename).to_lowercase();
    let plan9 = || PLAN9.iter().find(|(known, _)| text.contains(known)).map(|(_, errno)| *errno);
    Errno::from_text(ename).or_else(plan9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Data, UOnly};

    fn frame(message: &Message<'_>, tag: Tag) -> BytesMut {
        let mut out = BytesMut::new();
        message.emit(tag, Dialect::L, &mut out);
        out
    }

    #[test]
    fn replies_find_their_requests_in_any_order_and_in_any_pieces() {
        for step in 1..40 {
            let mut conn = Conn::new(Dialect::L, 8192, 8);
            let (one, two) =
                (conn.call(&Message::Tclunk { fid: 1 }), conn.call(&Message::Tread { fid: 2, offset: 0, count: 3 }));
            assert_ne!(one, two);
            let mut bytes = frame(&Message::Rread { data: Data::Here(b"abc") }, two);
            bytes.extend_from_slice(&frame(&Message::Rlerror { ecode: 9 }, one));
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                conn.received(piece);
                while let Some((tag, text)) =
                    conn.next_reply(|tag, reply| (tag, format!("{reply:?}"))).expect("a sound server")
                {
                    seen.push((tag, text.contains("97, 98, 99"), text.contains("EBADF")));
                }
            }
            assert_eq!(seen, [(two, true, false), (one, false, true)]);
            assert_eq!(conn.in_flight(), 0);
        }
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
        assert!(see(&frame(&Message::Rremove {}, 0)).contains("another request"));
        assert!(see(b"\xff\xff\xff\x7f\x79\0\0").contains("bytes"));
        assert!(see(b"\x08\0\0\0\x79\0\0\0").contains("left behind"));
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
        assert_eq!(errno(b"the moon is full", 0), Errno::EIO);
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
    }
}
