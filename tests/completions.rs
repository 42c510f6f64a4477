//! The loop, one completion at a time: what each must end, and what it must not. Sections and numbers are those of docs/hostile-inputs.md.

mod support;

use ring9::arena::{Arena, Gauge};
use ring9::fs::ctl::Ctl;
use ring9::fs::mem::Mem;
use ring9::logging::{self, Level, Log};
use ring9::session::NOBODY;
use ring9::stats::{Lines, Stats};
use ring9::uring::{
    BACKLOG_BYTES_ALL, Grow, KEPT_BATCH_BYTES_ALL, Listener, LogTo, Options, SHARED_COUNT, Server, Trust, WINDOW_BYTES,
};
use ring9::wire::{Dialect, Kind, Message};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use support::hand_ring::{ACCEPT, HandRing};
use support::host::request;
use support::script::{Script, pattern};
use support::sqe::{ASYNC_CANCEL, CQE_F_MORE, MADVISE, Sqe, TIMEOUT, WRITE};
use support::tree_in;

const STDERR: i32 = 2;
const LISTENER: i32 = 5;
const FD: i32 = 100;
const EPERM: u8 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EMFILE: i32 = 24;
const EPIPE: i32 = 32;
const ETIME: i32 = 62;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;
const ECANCELED: i32 = 125;

struct Host {
    server: Server<HandRing, Mem>,
    stats: Rc<Stats>,
    gauge: Gauge,
}

impl Host {
    fn new(ring: HandRing) -> Host {
        Host::of(ring, 1)
    }

    /// For so many peers.
    fn of(ring: HandRing, peers: usize) -> Host {
        Host::with_log(ring, peers, None)
    }

    fn with_log(ring: HandRing, peers: usize, log: Option<LogTo>) -> Host {
        let arena = Arena::new(16 << 20).expect("a small mapping");
        let (parts, gauge) = ((arena.memory(), arena.heads(), arena.gauge()), arena.gauge());
        let stats = Rc::new(Stats::default());
        let options = Options { stats: Rc::clone(&stats), log, ..Options::new(1 << 20, peers) };
        Host { server: Server::new(ring, tree_in(arena), parts, options), stats, gauge }
    }

    /// With one peer, which has fid 1 open on a new file of this length.
    fn with_peer(ring: HandRing, len: usize) -> Host {
        let mut host = Host::new(ring);
        host.server.connect(FD, Trust::All);
        host.turns();
        host.opens(len);
        host
    }

    /// With two peers that came by one listener and have windows, of which the first has fid 1 open, as above.
    fn with_two(tcp: bool, len: usize) -> Host {
        let mut ring = HandRing::default();
        ring.multishot = false;
        let mut host = Host::of(ring, 2);
        host.server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp });
        host.turns();
        let accept = host.ring().of(ACCEPT)[0];
        host.ends(accept.user_data, FD, CQE_F_MORE);
        host.ends(accept.user_data, FD + 1, CQE_F_MORE);
        host.ring().says(FD + 1, &Script::new(Dialect::L).attach(0).bytes);
        host.opens(len);
        host
    }

    fn opens(&mut self, len: usize) {
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).create(1, b"file").write(1, 0, &pattern(len, 1));
        self.says(&script.bytes);
        assert_eq!(last_kind(&self.ring().heard), Kind::TWRITE.0 + 1);
        self.ring().heard.clear();
    }

    fn sends(&self) -> u64 {
        self.stats.counters.sends_small.get() + self.stats.counters.sends_plain.get()
    }

    /// The second peer is served, and time goes on.
    fn serves_another(&mut self, later_ns: u64) {
        self.ring().says(FD + 1, &request(|script| script.stat(0)));
        self.turns();
        self.ring().heard.clear();
        self.ring().now_ns += later_ns;
    }

    /// Begins to accept; the accept in flight.
    fn accepts(&mut self) -> u64 {
        self.server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp: false });
        self.turns();
        self.ring().of(ACCEPT)[0].user_data
    }

    /// Time goes by, and deadlines are looked at.
    fn passes(&mut self, seconds: u64) {
        self.ring().now_ns += seconds * 1_000_000_000;
        let sweep = self.ring().of(TIMEOUT)[0];
        self.ends(sweep.user_data, -ETIME, 0);
    }

    /// A receive ends with the connection.
    fn ring_ends(&mut self, user_data: u64) {
        self.ring().ends(user_data, 0, 0);
    }

    fn ring(&mut self) -> &mut HandRing {
        self.server.ring()
    }

    /// Bytes that the receive in flight has room for.
    fn room(&mut self) -> usize {
        let receive = self.ring().receives(FD)[0];
        receive.views().iter().map(|(_, len)| len).sum()
    }

    /// So many that what a completion leads to is submitted.
    fn turns(&mut self) {
        (0..3).for_each(|_| self.server.turn_now().expect("the ring works"));
    }

    fn says(&mut self, bytes: &[u8]) {
        self.ring().says(FD, bytes);
        self.turns();
    }

    fn ends(&mut self, user_data: u64, res: i32, flags: u32) {
        self.ring().ends(user_data, res, flags);
        self.turns();
    }
}

fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(head) = ring9::wire::head(bytes) {
        let (this, rest) = bytes.split_at(head.size as usize);
        all.push(this);
        bytes = rest;
    }
    all
}

fn last_kind(bytes: &[u8]) -> u8 {
    messages(bytes).last().expect("a reply")[4]
}

/// H4: a connection above the bound is closed at once.
#[test]
fn a_refused_connection_is_closed() {
    let mut host = Host::new(HandRing::default());
    host.server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp: true });
    host.turns();
    let accept = host.ring().of(ACCEPT)[0];
    host.ends(accept.user_data, FD, CQE_F_MORE);
    host.ends(accept.user_data, FD + 1, CQE_F_MORE);
    assert_eq!((host.server.peers(), host.stats.counters.refused.get()), (1, 1));
    assert_eq!(host.ring().closed, [FD + 1]);
}

/// H3: without descriptors, accepting again at once would fail again at once.
#[test]
fn a_listener_without_descriptors_pauses() {
    let mut host = Host::new(HandRing::default());
    host.server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp: true });
    host.turns();
    let accept = host.ring().of(ACCEPT)[0];
    host.ends(accept.user_data, -EMFILE, 0);
    assert!(host.ring().of(ACCEPT).is_empty(), "it waits first");
    let pause = host.ring().of(TIMEOUT)[0];
    host.ends(pause.user_data, -ETIME, 0);
    assert_eq!(host.ring().of(ACCEPT).len(), 1);
}

/// H13: a receive that is being cancelled may still bring something. A server that ends waits for it, and serves it.
#[test]
fn a_drain_serves_what_a_cancelled_receive_brings() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    let write = request(|script| script.write(1, 0, &pattern(17_000, 1)));
    let (begun, rest) = write.split_at(2_000);
    host.says(begun);
    assert_eq!(host.ring().of(ASYNC_CANCEL).len(), 1, "the rest lands in a receive of its own");
    host.server.begin_drain().expect("the ring works");
    host.turns();
    assert!(host.ring().shut.is_empty(), "the cancelled receive has not ended");
    host.ring().says_last(FD, rest);
    host.turns();
    assert_eq!(last_kind(&host.ring().heard), Kind::TWRITE.0 + 1);
    assert_eq!(host.ring().shut, [FD]);
}

/// I4: a slot is used again, and a completion of its last peer comes late.
#[test]
fn a_late_completion_is_not_the_next_peers() {
    let mut host = Host::new(HandRing::default());
    host.server.connect(FD, Trust::All);
    host.turns();
    let old = host.ring().receives(FD)[0];
    host.ends(old.user_data, 0, 0);
    assert_eq!((host.server.peers(), &host.ring().closed[..]), (0, &[FD][..]));
    assert_eq!(host.stats.connections(), (0, 0), "nor is it shown");
    host.server.connect(FD, Trust::All);
    host.turns();
    host.ends(old.user_data, 0, 0);
    assert_eq!((host.server.peers(), host.stats.counters.cqes_stale.get()), (1, 1));
    host.says(&Script::new(Dialect::L).bytes);
    assert_eq!(last_kind(&host.ring().heard), Kind::TVERSION.0 + 1);
}

/// I3, I7, I10: a receive ends for a reason that says nothing about the peer.
#[test]
fn a_receive_that_ends_is_armed_again() {
    let mut host = Host::with_peer(HandRing::default(), 100);
    for error in [EINTR, EAGAIN, ECANCELED, ENOBUFS] {
        let receive = host.ring().receives(FD)[0];
        host.ends(receive.user_data, -error, 0);
        assert_eq!(host.ring().receives(FD).len(), 1, "after error {error}");
    }
    host.ring().says_last(FD, &request(|script| script.read(1, 0, 100)));
    host.turns();
    assert_eq!((host.ring().receives(FD).len(), host.ring().heard.len()), (1, 111));
    assert_eq!(host.ring().buffers_here() + host.server.spare_buffers(), usize::from(SHARED_COUNT));
}

/// I7: the kernel has twice as many shared buffers as the last turns needed, and keeps no more than that for long.
#[test]
fn buffers_follow_what_turns_need() {
    let mut host = Host::with_peer(HandRing::default(), 100);
    let few = host.ring().buffers_here();
    assert_eq!(few + host.server.spare_buffers(), usize::from(SHARED_COUNT));
    let read = request(|script| script.read(1, 0, 100));
    let says = |host: &mut Host, times: usize| {
        (0..times).for_each(|_| host.ring().says(FD, &read));
        host.turns();
        assert_eq!(std::mem::take(&mut host.ring().heard).len(), times * 111);
        host.ring().buffers_here()
    };
    assert_eq!(says(&mut host, few / 2), few);
    assert_eq!(says(&mut host, few / 2 + 1), 2 * few);
    // None was left: who came last had to wait for the next turn.
    let most = 16 * few;
    assert_eq!(says(&mut host, 2 * few), most);
    for _ in 0..3 {
        let sweep = host.ring().of(TIMEOUT)[0];
        host.ends(sweep.user_data, -ETIME, 0);
    }
    // What is too much is kept back when it is seen.
    assert_eq!(host.ring().buffers_here(), most);
    let kept: Vec<_> = (1..=30).map(|_| says(&mut host, few / 2)).collect();
    let expected: Vec<_> = (1..=30).map(|calls| (most - calls * few / 2).max(2 * few)).collect();
    assert_eq!(kept, expected);
}

/// H10: long replies leave in pieces while somebody else has short ones, and whole otherwise; what is sent is the same.
#[test]
fn long_replies_are_cut_beside_short_ones() {
    const LEN: usize = 60_000;
    let mut host = Host::with_peer(HandRing::default(), LEN);
    host.server.connect(FD + 1, Trust::All);
    host.turns();
    let mut short = Script::new(Dialect::L);
    host.ring().says(FD + 1, &short.attach(0).bytes);
    host.turns();
    let reads = request(|script| (0..6).fold(script, |script, _| script.read(1, 0, LEN as u32)));
    let all = 6 * (11 + LEN);
    let heard_by_turns = |host: &mut Host, later_ns: u64| {
        host.ring().now_ns += later_ns;
        host.ring().heard.clear();
        host.ring().says(FD, &reads);
        let heard = [2, 3, 3].map(|turns| {
            (0..turns).for_each(|_| host.server.turn_now().expect("the ring works"));
            host.ring().heard.len()
        });
        assert!(messages(&host.ring().heard).iter().all(|reply| reply[11..] == pattern(LEN, 1)));
        heard
    };
    assert_eq!(heard_by_turns(&mut host, 0), [256 << 10, all, all]);
    assert_eq!(heard_by_turns(&mut host, 999_000), [256 << 10, all, all]);
    assert_eq!(heard_by_turns(&mut host, 1_000), [all, all, all]);
    // Its own short replies are no reason, and hide nobody else's.
    let short = |host: &mut Host, fd: i32| {
        host.ring().says(fd, &request(|script| script.stat(u32::from(fd == FD))));
        host.turns();
    };
    short(&mut host, FD);
    assert_eq!(heard_by_turns(&mut host, 0), [all, all, all]);
    short(&mut host, FD + 1);
    short(&mut host, FD);
    assert_eq!(heard_by_turns(&mut host, 0), [256 << 10, all, all]);
}

/// H10: what the socket of a peer of TCP has already is received before replies leave, while others are served: a few times, and then those have their turn.
#[test]
fn replies_leave_together_where_others_are_served() {
    let read = request(|script| script.read(1, 0, 100));
    for (tcp, later_ns, sends) in [(true, 0, 2), (true, 19_999, 2), (true, 20_000, 8), (false, 0, 8)] {
        let mut host = Host::with_two(tcp, 100);
        host.serves_another(later_ns);
        let before = host.sends();
        host.ring().says_part(FD, &read);
        host.ring().there.insert(FD, (0..7).map(|_| read.clone()).collect());
        (0..9).for_each(|_| host.server.turn_now().expect("the ring works"));
        assert_eq!(host.ring().heard.len(), 8 * 111);
        assert_eq!(host.sends() - before, sends, "tcp: {tcp}, {later_ns} ns later");
        assert_eq!(host.stats.counters.receives_again.get(), if sends == 2 { 4 + 2 } else { 0 });
        assert_eq!(host.ring().receives(FD).len(), 1);
    }
    // Half of a request, nothing behind it, and a receive that fails: whatever comes, what was served is answered.
    let mut host = Host::with_two(true, 100);
    host.serves_another(0);
    host.ring().says_part(FD, &[&read[..], &read[..9]].concat());
    host.turns();
    assert_eq!((host.ring().heard.len(), host.ring().receives(FD).len()), (111, 1));
    let receive = host.ring().receives(FD)[0];
    host.ends(receive.user_data, -EINTR, 0);
    host.ring().says(FD, &read[9..]);
    host.turns();
    assert_eq!((host.ring().heard.len(), host.server.peers()), (2 * 111, 2));
}

/// What follows a payload is received with it, up to a window of the usual size. All of it is served.
#[test]
fn a_payload_ends_with_what_follows_it() {
    const HEAD: usize = 1000;
    const ROOM: usize = 16 << 10;
    let read = request(|script| script.read(1, 0, 100));
    for (tcp, later_ns, len) in [(true, 0, 32 << 10), (true, 20_000, 32 << 10), (false, 0, 60 << 10)] {
        let mut host = Host::with_two(tcp, 100);
        host.serves_another(later_ns);
        let write = request(|script| script.write(1, 0, &pattern(len, 2)));
        host.ring().says(FD, &write[..HEAD]);
        host.turns();
        let receive = host.ring().receives(FD)[0];
        let bytes: usize = receive.views().iter().map(|(_, len)| len).sum();
        assert_eq!(bytes, write.len() - HEAD + ROOM, "{len} bytes, tcp: {tcp}, {later_ns} ns later");
        let behind = (0..bytes).flat_map(|_| read.clone()).take(ROOM);
        host.ring().says(FD, &write[HEAD..].iter().copied().chain(behind).collect::<Vec<_>>());
        (0..99).for_each(|_| host.server.turn_now().expect("the ring works"));
        let replies = messages(&host.ring().heard).len();
        assert_eq!(replies, 1 + ROOM / read.len());
        assert_eq!(host.ring().heard[22..122], pattern(len, 2)[..100]);
        assert_eq!(host.stats.counters.landings_mixed.get(), 1);
    }
}

/// Payloads of medium size are received whole once one was not. The window has room for one message, for more now and
/// then, and for less again when a larger payload comes or nothing does.
#[test]
fn a_window_follows_the_payloads_that_come() {
    const LEN: usize = 32 << 10;
    let write = request(|script| script.write(1, 0, &pattern(LEN, 2)));
    let begins = |host: &mut Host| {
        host.says(&write[..1000]);
        assert_eq!(host.room(), write.len() - 1000 + WINDOW_BYTES, "the first one lands");
        host.says(&write[1000..]);
    };
    let mut ring = HandRing::default();
    ring.multishot = false;
    let mut host = Host::with_peer(ring, 100);
    assert_eq!(host.room(), WINDOW_BYTES);
    begins(&mut host);
    assert_eq!(host.stats.counters.landings_mixed.get(), 1);
    for _ in 0..40 {
        assert_eq!(host.room(), write.len());
        host.says(&write[..5000]);
        assert_eq!(host.room(), write.len() - 5000, "the rest of the message");
        host.says(&write[5000..]);
    }
    assert_eq!(messages(&host.ring().heard).len(), 41);
    // One that is larger than the last one has room as soon as its size is known.
    let larger = request(|script| script.write(1, 0, &pattern(48 << 10, 2)));
    host.says(&larger[..write.len()]);
    assert_eq!(host.room(), larger.len() - write.len());
    host.says(&larger[write.len()..]);
    assert_eq!(host.room(), larger.len());
    host.says(&write);
    assert_eq!((host.room(), messages(&host.ring().heard).len()), (write.len(), 43));
    // The socket has more than what was received: a wider receive is due, and brings six messages.
    host.ring().says_part(FD, &write);
    host.turns();
    assert_eq!(host.room(), 6 * write.len());
    host.says(&write.repeat(6));
    assert_eq!((host.room(), messages(&host.ring().heard).len()), (2 * write.len(), 50));
    assert_eq!((host.stats.counters.landings_mixed.get(), host.server.window_bytes()), (1, 256 << 10));
    // Nothing comes for two seconds.
    let receive = host.ring().receives(FD)[0].user_data;
    (0..2).for_each(|_| host.passes(1));
    host.ends(receive, -ECANCELED, 0);
    assert_eq!((host.room(), host.server.window_bytes()), (WINDOW_BYTES, WINDOW_BYTES));
    // A payload that is too large to be received whole.
    begins(&mut host);
    assert_eq!(host.room(), write.len());
    let large = request(|script| script.write(1, 0, &pattern(100_000, 3)));
    host.says(&large[..write.len()]);
    host.says(&large[write.len()..]);
    assert_eq!((host.room(), host.server.window_bytes()), (WINDOW_BYTES, WINDOW_BYTES));
}

/// H9: wide windows have no more than half of what windows may have beyond their usual size. Beyond it payloads land.
#[test]
fn windows_are_wide_while_there_is_memory_for_them() {
    const PEERS: usize = 600;
    const ALL: usize = BACKLOG_BYTES_ALL / 2;
    let mut ring = HandRing::default();
    ring.multishot = false;
    let mut host = Host::of(ring, PEERS);
    let write = request(|script| script.write(1, 0, &pattern(32 << 10, 2)));
    for at in 0..PEERS {
        let fd = FD + at as i32;
        host.server.connect(fd, Trust::All);
        host.turns();
        let mut script = Script::new(Dialect::L);
        // All have one file, since 600 are more than the tree has memory for.
        match at {
            0 => script.attach(0).walk(0, 1, &[]).create(1, b"file"),
            _ => script.attach(0).walk(0, 1, &[b"file"]).open(1, true),
        };
        for part in [&script.bytes[..], &write[..1000], &write[1000..]] {
            host.ring().says(fd, part);
            host.turns();
        }
        // Wide ones have 64 KiB each, up to the bound, and all others the usual size.
        let usual = (at + 1).saturating_sub(ALL / (64 << 10)) * WINDOW_BYTES;
        let bytes = host.server.window_bytes();
        assert!(bytes <= ALL + (64 << 10) + usual, "{bytes} bytes of {} peers", at + 1);
    }
    assert!(host.server.window_bytes() > ALL - (64 << 10), "they are used: {}", host.server.window_bytes());
    // The last one has a usual window. What is in it begins to land, as there is no room for the rest.
    let last = FD + PEERS as i32 - 1;
    let landings = host.stats.counters.landings_mixed.get();
    host.ring().heard.clear();
    for part in [&write[..1000], &[&write[1000..], &write[..10_000]].concat(), &write[10_000..]] {
        host.ring().says(last, part);
        host.turns();
    }
    assert_eq!(messages(&host.ring().heard).len(), 2);
    assert_eq!(host.stats.counters.landings_mixed.get() - landings, 2);
}

/// I2, I3: a socket that is full, or takes a part, hears the rest later.
#[test]
fn a_send_that_is_cut_short_goes_on() {
    let mut host = Host::with_peer(HandRing::default(), 5000);
    for socket_bytes in [0, 1, 11, 12, 5010] {
        host.ring().socket_bytes = socket_bytes;
        host.ring().heard.clear();
        host.says(&request(|script| script.read(1, 0, 5000)));
        while host.ring().heard.len() < 5011 {
            host.ring().hears(FD, 3000);
            host.turns();
        }
        assert!(host.ring().heard[11..] == pattern(5000, 1), "a socket of {socket_bytes} bytes");
    }
    assert_eq!((host.server.peers(), host.gauge.pins()), (1, 0));
}

/// I14: the table grows while a send that names a slot of it is queued. That slot is emptied once the kernel has looked it up, and not before.
#[test]
fn a_slot_is_emptied_once_nothing_queued_names_it() {
    let mut ring = HandRing::default();
    (ring.vectored_fixed, ring.vectored_send) = (true, false);
    let mut host = Host::with_peer(ring, 5000);
    host.server.register(15 << 20).expect("the ring has a table");
    host.ring().says(FD, &request(|script| script.read(1, 0, 5000)));
    host.server.turn_now().expect("the ring works");
    assert_eq!((host.stats.counters.sends_fixed.get(), host.ring().heard.len()), (1, 0), "it is queued");
    host.server.register(16 << 20).expect("the ring has a table");
    assert!(host.ring().emptied.is_empty());
    host.turns();
    assert_eq!(host.ring().emptied, [0]);
    assert!(host.ring().heard[11..] == pattern(5000, 1));
}

/// I8: a peer breaks while its reply is on its way. What the kernel may still read stays, and so does the number of the descriptor.
#[test]
fn a_peer_stays_until_nothing_is_in_flight() {
    let mut host = Host::with_peer(HandRing::default(), 10_000);
    host.ring().socket_bytes = 0;
    host.says(&request(|script| script.read(1, 0, 10_000)));
    let receive = host.ring().receives(FD)[0];
    host.ends(receive.user_data, -ECONNRESET, 0);
    assert_eq!(host.ring().shut, [FD]);
    assert_eq!((host.server.peers(), host.gauge.pins()), (1, 1));
    assert!(host.ring().closed.is_empty());
    let send = host.ring().send(FD);
    host.ends(send.user_data, -EPIPE, 0);
    assert_eq!((host.server.peers(), host.gauge.pins()), (0, 0));
    assert_eq!(host.ring().closed, [FD]);
}

/// I8: the cancellation has ended, its target has not: it may bring bytes yet, which belong in front of whatever the next receive brings.
#[test]
fn a_cancellation_does_not_end_its_target() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    let payload = request(|script| script.write(1, 0, &pattern(100_000, 2)));
    host.says(&payload[..1000]);
    let cancel = host.ring().of(ASYNC_CANCEL)[0];
    let target = host.ring().receives(FD)[0];
    host.ends(cancel.user_data, 0, 0);
    assert_eq!(host.ring().receives(FD).len(), 1, "no second one beside it");
    host.says(&payload[1000..3000]);
    host.ends(target.user_data, -ECANCELED, 0);
    host.says(&payload[3000..]);
    assert_eq!(last_kind(&host.ring().heard), Kind::TWRITE.0 + 1);
    host.says(&request(|script| script.read(1, 0, 100_000)));
    assert!(messages(&host.ring().heard)[1][11..] == pattern(100_000, 2));
}

/// I5: a quiet send has no completion. As long as it may still be in the queue, that says nothing.
#[test]
fn a_quiet_send_that_is_not_submitted_is_not_over() {
    let mut host = Host::with_peer(HandRing::default(), 10_000);
    let replies = host.stats.counters.replies.get();
    host.ring().stuck = true;
    host.says(&request(|script| script.read(1, 0, 10_000)));
    assert_eq!((host.stats.counters.replies.get(), host.gauge.pins()), (replies, 1));
    host.ring().stuck = false;
    host.turns();
    assert_eq!((host.stats.counters.replies.get(), host.gauge.pins()), (replies + 1, 0));
    assert!(host.ring().heard[11..] == pattern(10_000, 1));
}

/// I6: a queue with one place. Whatever finds it full is submitted all the same.
#[test]
fn a_full_queue_loses_nothing() {
    for multishot in [true, false] {
        let mut ring = HandRing::default();
        (ring.room, ring.multishot) = (1, multishot);
        let mut host = Host::with_peer(ring, 100);
        for _ in 0..3 {
            host.says(&request(|script| script.read(1, 0, 100)));
        }
        assert_eq!(host.ring().heard.len(), 3 * 111);
        assert_eq!((host.ring().receives(FD).len(), host.ring().of(TIMEOUT).len()), (1, 1), "and the next sweep waits");
    }
}

/// H5: a peer that takes a byte of its replies now and then is overdue after 30 s and 10,000 bytes at 64 KiB/s, whatever the last byte was.
/// That alone does not end it; another client that needs its place does.
#[test]
fn a_reply_that_does_not_leave_costs_its_connection_when_another_one_comes() {
    let mut host = Host::with_peer(HandRing::default(), 10_000);
    let accept = host.accepts();
    host.ring().socket_bytes = 0;
    host.says(&request(|script| script.read(1, 0, 10_000)));
    for second in (0..60).step_by(2) {
        host.ring().hears(FD, 1);
        host.turns();
        host.passes(2);
        assert_eq!(host.server.overdue(), usize::from(second >= 30), "after {second} s");
    }
    assert!(host.ring().shut.is_empty());
    host.ends(accept, FD + 1, CQE_F_MORE);
    assert_eq!((host.stats.counters.refused.get(), &host.ring().shut[..]), (0, &[FD][..]));
    let sent = host.ring().send(FD).user_data;
    host.ends(sent, -EPIPE, 0);
    host.ring().receives(FD).iter().for_each(|receive| host.ring_ends(receive.user_data));
    host.turns();
    assert_eq!((host.server.peers(), &host.ring().closed[..]), (1, &[FD][..]));
    // The new one is not overdue.
    host.ends(accept, FD + 2, CQE_F_MORE);
    assert_eq!((host.stats.counters.refused.get(), &host.ring().closed[..]), (1, &[FD, FD + 2][..]));
}

/// H5: nothing that it holds is needed, and 12 hours have passed.
#[test]
fn a_reply_that_does_not_leave_for_hours_ends_its_connection() {
    let mut host = Host::with_peer(HandRing::default(), 10_000);
    host.ring().socket_bytes = 0;
    host.says(&request(|script| script.read(1, 0, 10_000)));
    for second in (0..12 * 3600 + 60).step_by(2) {
        assert_eq!(host.ring().shut.is_empty(), second <= 12 * 3600 + 30, "after {second} s");
        host.passes(2);
    }
}

/// Stats of the root: their replies queue, as long as no socket takes any.
fn flood() -> Vec<u8> {
    request(|script| (0..2000).fold(script, |script, _| script.stat(0)))
}

/// H5: a peer that is ahead of what it is served is not received from, until it has taken its replies.
#[test]
fn a_peer_that_is_ahead_is_not_received_from() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    host.ring().socket_bytes = 0;
    let flood = flood();
    let mut said = 0;
    while host.ring().of(ASYNC_CANCEL).is_empty() {
        assert!(said < 10 * flood.len(), "a multishot receive goes on after {said} bytes");
        host.says(&flood);
        said += flood.len();
    }
    let receive = host.ring().receives(FD)[0];
    host.ends(receive.user_data, -ECANCELED, 0);
    assert!(host.ring().receives(FD).is_empty(), "it has 64 KiB that are not served");
    // All that it has said is served as it takes its replies, and then it is received from again.
    host.ring().socket_bytes = usize::MAX;
    host.ring().hears(FD, usize::MAX);
    (0..200).for_each(|_| host.turns());
    assert_eq!((host.ring().receives(FD).len(), host.server.window_bytes()), (1, 0));
    assert_eq!(messages(&host.ring().heard).len(), said / flood.len() * 2000);
    // From now on messages are served where they were received.
    host.says(&request(|script| script.stat(0)));
    assert_eq!((messages(&host.ring().heard).len(), host.server.window_bytes()), (said / flood.len() * 2000 + 1, 0));
}

/// A message that comes in two parts has a window until it is whole.
#[test]
fn a_window_goes_with_the_message_that_needed_it() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    let stat = request(|script| script.stat(1));
    host.says(&stat[..9]);
    assert!(host.server.window_bytes() > 0);
    host.says(&stat[9..]);
    assert_eq!((messages(&host.ring().heard).len(), host.server.window_bytes()), (1, 0));
}

/// H1: a peer that is quiet for a while gives back memory that it does not use, each time.
#[test]
fn quiet_peers_give_memory_back() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    let fid_bytes = |host: &Host| host.stats.counters.fid_bytes.get();
    for _ in 0..3 {
        for part in 0..4 {
            let fids = 100 + 50 * part..150 + 50 * part;
            host.says(&request(|script| fids.clone().fold(script, |script, fid| script.walk(0, fid, &[]))));
            host.passes(1);
        }
        host.says(&request(|script| (100..300).fold(script, |script, fid| script.clunk(fid))));
        let many = fid_bytes(&host);
        host.passes(1);
        assert_eq!(fid_bytes(&host), many, "it was not quiet for long");
        (0..2).for_each(|_| host.passes(1));
        assert!(fid_bytes(&host) < many, "{many} bytes");
    }
}

/// H1: a peer that has sent a large payload and is quiet then has no window.
#[test]
fn quiet_peers_have_no_window() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    let write = request(|script| script.write(1, 0, &pattern(40_000, 2)));
    host.says(&write[..1000]);
    let shared = host.ring().receives(FD)[0];
    host.ends(shared.user_data, -ECANCELED, 0);
    host.says(&write[1000..]);
    assert_eq!((last_kind(&host.ring().heard), host.server.window_bytes() > 0), (Kind::TWRITE.0 + 1, true));
    let cancels = host.ring().of(ASYNC_CANCEL).len();
    (0..4).for_each(|_| host.passes(1));
    assert_eq!(host.ring().of(ASYNC_CANCEL).len(), cancels + 1, "its receive into the window is to end");
    let window = host.ring().receives(FD)[0];
    host.ends(window.user_data, -ECANCELED, 0);
    assert_eq!((host.ring().receives(FD)[0].shares(), host.server.window_bytes()), (true, 0));
}

/// Memory of replies that is kept for the next ones is bounded, and used for them.
#[test]
fn memory_of_replies_is_kept_within_a_bound_and_used_again() {
    const PEERS: i32 = 600;
    let kept = |host: &Host| host.stats.counters.kept_bytes.get() as usize;
    let mut host = Host::with_peer(HandRing::default(), 10);
    let stat = request(|script| script.stat(1));
    host.says(&stat);
    let of_one = kept(&host);
    (0..100).for_each(|_| host.says(&stat));
    assert_eq!(kept(&host), of_one);
    // Nothing is lent to a peer that has no reply.
    host.says(&stat[..9]);
    assert_eq!((kept(&host), of_one > 0), (of_one, true));

    let mut ring = HandRing::default();
    ring.room = 10_000;
    let mut host = Host::of(ring, PEERS as usize);
    let stats = (0..64).fold(Script::new(Dialect::L).attach(0).bytes.to_vec(), |bytes, _| {
        [bytes, request(|script| script.stat(0))].concat()
    });
    host.ring().socket_bytes = 0;
    for fd in FD..FD + PEERS {
        host.server.connect(fd, Trust::All);
        host.turns();
        host.ring().says(fd, &stats);
        host.turns();
    }
    (FD..FD + PEERS).for_each(|fd| host.ring().hears(fd, usize::MAX));
    host.turns();
    assert!((KEPT_BATCH_BYTES_ALL / 2..=KEPT_BATCH_BYTES_ALL).contains(&kept(&host)), "{} bytes", kept(&host));
}

/// Three peers, whose windows are to grow beyond what all may have together.
struct Windows {
    host: Host,
    flood: Vec<u8>,
}

impl Windows {
    fn new() -> Windows {
        let mut host = Host::of(HandRing::default(), 3);
        for fd in FD..FD + 3 {
            host.server.connect(fd, Trust::All);
            host.turns();
            host.ring().says(fd, &Script::new(Dialect::L).attach(0).bytes);
            host.turns();
        }
        host.ring().socket_bytes = 0;
        Windows { host, flood: flood() }
    }

    /// This peer asks, takes no replies, and asks on until the windows of all have so many bytes. Its receive is being
    /// cancelled, and brings what has arrived before that.
    fn grow(&mut self, peer: i32, bytes: usize) {
        while self.host.server.window_bytes() < bytes {
            self.host.ring().says(FD + peer, &self.flood);
            self.host.turns();
        }
    }

    /// The peers that were ended so far.
    fn shut(&mut self) -> Vec<i32> {
        self.host.ring().shut.iter().map(|fd| fd - FD).collect()
    }

    /// Whatever is in flight for this peer ends.
    fn goes(&mut self, peer: i32) {
        let fd = FD + peer;
        let sends = self.host.ring().in_flight.iter().filter(|sqe| sqe.fd == fd && sqe.is_send()).copied().collect();
        for sqe in [self.host.ring().receives(fd), sends].concat() {
            self.host.ring().ends(sqe.user_data, -ECONNRESET, 0);
        }
        self.host.turns();
    }
}

/// H5: past the bound on all windows the peer with the largest one goes, and the next one not before that is gone.
#[test]
fn the_largest_window_goes_and_one_at_a_time() {
    let mut windows = Windows::new();
    windows.grow(0, 2 << 20);
    windows.grow(2, 6 << 20);
    assert_eq!(windows.shut(), []);
    windows.grow(1, BACKLOG_BYTES_ALL);
    (0..5).for_each(|_| windows.host.turns());
    assert_eq!((windows.shut(), windows.host.stats.counters.evicted.get()), (vec![1], 1));
    windows.goes(1);
    assert_eq!(windows.host.server.peers(), 2);
    assert!(windows.host.server.window_bytes() <= 16 << 20, "{} bytes are left", windows.host.server.window_bytes());
    // Whoever was ended before is forgotten: the next one that has the largest window goes as well.
    windows.grow(2, BACKLOG_BYTES_ALL);
    assert_eq!((windows.shut(), windows.host.stats.counters.evicted.get()), (vec![1, 2], 2));
    windows.goes(2);
    assert_eq!(windows.host.server.peers(), 1);
    // Each time all that memory went back to the system with the next look, and then nothing more.
    windows.host.passes(1);
    let trims = windows.host.ring().trims;
    assert!(trims > 0);
    (0..3).for_each(|_| windows.host.passes(1));
    assert_eq!(windows.host.ring().trims, trims);
}

/// H5: past the bound on all windows a peer that is overdue goes first, if it has a window.
#[test]
fn of_windows_that_of_an_overdue_peer_goes_first() {
    let mut windows = Windows::new();
    // Both are overdue soon, and the first one for longer; but it has no window.
    windows.host.ring().says(FD, &request(|script| script.stat(0)));
    windows.host.passes(2);
    windows.grow(2, 1 << 20);
    (0..20).for_each(|_| windows.host.passes(2));
    assert_eq!(windows.host.server.overdue(), 2);
    windows.grow(1, BACKLOG_BYTES_ALL);
    assert_eq!(windows.shut(), [2]);
}

/// H3: where descriptors run out, the connection that is overdue gives its own.
#[test]
fn without_descriptors_an_overdue_connection_goes() {
    let mut host = Host::with_peer(HandRing::default(), 10_000);
    let accept = host.accepts();
    host.ring().socket_bytes = 0;
    host.says(&request(|script| script.read(1, 0, 10_000)));
    (0..20).for_each(|_| host.passes(2));
    host.ends(accept, -EMFILE, 0);
    assert_eq!(host.ring().shut, [FD]);
}

/// H6: a machine that answers nothing keeps its connection until another client needs one.
#[test]
fn a_silent_machine_gives_its_place() {
    const MINUTES: u64 = 60_000_000_000;
    let mut host = Host::with_two(true, 10);
    let accept = host.ring().of(ACCEPT)[0].user_data;
    host.ring().silent_ns = BTreeMap::from([(FD, 2 * MINUTES), (FD + 1, 4 * MINUTES)]);
    host.ends(accept, FD + 2, CQE_F_MORE);
    assert_eq!((host.stats.counters.refused.get(), &host.ring().shut[..]), (1, &[][..]), "nothing is known yet");
    host.passes(1);
    host.ends(accept, FD + 3, CQE_F_MORE);
    assert_eq!((host.stats.counters.refused.get(), &host.ring().shut[..]), (1, &[FD + 1][..]));
    host.ends(accept, FD + 4, CQE_F_MORE);
    assert_eq!((host.stats.counters.refused.get(), &host.ring().shut[..]), (2, &[FD + 1][..]), "2 min are a pause");
}

/// H6: how long machines have been silent is asked in the second after a connection was refused, and not from then on.
#[test]
fn silent_machines_are_asked_for_once() {
    let mut host = Host::with_two(true, 10);
    let accept = host.ring().of(ACCEPT)[0].user_data;
    host.ring().silent_ns = BTreeMap::from([(FD, 300_000_000_000)]);
    host.passes(1);
    assert_eq!(host.server.overdue(), 0);
    host.ends(accept, FD + 2, CQE_F_MORE);
    let overdue = [1, 2, 3].map(|_| {
        host.passes(1);
        host.server.overdue()
    });
    assert_eq!((host.stats.counters.refused.get(), overdue), (1, [1, 0, 0]));
}

/// I1: a head slot is given back when its send has ended, so that replies leave through the table however many there were.
#[test]
fn head_slots_are_used_again() {
    const READS: usize = 3000;
    let mut ring = HandRing::default();
    (ring.vectored_fixed, ring.vectored_send) = (true, false);
    let mut host = Host::with_peer(ring, 5000);
    host.server.register(16 << 20).expect("the ring has a table");
    for _ in 0..READS {
        host.says(&request(|script| script.read(1, 0, 5000)));
    }
    assert_eq!(host.stats.counters.sends_fixed.get(), READS as u64);
}

/// Memory is populated ahead of need, again and again.
#[test]
fn memory_grows_step_by_step() {
    let arena = Arena::new(16 << 20).expect("a small mapping");
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let options = Options { grow: Some(Grow::from(1 << 20)), ..Options::new(1 << 20, 1) };
    let mut server = Server::new(HandRing::default(), tree_in(arena), parts, options);
    server.connect(FD, Trust::All);
    let turns = |server: &mut Server<HandRing, Mem>| (0..9).for_each(|_| server.turn_now().expect("the ring works"));
    turns(&mut server);
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[]).create(1, b"file");
    server.ring().says(FD, &script.bytes);
    turns(&mut server);
    let mut grown = Vec::new();
    for part in 0..500 {
        server.ring().says(FD, &request(|script| script.write(1, part * 16_000, &pattern(16_000, 1))));
        turns(&mut server);
        let populates = server.ring().of(MADVISE);
        assert!(populates.len() <= 1, "one at a time");
        if let Some(populate) = populates.first() {
            grown.push(part * 16_000 / 1024);
            server.ring().ends(populate.user_data, 0, 0);
            turns(&mut server);
        }
    }
    // Three quarters of 1, 2, 4 and 8 MiB.
    assert_eq!(grown.len(), 4, "at {grown:?} KiB");
}

/// Attaches as root and makes a file; its owner, or the errno of the attach.
fn owner(identity: Option<u32>, trust: Trust) -> Result<u32, u8> {
    let mut host = Host::new(HandRing::default());
    host.ring().identity = identity;
    host.server.connect(FD, trust);
    host.turns();
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[]).create(1, b"file").stat(1);
    host.says(&script.bytes);
    let heard = host.ring().heard.clone();
    let replies = messages(&heard);
    match Message::parse(replies.last().expect("a reply"), Dialect::L).expect("a message").1 {
        Message::Rgetattr { uid, .. } => Ok(uid),
        _ => Err(replies[1][7]),
    }
}

/// Whether a peer of this identity may attach to `ctl` as root, of a server that runs as user 1000.
fn sees_ctl(identity: Option<u32>, trust: Trust, tcp: bool) -> bool {
    let arena = Arena::new(16 << 20).expect("a small mapping");
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let log = Arc::new(Mutex::new(Lines::new(1000)));
    let ctl = Ctl::new(Rc::default(), arena.gauge(), log);
    let mut ring = HandRing::default();
    ring.identity = identity;
    let mut server = Server::new(ring, ctl, parts, Options { owner: 1000, ..Options::new(1 << 20, 1) });
    server.listen(Listener { fd: LISTENER, name: "here".into(), trust, tcp });
    let turns = |server: &mut Server<HandRing, Ctl>| (0..3).for_each(|_| server.turn_now().expect("the ring works"));
    turns(&mut server);
    let accept = server.ring().of(ACCEPT)[0];
    server.ring().ends(accept.user_data, FD, CQE_F_MORE);
    turns(&mut server);
    server.ring().says(FD, &Script::new(Dialect::L).attach(0).bytes);
    turns(&mut server);
    last_kind(&server.ring().heard) == Kind::TATTACH.0 + 1
}

/// K11: the server shows itself to root and its own user at the other end of a unix socket,
/// whatever the listener's trust.
#[test]
fn the_server_shows_itself_to_its_owner_alone() {
    for trust in [Trust::All, Trust::PeerUid] {
        assert!(sees_ctl(Some(0), trust, false));
        assert!(!sees_ctl(Some(0), trust, true), "by TCP");
        assert!(!sees_ctl(Some(1001), trust, false));
        assert!(!sees_ctl(None, trust, false));
    }
    assert!(sees_ctl(Some(1000), Trust::All, false));
    assert!(!sees_ctl(Some(0), Trust::Squash, false), "as nobody");
}

/// K1, K3: what a listener's trust makes of a peer that says it is root.
#[test]
fn the_trust_of_a_listener_decides_who_a_peer_is() {
    assert_eq!(owner(None, Trust::All), Ok(0));
    assert_eq!(owner(Some(0), Trust::Squash), Ok(NOBODY));
    assert_eq!(owner(Some(0), Trust::PeerUid), Ok(0));
    assert_eq!(owner(Some(1000), Trust::PeerUid), Err(EPERM));
    assert_eq!(owner(None, Trust::PeerUid), Ok(NOBODY), "who cannot be known is nobody");
}

/// A server whose log has these bounds.
fn with_lines(bytes_max: usize, lines_per_second: u32) -> (Host, Arc<Log>) {
    let options = logging::Options { bytes_max, lines_per_second };
    let log = Arc::new(Log::new(Arc::new(Mutex::new(Lines::new(10_000))), options));
    let to = LogTo { log: Arc::clone(&log), fd: STDERR };
    (Host::with_log(HandRing::default(), 2, Some(to)), log)
}

/// The one write of log lines in flight, and what it offers.
fn write_of(host: &mut Host) -> (Sqe, String) {
    let writes = host.ring().of(WRITE);
    assert_eq!((writes.len(), writes[0].fd), (1, STDERR), "one at a time");
    let offered = host.ring().offered(&writes[0]);
    (writes[0], String::from_utf8(offered).expect("text"))
}

/// The next sweep comes.
fn a_second_later(host: &mut Host) {
    host.ring().now_ns += 1_000_000_000;
    let sweep = host.ring().of(TIMEOUT)[0];
    host.ends(sweep.user_data, -ETIME, 0);
}

/// I15: while a write of log lines does not complete, a peer is served, lines without room are
/// counted, and a drain ends.
#[test]
fn a_log_write_that_does_not_end_keeps_nobody_waiting() {
    for signals in [1, 2] {
        let (mut host, log) = with_lines(1000, 5);
        host.server.connect(FD, Trust::All);
        log.say(Level::Info, "first", format_args!("first"), 0);
        host.turns();
        assert_eq!(write_of(&mut host).1, "ring9: first\n");
        for n in 0..100 {
            log.say(Level::Trace, "message", format_args!("message {n}"), 0);
            host.turns();
        }
        host.opens(10);
        let dropped = host.stats.counters.log_lines_dropped.get();
        assert!((60..100).contains(&dropped), "{dropped} dropped");
        assert_eq!(write_of(&mut host).1, "ring9: first\n", "what is in flight stays as it is");

        (0..signals).for_each(|_| host.server.begin_drain().expect("the ring works"));
        host.turns();
        // The peer's receives end with its socket.
        for receive in host.ring().receives(FD) {
            host.ends(receive.user_data, 0, 0);
        }
        assert_eq!((host.server.peers(), host.server.is_over()), (0, signals == 2));
        if signals == 1 {
            a_second_later(&mut host);
        }
        assert!(host.server.is_over());
        assert_eq!(host.ring().of(WRITE).len(), 1, "it is left in flight");
    }
}

/// I15: the rest of a short write goes next, and then the waiting lines. After an error the lines
/// of the write are dropped, and the descriptor rests.
#[test]
fn what_a_log_write_leaves_goes_next_and_an_error_drops_it() {
    let (mut host, log) = with_lines(10_000, 5);
    log.say(Level::Info, "one", format_args!("one"), 0);
    host.turns();
    log.say(Level::Info, "two", format_args!("two"), 0);
    let (write, _) = write_of(&mut host);
    host.ends(write.user_data, 3, 0);
    let (write, text) = write_of(&mut host);
    assert_eq!(text, "g9: one\n");
    host.ends(write.user_data, 8, 0);
    let (write, text) = write_of(&mut host);
    assert_eq!(text, "ring9: two\n");

    // Nothing is lost where it would have had to wait.
    host.ends(write.user_data, -EAGAIN, 0);
    assert!(host.ring().of(WRITE).is_empty(), "it is not tried again at once");
    a_second_later(&mut host);
    let (write, text) = write_of(&mut host);
    assert_eq!(text, "ring9: two\n");

    host.ends(write.user_data, -EPIPE, 0);
    assert_eq!(host.stats.counters.log_lines_dropped.get(), 1);
    log.say(Level::Info, "three", format_args!("three"), 0);
    host.turns();
    assert!(host.ring().of(WRITE).is_empty(), "it is not tried again at once");
    a_second_later(&mut host);
    let (write, text) = write_of(&mut host);
    assert_eq!(text, "ring9: warn: 1 lines were dropped\nring9: three\n");
    host.ends(write.user_data, text.len() as i32, 0);
    assert!(host.ring().of(WRITE).is_empty() && !log.is_waiting());

    // The completion of no write is ignored.
    let stale = host.stats.counters.cqes_stale.get();
    host.ends(write.user_data, 5, 0);
    assert_eq!(host.stats.counters.cqes_stale.get(), stale + 1);
    host.server.begin_drain().expect("the ring works");
    host.turns();
    assert!(host.server.is_over());
}

/// H16: lines of one kind are limited. Their number is logged when the second ends, although no
/// peer is there any more.
#[test]
fn lines_that_strangers_cause_are_limited() {
    let (mut host, log) = with_lines(10_000, 5);
    for n in 0..1000 {
        log.say(Level::Info, "stranger", format_args!("peer {n}"), support::AT.mono_ns);
    }
    host.turns();
    let (write, text) = write_of(&mut host);
    assert_eq!(text.lines().count(), 5);
    host.ends(write.user_data, text.len() as i32, 0);
    assert_eq!(host.stats.counters.log_lines_left_out.get(), 995);
    a_second_later(&mut host);
    let (write, text) = write_of(&mut host);
    assert_eq!(text, "ring9: 995 more lines of the kind stranger were left out\n");
    host.ends(write.user_data, text.len() as i32, 0);
    assert!(host.ring().of(TIMEOUT).is_empty(), "then it sleeps");
}
