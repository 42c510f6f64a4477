//! The conversation of `tests/drivers.rs`, over a socketpair: the same bytes come back as from a session in memory.

#[path = "../../../../tests/support/mod.rs"]
mod support;

use common::Clock;
use ring9::wire::Dialect;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use support::script::conversation;
use support::{AT, Style, config, drive, tree};

#[test]
fn compio_gives_the_same_bytes() {
    for dialect in [Dialect::P9, Dialect::U, Dialect::L] {
        let requests = conversation(dialect);
        let expected = drive(&requests, std::iter::once(usize::MAX), Style::ReceiveOnly);
        for size in [999, 16 << 10, 65_537, usize::MAX] {
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            let said = requests.clone();
            let client = std::thread::spawn(move || talk(theirs, &said, size));
            let fs = Rc::new(RefCell::new(tree()));
            let runtime = compio::runtime::Runtime::new().expect("io_uring works here");
            runtime.block_on(async {
                let ours = compio::net::UnixStream::from_std(ours).expect("a socket");
                let served = baseline_compio::serve_connected(ours, Rc::clone(&fs), config(), Clock::Fixed(AT)).await;
                served.expect("the conversation is sound");
            });
            let heard = client.join().expect("the client heard everything");
            assert!(
                heard == expected,
                "{} in pieces of {size}: {} of {} bytes",
                dialect.name(),
                heard.len(),
                expected.len()
            );
            assert_eq!(fs.borrow().arena().gauge().pins(), 0, "{} in pieces of {size}", dialect.name());
        }
    }
}

/// Says everything in pieces, then listens to the end; in two threads, since the server may want to be heard in between.
fn talk(mut socket: UnixStream, requests: &[u8], size: usize) -> Vec<u8> {
    let mut listening = socket.try_clone().expect("a second handle");
    let listener = std::thread::spawn(move || {
        let mut heard = Vec::new();
        listening.read_to_end(&mut heard).expect("replies, then the end");
        heard
    });
    for piece in requests.chunks(size.min(requests.len())) {
        socket.write_all(piece).expect("the server listens");
    }
    socket.shutdown(Shutdown::Write).expect("nothing more to say");
    listener.join().expect("the listener heard everything")
}
