//! Requests that wait, and Tflush (flush(9P)).

use super::*;

/// A peer whose fid 1 is open on the file that blocks.
fn peer() -> Peer {
    let mut peer = Peer::new(Dialect::L);
    peer.opens(1, &[b"log"]);
    peer
}

fn release(peer: &mut Peer, data: &[u8]) {
    peer.tree.release(data);
    while let Some(token) = peer.tree.ready() {
        peer.session.complete(&mut peer.tree, token, AT);
    }
}

fn flush(oldtag: Tag) -> Message<'static> {
    Message::Tflush { oldtag }
}

const RFLUSH: Message<'static> = Message::Rflush {};

#[test]
fn what_waits_is_answered_when_it_ends() {
    let mut peer = peer();
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &walk(0, 2, &[])).expect("not broken");
    peer.hears(&[(2, walked(&[]))]);
    release(&mut peer, b"line");
    peer.hears(&[(1, data(b"lin"))]);
    peer.send(1, &write(1, 0, b"four")).expect("not broken");
    assert_eq!(peer.session.pending(), 1);
    release(&mut peer, b"");
    peer.hears(&[(1, Message::Rwrite { count: 4 })]);
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    release(&mut peer, b"fail");
    peer.hears(&[(1, failure(Dialect::L, Error::EIO))]);
    peer.ends();
}

/// A tail that nobody writes to is no slow server; a write that waits for its log is.
#[test]
fn the_service_of_a_read_begins_when_it_can_go_on() {
    let later = At { mono_ns: AT.mono_ns + 5_000, ..AT };
    for (request, began) in [(read(1, 0, 3), later.mono_ns), (write(1, 0, b"four"), AT.mono_ns)] {
        let mut peer = peer();
        peer.send(1, &request).expect("not broken");
        peer.tree.release(b"line");
        let token = peer.tree.ready().expect("released");
        peer.session.complete(&mut peer.tree, token, later);
        let mut batch = peer.session.take(&peer.tree).expect("a reply");
        let mut stamps = Vec::new();
        batch.advance(batch.len(), |reply| stamps.push(reply.at_ns));
        assert_eq!(stamps, [began]);
    }
}

#[test]
fn a_flush_in_time_leaves_no_trace() {
    let mut peer = peer();
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.says(&flush(1), &RFLUSH);
    assert_eq!((peer.session.pending(), peer.tree.waiting.len()), (0, 0));
    // The tag is free at once, even before the Rflush is on the wire.
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    release(&mut peer, b"new");
    peer.hears(&[(2, RFLUSH), (1, data(b"new"))]);
    peer.ends();
}

#[test]
fn a_flush_too_late_follows_the_reply() {
    let mut peer = peer();
    peer.tree.too_late = true;
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    peer.send(3, &flush(1)).expect("not broken");
    peer.hears(&[]);
    assert_eq!(peer.session.pending(), 3);
    release(&mut peer, b"end");
    peer.hears(&[(1, data(b"end")), (2, RFLUSH), (3, RFLUSH)]);
    peer.ends();
}

#[test]
fn flushes_that_wait_are_answered_in_order_when_a_later_one_comes_in_time() {
    let mut peer = peer();
    peer.tree.too_late = true;
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    peer.tree.too_late = false;
    peer.send(3, &flush(1)).expect("not broken");
    peer.hears(&[(2, RFLUSH), (3, RFLUSH)]);
    peer.ends();
}

/// B3, B4: no flush is an error, none waits for itself or in a circle.
#[test]
fn flushes_of_nothing_of_themselves_and_of_flushes() {
    let mut peer = peer();
    for oldtag in [7, 8, NOTAG] {
        peer.says(&flush(oldtag), &RFLUSH);
    }
    peer.tree.too_late = true;
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    // Tag 2 is a flush that waits; taken back, its own reply is no longer owed.
    peer.send(3, &flush(2)).expect("not broken");
    peer.hears(&[(3, RFLUSH)]);
    release(&mut peer, b"end");
    peer.hears(&[(1, data(b"end"))]);
    peer.ends();
}

#[test]
fn replies_that_are_queued_stay_in_front_of_the_flush() {
    let mut peer = peer();
    peer.send(1, &walk(0, 2, &[])).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    peer.hears(&[(1, walked(&[])), (2, RFLUSH)]);
    peer.ends();
}

/// B1: with a tag in use twice, the next reply would be ambiguous.
#[test]
fn a_tag_in_flight_breaks() {
    let mut peer = peer();
    peer.tree.too_late = true;
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    let large = frame(2, &write(1, 0, &[0; 20_000]), Dialect::L);
    assert_eq!(peer.session.receive(&mut peer.tree, AT, &large[..23]), Err(Broken::TagInFlight(2)));
    assert_eq!(peer.send(2, &walk(0, 3, &[])), Err(Broken::TagInFlight(2)));
    assert_eq!(peer.send(1, &walk(0, 3, &[])), Err(Broken::TagInFlight(1)));
    release(&mut peer, b"end");
    peer.hears(&[(1, data(b"end")), (2, RFLUSH)]);
    peer.ends();
}

/// B2: no more is read from such a peer; but it can still take something back.
#[test]
fn too_many_that_wait_hold_the_rest_but_not_their_flush() {
    let mut peer = Peer::with(Dialect::L, Config { pending_max: 2, ..config() });
    peer.opens(1, &[b"log"]);
    for tag in [1, 2] {
        peer.send(tag, &read(1, 0, 3)).expect("not broken");
    }
    let more = frame(3, &walk(0, 2, &[]), Dialect::L);
    // Its first part has come before, and has a deadline.
    peer.session.receive(&mut peer.tree, AT, &more[..9]).expect("not broken");
    assert!(peer.session.deadline().is_some());
    let received = peer.session.receive(&mut peer.tree, AT, &more).expect("not broken");
    assert_eq!((received.consumed, received.need.held), (0, true));
    assert_eq!(peer.session.deadline(), None, "that it waits is not the peer's doing");
    peer.send(4, &flush(1)).expect("not broken");
    peer.hears(&[(4, RFLUSH)]);
    peer.send(3, &walk(0, 2, &[])).expect("not broken");
    peer.hears(&[(3, walked(&[]))]);
    peer.ends();
}

#[test]
fn flushes_that_wait_are_bounded_too() {
    let mut peer = Peer::with(Dialect::L, Config { pending_max: 2, ..config() });
    peer.opens(1, &[b"log"]);
    peer.tree.too_late = true;
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    for tag in 2..=4 {
        peer.send(tag, &flush(1)).expect("not broken");
    }
    let received = peer.session.receive(&mut peer.tree, AT, &frame(5, &flush(1), Dialect::L)).expect("not broken");
    assert_eq!((received.need.held, peer.session.pending()), (true, 4));
    release(&mut peer, b"end");
    assert_eq!(peer.lines().len(), 4);
    peer.ends();
}

/// A flush waits for the reply that a gate holds back, and the tag is in use as long.
#[test]
fn a_flush_follows_the_reply_that_waits_for_its_gate() {
    let mut peer = Peer::new(Dialect::L);
    peer.opens(1, &[b"hello"]);
    peer.tree.opened = Gate::OPEN;
    peer.send(1, &write(1, 0, b"J")).expect("not broken");
    peer.send(2, &flush(1)).expect("not broken");
    // One of another request waits for nothing.
    peer.send(3, &flush(9)).expect("not broken");
    peer.hears(&[(3, RFLUSH)]);
    for tag in [1, 2] {
        assert_eq!(peer.send(tag, &walk(0, 3, &[])), Err(Broken::TagInFlight(tag)));
    }
    // A flush of the flush comes behind both.
    peer.send(4, &flush(2)).expect("not broken");
    peer.hears(&[]);
    peer.tree.opened = Gate(1);
    peer.hears(&[(1, Message::Rwrite { count: 1 }), (2, RFLUSH), (4, RFLUSH)]);
    peer.send(1, &walk(0, 3, &[])).expect("the tag is free");
    peer.hears(&[(1, walked(&[]))]);
    peer.ends();
}

/// Operations that end by themselves are not taken back by the end of their fid, which waits for them.
#[test]
fn a_file_is_closed_after_its_last_operation() {
    for clunk in [Message::Tclunk { fid: 1 }, Message::Tremove { fid: 1 }] {
        let mut peer = peer();
        peer.send(1, &write(1, 0, b"four")).expect("not broken");
        peer.send(2, &clunk).expect("not broken");
        peer.send(3, &walk(0, 2, &[])).expect("not broken");
        peer.hears(&[(3, walked(&[]))]);
        // The fid is gone at once: its number is free.
        peer.fails(&Message::Tclunk { fid: 1 }, Error::EBADF);
        peer.walks(1, &[]);
        assert_eq!((peer.session.fids(), peer.session.pending(), peer.tree.uses), (3, 2, 4));
        assert!(!peer.tree.closed.contains(&3), "the file is in use");
        assert_eq!(peer.send(2, &walk(0, 3, &[])), Err(Broken::TagInFlight(2)));
        peer.session.interrupt_reads(&mut peer.tree, AT);
        peer.hears(&[]);
        release(&mut peer, b"");
        let lines = peer.lines();
        assert_eq!(lines[0], Message::Rwrite { count: 4 }.line(1, Dialect::L).to_string());
        assert!(lines.len() == 2 && lines[1].contains("tag=2") && !lines[1].contains("Rlerror"), "{lines:?}");
        assert_eq!((peer.session.pending(), peer.tree.uses, peer.tree.closed.last()), (0, 3, Some(&3)));
        peer.ends();
    }
}

/// What ends a fid and waits for the file's last operation is in flight: a flush of it follows its reply, which the client
/// has to know of, since the fid is gone.
#[test]
fn a_flush_of_a_clunk_that_waits_follows_its_reply() {
    for (clunk, reply) in
        [(Message::Tclunk { fid: 1 }, Message::Rclunk {}), (Message::Tremove { fid: 1 }, Message::Rremove {})]
    {
        let mut peer = peer();
        peer.send(1, &write(1, 0, b"four")).expect("not broken");
        peer.send(2, &clunk).expect("not broken");
        peer.send(3, &flush(2)).expect("not broken");
        peer.send(4, &flush(2)).expect("not broken");
        peer.hears(&[]);
        release(&mut peer, b"");
        peer.hears(&[(1, Message::Rwrite { count: 4 }), (2, reply), (3, RFLUSH), (4, RFLUSH)]);
        peer.ends();
    }
}

/// The same where two operations are under way, and the fid's end is taken back with the session.
#[test]
fn a_session_ends_after_its_last_operation() {
    let mut peer = peer();
    peer.tree.too_late = true;
    for tag in [1, 2] {
        peer.send(tag, &write(1, 0, b"four")).expect("not broken");
    }
    peer.send(3, &Message::Tremove { fid: 1 }).expect("not broken");
    while !peer.session.close_part(&mut peer.tree, AT) {}
    assert_eq!((peer.session.is_ending(), peer.session.pending(), peer.tree.uses), (true, 0, 1));
    peer.tree.release(b"");
    for is_ending in [true, false] {
        let op = peer.tree.ready().expect("released");
        peer.session.complete(&mut peer.tree, op, AT);
        assert_eq!((peer.session.is_ending(), peer.tree.uses), (is_ending, usize::from(is_ending)));
    }
    assert!(peer.tree.find(0, b"log").is_some(), "nobody asks for its removal any more");
    peer.hears(&[]);
    peer.ends();
}

#[test]
fn what_waits_on_a_clunked_fid_is_answered_first() {
    for clunk in [Message::Tclunk { fid: 1 }, Message::Tremove { fid: 1 }] {
        let mut peer = peer();
        peer.send(1, &read(1, 0, 3)).expect("not broken");
        peer.send(2, &clunk).expect("not broken");
        let lines = peer.lines();
        assert_eq!(lines[0], failure(Dialect::L, Error::EINTR).line(1, Dialect::L).to_string());
        assert!(lines.len() == 2 && lines[1].contains("tag=2"), "{lines:?}");
        peer.ends();
    }
}

/// A read may be too late to be taken back by the end of its fid, and in time once the peer says nothing more.
#[test]
fn a_read_that_is_taken_back_by_a_half_close_lets_its_file_go() {
    let mut peer = peer();
    peer.tree.too_late = true;
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &Message::Tclunk { fid: 1 }).expect("not broken");
    peer.hears(&[]);
    peer.tree.too_late = false;
    peer.session.interrupt_reads(&mut peer.tree, AT);
    peer.hears(&[(1, failure(Dialect::L, Error::EINTR)), (2, Message::Rclunk {})]);
    assert_eq!((peer.session.pending(), peer.tree.uses), (0, 1));
    peer.ends();
}

/// Replayed with the same seed, a session must do the same: the table's order decides nothing.
#[test]
fn close_goes_by_the_numbers_of_the_fids() {
    for hash_key in 0..8 {
        let mut peer = Peer::with(Dialect::L, Config { hash_key, ..config() });
        let names: [&[u8]; 5] = [b"hello", b"secret", b"log", b"null", b"short"];
        for (at, name) in names.iter().enumerate().rev() {
            peer.walks(10_000 + 37 * at as u32, &[name]);
        }
        peer.tree.closed.clear();
        peer.session.close(&mut peer.tree, AT);
        assert_eq!(peer.tree.closed, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn close_takes_back_what_waits_and_gives_back_all_fids() {
    let mut peer = peer();
    peer.send(1, &read(1, 0, 3)).expect("not broken");
    peer.send(2, &read(0, 0, 3)).expect("not broken");
    assert!(peer.session.queued_bytes() > 0);
    peer.session.close(&mut peer.tree, AT);
    assert!(peer.tree.waiting.is_empty());
    assert_eq!(peer.replies(), b"");
    peer.ends();
}
