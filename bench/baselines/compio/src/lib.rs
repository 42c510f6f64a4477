//! The driver contract on compio: a runtime of one thread over io_uring, one task per connection, the tree behind a [`RefCell`].
//!
//! A turn of a task: serve what was received; send all replies while the next bytes are received. Both operations own their memory until they end, as compio wants
//! it: [`owned`] lets replies be sent from the blocks that they show, and payloads land in theirs.
//!
//! A tree whose operations wait ([`Filesystem::ready`]) is not supported: no task would be woken.

#[expect(
    unsafe_code,
    reason = "compio's vectored receive wants memory that may be uninitialised: see the head of the file"
)]
pub mod owned;

use common::{Clock, Configs, INBOX_BYTES, Listener};
use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::io::{AsyncRead, AsyncWrite};
use compio::net::{TcpListener, UnixListener};
use compio::runtime::Runtime;
use owned::{Gather, Single, Target};
use ring9::fs::Filesystem;
use ring9::session::{Config, Landing, Segments, Session};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Serves one connected stream until it is closed: one of compio's, used from its runtime.
pub async fn serve_connected<S, F>(stream: S, fs: Rc<RefCell<F>>, config: Config, clock: Clock) -> io::Result<()>
where
    S: 'static,
    for<'a> &'a S: AsyncRead + AsyncWrite,
    F: Filesystem,
{
    let mut peer = Peer { session: Session::new(config), inbox: Vec::with_capacity(INBOX_BYTES), fs, clock };
    let served = peer.serve(&stream).await;
    peer.session.close(&mut *peer.fs.borrow_mut(), clock.now());
    served
}

/// Serves the connections of listening sockets for ever, on a runtime of its own.
pub fn serve<F: Filesystem + 'static>(
    listeners: Vec<Listener>,
    fs: F,
    configs: Configs,
    clock: Clock,
) -> io::Result<()> {
    let (fs, peers) = (Rc::new(RefCell::new(fs)), Rc::new(Cell::new(0)));
    Runtime::new()?.block_on(async move {
        for listener in listeners {
            let door = Door { fs: Rc::clone(&fs), peers: Rc::clone(&peers), configs: configs.clone(), clock };
            match listener {
                Listener::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    compio::runtime::spawn(async move {
                        loop {
                            door.enter(listener.accept().await.map(|(stream, _)| stream)).await;
                        }
                    })
                    .detach();
                }
                Listener::Unix(listener, _) => {
                    let listener = UnixListener::from_std(listener)?;
                    compio::runtime::spawn(async move {
                        loop {
                            door.enter(listener.accept().await.map(|(stream, _)| stream)).await;
                        }
                    })
                    .detach();
                }
            }
        }
        std::future::pending().await
    })
}

/// What a listener gives its connections.
struct Door<F> {
    fs: Rc<RefCell<F>>,
    peers: Rc<Cell<u32>>,
    configs: Configs,
    clock: Clock,
}

impl<F: Filesystem + 'static> Door<F> {
    /// Starts the task of a connection.
    async fn enter<S>(&self, accepted: io::Result<S>)
    where
        S: 'static,
        for<'a> &'a S: AsyncRead + AsyncWrite,
    {
        match accepted {
            Ok(stream) => {
                let peer = self.peers.replace(self.peers.get().wrapping_add(1));
                let (fs, config, clock) = (Rc::clone(&self.fs), self.configs.of_peer(peer), self.clock);
                compio::runtime::spawn(async move {
                    let served = serve_connected(stream, fs, config, clock).await;
                    if let Err(error) = served.as_ref()
                        && error.kind() == io::ErrorKind::InvalidData
                    {
                        eprintln!("baseline-compio: peer {peer}: {error}");
                    }
                })
                .detach();
            }
            Err(error) => {
                eprintln!("baseline-compio: accept: {error}");
                compio::runtime::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Peer<F: Filesystem> {
    session: Session<F>,
    /// Received and not served yet; never grows beyond its first capacity.
    inbox: Vec<u8>,
    fs: Rc<RefCell<F>>,
    clock: Clock,
}

/// What is received next.
enum Next {
    /// More messages, behind those of the inbox.
    Inbox(Vec<u8>),
    /// The rest of a payload.
    Blocks(Landing),
    /// At most so many bytes for nobody, into the empty inbox.
    Skip(Vec<u8>, usize),
}

impl<F: Filesystem> Peer<F> {
    async fn serve<S>(&mut self, stream: &S) -> io::Result<()>
    where
        for<'a> &'a S: AsyncRead + AsyncWrite,
    {
        let (mut landing, mut skip, mut finishing) = (None, 0, false);
        loop {
            let mut held = false;
            if landing.is_none() && !self.inbox.is_empty() {
                let at = self.clock.now();
                let received = self.session.receive(&mut *self.fs.borrow_mut(), at, &self.inbox);
                let received = received.map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken))?;
                self.inbox.drain(..received.consumed);
                (held, skip) = (received.need.held, received.need.skip);
                landing = self.session.landing();
            }
            let out = self.session.take(&*self.fs.borrow());
            if held || finishing {
                match out {
                    Some(out) => self.session.recycle(send(stream, out).await?),
                    None if held => {}
                    None => return Ok(()),
                }
                continue;
            }
            let next = match landing.take() {
                Some(landing) => Next::Blocks(landing),
                None if skip > 0 && self.inbox.is_empty() => Next::Skip(std::mem::take(&mut self.inbox), skip),
                None => Next::Inbox(std::mem::take(&mut self.inbox)),
            };
            let (n, next) = match out {
                Some(out) => {
                    let (sent, received) = futures_util::future::join(send(stream, out), receive(stream, next)).await;
                    self.session.recycle(sent?);
                    received?
                }
                None => receive(stream, next).await?,
            };
            finishing = n == 0;
            let at = self.clock.now();
            match next {
                Next::Inbox(inbox) => self.inbox = inbox,
                Next::Blocks(at_hand) if n > 0 => {
                    landing = self.session.landed(&mut *self.fs.borrow_mut(), at_hand, n, at);
                }
                // The write is abandoned.
                Next::Blocks(_) => {}
                Next::Skip(mut inbox, _) => {
                    inbox.clear();
                    self.inbox = inbox;
                    skip -= n;
                    self.session.skipped(&mut *self.fs.borrow_mut(), n, at);
                }
            }
        }
    }
}

/// Sends all of a batch; what comes back holds no block any more.
async fn send<S>(mut stream: &S, mut out: Segments) -> io::Result<Segments>
where
    for<'a> &'a S: AsyncWrite,
{
    while out.len() > 0 {
        let sent = if out.views().nth(1).is_none() {
            let BufResult(sent, Single(back)) = stream.write(Single(out)).await;
            out = back;
            sent
        } else {
            let BufResult(sent, Gather(back)) = stream.write_vectored(Gather(out)).await;
            out = back;
            sent
        };
        match sent {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => out.advance(n, |_| ()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}

/// Receives once; how many bytes, 0 at the end.
async fn receive<S>(mut stream: &S, next: Next) -> io::Result<(usize, Next)>
where
    for<'a> &'a S: AsyncRead,
{
    Ok(match next {
        Next::Inbox(inbox) => {
            let start = inbox.len();
            let BufResult(received, back) = stream.read(inbox.slice(start..INBOX_BYTES)).await;
            (received?, Next::Inbox(back.into_inner()))
        }
        Next::Blocks(landing) => {
            let BufResult(received, Target(landing)) = stream.read_vectored(Target(landing)).await;
            (received?, Next::Blocks(landing))
        }
        Next::Skip(inbox, skip) => {
            let BufResult(received, back) = stream.read(inbox.slice(..skip.min(INBOX_BYTES))).await;
            (received?, Next::Skip(back.into_inner(), skip))
        }
    })
}
