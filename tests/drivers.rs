//! One conversation, every way of driving a session: the same bytes come back.
//!
//! Here are the session in memory at every chunking, and the loop on the real ring. The simulated one is compared in `tools/sim`, the drivers of other runtimes
//! with the same conversation in `bench/baselines`.

mod support;

use ring9::arena::Arena;
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::fs::wrap::{Late, Times, Wrapped};
use ring9::stats::Stats;
use ring9::uring::{Features, Kernel, Options, Ring, Server, Trust};
use ring9::wire::Dialect;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use support::fixed::Fixed;
use support::random::Random;
use support::{Style, drive, drive_on, script::conversation, tree_in};

/// What a session answers that is shown everything at once. `region_bytes` shows in Rstatfs, since every region has head slots.
fn expected(dialect: Dialect, region_bytes: usize) -> Vec<u8> {
    let tree = tree_in(arena(region_bytes));
    drive_on(tree, &conversation(dialect), std::iter::once(usize::MAX), Style::ReceiveOnly)
}

fn arena(region_bytes: usize) -> Arena {
    Arena::with_regions(16 << 20, region_bytes).expect("a small mapping")
}

/// Regions as large as they come, and so small that gathers span them.
const LARGE: usize = 1 << 30;
const SMALL: usize = 512 << 10;

/// The first difference, rather than half a megabyte of numbers.
fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    let at = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        at.is_none() && found.len() == expected.len(),
        "{what}: {} of {} bytes, first difference at {at:?}",
        found.len(),
        expected.len()
    );
}

#[test]
fn every_chunking_gives_the_same_bytes() {
    for dialect in Dialect::ALL {
        let (requests, expected) = (conversation(dialect), expected(dialect, LARGE));
        for style in [Style::ReceiveOnly, Style::Landings] {
            for size in [1, 2, 3, 7, 23, 64, 1000, 4096, 16 << 10, 65_537, usize::MAX] {
                let what = format!("{} in pieces of {size}, {style:?}", dialect.name());
                assert_same(&drive(&requests, std::iter::repeat(size), style), &expected, &what);
            }
            for seed in 0..40 {
                let mut random = Random::new(seed);
                let pieces = std::iter::repeat_with(move || [1, 50, 3000, 100_000][random.below(4)]);
                let what = format!("{} with seed {seed}, {style:?}", dialect.name());
                assert_same(&drive(&requests, pieces, style), &expected, &what);
            }
        }
    }
}

fn server<R: Ring>(ring: R, arena: Arena, register: bool) -> (Server<R, Simple<Mem>>, Rc<Stats>) {
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let bytes = arena.memory().len();
    let stats = Rc::new(Stats::default());
    let options = Options { stats: Rc::clone(&stats), ..Options::new(1 << 20, 100) };
    let mut server = Server::new(ring, tree_in(arena), parts, options);
    if register {
        server.register(bytes).expect("the memory can be registered");
    }
    (server, stats)
}

#[test]
fn the_real_ring_gives_the_same_bytes() {
    for dialect in Dialect::ALL {
        let requests = conversation(dialect);
        let all = Features::ALL;
        let cases = [
            (1, true, all),
            (999, true, Features { vectored_send: false, ..all }),
            (999, true, all),
            (16 << 10, false, Features { vectored_fixed: false, ..all }),
            (16 << 10, false, Features { vectored_fixed: false, vectored_send: false, ..all }),
            (16 << 10, true, Features { multishot: false, ..all }),
            (65_536, true, Features { vectored_send: false, ..all }),
            (65_536, true, Features { defer_taskrun: false, ..all }),
            (usize::MAX, true, all),
        ];
        for (size, register, features) in cases {
            let region = if size == 999 { SMALL } else { LARGE };
            let (arena, expected) = (arena(region), expected(dialect, region));
            let gauge = arena.gauge();
            let register = register && can_register();
            let (mut server, stats) =
                server(Fixed::new(Kernel::with(16, features).expect("io_uring works here")), arena, register);
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            server.connect(ours.into_raw_fd(), Trust::All);
            let requests = requests.clone();
            let client = std::thread::spawn(move || talk(theirs, &requests, size));
            while server.peers() > 0 {
                server.turn().expect("the ring works");
            }
            let what = format!("{} in pieces of {size}, registered {register}, {features:?}", dialect.name());
            assert_same(&client.join().expect("the client heard everything"), &expected, &what);
            assert_eq!(gauge.pins(), 0, "{what}");
            let counters = &stats.counters;
            let sends_lists = server.ring().ring.features().vectored_send;
            let (fixed, plain) = (counters.sends_fixed.get() > 0, counters.sends_plain.get() > 0);
            if sends_lists || region == SMALL {
                assert!(plain, "{what}: lists, and gathers that span entries, go by address");
            }
            if sends_lists || region == LARGE || !register {
                assert_eq!(fixed, register && !sends_lists, "{what}: sends through the table");
            }
        }
    }
}

/// A client that waits for each reply hears the same from a tree that answers late and behind gates.
#[test]
fn the_real_ring_gives_the_same_bytes_of_a_late_tree() {
    for (seed, dialect) in Dialect::ALL.into_iter().enumerate() {
        let requests = conversation(dialect);
        for multishot in [false, true] {
            let arena = arena(LARGE);
            let (parts, gauge) = ((arena.memory(), arena.heads(), arena.gauge()), arena.gauge());
            let times = Times { seed: seed as u64, turns_max: 3, gates: 2, grants: true };
            let tree = Wrapped::new(tree_in(arena), Late::new(times));
            let features = Features { multishot, ..Features::ALL };
            let ring = Fixed::new(Kernel::with(16, features).expect("io_uring works here"));
            let mut server = Server::new(ring, tree, parts, Options::new(1 << 20, 100));
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            server.connect(ours.into_raw_fd(), Trust::All);
            let asked = requests.clone();
            let client = std::thread::spawn(move || talk_in_turn(theirs, &asked));
            while server.peers() > 0 {
                server.turn().expect("the ring works");
            }
            let heard = client.join().expect("the client heard everything");
            assert_same(&heard, &expected(dialect, LARGE), &format!("{}, {times:?}", dialect.name()));
            assert_eq!((server.fs().inner().held(), gauge.pins()), (0, 0));
        }
    }
}

/// Says each message once the one before is answered.
fn talk_in_turn(mut socket: UnixStream, requests: &[u8]) -> Vec<u8> {
    let (mut rest, mut heard) = (requests, Vec::new());
    while let Some(head) = ring9::wire::head(rest) {
        let (message, behind) = rest.split_at(head.size as usize);
        socket.write_all(message).expect("the server listens");
        let start = heard.len();
        heard.resize(start + 7, 0);
        socket.read_exact(&mut heard[start..]).expect("a reply");
        let size = ring9::wire::head(&heard[start..]).expect("a head").size as usize;
        heard.resize(start + size, 0);
        socket.read_exact(&mut heard[start + 7..]).expect("all of it");
        rest = behind;
    }
    heard
}

/// RLIMIT_MEMLOCK may be too low for 16 MiB where the tests run.
fn can_register() -> bool {
    let arena = Arena::new(16 << 20).expect("a small mapping");
    let ring = Kernel::new(16).expect("io_uring works here");
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let options = Options::new(1 << 20, 1);
    Server::new(ring, tree_in(arena), parts, options).register(16 << 20).is_ok()
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
    for piece in slow.chunks(size.min(requests.len())) {
        socket.write_all(piece).expect("the server listens");
    }
    for piece in quick.chunks(10_007) {
        socket.write_all(piece).expect("the server listens");
    }
    socket.shutdown(Shutdown::Write).expect("nothing more to say");
    listener.join().expect("the listener heard everything")
}
