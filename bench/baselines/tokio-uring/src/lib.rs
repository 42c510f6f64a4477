//! The driver contract on tokio-uring: io_uring beneath tokio's runtime of one thread, a task for each connection.
//!
//! Its listener for paths cannot take over one that listens, so connections are accepted by tokio, which runs beneath it all the same. Tuned: [`owned`] lets replies be sent from the
//! blocks that they show, and payloads land in theirs. Idiomatic: `read` and `write_all` of a buffer that is lent.

#[expect(
    unsafe_code,
    reason = "tokio-uring takes gathers as lists of buffers that own their memory: see the head of the file"
)]
pub mod owned;

use common::task::{ACCEPT_PAUSE, Door, Receive, Room, Shared, Stream, Transmit, idiomatic, tell, tell_refused, tuned};
use common::{Clock, Configs, Facts, Listener, Socket, Tier};
use owned::{Single, Target, gather};
use ring9::fs::Service;
use ring9::session::Segments;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::net::{TcpListener, UnixListener};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;
use tokio_uring::spawn;

/// Tuned.
pub const FACTS: Facts = Facts {
    name: "tokio-uring",
    runtime: Some("tokio-uring"),
    kernel: "io_uring behind epoll",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

/// Entries of the submission queue.
const ENTRIES: u32 = 1024;

fn run<T>(tier: Tier, future: impl Future<Output = T>) -> T {
    match tier {
        Tier::Idiomatic => tokio_uring::start(future),
        Tier::Tuned => {
            let mut ring = tokio_uring::uring_builder();
            ring.setup_single_issuer().setup_taskrun_flag().setup_coop_taskrun();
            tokio_uring::builder().entries(ENTRIES).uring_builder(&ring).start(future)
        }
    }
}

/// Serves one connected socket until it is closed, on a runtime of its own.
pub fn serve_connected<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    run(tier, connection(socket, shared, tier))
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
    run(tier, async move {
        for listener in listeners {
            listener.set_nonblocking()?;
            let door = Rc::clone(&door);
            match listener {
                Listener::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    spawn(async move {
                        loop {
                            let accepted = listener.accept().await.and_then(|(stream, _)| stream.into_std());
                            enter(accepted.map(Socket::Tcp), &door, tier).await;
                        }
                    });
                }
                Listener::Unix(listener, _) => {
                    let listener = UnixListener::from_std(listener)?;
                    spawn(async move {
                        loop {
                            let accepted = listener.accept().await.and_then(|(stream, _)| stream.into_std());
                            enter(accepted.map(Socket::Unix), &door, tier).await;
                        }
                    });
                }
            }
        }
        std::future::pending().await
    })
}

async fn enter<F: Service + 'static>(accepted: io::Result<Socket>, door: &Door<F>, tier: Tier) {
    match accepted {
        Ok(socket) => {
            let shared = door.enter();
            spawn(async move { tell(connection(socket, shared, tier).await) });
        }
        Err(error) => {
            tell_refused(&error);
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<F: Service>(socket: Socket, shared: Shared<F>, tier: Tier) -> io::Result<()> {
    // The ring waits for sockets that block; for others it gives EAGAIN to the caller.
    socket.set_nonblocking(false)?;
    // Either kind is a descriptor to it.
    let stream = TcpStream::from_std(StdTcpStream::from(OwnedFd::from(socket)));
    match tier {
        Tier::Tuned => tuned(Half(&stream), Half(&stream), async || (), shared).await,
        Tier::Idiomatic => idiomatic(Plain(stream), shared).await,
    }
}

struct Half<'a>(&'a TcpStream);

impl Receive for Half<'_> {
    async fn receive(&mut self, room: Room) -> (io::Result<usize>, Room) {
        match room {
            Room::Bytes(bytes, range) => {
                let (received, back) = self.0.read(bytes.slice(range.clone())).await;
                (received, Room::Bytes(back.into_inner(), range))
            }
            Room::Blocks(landing) => {
                let (received, target) = self.0.read(Target::new(landing)).await;
                (received, Room::Blocks(target.into_inner()))
            }
        }
    }
}

impl Transmit for Half<'_> {
    async fn transmit(&mut self, out: Segments) -> (io::Result<usize>, Segments) {
        if out.views().nth(1).is_none() {
            let (sent, single) = self.0.write(Single::new(out)).submit().await;
            return (sent, single.into_inner());
        }
        let out = Rc::new(out);
        let (sent, list) = self.0.writev(gather(&out)).await;
        drop(list);
        (sent, Rc::into_inner(out).expect("the list is gone"))
    }
}

struct Plain(TcpStream);

impl Stream for Plain {
    async fn read(&mut self, buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let (read, back) = self.0.read(buffer.slice(from..)).await;
        (read, back.into_inner())
    }

    async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.0.write_all(buffer).await
    }
}
