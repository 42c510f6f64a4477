//! Accepting: the listeners, and how a new connection is told from the last one in its slot.
//!
//! Must not know: peers, and whether there is a place for one more.

use super::io::Io;
use crate::session;
use crate::uring::flight;
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Nanoseconds between two warnings of the same kind.
const WARNING_NS: u64 = 10_000_000_000;

/// Who may act for whom on the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// n_uname is believed.
    All,
    /// The user at the other end of the unix socket is who it must be; root may act for anyone.
    PeerUid,
    /// Every user is nobody, 65534.
    Squash,
}

/// A listening socket. The loop closes it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The socket.
    pub fd: RawFd,
    /// Its address, as it is shown.
    pub name: Rc<str>,
    /// For its connections.
    pub trust: Trust,
    /// They are of TCP, where a send is dear.
    pub tcp: bool,
}

/// A listener, and how it stands.
struct Accepting {
    listener: Listener,
    state: AcceptState,
    /// When it was last said that accepting fails, in monotonic nanoseconds.
    warned_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptState {
    Idle,
    Armed,
    BackingOff,
    Closed,
}

/// All listeners.
pub(super) struct Accepts {
    listeners: Vec<Accepting>,
    /// Connections so far; 24 bits.
    generation: u32,
    /// For the tables of sessions.
    hash_key: u64,
}

/// What a session is told of trust, and of the server's own user.
pub(super) struct Identity {
    pub(super) trust: session::Trust,
    pub(super) owner: Option<u32>,
    /// The trust, as it is shown.
    pub(super) shown: Box<str>,
}

impl Identity {
    /// Of a connection by a listener with this `trust`, whose other end is `peer` (uid and gid). Whatever the listener's trust, the server
    /// shows itself to root and to its `owner` at the other end of a unix socket.
    pub(super) fn new(trust: Trust, peer: Option<(u32, u32)>, owner: u32, tcp: bool) -> Identity {
        let is_owner = !tcp && peer.is_some_and(|(uid, _)| uid == 0 || uid == owner);
        let trust = match trust {
            Trust::All => session::Trust::All,
            Trust::Squash => session::Trust::Squash,
            Trust::PeerUid => match peer {
                Some((uid, gid)) => session::Trust::Peer { uid, gid },
                None => session::Trust::Squash,
            },
        };
        let shown = match trust {
            session::Trust::All => "all".into(),
            session::Trust::Squash => "squash".into(),
            session::Trust::Peer { uid, .. } => format!("uid={uid}").into(),
        };
        Identity { trust, owner: is_owner.then_some(owner), shown }
    }
}

impl Accepts {
    pub(super) fn new(ring: &mut impl Ring) -> Accepts {
        Accepts { listeners: Vec::new(), generation: 0, hash_key: ring.entropy() }
    }

    /// Accepts by this listener from now on.
    pub(super) fn add(&mut self, listener: Listener) {
        self.listeners.push(Accepting { listener, state: AcceptState::Idle, warned_ns: None });
    }

    /// The generation of a new connection. No two have the same one, until 2^24 have come.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        self.generation
    }

    pub(super) fn hash_key(&self) -> u64 {
        self.hash_key
    }

    pub(super) fn listener(&self, index: usize) -> &Listener {
        &self.listeners[index].listener
    }

    /// No listener accepts any more, nor will.
    pub(super) fn are_closed(&self) -> bool {
        self.listeners.iter().all(|listener| listener.state == AcceptState::Closed)
    }

    /// Submits an accept for each listener that has none in flight.
    #[inline]
    pub(super) fn arm<R: Ring>(&mut self, io: &mut Io<R>) -> io::Result<()> {
        for (index, accepting) in self.listeners.iter_mut().enumerate() {
            if accepting.state == AcceptState::Idle {
                let fd = accepting.listener.fd;
                io.push(|ring| flight::accept(ring, fd, Token::new(Op::Accept, 0, index as u32)))?;
                accepting.state = AcceptState::Armed;
            }
        }
        Ok(())
    }

    /// The CQE of an accept: the socket of a new connection, or an error.
    pub(super) fn ended(&mut self, index: usize, res: i32, flags: u32) -> Result<RawFd, Errno> {
        // IORING_CQE_F_MORE (io_uring_prep_multishot_accept(3)): the accept stays armed.
        if !io_uring::cqueue::more(flags) {
            self.listeners[index].state = AcceptState::Idle;
        }
        errno(res).map_or(Ok(res), Err)
    }

    /// Descriptors or memory have run out: the listener waits before it accepts again.
    pub(super) fn back_off<R: Ring>(&mut self, index: usize, error: Errno, now: u64, io: &mut Io<R>) -> io::Result<()> {
        let accepting = &mut self.listeners[index];
        if accepting.warned_ns.is_none_or(|last| now > last + WARNING_NS) {
            accepting.warned_ns = Some(now);
            log::warn!(target: "failed-accept", "accept: {error}: trying again every 50 ms");
        }
        let token = Token::new(Op::Backoff, 0, index as u32);
        io.push(|ring| flight::wait(ring, &flight::BACKOFF, token))?;
        accepting.state = AcceptState::BackingOff;
        Ok(())
    }

    /// The wait of a listener is over.
    pub(super) fn backed_off(&mut self, index: usize) {
        self.listeners[index].state = AcceptState::Idle;
    }

    /// The loop drains: all listeners end, at once or once what is in flight of them has ended.
    pub(super) fn end<R: Ring>(&mut self, io: &mut Io<R>) -> io::Result<()> {
        for index in 0..self.listeners.len() {
            if self.listeners[index].state == AcceptState::Armed {
                let target = Token::new(Op::Accept, 0, index as u32);
                io.push(|ring| flight::cancel(ring, target, Token::new(Op::Cancel, 0, 0)))?;
            }
            self.close_idle(index, &mut io.ring);
        }
        Ok(())
    }

    /// Closes a listener of which nothing is in flight.
    pub(super) fn close_idle(&mut self, index: usize, ring: &mut impl Ring) {
        let accepting = &mut self.listeners[index];
        if accepting.state == AcceptState::Idle {
            accepting.state = AcceptState::Closed;
            ring.close(accepting.listener.fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::TestRing;

    /// IORING_CQE_F_MORE.
    const MORE: u32 = 2;

    fn begun() -> (Io<TestRing>, Accepts) {
        let mut io = Io::new(TestRing::default(), Rc::default());
        let mut accepts = Accepts::new(&mut io.ring);
        for fd in [100, 101] {
            accepts.add(Listener { fd, name: "-".into(), trust: Trust::All, tcp: false });
        }
        accepts.arm(&mut io).expect("the ring works");
        (io, accepts)
    }

    #[test]
    fn a_listener_is_armed_once_until_its_accept_ends() {
        let (mut io, mut accepts) = begun();
        accepts.arm(&mut io).expect("the ring works");
        assert_eq!(io.ring.pushed.len(), 2);
        assert_eq!(accepts.ended(0, 7, MORE), Ok(7));
        accepts.arm(&mut io).expect("the ring works");
        assert_eq!(io.ring.pushed.len(), 2, "it goes on");
        assert_eq!(accepts.ended(0, -(Errno::ECONNABORTED as i32), 0), Err(Errno::ECONNABORTED));
        accepts.arm(&mut io).expect("the ring works");
        assert_eq!(io.ring.pushed.len(), 3);
    }

    #[test]
    fn a_listener_that_backs_off_is_armed_after_its_wait() {
        let (mut io, mut accepts) = begun();
        assert_eq!(accepts.ended(1, -(Errno::EMFILE as i32), 0), Err(Errno::EMFILE));
        accepts.back_off(1, Errno::EMFILE, 0, &mut io).expect("the ring works");
        accepts.arm(&mut io).expect("the ring works");
        assert_eq!(io.ring.pushed.len(), 3, "the wait, and no accept");
        accepts.backed_off(1);
        accepts.arm(&mut io).expect("the ring works");
        assert_eq!(io.ring.pushed.len(), 4);
    }

    #[test]
    fn a_listener_is_closed_once_and_after_what_is_in_flight() {
        let (mut io, mut accepts) = begun();
        assert_eq!(accepts.ended(0, -(Errno::ECONNABORTED as i32), 0), Err(Errno::ECONNABORTED));
        accepts.end(&mut io).expect("the ring works");
        assert_eq!((io.ring.closed.as_slice(), io.ring.pushed.len()), ([100].as_slice(), 3), "the other is cancelled");
        assert!(!accepts.are_closed());
        assert_eq!(accepts.ended(1, -(Errno::ECANCELED as i32), 0), Err(Errno::ECANCELED));
        for _ in 0..2 {
            accepts.close_idle(1, &mut io.ring);
        }
        assert_eq!(io.ring.closed, [100, 101]);
        assert!(accepts.are_closed());
    }

    #[test]
    fn the_server_shows_itself_to_root_and_its_owner_on_unix_sockets() {
        let owner = |peer, tcp| Identity::new(Trust::All, peer, 1000, tcp).owner;
        assert_eq!(owner(Some((1000, 5)), false), Some(1000));
        assert_eq!(owner(Some((0, 0)), false), Some(1000));
        assert_eq!(owner(Some((1001, 5)), false), None);
        assert_eq!(owner(Some((1000, 5)), true), None);
        assert_eq!(owner(None, false), None);
        let shown = |trust, peer| Identity::new(trust, peer, 1000, false).shown;
        assert_eq!(&*shown(Trust::PeerUid, Some((7, 8))), "uid=7");
        assert_eq!(&*shown(Trust::PeerUid, None), "squash", "nobody is known there");
        assert_eq!(&*shown(Trust::Squash, Some((7, 8))), "squash");
    }
}
