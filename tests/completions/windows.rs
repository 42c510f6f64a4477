//! Windows: how much is received at once, and when their memory goes back.

use crate::host::{Host, last_kind, messages};
use crate::support::hand_ring::HandRing;
use crate::support::host::request;
use crate::support::script::{Script, pattern};
use crate::support::sqe::ASYNC_CANCEL;
use crate::{ECANCELED, ECONNRESET, FD};
use ring9::uring::{BACKLOG_BYTES_ALL, SHARED_BYTES, Trust, WHOLE_BYTES_MAX, WINDOW_BYTES};
use ring9::wire::{Dialect, Kind};

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
    for _ in 0..20 {
        assert_eq!(host.room(), write.len());
        host.says(&write[..5000]);
        assert_eq!(host.room(), write.len() - 5000, "the rest of the message");
        host.says(&write[5000..]);
    }
    assert_eq!(messages(&host.ring().heard).len(), 21);
    // One that is larger than the last one has room as soon as its size is known.
    let larger = request(|script| script.write(1, 0, &pattern(48 << 10, 2)));
    host.says(&larger[..write.len()]);
    assert_eq!(host.room(), larger.len() - write.len());
    host.says(&larger[write.len()..]);
    assert_eq!(host.room(), larger.len());
    host.says(&write);
    assert_eq!((host.room(), messages(&host.ring().heard).len()), (write.len(), 23));
    // The socket has more than what was received: a wider receive is due, and brings six messages.
    host.ring().says_part(FD, &write);
    host.turns();
    assert_eq!(host.room(), 6 * write.len());
    host.says(&write.repeat(6));
    assert_eq!((host.room(), messages(&host.ring().heard).len()), (2 * write.len(), 30));
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

/// Says requests that its socket has all at once, a part for each receive. The sends of the replies.
fn says_at_once(host: &mut Host, parts: &[Vec<u8>]) -> u64 {
    host.ring().heard.clear();
    let (sends, [first, rest @ ..]) = (host.sends(), parts) else { unreachable!("there are parts") };
    host.ring().there.insert(FD, rest.iter().cloned().collect());
    if rest.is_empty() {
        host.ring().says(FD, first)
    } else {
        host.ring().says_part(FD, first)
    }
    (0..2 * parts.len()).for_each(|_| host.turns());
    host.sends() - sends
}

/// A client for which each send takes 10 us, until its server has found out; it has four writes in flight.
fn shares_its_cpu(tcp: bool, len: usize) -> (Host, Vec<Vec<u8>>) {
    let mut host = Host::with_two(tcp, 100);
    host.ring().now_ns += 1_000_000;
    let write = request(|script| script.write(1, 0, &pattern(len, 2)));
    // The first payload lands. So does each one that is too large to be received whole.
    let (head, rest) = write.split_at(WINDOW_BYTES);
    says_at_once(&mut host, &[head.to_vec(), rest.to_vec()]);
    let message = if len <= WHOLE_BYTES_MAX - 23 { vec![write] } else { vec![head.to_vec(), rest.to_vec()] };
    let four: Vec<Vec<u8>> = (0..4).flat_map(|_| message.clone()).collect();
    for round in 0.. {
        let sends = says_at_once(&mut host, &four);
        assert_eq!(messages(&host.ring().heard).len(), 4);
        host.ring().now_ns += 10_000 * (1 + sends);
        // Three pairs of intervals are 72 rounds.
        match round {
            0 => assert_eq!(sends, 4, "replies leave early"),
            100 => assert_eq!(sends, 1, "replies leave together"),
            101 => return (host, four),
            _ => {}
        }
    }
    unreachable!("it returns")
}

/// Where replies were found to leave faster together, a receive has room for all messages, and the socket is emptied
/// before replies leave. H10: while others are served, or have something to do, neither is done.
#[test]
fn replies_leave_together_where_that_is_faster() {
    for (tcp, len) in [(true, 32 << 10), (false, 32 << 10), (true, 100_000), (false, 100_000)] {
        let (mut host, four) = shares_its_cpu(tcp, len);
        if len == 32 << 10 {
            assert_eq!(host.room(), 8 * four[0].len());
        }
        // Another peer says something while the receive behind the first message is submitted.
        let stat = request(|script| script.stat(0));
        host.ring().soon = Some((four.len() / 4, FD + 1, stat));
        // One send is the other peer's.
        assert!(says_at_once(&mut host, &four) > 2, "tcp: {tcp}, {len} bytes");
        assert_eq!(messages(&host.ring().heard).len(), 5);
        host.ring().now_ns += 1_000_000;
        host.serves_another(0);
        let sends = says_at_once(&mut host, &four);
        assert!(tcp || sends == 4, "{sends} sends, tcp: {tcp}, {len} bytes");
        // A client that always has more in flight has its first replies after 17 receives.
        let (mut host, _) = shares_its_cpu(tcp, len);
        let stat = request(|script| script.stat(1));
        assert_eq!(says_at_once(&mut host, &vec![stat; 4 * 17]), 4, "tcp: {tcp}, {len} bytes");
    }
}

/// As many peers as wide windows may have memory for, and some more.
const WIDE_PEERS: usize = 600;

/// A server whose peers have written 32 KiB each, and the request for that.
fn all_wide(ring: HandRing) -> (Host, Vec<u8>) {
    const ALL: usize = BACKLOG_BYTES_ALL / 2;
    let mut host = Host::of(ring, WIDE_PEERS + 1);
    let write = request(|script| script.write(1, 0, &pattern(32 << 10, 2)));
    for at in 0..WIDE_PEERS {
        let fd = FD + at as i32;
        host.server.connect(fd, Trust::All);
        host.turns();
        let mut script = Script::new(Dialect::L);
        // All have one file, since the tree has no memory for one each.
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
    (host, write)
}

/// H9: wide windows have no more than half of what windows may have beyond their usual size. Beyond it payloads land.
#[test]
fn windows_are_wide_while_there_is_memory_for_them() {
    let mut ring = HandRing::default();
    ring.multishot = false;
    let (mut host, write) = all_wide(ring);
    // The last one has a usual window. What is in it begins to land, as there is no room for the rest.
    let last = FD + WIDE_PEERS as i32 - 1;
    let landings = host.stats.counters.landings_mixed.get();
    host.ring().heard.clear();
    for part in [&write[..1000], &[&write[1000..], &write[..10_000]].concat(), &write[10_000..]] {
        host.ring().says(last, part);
        host.turns();
    }
    assert_eq!(messages(&host.ring().heard).len(), 2);
    assert_eq!(host.stats.counters.landings_mixed.get() - landings, 2);
}

/// Stats of the root: their replies queue, as long as no socket takes any.
fn flood() -> Vec<u8> {
    request(|script| (0..2000).fold(script, |script, _| script.stat(0)))
}

/// B2: where there is no room for a wide window, a payload that has begun lands only once the peer has another turn. The loop does not wait before that,
/// although the send of the replies before it is quiet.
#[test]
fn a_payload_that_lands_after_all_is_not_waited_for() {
    let mut ring = HandRing::default();
    ring.multishot = false;
    let (mut host, write) = all_wide(ring);
    let fd = FD + WIDE_PEERS as i32;
    host.server.connect(fd, Trust::All);
    host.turns();
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[b"file"]).open(1, true).walk(0, 2, &[]).open(2, false);
    for n in 0..40 {
        script.mkdir(0, format!("{n:0>200}").as_bytes());
    }
    for part in script.bytes.chunks(WINDOW_BYTES) {
        host.ring().says(fd, part);
        (0..10).for_each(|_| host.turns());
    }
    host.ring().says(fd, &write[..1000]);
    host.turns();
    host.ring().heard.clear();
    host.ring().waits.clear();
    // The end of a payload that landed, then more work than a turn has, then a payload that has begun.
    let lists = request(|script| script.list(2).list(2).list(2));
    host.ring().says(fd, &[&write[1000..], &lists, &write[..1000]].concat());
    while host.ring().waits.is_empty() {
        host.server.turn().expect("the ring works");
    }
    assert_eq!(messages(&host.ring().heard).len(), 4);
    assert!(host.ring().waits[0].contains(&fd), "the peer is received from before the loop waits");
}

/// H9: the bound on wide windows holds for peers that are received from into shared buffers, too. Several of these have come when the peer is looked at.
#[test]
fn windows_that_shared_buffers_fill_are_within_the_bound() {
    const PEERS: usize = 1200;
    const ALL: usize = BACKLOG_BYTES_ALL / 2;
    let mut host = Host::of(HandRing::default(), PEERS);
    let writes = request(|script| script.write(1, 0, &pattern(32 << 10, 2))).repeat(7);
    for at in 0..PEERS {
        let fd = FD + at as i32;
        host.server.connect(fd, Trust::All);
        host.turns();
        let mut script = Script::new(Dialect::L);
        match at {
            0 => script.attach(0).walk(0, 1, &[]).create(1, b"file"),
            _ => script.attach(0).walk(0, 1, &[b"file"]).open(1, true),
        };
        host.ring().says(fd, &script.bytes);
        host.turns();
        writes.chunks(SHARED_BYTES).take(3).for_each(|part| host.ring().says(fd, part));
        host.turns();
        // 32 KiB each, up to the bound, and all others the usual size.
        let usual = (at + 1).saturating_sub(ALL / (32 << 10)) * WINDOW_BYTES;
        let bytes = host.server.window_bytes();
        assert!(bytes <= ALL + usual, "{bytes} bytes of {} peers", at + 1);
    }
}

/// A backlog that is served while a receive into shared buffers is in flight leaves no window.
#[test]
fn a_backlog_that_is_served_leaves_no_window() {
    let mut host = Host::with_peer(HandRing::default(), 10);
    host.says(&flood());
    (0..100).for_each(|_| host.turns());
    assert_eq!(messages(&host.ring().heard).len(), 2000);
    assert!(host.ring().of(ASYNC_CANCEL).is_empty() && host.ring().receives(FD)[0].shares());
    assert_eq!(host.server.window_bytes(), 0);
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
