//! The driver contract on smol: one thread that runs a `LocalExecutor`, a task for each connection.
//!
//! Tuned: [`Async`] says when a socket is ready, and the calls are made on it directly; they are tried before anything is waited for. Idiomatic: its streams with
//! `read` and `write_all`.

use common::task::{ACCEPT_PAUSE, Door, Receive, Room, Shared, Stream, Transmit, idiomatic, tell, tell_refused, tuned};
use common::{Clock, Configs, Facts, Listener, Socket, Tier, call};
use ring9::fs::Service;
use ring9::session::Segments;
use smol::future::yield_now;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::{Async, LocalExecutor, Timer};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Tuned.
pub const FACTS: Facts = Facts {
    name: "smol",
    runtime: Some("smol"),
    kernel: "epoll",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

/// Serves one connected socket until it is closed.
pub fn serve_connected<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    smol::block_on(connection(socket, shared, tier))
}

/// Serves the connections of listening sockets for ever, on an executor of its own.
pub fn serve<F: Service + 'static>(
    listeners: Vec<Listener>,
    fs: F,
    configs: Configs,
    clock: Clock,
    tier: Tier,
) -> io::Result<()> {
    let (door, executor) = (Door::new(fs, configs, clock), Rc::new(LocalExecutor::new()));
    for listener in listeners {
        let listener = Async::new(listener)?;
        executor.spawn(accept(listener, Rc::clone(&door), Rc::clone(&executor), tier)).detach();
    }
    smol::block_on(executor.run(std::future::pending()))
}

async fn accept<F: Service + 'static>(
    listener: Async<Listener>,
    door: Rc<Door<F>>,
    executor: Rc<LocalExecutor<'static>>,
    tier: Tier,
) {
    loop {
        match listener.read_with(Listener::accept).await {
            Ok(socket) => {
                let shared = door.enter();
                executor.spawn(async move { tell(connection(socket, shared, tier).await) }).detach();
            }
            Err(error) => {
                tell_refused(&error);
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    match (tier, socket) {
        (Tier::Tuned, socket) => {
            let ready = Async::new(OwnedFd::from(socket))?;
            tuned(Half(&ready), Half(&ready), yield_now, shared).await
        }
        (Tier::Idiomatic, Socket::Tcp(stream)) => idiomatic(Plain(Async::new(stream)?), shared).await,
        (Tier::Idiomatic, Socket::Unix(stream)) => idiomatic(Plain(Async::new(stream)?), shared).await,
    }
}

struct Half<'a>(&'a Async<OwnedFd>);

impl Receive for Half<'_> {
    async fn receive(&mut self, mut room: Room) -> (io::Result<usize>, Room) {
        let received = self.0.read_with(|socket| call::receive(socket, &mut room)).await;
        (received, room)
    }
}

impl Transmit for Half<'_> {
    async fn transmit(&mut self, out: Segments) -> (io::Result<usize>, Segments) {
        let sent = self.0.write_with(|socket| call::transmit(socket, &out)).await;
        (sent, out)
    }
}

struct Plain<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Plain<S> {
    async fn read(&mut self, mut buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        (self.0.read(&mut buffer[from..]).await, buffer)
    }

    async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (self.0.write_all(&buffer).await, buffer)
    }
}
