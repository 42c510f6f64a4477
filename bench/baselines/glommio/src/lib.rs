//! The driver contract on glommio: an executor of one thread over io_uring, a task for each connection.
//!
//! glommio's streams borrow their buffers and know no gathers. Tuned: payloads are received where they stay, and both ways go on at once; but a batch is copied into one piece to leave with
//! one call, since a call for each of its views is slower still. Idiomatic: `read` and `write_all`.

use common::task::{ACCEPT_PAUSE, Door, Receive, Room, Shared, Stream, Transmit, idiomatic, tell, tell_refused, tuned};
use common::{Clock, Configs, Facts, Listener, Socket, Tier};
use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, spawn_local, yield_if_needed};
use ring9::fs::Service;
use ring9::session::Segments;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;

/// Tuned.
pub const FACTS: Facts = Facts {
    name: "glommio",
    runtime: Some("glommio"),
    kernel: "io_uring",
    lands: true,
    gathers: false,
    registered: false,
    copies: [1, 0],
};

/// Most of a batch that is copied at a time.
const PIECE_BYTES: usize = 256 << 10;

fn executor() -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(Placement::Unbound).make().map_err(|error| io::Error::other(error.to_string()))
}

/// Serves one connected socket until it is closed, on an executor of its own.
pub fn serve_connected<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    executor()?.run(async { connection(adopt(socket), shared, tier).await })
}

/// Serves the connections of listening sockets for ever, on an executor of its own.
pub fn serve<F: Service + 'static>(
    listeners: Vec<Listener>,
    fs: F,
    configs: Configs,
    clock: Clock,
    tier: Tier,
) -> io::Result<()> {
    let door = Door::new(fs, configs, clock);
    executor()?.run(async move {
        for listener in listeners {
            spawn_local(accept(adopt_listener(listener), Rc::clone(&door), tier)).detach();
        }
        std::future::pending().await
    })
}

/// A stream of glommio's. It has no safe way from a socket that is there, and makes no difference between the kinds: either is a descriptor to receive from and send to.
#[expect(unsafe_code, reason = "glommio takes sockets by number")]
fn adopt(socket: Socket) -> TcpStream {
    // SAFETY: the descriptor is a connected socket's, and given away.
    unsafe { TcpStream::from_raw_fd(OwnedFd::from(socket).into_raw_fd()) }
}

#[expect(unsafe_code, reason = "glommio takes sockets by number")]
fn adopt_listener(listener: Listener) -> TcpListener {
    // SAFETY: the descriptor is a listening socket's, and given away.
    unsafe { TcpListener::from_raw_fd(OwnedFd::from(listener).into_raw_fd()) }
}

async fn accept<F: Service + 'static>(listener: TcpListener, door: Rc<Door<F>>, tier: Tier) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let shared = door.enter();
                spawn_local(async move { tell(connection(stream, shared, tier).await) }).detach();
            }
            Err(error) => {
                tell_refused(&error);
                glommio::timer::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<F: Service>(stream: TcpStream, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    match tier {
        Tier::Tuned => {
            let stream = RefCell::new(stream);
            let tx = Sender { stream: &stream, piece: Vec::new() };
            tuned(Receiver(&stream), tx, yield_if_needed, shared).await
        }
        Tier::Idiomatic => idiomatic(Plain(stream), shared).await,
    }
}

struct Receiver<'a>(&'a RefCell<TcpStream>);

impl Receive for Receiver<'_> {
    async fn receive(&mut self, mut room: Room) -> (io::Result<usize>, Room) {
        let received = poll_fn(|context| {
            let bytes = match &mut room {
                Room::Bytes(bytes, range) => &mut bytes[range.clone()],
                Room::Blocks(landing) => landing.unfilled().next().expect("a landing wants something"),
            };
            Pin::new(&mut *self.0.borrow_mut()).poll_read(context, bytes)
        })
        .await;
        (received, room)
    }
}

struct Sender<'a> {
    stream: &'a RefCell<TcpStream>,
    /// Views of a batch that leave with one call.
    piece: Vec<u8>,
}

impl Transmit for Sender<'_> {
    async fn transmit(&mut self, out: Segments) -> (io::Result<usize>, Segments) {
        self.piece.clear();
        for view in out.views() {
            if !self.piece.is_empty() && self.piece.len() + view.bytes.len() > PIECE_BYTES {
                break;
            }
            self.piece.extend_from_slice(view.bytes);
        }
        let sent = poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, &self.piece)).await;
        (sent, out)
    }
}

struct Plain(TcpStream);

impl Stream for Plain {
    async fn read(&mut self, mut buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        (self.0.read(&mut buffer[from..]).await, buffer)
    }

    async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (self.0.write_all(&buffer).await, buffer)
    }
}
