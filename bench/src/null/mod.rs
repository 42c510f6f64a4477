//! Servers that only answer: replies of the right sizes with no content. What they reach is what
//! sockets, kernel and generator allow: the floor of every real server.
//!
//! - `reply`: the replies, of 9P2000.L only.
//! - `store`: where payloads are kept, by the one server that keeps them.
//! - here: the ways to wait for requests.
//!
//! *Blocking* has a thread for each connection. *Epoll* has one thread for all, and answers all
//! requests of one receive with one send. *Spinning* is the same and never sleeps, so it needs a
//! cpu for itself: the floor of servers that poll before they sleep. *Storing* is as *epoll*, and
//! each payload ends at a place of its own: the floor of writes. *Copying* does so, too, and predicts no payload.

mod reply;
mod store;

use anyhow::{Context, bail};
use clap::ValueEnum;
use reply::Replies;
use ring9::client::Address;
use rustix::event::{Timespec, epoll};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use store::{Inbox, Places};

/// Bytes of one receive.
const RECEIVE_BYTES: usize = 64 << 10;
/// Unsent replies of a connection beyond which no more of its requests are taken.
const UNSENT_MAX: usize = 4 << 20;
const EVENTS_MAX: usize = 256;
/// The event of the listener.
const LISTENER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One thread, one epoll; all requests of one receive are answered with one send
    Epoll,
    /// A thread for each connection
    Blocking,
    /// As epoll, but it never sleeps
    Spinning,
    /// As epoll, and payloads of writes are kept, received into their places where that can be foreseen
    Storing,
    /// As storing, but what one receive brings is copied to its places
    Copying,
}

impl Kind {
    /// Those that leave their cpu to others when there is nothing to do.
    pub(crate) const SLEEPING: [Kind; 2] = [Kind::Epoll, Kind::Blocking];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Epoll => "epoll",
            Kind::Blocking => "blocking",
            Kind::Spinning => "spinning",
            Kind::Storing => "storing",
            Kind::Copying => "copying",
        }
    }
}

/// Listens, says so as ring9 does, and serves until it is killed.
pub(crate) fn serve(kind: Kind, address: &Address) -> anyhow::Result<()> {
    let (listener, address) = Listener::bind(address)?;
    println!("ring9 ready {address}");
    match kind {
        Kind::Blocking => blocking(&listener),
        Kind::Epoll => Poller::new(listener, None)?.run(None),
        Kind::Spinning => Poller::new(listener, None)?.run(Some(&Timespec::default())),
        Kind::Storing => Poller::new(listener, Some((Places::new()?, true)))?.run(None),
        Kind::Copying => Poller::new(listener, Some((Places::new()?, false)))?.run(None),
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(address: &Address) -> anyhow::Result<(Listener, Address)> {
        match address {
            Address::Tcp { host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port)).with_context(|| address.to_string())?;
                let port = listener.local_addr()?.port();
                Ok((Listener::Tcp(listener), Address::Tcp { host: host.clone(), port }))
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path).with_context(|| address.to_string())?;
                Ok((Listener::Unix(listener), address.clone()))
            }
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }

    fn read_vectored(&mut self, views: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read_vectored(views),
            Stream::Unix(stream) => stream.read_vectored(views),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A connection: requests that are not whole, replies that are not sent. Neither is zeroed or allocated again for the next.
struct Peer {
    stream: Stream,
    requests: Vec<u8>,
    /// Bytes of `requests` that were received and not answered.
    received: usize,
    /// Where requests are instead, if their payloads are kept.
    inbox: Option<Inbox>,
    replies: Replies,
    sent: usize,
}

impl Peer {
    fn new(stream: Stream, inbox: Option<Inbox>) -> Peer {
        Peer { stream, requests: vec![0; RECEIVE_BYTES], received: 0, inbox, replies: Replies::default(), sent: 0 }
    }

    /// One receive, and the replies to all that is whole. False: the peer has gone.
    fn receive(&mut self, places: Option<&mut Places>) -> io::Result<bool> {
        if let (Some(inbox), Some(places)) = (&mut self.inbox, places) {
            return inbox.receive(&mut self.stream, places, &mut self.replies);
        }
        if self.received == self.requests.len() {
            // A message that is larger.
            self.requests.resize(2 * self.received, 0);
        }
        let read = self.stream.read(&mut self.requests[self.received..])?;
        if read == 0 {
            return Ok(false);
        }
        self.received += read;
        let taken = reply::answer(&self.requests[..self.received], &mut self.replies);
        self.requests.copy_within(taken..self.received, 0);
        self.received -= taken;
        Ok(true)
    }

    /// Sends what can be sent.
    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.replies.bytes().len() {
            self.sent += self.stream.write(&self.replies.bytes()[self.sent..])?;
        }
        self.replies.clear();
        self.sent = 0;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.replies.bytes().len() - self.sent > UNSENT_MAX
    }
}

fn blocking(listener: &Listener) -> anyhow::Result<()> {
    loop {
        let mut peer = Peer::new(listener.accept()?, None);
        std::thread::spawn(move || {
            // Whatever ends a connection ends its thread.
            while peer.receive(None).is_ok_and(|more| more) && peer.send().is_ok() {}
        });
    }
}

struct Poller {
    listener: Listener,
    epoll: std::os::fd::OwnedFd,
    peers: BTreeMap<u64, (Peer, epoll::EventFlags)>,
    next: u64,
    /// For payloads, if they are kept, and whether they are predicted.
    places: Option<(Places, bool)>,
}

impl Poller {
    fn new(listener: Listener, places: Option<(Places, bool)>) -> anyhow::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Poller { listener, epoll, peers: BTreeMap::new(), next: 0, places })
    }

    /// Waits so long for events; if it is not said, until there are some.
    fn run(mut self, patience: Option<&Timespec>) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), patience) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => bail!("epoll: {error}"),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    number => self.serve(number)?,
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let stream = self.listener.accept()?;
        stream.set_nonblocking()?;
        epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(self.next), epoll::EventFlags::IN)?;
        let inbox = self.places.as_ref().map(|(_, predicts)| Inbox::new(*predicts));
        self.peers.insert(self.next, (Peer::new(stream, inbox), epoll::EventFlags::IN));
        self.next += 1;
        Ok(())
    }

    fn serve(&mut self, number: u64) -> anyhow::Result<()> {
        let Some((peer, flags)) = self.peers.get_mut(&number) else { return Ok(()) };
        let goes_on = |result: io::Result<bool>| match result {
            Ok(more) => more,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let stays = (peer.is_full() || goes_on(peer.receive(self.places.as_mut().map(|(places, _)| places))))
            && goes_on(peer.send().map(|()| true));
        if !stays {
            self.peers.remove(&number);
            return Ok(());
        }
        let (reads, writes) = (!peer.is_full(), !peer.replies.bytes().is_empty());
        let mut wanted = epoll::EventFlags::empty();
        wanted.set(epoll::EventFlags::IN, reads);
        wanted.set(epoll::EventFlags::OUT, writes);
        if wanted != *flags {
            *flags = wanted;
            epoll::modify(&self.epoll, &peer.stream, epoll::EventData::new_u64(number), wanted)?;
        }
        Ok(())
    }
}
