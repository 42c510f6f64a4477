//! The driver contract on monoio: a runtime of one thread over io_uring, a task for each connection.
//!
//! Tuned: [`owned`] lets replies be sent from the blocks that they show, and payloads land in theirs; the ring runs its task work in this thread. Idiomatic: `read` and
//! `write_all` of a buffer that is lent.

#[expect(unsafe_code, reason = "monoio takes gathers by address: see the head of the file")]
pub mod owned;

use common::task::{ACCEPT_PAUSE, Door, Receive, Room, Shared, Stream, Transmit, idiomatic, tell, tell_refused, tuned};
use common::{Clock, Configs, Facts, Listener, Socket, Tier};
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Split, Splitable};
use monoio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder, spawn};
use owned::{Gather, Single, Target};
use ring9::fs::Service;
use ring9::session::Segments;
use std::io;
use std::rc::Rc;

/// Tuned.
pub const FACTS: Facts = Facts {
    name: "monoio",
    runtime: Some("monoio"),
    kernel: "io_uring",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

/// Entries of the submission queue.
const ENTRIES: u32 = 1024;

fn runtime(tier: Tier) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut builder = RuntimeBuilder::<IoUringDriver>::new();
    if tier == Tier::Tuned {
        let mut ring = io_uring_06::IoUring::builder();
        ring.setup_single_issuer().setup_taskrun_flag().setup_coop_taskrun();
        builder = builder.with_entries(ENTRIES).uring_builder(ring);
    }
    builder.enable_timer().build()
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
                    });
                }
                Listener::Unix(listener, _) => {
                    let listener = UnixListener::from_std(listener)?;
                    spawn(async move {
                        loop {
                            enter(listener.accept().await.map(|(stream, _)| stream), &door, tier).await
                        }
                    });
                }
            }
        }
        std::future::pending().await
    })
}

async fn enter<S, F>(accepted: io::Result<S>, door: &Door<F>, tier: Tier)
where
    S: AsyncReadRent + AsyncWriteRent + Split + 'static,
    F: Service + 'static,
{
    match accepted {
        Ok(stream) => {
            let shared = door.enter();
            spawn(async move { tell(connection(stream, shared, tier).await) });
        }
        Err(error) => {
            tell_refused(&error);
            monoio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<S, F: Service>(stream: S, shared: Shared<F>, tier: Tier) -> io::Result<()>
where
    S: AsyncReadRent + AsyncWriteRent + Split,
{
    match tier {
        Tier::Tuned => {
            let (rx, tx) = stream.into_split();
            tuned(Half(rx), Half(tx), async || (), shared).await
        }
        Tier::Idiomatic => idiomatic(Plain(stream), shared).await,
    }
}

struct Half<S>(S);

impl<S: AsyncReadRent> Receive for Half<S> {
    async fn receive(&mut self, room: Room) -> (io::Result<usize>, Room) {
        match room {
            Room::Bytes(bytes, range) => {
                let (received, back) = self.0.read(bytes.slice_mut(range.clone())).await;
                (received, Room::Bytes(back.into_inner(), range))
            }
            Room::Blocks(landing) => {
                let (received, target) = self.0.readv(Target::new(landing)).await;
                (received, Room::Blocks(target.into_inner()))
            }
        }
    }
}

impl<S: AsyncWriteRent> Transmit for Half<S> {
    async fn transmit(&mut self, out: Segments) -> (io::Result<usize>, Segments) {
        if out.views().nth(1).is_none() {
            let (sent, Single(out)) = self.0.write(Single(out)).await;
            return (sent, out);
        }
        let (sent, gather) = self.0.writev(Gather::new(out)).await;
        (sent, gather.into_inner())
    }
}

struct Plain<S>(S);

impl<S: AsyncReadRent + AsyncWriteRent> Stream for Plain<S> {
    async fn read(&mut self, buffer: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let (read, back) = self.0.read(buffer.slice_mut(from..)).await;
        (read, back.into_inner())
    }

    async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let (written, back) = self.0.write_all(buffer).await;
        (written.map(drop), back)
    }
}
