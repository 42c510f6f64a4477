//! The driver contract on epoll: one thread, non-blocking sockets, level-triggered readiness.
//!
//! A turn: wait; read the clock once; read and serve each ready peer; send all its replies of this turn with one call, as far as the socket takes them.
//! EPOLLOUT is asked for only while a socket is full, EPOLLIN only while more may be served.

mod peer;

use common::{Clock, Configs, Facts, INBOX_BYTES, Listener};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use peer::{Gone, Peer, Turn};
use ring9::fs::Service;
use ring9::session::{self, Config, Session};
use slab::Slab;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How it does its I/O.
pub const FACTS: Facts = Facts {
    name: "epoll",
    runtime: None,
    kernel: "epoll",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

/// Events taken by one wait.
const EVENTS: usize = 256;
/// In the data of an event: it is a listener's, not a peer's.
const LISTENER: u64 = 1 << 32;
/// Connections taken from a listener in one turn.
const ACCEPTS_MAX: usize = 64;

/// Serves one connected socket until it is closed.
pub fn serve_connected<F: Service>(
    socket: impl Into<OwnedFd>,
    fs: &mut F,
    config: Config,
    clock: &Clock,
) -> io::Result<()> {
    let mut driver = Driver::new(fs, *clock)?;
    driver.connect(socket.into(), |peer| Config { peer, ..config })?;
    while !driver.peers.is_empty() {
        driver.turn(&[], None)?;
    }
    Ok(())
}

/// Serves the connections of listening sockets for ever.
pub fn serve<F: Service>(listeners: &[Listener], fs: &mut F, configs: &Configs, clock: &Clock) -> io::Result<()> {
    let mut driver = Driver::new(fs, *clock)?;
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking()?;
        driver.epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | index as u64))?;
    }
    loop {
        driver.turn(listeners, Some(configs))?;
    }
}

struct Driver<'a, F: Service> {
    epoll: Epoll,
    peers: Slab<Peer<F>>,
    fs: &'a mut F,
    clock: Clock,
    /// For payload that nobody wants.
    sink: Box<[u8]>,
    /// Peers to go on with in this turn without an event.
    later: Vec<usize>,
    /// Connections so far.
    connections: u64,
}

impl<'a, F: Service> Driver<'a, F> {
    fn new(fs: &'a mut F, clock: Clock) -> io::Result<Driver<'a, F>> {
        Ok(Driver {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            peers: Slab::new(),
            fs,
            clock,
            sink: vec![0; INBOX_BYTES].into_boxed_slice(),
            later: Vec::new(),
            connections: 0,
        })
    }

    fn connect(&mut self, socket: OwnedFd, config: impl FnOnce(u32) -> Config) -> io::Result<()> {
        // What it is of does not matter to FIONBIO.
        let socket = TcpStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = OwnedFd::from(socket);
        let entry = self.peers.vacant_entry();
        let key = entry.key();
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, key as u64))?;
        // The key may have been that of a connection before.
        self.connections += 1;
        let config = Config { first_op: self.connections << 40, ..config(key as u32) };
        entry.insert(Peer::new(socket, Session::new(config)));
        Ok(())
    }

    fn turn(&mut self, listeners: &[Listener], configs: Option<&Configs>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let timeout = if self.later.is_empty() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let at = self.clock.now();
        // Before the events, which may list peers anew and give a number to another peer.
        for key in std::mem::take(&mut self.later) {
            if self.peers.get(key).is_some_and(Peer::is_held) {
                self.go_on(key, Turn { at, events: EpollFlags::empty() })?;
            }
        }
        for event in &events[..count] {
            if event.data() & LISTENER != 0 {
                let index = (event.data() & !LISTENER) as usize;
                if let Some(configs) = configs {
                    self.accept(&listeners[index], configs)?;
                }
            } else {
                let key = event.data() as usize;
                if self.peers.contains(key) {
                    self.go_on(key, Turn { at, events: event.events() })?;
                }
            }
        }
        while let Some(op) = self.fs.ready() {
            if let Some(peer) = self.peers.get_mut(op.peer as usize) {
                peer.complete(self.fs, op, at);
                self.go_on(op.peer as usize, Turn { at, events: EpollFlags::empty() })?;
            } else {
                session::discard(self.fs, op, at);
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: &Listener, configs: &Configs) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            match listener.accept() {
                Ok(socket) => self.connect(socket.into(), |peer| configs.of_peer(peer))?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error)
                    if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE)) =>
                {
                    eprintln!("baseline-epoll: accept: {error}");
                    std::thread::sleep(Duration::from_millis(50));
                    break;
                }
                // The connection went before it was accepted.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Lets a peer do what it can, then asks for what it waits for.
    fn go_on(&mut self, key: usize, turn: Turn) -> io::Result<()> {
        let peer = &mut self.peers[key];
        match peer.turn(self.fs, turn, &mut self.sink) {
            Ok(()) => {
                if let Some(interest) = peer.new_interest() {
                    self.epoll.modify(peer.socket(), &mut EpollEvent::new(interest, key as u64))?;
                }
                if peer.is_held() && !self.later.contains(&key) {
                    self.later.push(key);
                }
            }
            Err(gone) => {
                if let Gone::Broken(broken) = gone {
                    eprintln!("baseline-epoll: peer {key}: {broken}");
                }
                // Closing the socket takes it out of the set as well.
                self.peers.remove(key).close(self.fs, turn.at);
            }
        }
        Ok(())
    }
}
