//! A socket around a [`Conn`]: many requests in flight, no thread in the background.
//!
//! The socket is non-blocking. While it is full the client still receives: a server that does not
//! read before its replies are taken cannot make both sides wait for each other.

use super::address::Address;
use super::conn::Conn;
use super::refusal::Error as CallError;
use crate::wire::{Dialect, Message, Tag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Requests in flight at most.
const CALLS_MAX: u16 = 256;
/// Bytes queued to be sent before more requests are made.
const OUT_BYTES_MAX: usize = 2 << 20;
/// Socket buffers, in bytes: the 208 KiB of a unix socket do not hold one message of 1 MiB.
const SOCKET_BUFFER_BYTES: usize = 2 << 20;
/// How long a connection, or an answer before the first file, may take.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// What can go wrong.
#[derive(Debug)]
pub enum Error {
    /// The server refused, or does not speak 9P.
    Call(CallError),
    /// The connection failed.
    Io(io::Error),
    /// The [`Interrupt`] was given. Requests that were in flight are answered, and the connection can still be used.
    Interrupted,
}

impl Error {
    /// The errno of a refusal.
    pub fn errno(&self) -> Option<crate::fs::Error> {
        match self {
            Error::Call(CallError::Refused(errno, _)) => Some(*errno),
            _ => None,
        }
    }

    /// Whether the connection can still be used.
    pub fn is_refusal(&self) -> bool {
        self.errno().is_some()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Call(error) => error.fmt(f),
            Error::Io(error) => error.fmt(f),
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        Error::Call(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(address: &Address) -> io::Result<Socket> {
        let socket = match address {
            Address::Tcp { host, port } => {
                let socket = connect_tcp(host, *port)?;
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                Socket::Tcp(socket)
            }
            Address::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_nonblocking(true)?;
                Socket::Unix(socket)
            }
        };
        // Smaller buffers only cost time.
        let _ = setsockopt(&socket.as_fd(), sockopt::SndBuf, &SOCKET_BUFFER_BYTES);
        let _ = setsockopt(&socket.as_fd(), sockopt::RcvBuf, &SOCKET_BUFFER_BYTES);
        Ok(socket)
    }

    /// Whether it is root or this user that has made the listening socket (SO_PEERCRED, unix(7)).
    fn check_server(&self) -> io::Result<()> {
        let Socket::Unix(socket) = self else { return Ok(()) };
        let uid = getsockopt(socket, sockopt::PeerCredentials)?.uid();
        if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
            return Ok(());
        }
        let text = format!("the server there is user {uid}'s, and nobody has named it");
        Err(io::Error::new(ErrorKind::PermissionDenied, text))
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(bytes),
            Socket::Unix(socket) => socket.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// The first address of a name that answers.
fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, GREETING_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A connection to a server.
pub struct Transport {
    socket: Socket,
    conn: Conn,
    /// When an answer must have come; `None` once files are at work, which may take their time.
    deadline: Option<Instant>,
    /// By tag: the number of its request in the exchange under way.
    asked: Vec<usize>,
    /// Ends the exchange that is under way; only once.
    interrupt: Option<(Arc<Interrupt>, Duration)>,
}

/// Somebody else's way to end an exchange: a thread that waits for signals.
#[derive(Debug)]
pub struct Interrupt {
    is_given: AtomicBool,
    /// A byte is written to the one and never read from the other, so a poll(2) of that ends from then on.
    ends: (UnixStream, UnixStream),
}

impl Interrupt {
    /// One that is not given yet.
    pub fn new() -> io::Result<Interrupt> {
        Ok(Interrupt { is_given: AtomicBool::new(false), ends: UnixStream::pair()? })
    }

    /// Gives it.
    pub fn give(&self) {
        self.is_given.store(true, Ordering::Relaxed);
        // Room for one byte is there.
        let _ = (&self.ends.0).write(&[0]);
    }

    /// Whether it was given.
    pub fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Relaxed)
    }
}

impl AsFd for Interrupt {
    /// Readable once it was given.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.1.as_fd()
    }
}

impl Transport {
    /// Connects and agrees on the version.
    pub fn connect(address: &Address, dialect: Dialect, msize: u32) -> Result<Transport, Error> {
        Transport::over(Socket::connect(address)?, dialect, msize)
    }

    /// The same with a server of this user or of root, and with no other: for an address that the
    /// user has not named.
    pub fn connect_own(address: &Address, dialect: Dialect, msize: u32) -> Result<Transport, Error> {
        let socket = Socket::connect(address)?;
        socket.check_server()?;
        Transport::over(socket, dialect, msize)
    }

    fn over(socket: Socket, dialect: Dialect, msize: u32) -> Result<Transport, Error> {
        let mut transport = Transport {
            socket,
            conn: Conn::new(dialect, msize, CALLS_MAX),
            deadline: Some(Instant::now() + GREETING_TIMEOUT),
            asked: vec![0; CALLS_MAX.into()],
            interrupt: None,
        };
        transport.conn.version();
        while !transport.conn.agree()? {
            transport.move_bytes()?;
        }
        transport.deadline = None;
        Ok(transport)
    }

    /// Makes one request that a server answers at once, or is not there.
    pub(super) fn greet(&mut self, message: Message<'_>) -> Result<(), Error> {
        self.deadline = Some(Instant::now() + GREETING_TIMEOUT);
        let greeted = self.call(message, |_| ());
        self.deadline = None;
        greeted
    }

    /// Ends the exchange under way, or the next one, once this is given: no further request is made, those in flight have `grace` to be answered, and then the error is
    /// [`Error::Interrupted`]. Exchanges after that one are as before.
    pub fn end_on(&mut self, interrupt: Arc<Interrupt>, grace: Duration) {
        self.interrupt = Some((interrupt, grace));
    }

    /// The dialect that was agreed on.
    pub fn dialect(&self) -> Dialect {
        self.conn.dialect()
    }

    /// Largest message in bytes.
    pub fn msize(&self) -> u32 {
        self.conn.msize()
    }

    /// Sends what can be sent, and waits until bytes came in or the interrupt was given.
    fn move_bytes(&mut self) -> io::Result<()> {
        loop {
            self.send()?;
            match self.socket.read(self.conn.space()) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(n) => {
                    self.conn.filled(n);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.wait()? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends as much as the socket takes.
    fn send(&mut self) -> io::Result<()> {
        while !self.conn.outgoing().is_empty() {
            match self.socket.write(self.conn.outgoing()) {
                Ok(n) => self.conn.sent(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for the socket. True if the interrupt was given.
    fn wait(&self) -> io::Result<bool> {
        let out = if self.conn.outgoing().is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        let timeout = match self.deadline.map(|deadline| deadline.checked_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            // One more than is left: rounded down to nothing, it would not wait at all.
            Some(Some(left)) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            Some(None) => return Err(io::Error::new(ErrorKind::TimedOut, "the server does not answer")),
        };
        let socket = PollFd::new(self.socket.as_fd(), PollFlags::POLLIN | out);
        let polled = match &self.interrupt {
            None => poll(&mut [socket], timeout),
            Some((interrupt, _)) => poll(&mut [socket, PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)], timeout),
        };
        match polled {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {
                Ok(self.interrupt.as_ref().is_some_and(|(interrupt, _)| interrupt.is_given()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes all these requests, as many at a time as may be in flight, and shows each reply with the number of its request, in the order of the server. Ends early
    /// only if the connection fails.
    pub fn exchange<'m>(
        &mut self,
        messages: impl IntoIterator<Item = Message<'m>>,
        mut each: impl FnMut(usize, Result<Message<'_>, CallError>),
    ) -> Result<(), Error> {
        let mut messages = messages.into_iter().enumerate().peekable();
        let mut is_interrupted = false;
        while (messages.peek().is_some() && !is_interrupted) || self.conn.in_flight() > 0 {
            if let Some((_, grace)) = self.interrupt.take_if(|(interrupt, _)| interrupt.is_given()) {
                is_interrupted = true;
                self.deadline = Some(Instant::now() + grace);
                continue;
            }
            while !is_interrupted && self.conn.has_room() && self.conn.outgoing().len() < OUT_BYTES_MAX {
                let Some((number, message)) = messages.next() else { break };
                let tag: Tag = self.conn.call(&message);
                self.asked[usize::from(tag)] = number;
            }
            self.move_bytes()?;
            let asked = &self.asked;
            while self.conn.next_reply(|tag, reply| each(asked[usize::from(tag)], reply))?.is_some() {}
        }
        if is_interrupted {
            self.deadline = None;
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Makes one request and looks at its reply.
    pub fn call<T>(&mut self, message: Message<'_>, see: impl FnOnce(Message<'_>) -> T) -> Result<T, Error> {
        let mut see = Some(see);
        let mut seen = None;
        self.exchange([message], |_, reply| {
            let see = see.take().expect("one request has one reply");
            seen = Some(reply.map(see));
        })?;
        Ok(seen.expect("the exchange ends with a reply")?)
    }
}
