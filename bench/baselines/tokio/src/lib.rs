//! The driver contract on tokio: one thread, its `LocalRuntime`, a task for each connection.
//!
//! Tuned: `async_io` of its streams says when a socket is ready, and the calls are made on it directly; that is as close to the socket as tokio's interface goes. Idiomatic: its
//! streams with `read` and `write_all`.

use common::task::{ACCEPT_PAUSE, Door, Receive, Room, Shared, Stream, Transmit, idiomatic, tell, tell_refused, tuned};
use common::{Clock, Configs, Facts, Listener, Socket, Tier, call};
use ring9::fs::Service;
use ring9::session::Segments;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{spawn_local, yield_now};

/// Tuned.
pub const FACTS: Facts = Facts {
    name: "tokio",
    runtime: Some("tokio"),
    kernel: "epoll",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Serves one connected socket until it is closed, on a runtime of its own.
pub fn serve_connected<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    runtime()?.block_on(async { connection(Ready::from_std(socket)?, shared, tier).await })
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
    runtime()?.block_on(async move {
        for listener in listeners {
            listener.set_nonblocking()?;
            let door = Rc::clone(&door);
            match listener {
                Listener::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    spawn_local(async move {
                        loop {
                            enter(listener.accept().await.map(|(stream, _)| Ready::Tcp(stream)), &door, tier).await;
                        }
                    });
                }
                Listener::Unix(listener, _) => {
                    let listener = UnixListener::from_std(listener)?;
                    spawn_local(async move {
                        loop {
                            enter(listener.accept().await.map(|(stream, _)| Ready::Unix(stream)), &door, tier).await;
                        }
                    });
                }
            }
        }
        std::future::pending().await
    })
}

async fn enter<F: Service + 'static>(accepted: io::Result<Ready>, door: &Door<F>, tier: Tier) {
    match accepted {
        Ok(stream) => {
            let shared = door.enter();
            spawn_local(async move { tell(connection(stream, shared, tier).await) });
        }
        Err(error) => {
            tell_refused(&error);
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<F: Service>(stream: Ready, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    match (tier, stream) {
        (Tier::Tuned, stream) => tuned(Half(&stream), Half(&stream), yield_now, shared).await,
        (Tier::Idiomatic, Ready::Tcp(stream)) => idiomatic(Plain(stream), shared).await,
        (Tier::Idiomatic, Ready::Unix(stream)) => idiomatic(Plain(stream), shared).await,
    }
}

/// A stream of tokio's.
enum Ready {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Ready {
    fn from_std(socket: Socket) -> io::Result<Ready> {
        socket.set_nonblocking(true)?;
        Ok(match socket {
            Socket::Tcp(stream) => Ready::Tcp(TcpStream::from_std(stream)?),
            Socket::Unix(stream) => Ready::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// A call, once the socket is ready for it.
    async fn io<T>(&self, interest: Interest, mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        match self {
            Ready::Tcp(stream) => stream.async_io(interest, || call(stream.as_fd())).await,
            Ready::Unix(stream) => stream.async_io(interest, || call(stream.as_fd())).await,
        }
    }
}

struct Half<'a>(&'a Ready);

impl Receive for Half<'_> {
    async fn receive(&mut self, mut room: Room) -> (io::Result<usize>, Room) {
        let received = self.0.io(Interest::READABLE, |socket| call::receive(&socket, &mut room)).await;
        (received, room)
    }
}

impl Transmit for Half<'_> {
    async fn transmit(&mut self, out: Segments) -> (io::Result<usize>, Segments) {
        let sent = self.0.io(Interest::WRITABLE, |socket| call::transmit(&socket, &out)).await;
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
