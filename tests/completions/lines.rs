//! Log lines: written by the ring, one write at a time, and limited.

use crate::host::Host;
use crate::support::hand_ring::HandRing;
use crate::support::sqe::{Sqe, TIMEOUT, WRITE};
use crate::{EAGAIN, EPIPE, ETIME, FD, STDERR, support};
use ring9::logging::{self, Level, Log};
use ring9::stats::Lines;
use ring9::uring::{LogTo, Trust};
use std::sync::{Arc, Mutex};

/// A log with these bounds.
pub(crate) fn log(bytes_max: usize, lines_per_second: u32) -> (Arc<Log>, LogTo) {
    let options = logging::Options { bytes_max, lines_per_second };
    let log = Arc::new(Log::new(Arc::new(Mutex::new(Lines::new(10_000))), options));
    let to = LogTo { log: Arc::clone(&log), fd: STDERR };
    (log, to)
}

/// A server whose log has these bounds.
fn with_lines(bytes_max: usize, lines_per_second: u32) -> (Host, Arc<Log>) {
    let (log, to) = log(bytes_max, lines_per_second);
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
