//! The same scripts on the real ring, on the simulated one, and in memory: the same bytes come back. This keeps the simulated kernel honest.

#[path = "../../../tests/support/mod.rs"]
mod support;

use ring9::arena::Arena;
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::stats::Stats;
use ring9::uring::{Features, Kernel, Options, Ring, Server, Trust};
use ring9::wire::{Dialect, Kind, head};
use ring9_sim::SimKernel;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use support::fixed::Fixed;
use support::script::{Script, conversation};
use support::{Style, drive_on, tree_in};

/// Regions as large as they come, and so small that gathers span them.
const LARGE: usize = 1 << 30;
const SMALL: usize = 512 << 10;

fn arena(region_bytes: usize) -> Arena {
    Arena::with_regions(16 << 20, region_bytes).expect("a small mapping")
}

fn server<R: Ring>(ring: R, region_bytes: usize, register: bool) -> (Server<Fixed<R>, Simple<Mem>>, Rc<Stats>) {
    let arena = arena(region_bytes);
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let bytes = arena.memory().len();
    let stats = Rc::new(Stats::default());
    let options = Options { stats: Rc::clone(&stats), ..Options::new(1 << 20, 100) };
    let mut server = Server::new(Fixed::new(ring), tree_in(arena), parts, options);
    if register {
        // Where the limit does not allow it, everything goes by address.
        let _ = server.register(bytes);
    }
    (server, stats)
}

fn in_memory(script: &[u8], region_bytes: usize) -> Vec<u8> {
    drive_on(tree_in(arena(region_bytes)), script, std::iter::once(usize::MAX), Style::ReceiveOnly)
}

/// What the simulated kernel's client hears; and what went wrong on the way.
fn simulated(seed: u64, script: &[u8], region_bytes: usize, fired: &mut BTreeMap<&'static str, u64>) -> Vec<u8> {
    let fixed = !seed.is_multiple_of(4);
    let (kernel, fd) = SimKernel::with_script(seed, script, fixed);
    let (mut server, _) = server(kernel, region_bytes, fixed);
    server.connect(fd, Trust::All);
    while server.peers() > 0 {
        server.turn().expect("the simulated ring works");
    }
    let kernel = &server.ring().ring;
    kernel.fired().into_iter().for_each(|(name, count)| *fired.entry(name).or_default() += count);
    kernel.heard()
}

/// What a client of the real ring hears.
fn real(script: &[u8], region_bytes: usize, features: Features) -> Vec<u8> {
    let ring = Kernel::with(16, features).expect("io_uring works here");
    let (mut server, _) = server(ring, region_bytes, true);
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    server.connect(ours.into_raw_fd(), Trust::All);
    let script = script.to_vec();
    let mut listening = theirs.try_clone().expect("a second handle");
    let listener = std::thread::spawn(move || {
        let mut heard = Vec::new();
        listening.read_to_end(&mut heard).map(|_| heard)
    });
    let talker = std::thread::spawn(move || theirs.write_all(&script).and_then(|()| theirs.shutdown(Shutdown::Write)));
    while server.peers() > 0 {
        server.turn().expect("the ring works");
    }
    talker.join().expect("no panic").expect("the server listens");
    listener.join().expect("no panic").expect("replies, then the end")
}

/// Replies without the memory that files have, in Rgetattr and Rstatfs. It depends on which replies were on their way
/// while a file was changed (docs/decisions/16-parts.md), and so on time.
fn without_memory(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut start = 0;
    while let Some(head) = head(&bytes[start..]) {
        let memory = match head.kind {
            Kind::RGETATTR => 72..80,
            Kind::RSTATFS => 23..39,
            _ => 0..0,
        };
        if bytes.len() >= start + memory.end {
            bytes[start..][memory].fill(0);
        }
        start = (start + head.size as usize).min(bytes.len());
    }
    bytes
}

/// The first reply that differs, rather than half a megabyte of numbers.
fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    let (found, expected) = (&without_memory(found)[..], &without_memory(expected)[..]);
    let at = found.iter().zip(expected).position(|(a, b)| a != b);
    let (lengths, kinds) = ((found.len(), expected.len()), (kind_at(found, at), kind_at(expected, at)));
    assert!(
        at.is_none() && found.len() == expected.len(),
        "{what}: {lengths:?} bytes, first difference at {at:?}, in {kinds:?}"
    );
}

fn kind_at(bytes: &[u8], at: Option<usize>) -> Option<Kind> {
    let mut start = 0;
    while let Some(head) = head(&bytes[start..]) {
        start += head.size as usize;
        if start > at? {
            return Some(head.kind);
        }
    }
    None
}

#[test]
fn conversations_are_the_same_on_a_ring_that_completes_late_short_and_out_of_order() {
    let mut fired = BTreeMap::new();
    for dialect in Dialect::ALL {
        let script = conversation(dialect);
        let both = [SMALL, LARGE].map(|region| in_memory(&script, region));
        for seed in 0..60 {
            let small = seed % 3 == 0;
            let found = simulated(seed, &script, if small { SMALL } else { LARGE }, &mut fired);
            assert_same(&found, &both[usize::from(!small)], &format!("{} seed {seed}", dialect.name()));
        }
    }
    let harmless = fired.values().filter(|&&count| count > 0).count();
    assert!(harmless >= 13, "every harmless fault has happened: {fired:?}");
}

#[test]
fn random_scripts_are_the_same_on_the_real_ring_and_the_simulated_one() {
    let mut fired = BTreeMap::new();
    let all = Features::ALL;
    let mut replies = 0;
    for seed in 0..30 {
        let dialect = Dialect::ALL[seed as usize % 3];
        let script = ring9_sim::script(seed, dialect, 300);
        let expected = in_memory(&script, LARGE);
        replies += expected.len();
        let features = [all, Features { multishot: false, ..all }, Features { vectored_fixed: false, ..all }];
        assert_same(&real(&script, LARGE, features[seed as usize / 3 % 3]), &expected, &format!("seed {seed}, real"));
        assert_same(&simulated(seed, &script, LARGE, &mut fired), &expected, &format!("seed {seed}, simulated"));
    }
    assert!(replies > 1 << 20, "{replies} bytes of replies: the scripts read something");
}

/// More requests at once than are served in one turn: for those that are left no completion will come.
#[test]
fn what_a_cap_has_left_is_served_without_a_further_request() {
    let mut script = Script::new(Dialect::L);
    script.attach(0);
    for _ in 0..300 {
        script.stat(0);
    }
    for seed in 0..10 {
        let (kernel, fd) = SimKernel::with_script(seed, &script.bytes, true);
        let (mut server, stats) = server(kernel, LARGE, true);
        server.connect(fd, Trust::All);
        while server.peers() > 0 {
            server.turn().expect("the simulated ring works");
        }
        assert_eq!(stats.counters.replies.get(), 302, "seed {seed}");
    }
}
