//! The loop, one completion at a time: what each must end, and what it must not. Sections and numbers are those of docs/hostile-inputs.md.

mod asks;
mod gates;
mod host;
mod identity;
mod lines;
mod silent;
#[path = "../support/mod.rs"]
mod support;
mod windows;

use ring9::arena::Arena;
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::uring::{Grow, KEPT_BATCH_BYTES_ALL, Listener, Options, SHARED_COUNT, Server, Trust};
use ring9::wire::{Dialect, Kind};
use std::collections::BTreeMap;
use support::hand_ring::{ACCEPT, HandRing};
use support::host::request;
use support::script::{Script, pattern};
use support::sqe::{ASYNC_CANCEL, CQE_F_MORE, MADVISE, TIMEOUT};
use support::tree_in;

use host::{Host, last_kind, messages};

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
    assert_eq!(says(&mut host, few - 1), few);
    // None was left: a peer that came last had to wait for the next turn.
    assert_eq!(says(&mut host, few), 8 * few);
    assert_eq!(says(&mut host, 4 * few), 8 * few);
    let most = 16 * few;
    assert_eq!(says(&mut host, 4 * few + 1), most);
    for _ in 0..3 {
        let sweep = host.ring().of(TIMEOUT)[0];
        host.ends(sweep.user_data, -ETIME, 0);
    }
    // What is too much is kept back when it is seen.
    assert_eq!(host.ring().buffers_here(), most);
    let kept: Vec<_> = (1..=30).map(|_| says(&mut host, few / 2)).collect();
    let expected: Vec<_> = (1..=30).map(|calls| (most - calls * few / 2).max(4 * few)).collect();
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
    let turns =
        |server: &mut Server<HandRing, Simple<Mem>>| (0..9).for_each(|_| server.turn_now().expect("the ring works"));
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
