//! The driver contract on compio: a runtime of one thread over io_uring, a task for each connection.
//!
//! Tuned: small messages are received into buffers that the kernel picks, many with one request, until a payload is to land; operations own their memory until they end, as compio wants it:
//! [`owned`] lets replies be sent from the blocks that they show, and payloads land in theirs; the ring runs its task work in this thread. Idiomatic: `read` and `write_all` of a buffer that is lent.

#[expect(
    unsafe_code,
    reason = "compio's vectored receive wants memory that may be uninitialised: see the head of the file"
)]
pub mod owned;

use common::task::{self, ACCEPT_PAUSE, Door, Receive, Room, Shared, Transmit, idiomatic, tell, tell_refused, tuned};
use common::{Clock, Configs, Facts, Listener, Socket, Tier};
use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncReadMulti, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use compio::runtime::{CancelToken, Runtime, StreamExt as _, spawn};
use futures_util::{Stream, StreamExt as _};
use owned::{Gather, Single, Target};
use ring9::fs::Service;
use ring9::session::Segments;
use std::collections::VecDeque;
use std::io;
use std::num::NonZero;
use std::pin::{Pin, pin};
use std::rc::Rc;

/// Tuned.
pub const FACTS: Facts = Facts {
    name: "compio",
    runtime: Some("compio"),
    kernel: "io_uring",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

/// Entries of the submission queue.
const ENTRIES: u32 = 1024;

/// Buffers to receive into, for all connections.
const BUFFERS: NonZero<u16> = NonZero::new(256).expect("not zero");
/// Of each of them.
const BUFFER_BYTES: usize = 64 << 10;

fn runtime(tier: Tier) -> io::Result<Runtime> {
    match tier {
        Tier::Idiomatic => Runtime::new(),
        Tier::Tuned => {
            let mut proactor = ProactorBuilder::new();
            proactor.capacity(ENTRIES).single_issuer(true).taskrun_flag(true).defer_taskrun(true);
            proactor.buffer_pool_size(BUFFERS).buffer_pool_buffer_len(BUFFER_BYTES);
            Runtime::builder().with_proactor(proactor).build()
        }
    }
}

/// Serves one connected socket until it is closed, on a runtime of its own.
pub fn serve_connected<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    runtime(tier)?.block_on(async {
        match socket {
            Socket::Tcp(stream) => connection(TcpStream::from_std(stream)?, shared, tier).await,
            Socket::Unix(stream) => connection(UnixStream::from_std(stream)?, shared, tier).await,
        }
    })
}

/// Serves the connections of listening sockets for ever, on a runtime of its own.
pub fn serve<F: Service + 'static>(
    listeners: Vec<Listener>,
    fs: F,
    configs: Configs,
    clock: Clock,
    tier: Tier,
) -> io::Result<()> {
    let door = Door::new(fs, configs, clock);
    runtime(tier)?.block_on(async move {
        for listener in listeners {
            let door = Rc::clone(&door);
            match listener {
                Listener::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    spawn(async move {
                        loop {
                            enter(listener.accept().await.map(|(stream, _)| stream), &door, tier).await
                        }
                    })
                    .detach();
                }
                Listener::Unix(listener, _) => {
                    let listener = UnixListener::from_std(listener)?;
                    spawn(async move {
                        loop {
                            enter(listener.accept().await.map(|(stream, _)| stream), &door, tier).await
                        }
                    })
                    .detach();
                }
            }
        }
        std::future::pending().await
    })
}

async fn enter<S, F: Service + 'static>(accepted: io::Result<S>, door: &Door<F>, tier: Tier)
where
    S: AsyncWrite + AsyncRead + 'static,
    for<'a> &'a S: AsyncRead + AsyncReadMulti + AsyncWrite,
{
    match accepted {
        Ok(stream) => {
            let shared = door.enter();
            spawn(async move { tell(connection(stream, shared, tier).await) }).detach();
        }
        Err(error) => {
            tell_refused(&error);
            compio::runtime::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<S, F: Service>(stream: S, shared: Shared<F>, tier: Tier) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
    for<'a> &'a S: AsyncRead + AsyncReadMulti + AsyncWrite,
{
    match tier {
        Tier::Tuned => {
            let (mut socket, stop) = (&stream, CancelToken::new());
            // As many bytes as go into a buffer.
            let many = pin!(socket.read_multi(0).with_cancel(stop.clone()));
            let rx = Receiver { many: Some((many, stop)), came: VecDeque::new(), given: 0, plain: Half(&stream) };
            tuned(rx, Half(&stream), async || (), shared).await
        }
        Tier::Idiomatic => idiomatic(Plain(stream), shared).await,
    }
}

/// Receives into buffers that the kernel picks, many times with one request, until a payload lands or no buffer is left: from then on each receive says where it goes.
struct Receiver<'a, S, M, B> {
    many: Option<(Pin<&'a mut M>, CancelToken)>,
    /// What was received by it, of which so many bytes of the first one were given away.
    came: VecDeque<B>,
    given: usize,
    plain: Half<'a, S>,
}

impl<S, B: IoBuf, M: Stream<Item = io::Result<B>>> Receive for Receiver<'_, S, M, B>
where
    for<'a> &'a S: AsyncRead,
{
    async fn receive(&mut self, mut room: Room) -> (io::Result<usize>, Room) {
        if let Room::Blocks(_) = room
            && let Some((mut many, stop)) = self.many.take()
        {
            stop.cancel();
            while let Some(Ok(buffer)) = many.next().await {
                self.came.push_back(buffer);
            }
        }
        if self.came.is_empty()
            && let Some((many, _)) = &mut self.many
        {
            match many.next().await {
                Some(Ok(buffer)) => self.came.push_back(buffer),
                None => return (Ok(0), room),
                // All buffers are in use, which has ended it. To begin anew each time would be dearer than to do without.
                Some(Err(error)) if error.kind() == io::ErrorKind::ResourceBusy => self.many = None,
                Some(Err(error)) => return (Err(error), room),
            }
        }
        let Some(buffer) = self.came.front() else { return self.plain.receive(room).await };
        let target = match &mut room {
            Room::Bytes(bytes, range) => &mut bytes[range.clone()],
            Room::Blocks(landing) => landing.unfilled().next().expect("a landing wants something"),
        };
        let rest = &buffer.as_init()[self.given..];
        let n = rest.len().min(target.len());
        target[..n].copy_from_slice(&rest[..n]);
        self.given += n;
        if n == rest.len() {
            self.came.pop_front();
            self.given = 0;
        }
        (Ok(n), room)
    }
}

struct Half<'a, S>(&'a S);

impl<S> Receive for Half<'_, S>
where
    for<'a> &'a S: AsyncRead,
{
    async fn receive(&mut self, room: Room) -> (io::Result<usize>, Room) {
        match room {
            Room::Bytes(bytes, range) => {
                let BufResult(received, back) = self.0.read(bytes.slice(range.clone())).await;
                (received, Room::Bytes(back.into_inner(), range))
            }
            Room::Blocks(landing) => {
                let BufResult(received, Target(landing)) = self.0.read_vectored(Target(landing)).await;
                (received, Room::Blocks(landing))
            }
        }
    }
}

impl<S> Transmit for Half<'_, S>
where
    for<'a> &'a S: AsyncWrite,
{
    async fn transmit(&mut self, out: Segments) -> (io::Result<usize>, Segments) {
        if out.views().nth(1).is_none() {
            let BufResult(sent, Single(out)) = self.0.write(Single(out)).await;
            (sent, out)
        } else {
            let BufResult(sent, Gather(out)) = self.0.write_vectored(Gather(out)).await;
            (sent, out)
        }
    }
}

struct Plain<S>(S);

impl<S: AsyncRead + AsyncWrite> task::Stream for Plain<S> {
    async fn read(&mut self, buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let BufResult(read, back) = self.0.read(buffer.slice(from..)).await;
        (read, back.into_inner())
    }

    async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let BufResult(written, back) = self.0.write_all(buffer).await;
        (written, back)
    }
}
