//! What a tree asks of the loop: one [`Ask`] for each system call, which has one result.
//!
//! ```text
//! Service::ask() -> (AskId, Ask) -> submitted -> completed -> Service::answered(AskId, the same Ask, result)
//! ```
//! An ask owns the memory that the kernel reads or writes, and all of it is on the heap or in the arena: an ask may be
//! moved while it is in flight. It comes back whole, so that the tree can use its buffers again.
//!
//! Must not know: rings, system calls, sessions.

use super::{Iovec, Part};
use crate::arena::Space;
use std::ffi::CStr;
use std::fmt;
use std::net::SocketAddr;

/// Names an ask from [`Service::ask`](super::Service::ask) until its result. The tree chooses the lower 56 bits. The
/// upper 8 bits say which of the trees that are joined has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub u64);

impl AskId {
    /// Which of the trees that are joined has asked: 0 is the first one.
    pub fn tree(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The same as a join of trees names it where its tree is `steps` further on.
    pub(super) fn behind(self, steps: u8) -> AskId {
        AskId(self.0.wrapping_add(u64::from(steps) << 56))
    }

    /// The same as the tree behind the first one names it.
    pub(super) fn in_rest(self) -> AskId {
        AskId(self.0.wrapping_sub(1 << 56))
    }
}

/// A file descriptor: a number that an ask has returned. Nothing closes it but [`Ask::Close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Descriptor(pub i32);

impl Descriptor {
    /// The working directory of the process, for a path that is relative to it (Linux: AT_FDCWD).
    pub const WORKING_DIR: Descriptor = Descriptor(-100);
}

/// How [`Ask::Open`] opens a file. Every file is opened with O_CLOEXEC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Makes the file if it is not there (O_CREAT).
    pub create: bool,
    /// EEXIST if it is there (O_EXCL).
    pub exclusive: bool,
    /// Length becomes 0 (O_TRUNC).
    pub truncate: bool,
    /// ENOTDIR for anything but a directory (O_DIRECTORY).
    pub directory: bool,
    /// Without the page cache (O_DIRECT): memory, offset and length of each read and write are multiples of the sector.
    pub direct: bool,
}

/// The address of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// TCP. The loop sets TCP_NODELAY, keepalives and TCP_USER_TIMEOUT, as for accepted connections.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Box<[u8]>),
}

/// As flags take an address: `tcp:HOST:PORT` or `unix:PATH`.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Tcp(address) => write!(f, "tcp:{address}"),
            Remote::Unix(path) => write!(f, "unix:{}", String::from_utf8_lossy(path)),
        }
    }
}

/// Bytes that a write or a send takes from the front: plain bytes and pinned slices of the arena, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    data: Iovec,
    done: usize,
}

impl From<Iovec> for Outgoing {
    fn from(data: Iovec) -> Outgoing {
        Outgoing { data, done: 0 }
    }
}

impl Outgoing {
    /// Bytes that are not written yet.
    pub fn left(&self) -> usize {
        self.data.len() - self.done
    }

    /// The bytes that are not written yet, in order. No view is empty.
    pub fn views(&self) -> impl Iterator<Item = &[u8]> {
        self.parts().map(|(bytes, _)| bytes)
    }

    /// The same views, each with whether it is in the arena.
    pub fn parts(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut skip = self.done;
        self.data.parts().iter().filter_map(move |part| {
            let bytes = self.data.bytes(part);
            let here = skip.min(bytes.len());
            skip -= here;
            Some((&bytes[here..], matches!(part, Part::Slice(_)))).filter(|(rest, _)| !rest.is_empty())
        })
    }

    /// The first `n` bytes of what is left have been written. Panics beyond what is left.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.left(), "no more is written than was there");
        self.done += n;
    }

    /// Unpins everything, and returns the list for further use.
    pub fn reuse(self) -> Iovec {
        let mut data = self.data;
        data.clear();
        data
    }
}

/// Room that a read or a receive fills from the front: memory of the arena first, then a plain buffer.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Memory of the arena; empty if the bytes go to the buffer alone.
    pub space: Space,
    /// All of it is room, but for the first `filled` bytes.
    pub buffer: Vec<u8>,
    /// Bytes of the buffer that are filled.
    pub filled: usize,
}

impl Incoming {
    /// Room in a plain buffer, which is all of its length.
    pub fn buffer(buffer: Vec<u8>) -> Incoming {
        Incoming { space: Space::default(), buffer, filled: 0 }
    }

    /// Room in the arena.
    pub fn space(space: Space) -> Incoming {
        Incoming { space, buffer: Vec::new(), filled: 0 }
    }

    /// Bytes of room that are left.
    pub fn left(&self) -> usize {
        self.space.left() + self.buffer.len() - self.filled
    }

    /// The room that is left, in order. No view is empty.
    pub fn views(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let rest = &mut self.buffer[self.filled..];
        self.space.unfilled().chain(std::iter::once(rest).filter(|rest| !rest.is_empty()))
    }

    /// The first `n` bytes of the room that was left are filled. Panics beyond what is left.
    pub fn advance(&mut self, n: usize) {
        let in_space = n.min(self.space.left());
        self.space.advance(in_space);
        self.filled += n - in_space;
        assert!(self.filled <= self.buffer.len(), "no more arrives than there is room for");
    }
}

/// One system call. Its result is that of the one completion: EINTR and EAGAIN are repeated by the loop, but short
/// reads, writes, sends and receives are passed on as they are. The tree asks for the rest.
#[derive(Debug)]
#[expect(missing_docs, reason = "fields have the names of what Linux calls them; each variant says what it does")]
pub enum Ask {
    /// openat(2): the result is a [`Descriptor`].
    Open { dir: Descriptor, path: Box<CStr>, how: OpenHow, mode: u32 },
    /// renameat(2).
    Rename { from: Descriptor, path: Box<CStr>, to: Descriptor, new_path: Box<CStr> },
    /// unlinkat(2).
    Unlink { dir: Descriptor, path: Box<CStr>, want_dir: bool },
    /// close(2) of a file or a socket. Nothing else that names it may be in flight.
    Close { descriptor: Descriptor },
    /// fallocate(2) of a range, which the length then covers.
    Allocate { file: Descriptor, offset: u64, len: u64 },
    /// pwritev(2): the result is how many bytes were written.
    Write { file: Descriptor, offset: u64, data: Outgoing },
    /// preadv(2): the result is how many bytes were read, 0 at the end of the file.
    Read { file: Descriptor, offset: u64, into: Incoming },
    /// fsync(2), or fdatasync(2).
    Sync { file: Descriptor, data_only: bool },
    /// Makes a stream socket and connects it: the result is a [`Descriptor`]. If it fails the loop closes the socket.
    Connect { to: Remote },
    /// sendmsg(2): the result is how many bytes were sent. One send at a time is in flight on a socket. `quiet`: the tree has
    /// nothing to do once all is sent, so the loop may sleep then, and gives the result when something else has woken it.
    Send { socket: Descriptor, data: Outgoing, quiet: bool },
    /// recvmsg(2): the result is how many bytes came, 0 once the other side has ended. `whole`: MSG_WAITALL, so that the
    /// result is short only where the connection ends. One receive at a time is in flight on a socket.
    Receive { socket: Descriptor, into: Incoming, whole: bool },
    /// A wait of `ns` nanoseconds. The result is 0.
    Timer { ns: u64 },
    /// Ends another ask of this tree early, which then has its own result: ECANCELED for a timer or a connect. The socket of
    /// a send or a receive is shut down in both directions. What a signal interrupts then is not repeated: ECANCELED, too. The
    /// result is ENOENT if the other ask is not in flight.
    Cancel { of: AskId },
}

impl Ask {
    /// The other ask that it names.
    pub(super) fn other(&mut self) -> Option<&mut AskId> {
        match self {
            Ask::Cancel { of } => Some(of),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn what_is_left_is_shown_from_any_byte_on() {
        let mut arena = Arena::new(0).expect("memory");
        let block = arena.alloc(64).expect("a block");
        arena.write(&block, 0, b"slice");
        for done in 0..=13 {
            let mut data = Iovec::default();
            data.put_copy(b"head");
            data.put_slice(arena.slice(&block, 0..5));
            data.put_copy(b"tail");
            let mut data = Outgoing::from(data);
            data.advance(done / 2);
            data.advance(done - done / 2);
            assert_eq!((data.left(), data.views().flatten().count()), (13 - done, 13 - done));
            assert!(data.views().flatten().eq(&b"headslicetail"[done..]));
            assert!(data.parts().all(|(bytes, pinned)| !bytes.is_empty() && pinned == b"slice".ends_with(bytes)));
            assert!(data.reuse().is_empty());
        }
        arena.free(block);
        assert_eq!(arena.gauge().pins(), 0);
    }

    #[test]
    fn room_is_filled_in_the_arena_first() {
        for step in 1..=12 {
            let mut arena = Arena::new(0).expect("memory");
            let pieces = [0..3, 2..6].map(|range| arena.land_fresh(64, range).expect("a block"));
            let mut into = Incoming { space: Space::new(pieces.into(), 0), buffer: vec![0; 5], filled: 0 };
            for piece in b"abcdefghijkl".chunks(step) {
                let mut rest = piece.iter();
                into.views().flatten().zip(&mut rest).for_each(|(room, byte)| *room = *byte);
                into.advance(piece.len());
            }
            assert_eq!((into.left(), &into.buffer[..]), (0, &b"hijkl"[..]));
            let (pieces, _) = into.space.into_parts();
            assert_eq!((pieces[0].bytes(), pieces[1].bytes()), (&b"abc"[..], &b"defg"[..]));
        }
    }
}
