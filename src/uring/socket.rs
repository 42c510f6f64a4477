//! A connected socket, and how operations name it: by its place in the ring's table of files, or by its descriptor where it has no place.
//!
//! A place saves each operation the look-up of the descriptor and a reference to the file (docs/decisions/13-how-replies-leave.md). Place and descriptor hold the socket:
//! it is gone when both are given up.
//!
//! Must not know: what is sent or received.

use super::ring::Ring;
use super::token::Token;
use io_uring::{squeue, types};
use std::os::fd::RawFd;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    fd: RawFd,
    place: Option<u32>,
}

impl Socket {
    /// Puts it into a place that nobody has, if the table has that.
    pub(crate) fn new(ring: &mut impl Ring, fd: RawFd, place: u32) -> Socket {
        Socket { fd, place: ring.adopt(place, fd).then_some(place) }
    }

    /// The entry of an operation on it, built for the number that it is given.
    #[inline]
    pub(crate) fn operation(self, token: Token, build: impl FnOnce(types::Fd) -> squeue::Entry) -> squeue::Entry {
        let (number, flags) = match self.place {
            Some(place) => (place as i32, squeue::Flags::FIXED_FILE),
            None => (self.fd, squeue::Flags::empty()),
        };
        build(types::Fd(number)).flags(flags).user_data(token.encode())
    }

    /// Its descriptor.
    pub(crate) fn fd(self) -> RawFd {
        self.fd
    }

    /// Ends both directions; operations in flight complete.
    pub(crate) fn shutdown(self, ring: &mut impl Ring) {
        ring.shutdown(self.fd);
    }

    /// Gives it up, once no operation uses it.
    pub(crate) fn close(self, ring: &mut impl Ring) {
        if let Some(place) = self.place {
            ring.let_go(place);
        }
        ring.close(self.fd);
    }
}
