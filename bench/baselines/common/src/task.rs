//! The driver contract as a task for each connection: what all asynchronous runtimes share, so that they differ in their sockets alone.
//!
//! - [`tuned`]: payloads land in the blocks of files, replies leave from them in one gather, and the next bytes are received while they do. A task that never has to wait for
//!   its socket lets others run after every [`REST_BYTES`].
//! - [`idiomatic`]: what a user of runtimes writes first. One buffer each way, read, then `write_all`; every byte is copied once more.
//!
//! A tree must answer at once: no task is woken for an operation ([`Service::ready`]) or a gate ([`Service::is_open`]).

use crate::{Clock, Configs, INBOX_BYTES};
use futures_util::future;
use ring9::fs::{At, Service};
use ring9::session::{Config, Landing, Segments, Session};
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

/// Where a receive puts what comes. Owned, as completion-based runtimes want it.
#[derive(Debug)]
pub enum Room {
    /// A part of a buffer.
    Bytes(Vec<u8>, Range<usize>),
    /// Memory of a file's blocks.
    Blocks(Landing),
}

/// The receiving half of a connection.
pub trait Receive {
    /// Receives once; how many bytes, 0 at the end.
    fn receive(&mut self, room: Room) -> impl Future<Output = (io::Result<usize>, Room)>;
}

/// The sending half of a connection.
pub trait Transmit {
    /// Sends once, as much as it can; how many bytes.
    fn transmit(&mut self, out: Segments) -> impl Future<Output = (io::Result<usize>, Segments)>;
}

/// A connection as [`idiomatic`] uses it.
pub trait Stream {
    /// Reads once into a buffer from this place on; how many bytes, 0 at the end.
    fn read(&mut self, buffer: Vec<u8>, from: usize) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;
    /// Writes all of a buffer.
    fn write_all(&mut self, buffer: Vec<u8>) -> impl Future<Output = (io::Result<()>, Vec<u8>)>;
}

/// What every connection needs.
#[derive(Debug)]
pub struct Shared<F> {
    /// The tree, borrowed for as long as a call takes.
    pub fs: Rc<RefCell<F>>,
    /// Its session's.
    pub config: Config,
    /// Asked once per turn.
    pub clock: Clock,
}

/// What a listener gives its connections.
#[derive(Debug)]
pub struct Door<F> {
    fs: Rc<RefCell<F>>,
    peers: Cell<u32>,
    configs: Configs,
    clock: Clock,
}

impl<F> Door<F> {
    /// For connections to this tree.
    pub fn new(fs: F, configs: Configs, clock: Clock) -> Rc<Door<F>> {
        Rc::new(Door { fs: Rc::new(RefCell::new(fs)), peers: Cell::new(0), configs, clock })
    }

    /// For the next connection.
    pub fn enter(&self) -> Shared<F> {
        let peer = self.peers.replace(self.peers.get().wrapping_add(1));
        Shared { fs: Rc::clone(&self.fs), config: self.configs.of_peer(peer), clock: self.clock }
    }
}

/// How a connection ended, for people, if it did not speak 9P. Broken sockets are everyday's.
pub fn tell(served: io::Result<()>) {
    if let Err(error) = served
        && error.kind() == io::ErrorKind::InvalidData
    {
        eprintln!("a peer: {error}");
    }
}

/// Why nobody could be accepted, for people. Who calls this waits for [`ACCEPT_PAUSE`].
pub fn tell_refused(error: &impl std::fmt::Display) {
    eprintln!("accept: {error}");
}

/// Until accepting is tried again after it failed, as where descriptors have run out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much a task of [`tuned`] moves, each time that it runs, before it lets others run.
pub const REST_BYTES: usize = 128 << 10;

/// Serves one connection until it is closed. `rest` lets other tasks run and the runtime ask the kernel, as what runtimes call `yield_now`; nothing need be done where each operation
/// waits for its completion.
pub async fn tuned<F: Service>(
    rx: impl Receive,
    tx: impl Transmit,
    rest: impl AsyncFn(),
    shared: Shared<F>,
) -> io::Result<()> {
    let Shared { fs, config, clock } = shared;
    let mut peer = Peer { session: Session::new(config), inbox: vec![0; INBOX_BYTES], filled: 0, fs, clock };
    let turn = Turn { rest, moved: Cell::new(0) };
    let served = {
        let mut serving = pin!(peer.serve(rx, tx, &turn));
        let run = |context: &mut Context<'_>| {
            turn.moved.set(0);
            serving.as_mut().poll(context)
        };
        future::poll_fn(run).await
    };
    peer.session.close(&mut *peer.fs.borrow_mut(), clock.now());
    served
}

/// What a task has done since it began to run.
struct Turn<R> {
    rest: R,
    /// Bytes received and sent.
    moved: Cell<usize>,
}

impl<R: AsyncFn()> Turn<R> {
    /// After so many bytes more: rests if that makes too many.
    async fn moved(&self, n: usize) {
        self.moved.set(self.moved.get() + n);
        if self.moved.get() >= REST_BYTES {
            (self.rest)().await;
        }
    }
}

struct Peer<F: Service> {
    session: Session<F>,
    /// Received and not served yet: the first `filled` bytes.
    inbox: Vec<u8>,
    filled: usize,
    fs: Rc<RefCell<F>>,
    clock: Clock,
}

impl<F: Service> Peer<F> {
    async fn serve(
        &mut self,
        mut rx: impl Receive,
        mut tx: impl Transmit,
        turn: &Turn<impl AsyncFn()>,
    ) -> io::Result<()> {
        let (mut landing, mut skip, mut finishing) = (None, 0, false);
        loop {
            let mut held = false;
            if landing.is_none() && self.filled > 0 {
                let received =
                    self.session.receive(&mut *self.fs.borrow_mut(), self.clock.now(), &self.inbox[..self.filled]);
                let received = received.map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken))?;
                self.inbox.copy_within(received.consumed..self.filled, 0);
                self.filled -= received.consumed;
                (held, skip) = (received.need.held, received.need.skip);
                landing = self.session.landing();
            }
            let out = self.session.take(&*self.fs.borrow());
            if held || finishing {
                match out {
                    Some(out) => self.session.recycle(transmit_all(&mut tx, out, turn).await?),
                    None if held => {}
                    None => return Ok(()),
                }
                continue;
            }
            let skips = landing.is_none() && skip > 0 && self.filled == 0;
            let room = match landing.take() {
                Some(landing) => Room::Blocks(landing),
                None => {
                    let end = if skips { skip.min(INBOX_BYTES) } else { INBOX_BYTES };
                    Room::Bytes(std::mem::take(&mut self.inbox), self.filled..end)
                }
            };
            let (n, room) = match out {
                Some(out) => {
                    let (sent, (n, room)) =
                        future::join(transmit_all(&mut tx, out, turn), receive(&mut rx, room)).await;
                    self.session.recycle(sent?);
                    (n?, room)
                }
                None => {
                    let (n, room) = receive(&mut rx, room).await;
                    (n?, room)
                }
            };
            finishing = n == 0;
            turn.moved(n).await;
            let at = self.clock.now();
            match room {
                Room::Bytes(inbox, _) => {
                    self.inbox = inbox;
                    if skips {
                        skip -= n;
                        self.session.skipped(&mut *self.fs.borrow_mut(), n, at);
                    } else {
                        self.filled += n;
                    }
                }
                Room::Blocks(at_hand) if n > 0 => {
                    landing = self.session.landed(&mut *self.fs.borrow_mut(), at_hand, n, at);
                }
                // The write is abandoned.
                Room::Blocks(_) => {}
            }
        }
    }
}

async fn receive(rx: &mut impl Receive, mut room: Room) -> (io::Result<usize>, Room) {
    loop {
        match rx.receive(room).await {
            (Err(error), back) if error.kind() == io::ErrorKind::Interrupted => room = back,
            ended => return ended,
        }
    }
}

/// Sends all of a batch; what comes back holds no block any more.
async fn transmit_all(tx: &mut impl Transmit, mut out: Segments, turn: &Turn<impl AsyncFn()>) -> io::Result<Segments> {
    while out.len() > 0 {
        let (sent, back) = tx.transmit(out).await;
        out = back;
        match sent {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                out.advance(n, |_| ());
                turn.moved(n).await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}

/// Serves one connection until it is closed, with one buffer each way.
pub async fn idiomatic<F: Service>(mut stream: impl Stream, shared: Shared<F>) -> io::Result<()> {
    let Shared { fs, config, clock } = shared;
    let mut session = Session::new(config);
    let served = exchange(&mut stream, &mut session, &fs, clock).await;
    session.close(&mut *fs.borrow_mut(), clock.now());
    served
}

async fn exchange<F: Service>(
    stream: &mut impl Stream,
    session: &mut Session<F>,
    fs: &RefCell<F>,
    clock: Clock,
) -> io::Result<()> {
    let (mut inbox, mut filled, mut replies) = (vec![0; INBOX_BYTES], 0, Vec::new());
    loop {
        let (n, back) = stream.read(inbox, filled).await;
        inbox = back;
        match n? {
            0 => return Ok(()),
            n => filled += n,
        }
        loop {
            let held = serve(session, &mut *fs.borrow_mut(), clock.now(), &mut inbox, &mut filled, &mut replies)?;
            if !replies.is_empty() {
                let (written, back) = stream.write_all(replies).await;
                written?;
                replies = back;
                replies.clear();
            }
            if !held {
                break;
            }
        }
    }
}

/// Serves what is in the inbox, and copies the replies. True: there may be more.
fn serve<F: Service>(
    session: &mut Session<F>,
    fs: &mut F,
    at: At,
    inbox: &mut [u8],
    filled: &mut usize,
    replies: &mut Vec<u8>,
) -> io::Result<bool> {
    let received = session.receive(fs, at, &inbox[..*filled]);
    let received = received.map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken))?;
    inbox.copy_within(received.consumed..*filled, 0);
    *filled -= received.consumed;
    while let Some(mut out) = session.take(fs) {
        out.views().for_each(|view| replies.extend_from_slice(view.bytes));
        out.advance(out.len(), |_| ());
        session.recycle(out);
    }
    Ok(received.need.held)
}
