//! The driver contract on blocking sockets: a thread for each connection, the tree behind a mutex that is held for as long as a call takes.
//!
//! A turn of a thread: receive once; serve; send all replies. What a peer does not take stops its own thread alone.

use common::task::{ACCEPT_PAUSE, Room, tell, tell_refused};
use common::{Clock, Configs, Facts, INBOX_BYTES, Listener, call};
use ring9::fs::Service;
use ring9::session::{Config, Session};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// How it does its I/O.
pub const FACTS: Facts = Facts {
    name: "threads",
    runtime: None,
    kernel: "blocking calls",
    lands: true,
    gathers: true,
    registered: false,
    copies: [0, 0],
};

/// Of a connection's thread.
const STACK_BYTES: usize = 256 << 10;
/// What a thread that panicked has left is not to be served.
const SOUND: &str = "no thread has panicked with the tree";

/// Serves one connected socket until it is closed.
pub fn serve_connected<F: Service>(
    socket: impl Into<OwnedFd>,
    fs: &Mutex<F>,
    config: Config,
    clock: &Clock,
) -> io::Result<()> {
    let mut session = Session::new(config);
    let served = exchange(&socket.into(), &mut session, fs, clock);
    session.close(&mut *fs.lock().expect(SOUND), clock.now());
    served
}

fn exchange<F: Service>(socket: &OwnedFd, session: &mut Session<F>, fs: &Mutex<F>, clock: &Clock) -> io::Result<()> {
    let tree = || fs.lock().expect(SOUND);
    let (mut inbox, mut filled, mut skip, mut landing) = (vec![0; INBOX_BYTES], 0, 0, None);
    loop {
        while landing.is_none() {
            let mut held = false;
            if filled > 0 {
                let received = session.receive(&mut *tree(), clock.now(), &inbox[..filled]);
                let received = received.map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken))?;
                inbox.copy_within(received.consumed..filled, 0);
                filled -= received.consumed;
                (held, skip) = (received.need.held, received.need.skip);
                landing = session.landing();
            }
            send_all(socket, session, &tree)?;
            if !held {
                break;
            }
        }
        let skips = landing.is_none() && skip > 0 && filled == 0;
        let mut room = match landing.take() {
            Some(landing) => Room::Blocks(landing),
            None => {
                let end = if skips { skip.min(INBOX_BYTES) } else { INBOX_BYTES };
                Room::Bytes(std::mem::take(&mut inbox), filled..end)
            }
        };
        let n = uninterrupted(|| call::receive(socket, &mut room))?;
        if n == 0 {
            return Ok(());
        }
        match room {
            Room::Blocks(at_hand) => landing = session.landed(&mut *tree(), at_hand, n, clock.now()),
            Room::Bytes(back, _) => {
                inbox = back;
                if skips {
                    skip -= n;
                    session.skipped(&mut *tree(), n, clock.now());
                } else {
                    filled += n;
                }
            }
        }
    }
}

fn send_all<'a, F: Service + 'a>(
    socket: &OwnedFd,
    session: &mut Session<F>,
    tree: &impl Fn() -> MutexGuard<'a, F>,
) -> io::Result<()> {
    loop {
        let Some(mut out) = session.take(&*tree()) else { return Ok(()) };
        while out.len() > 0 {
            let n = uninterrupted(|| call::transmit(socket, &out))?;
            out.advance(n, |_| ());
        }
        session.recycle(out);
    }
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended,
        }
    }
}

/// Serves the connections of listening sockets for ever: a thread for each listener, and one for each connection.
pub fn serve<F: Service + Send + 'static>(
    listeners: Vec<Listener>,
    fs: F,
    configs: &Configs,
    clock: Clock,
) -> io::Result<()> {
    let (fs, peers) = (Arc::new(Mutex::new(fs)), AtomicU32::new(0));
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| accept(listener, &fs, || configs.of_peer(peers.fetch_add(1, Ordering::Relaxed)), clock));
        }
    });
    Ok(())
}

fn accept<F: Service + Send + 'static>(
    listener: &Listener,
    fs: &Arc<Mutex<F>>,
    config: impl Fn() -> Config,
    clock: Clock,
) {
    loop {
        let (fs, config) = (Arc::clone(fs), config());
        let started = listener.accept().and_then(|socket| {
            // Its stack is small: ten thousand of them are nothing unusual.
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn(move || tell(serve_connected(socket, &fs, config, &clock)))
        });
        if let Err(error) = started {
            tell_refused(&error);
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}
