//! The conversation of the server's `tests/drivers.rs` over a socketpair, with a fixed clock: every driver answers with the bytes that a session in memory does.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod roster;

use common::task::Shared;
use common::{Clock, Socket, Tier};
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::wire::Dialect;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Mutex;
use support::script::conversation;
use support::{AT, Style, config, drive, tree};

const CLOCK: Clock = Clock::Fixed(AT);
/// Bytes of the pieces in which a client speaks.
const PIECES: [usize; 7] = [1, 23, 999, 4096, 16 << 10, 65_537, usize::MAX];

/// Holds a driver against the session in memory. What serves gives back how many blocks are still pinned.
fn check(name: &str, serve: impl Fn(UnixStream) -> io::Result<usize>) {
    for dialect in Dialect::ALL {
        let requests = conversation(dialect);
        let expected = drive(&requests, std::iter::once(usize::MAX), Style::ReceiveOnly);
        for size in PIECES {
            let what = format!("{name}, {} in pieces of {size}", dialect.name());
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            let said = requests.clone();
            let client = std::thread::spawn(move || talk(theirs, &said, size));
            let pins = serve(ours).unwrap_or_else(|error| panic!("{what}: {error}"));
            let heard = client.join().expect("the client heard everything");
            let at = heard.iter().zip(&expected).position(|(a, b)| a != b);
            assert!(
                at.is_none() && heard.len() == expected.len(),
                "{what}: {} of {} bytes, first difference at {at:?}",
                heard.len(),
                expected.len()
            );
            assert_eq!(pins, 0, "{what}: blocks are still held");
        }
    }
}

/// A runtime in one of its tiers.
fn check_runtime(name: &str, tier: Tier, serve: impl Fn(Socket, Shared<Simple<Mem>>, Tier) -> io::Result<()>) {
    check(&format!("{name} {tier:?}"), |socket| {
        let fs = Rc::new(RefCell::new(tree()));
        serve(Socket::Unix(socket), Shared { fs: Rc::clone(&fs), config: config(), clock: CLOCK }, tier)?;
        Ok(fs.borrow().arena().gauge().pins())
    });
}

/// Says everything in pieces, then listens to the end; in two threads, since the server may want to be heard in between.
fn talk(mut socket: UnixStream, requests: &[u8], size: usize) -> Vec<u8> {
    let mut listening = socket.try_clone().expect("a second handle");
    let listener = std::thread::spawn(move || {
        let mut heard = Vec::new();
        listening.read_to_end(&mut heard).expect("replies, then the end");
        heard
    });
    // One byte at a time is for the small messages at the front; the rest would take for ever.
    let (slow, quick) = requests.split_at(requests.len().min(if size == 1 { 3000 } else { usize::MAX }));
    for piece in slow.chunks(size.min(requests.len())).chain(quick.chunks(10_007)) {
        socket.write_all(piece).expect("the server listens");
    }
    socket.shutdown(Shutdown::Write).expect("nothing more to say");
    listener.join().expect("the listener heard everything")
}

#[test]
fn threads() {
    check("threads", |socket| {
        let fs = Mutex::new(tree());
        baseline_threads::serve_connected(socket, &fs, config(), &CLOCK)?;
        let fs = fs.lock().expect("no thread panicked");
        Ok(fs.arena().gauge().pins())
    });
}

#[test]
fn epoll() {
    check("epoll", |socket| {
        let mut fs = tree();
        baseline_epoll::serve_connected(socket, &mut fs, config(), &CLOCK)?;
        Ok(fs.arena().gauge().pins())
    });
}

macro_rules! both_tiers {
    ($($name:ident)*) => {$(
        mod $name {
            use super::{Tier, check_runtime};

            #[test]
            fn tuned() {
                check_runtime(stringify!($name), Tier::Tuned, ::$name::serve_connected);
            }

            #[test]
            fn idiomatic() {
                check_runtime(stringify!($name), Tier::Idiomatic, ::$name::serve_connected);
            }
        }
    )*};
}

roster::runtimes!(both_tiers);
