//! One connection: its session, what was received and is not served yet, what is on its way out.

use common::{INBOX_BYTES, VIEWS_MAX};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use nix::sys::uio::readv;
use ring9::fs::{At, OpId, Service};
use ring9::session::{Broken, Landing, Segments, Session};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

/// Reads in one turn: a socket that always has more must not keep the others waiting.
const READS_MAX: usize = 16;

/// A connection.
pub(crate) struct Peer<F: Service> {
    socket: OwnedFd,
    session: Session<F>,
    inbox: Box<[u8]>,
    start: usize,
    end: usize,
    landing: Option<Landing>,
    out: Option<Segments>,
    /// Payload bytes to be thrown away.
    skip: usize,
    /// Whole messages may be left because a cap was reached.
    held: bool,
    /// The socket took less than it was given.
    blocked: bool,
    /// Nothing more will arrive.
    finishing: bool,
    /// What epoll was last asked for.
    interest: EpollFlags,
}

/// What a peer is told.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) at: At,
    pub(crate) events: EpollFlags,
}

/// Why a peer is to be closed.
pub(crate) enum Gone {
    /// It hung up, or its socket failed.
    Closed,
    /// It does not speak 9P.
    Broken(Broken),
}

/// How a read went.
#[derive(PartialEq, Eq)]
enum Read {
    /// There was all that could be taken, and there may be more.
    Full,
    /// The socket is empty now.
    Drained,
}

impl<F: Service> Peer<F> {
    pub(crate) fn new(socket: OwnedFd, session: Session<F>) -> Peer<F> {
        Peer {
            socket,
            session,
            inbox: vec![0; INBOX_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            landing: None,
            out: None,
            skip: 0,
            held: false,
            blocked: false,
            finishing: false,
            interest: EpollFlags::EPOLLIN,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(crate) fn complete(&mut self, fs: &mut F, op: OpId, at: At) {
        self.session.complete(fs, op, at);
    }

    /// Something is left to be served, and nothing will wake it.
    pub(crate) fn is_held(&self) -> bool {
        self.held && !self.blocked
    }

    pub(crate) fn close(mut self, fs: &mut F, at: At) {
        self.session.close(fs, at);
    }

    /// What is to be asked of epoll, if it is not what was asked before.
    pub(crate) fn new_interest(&mut self) -> Option<EpollFlags> {
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, !self.finishing && !self.held);
        interest.set(EpollFlags::EPOLLOUT, self.blocked);
        (std::mem::replace(&mut self.interest, interest) != interest).then_some(interest)
    }

    /// Reads, serves and sends what there is.
    pub(crate) fn turn(&mut self, fs: &mut F, turn: Turn, sink: &mut [u8]) -> Result<(), Gone> {
        let failed = turn.events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        if turn.events.contains(EpollFlags::EPOLLOUT) || failed {
            self.blocked = false;
        }
        if self.held && !self.blocked {
            self.serve(fs, turn.at)?;
        }
        if turn.events.contains(EpollFlags::EPOLLIN) || failed {
            for _ in 0..READS_MAX {
                if self.held || self.finishing {
                    break;
                }
                let read = self.read(fs, turn.at, sink)?;
                self.serve(fs, turn.at)?;
                if read == Read::Drained {
                    break;
                }
            }
        }
        self.send(fs)?;
        let at_rest = self.out.is_none() && !self.held && self.session.pending() == 0;
        if self.finishing && at_rest { Err(Gone::Closed) } else { Ok(()) }
    }

    fn read(&mut self, fs: &mut F, at: At, sink: &mut [u8]) -> Result<Read, Gone> {
        let fd = self.socket.as_raw_fd();
        let (read, room) = if let Some(landing) = &mut self.landing {
            let mut views: Vec<_> = landing.unfilled().take(VIEWS_MAX).map(IoSliceMut::new).collect();
            let room: usize = views.iter().map(|view| view.len()).sum();
            (readv(&self.socket, &mut views), room)
        } else if self.skip > 0 && self.start == self.end {
            let room = self.skip.min(sink.len());
            (recv(fd, &mut sink[..room], MsgFlags::empty()), room)
        } else {
            self.inbox.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let room = &mut self.inbox[self.end..];
            (recv(fd, room, MsgFlags::empty()), room.len())
        };
        let n = match read {
            Ok(0) => {
                self.finishing = true;
                return Ok(Read::Drained);
            }
            Ok(n) => n,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Read::Drained),
            Err(_) => return Err(Gone::Closed),
        };
        if let Some(landing) = self.landing.take() {
            self.landing = self.session.landed(fs, landing, n, at);
        } else if self.skip > 0 && self.start == self.end {
            self.skip -= n;
            self.session.skipped(fs, n, at);
        } else {
            self.end += n;
        }
        Ok(if n == room { Read::Full } else { Read::Drained })
    }

    /// Shows the session what was received.
    fn serve(&mut self, fs: &mut F, at: At) -> Result<(), Gone> {
        self.held = false;
        if self.landing.is_some() || self.start == self.end {
            return Ok(());
        }
        let received = self.session.receive(fs, at, &self.inbox[self.start..self.end]).map_err(Gone::Broken)?;
        self.start += received.consumed;
        self.held = received.need.held;
        self.skip = received.need.skip;
        self.landing = self.session.landing();
        Ok(())
    }

    /// Sends what waits, until the socket is full.
    fn send(&mut self, fs: &F) -> Result<(), Gone> {
        while !self.blocked {
            let Some(mut out) = self.out.take().or_else(|| self.session.take(fs)) else { break };
            let (sent, offered) = send_once(&self.socket, &out);
            match sent {
                Ok(n) => {
                    out.advance(n, |_| ());
                    self.blocked = n < offered;
                }
                Err(Errno::EAGAIN) => self.blocked = true,
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
            if out.len() > 0 {
                self.out = Some(out);
            } else {
                self.session.recycle(out);
            }
        }
        Ok(())
    }
}

/// One call; what it did, and how many bytes it was given.
fn send_once(socket: &OwnedFd, out: &Segments) -> (nix::Result<usize>, usize) {
    let mut list = [IoSlice::new(&[]); VIEWS_MAX];
    let (mut count, mut offered) = (0, 0);
    for (slot, view) in list.iter_mut().zip(out.views()) {
        *slot = IoSlice::new(view.bytes);
        count += 1;
        offered += view.bytes.len();
    }
    let fd = socket.as_raw_fd();
    let sent = match &list[..count] {
        [one] => send(fd, one, MsgFlags::MSG_NOSIGNAL),
        many => sendmsg::<()>(fd, many, &[], MsgFlags::MSG_NOSIGNAL, None),
    };
    (sent, offered)
}
