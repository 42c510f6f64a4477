//! Large writes to files that have no memory to lend, and payloads that are thrown away. Landings
//! are tested with a tree that has them: `tests/drivers.rs`.

use super::*;

fn large(fid: u32, len: usize) -> BytesMut {
    let payload: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
    frame(7, &write(fid, 0, &payload), Dialect::L)
}

fn peer(name: &[u8]) -> Peer {
    let mut peer = Peer::new(Dialect::L);
    peer.opens(1, &[name]);
    peer
}

/// Shows the head of a message, then its payload in pieces of this size.
fn feed_in(peer: &mut Peer, bytes: &[u8], size: usize) {
    let (head, payload) = bytes.split_at(23);
    for piece in std::iter::once(head).chain(payload.chunks(size)) {
        let received = peer.session.receive(&mut peer.tree, AT, piece).expect("not broken");
        assert_eq!(received.consumed, piece.len(), "a payload is taken as it comes");
    }
}

#[test]
fn a_payload_without_a_grant_is_written_as_it_comes() {
    let bytes = large(1, 40_000);
    for size in [40_000, 10_000, 999, 1] {
        let mut peer = peer(b"hello");
        feed_in(&mut peer, &bytes, size);
        peer.hears(&[(7, Message::Rwrite { count: 40_000 })]);
        assert_eq!(peer.tree.data("hello"), &bytes[23..]);
        assert_eq!(peer.tree.writes, 40_000usize.div_ceil(size), "the head alone writes nothing");
        peer.ends();
    }
}

/// A payload that is whole in what is shown takes no memory of its own, whatever its size, and is one write.
#[test]
fn a_payload_that_is_whole_is_written_like_a_small_one() {
    for len in [16_384, 20_000, MSIZE as usize - 23] {
        let bytes = large(1, len);
        let mut peer = peer(b"hello");
        let received = peer.session.receive(&mut peer.tree, AT, &bytes).expect("not broken");
        assert_eq!(
            received,
            Received { consumed: bytes.len(), need: Need::default(), bulk: 0, whole: bytes.len() as u32 }
        );
        peer.hears(&[(7, Message::Rwrite { count: len as u32 })]);
        assert_eq!((peer.tree.grants, peer.tree.writes), (0, 1));
        assert_eq!((peer.tree.data("hello"), peer.session.deadline()), (&bytes[23..], None));
        // One byte is missing: it begins.
        let received = peer.session.receive(&mut peer.tree, AT, &bytes[..bytes.len() - 1]).expect("not broken");
        assert_eq!((received.bulk, received.need.more), (bytes.len() as u32, 1));
        assert_eq!(peer.tree.grants, 1);
        peer.feed(&bytes[bytes.len() - 1..]).expect("not broken");
        peer.hears(&[(7, Message::Rwrite { count: len as u32 })]);
        peer.ends();
    }
}

/// A driver that receives messages whole says up to which size. Until then, and beyond it, payloads begin before.
#[test]
fn a_payload_waits_until_it_is_whole_where_the_driver_has_room() {
    let bytes = large(1, 20_000);
    for (whole_bytes, waits) in [(0, false), (bytes.len() - 1, false), (bytes.len(), true), (usize::MAX, true)] {
        let mut peer = peer(b"hello");
        peer.session.set_whole_bytes(whole_bytes);
        for shown in [6, 7, 22, 23, 5_000, bytes.len() - 1] {
            let received = peer.session.receive(&mut peer.tree, AT, &bytes[..shown]).expect("not broken");
            let begins = !waits && shown >= 23;
            assert_eq!((received.consumed, received.bulk > 0), (if begins { shown } else { 0 }, begins));
            let more = if shown < 7 {
                7
            } else if shown < 23 && !waits {
                23
            } else {
                bytes.len()
            };
            assert_eq!((received.need.more, peer.session.deadline().is_some()), (more - shown, true));
            if begins {
                peer.feed(&bytes[shown..]).expect("not broken");
                peer.hears(&[(7, Message::Rwrite { count: 20_000 })]);
            }
        }
        // The driver has no room any more: the same bytes begin it.
        let grants = peer.tree.grants;
        peer.session.set_whole_bytes(0);
        let received = peer.session.receive(&mut peer.tree, AT, &bytes[..9_000]).expect("not broken");
        assert_eq!((received.consumed, received.bulk), (9_000, bytes.len() as u32));
        peer.feed(&bytes[9_000..]).expect("not broken");
        peer.hears(&[(7, Message::Rwrite { count: 20_000 })]);
        assert_eq!((peer.tree.grants, peer.tree.data("hello")), (grants + 1, &bytes[23..]));
        peer.ends();
    }
}

/// A write that is whole may wait for its tree, as a small one may.
#[test]
fn a_payload_that_is_whole_can_wait() {
    let mut peer = peer(b"log");
    peer.feed(&large(1, 20_000)).expect("not broken");
    assert_eq!((peer.session.pending(), peer.lines().len()), (1, 0));
    peer.send(8, &Message::Tflush { oldtag: 7 }).expect("not broken");
    peer.hears(&[(8, Message::Rflush {})]);
    assert!(peer.tree.waiting.is_empty());
    peer.ends();
}

/// What is copied counts: a peer cannot have more than its share of a turn copied by writes that are whole.
#[test]
fn payloads_that_are_whole_are_counted_as_work() {
    let mut peer = peer(b"hello");
    let each = large(1, 60_000);
    let mut rest = each.repeat(13);
    for count in [5, 4, 4] {
        peer.session.begin_turn();
        let received = peer.session.receive_in_turn(&mut peer.tree, AT, &rest).expect("not broken");
        assert_eq!(received.consumed, count * each.len(), "30 units each of 128, and what was too much is paid for");
        rest.drain(..received.consumed);
        assert_eq!((peer.lines().len(), received.need.again), (count, !rest.is_empty()));
    }
    peer.ends();
}

/// A short count ends the write: what comes behind the gap must not be written.
#[test]
fn a_part_that_is_not_taken_whole_ends_the_write() {
    let bytes = large(1, 30_000);
    let mut peer = peer(b"short");
    peer.tree.short_bytes = 15_000;
    feed_in(&mut peer, &bytes, 10_000);
    peer.hears(&[(7, Message::Rwrite { count: 15_000 })]);
    assert_eq!((peer.tree.data("short"), peer.tree.writes), (&bytes[23..15_023], 2));
    // An error behind the first part is the same, and one at the first is the reply.
    peer.tree.short_bytes = 10_000;
    feed_in(&mut peer, &bytes, 10_000);
    peer.hears(&[(7, Message::Rwrite { count: 10_000 })]);
    feed_in(&mut peer, &bytes, 10_000);
    peer.hears(&[(7, failure(Dialect::L, Error::ENOSPC))]);
    peer.ends();
}

/// The tree takes what waits.
fn release(peer: &mut Peer) {
    peer.tree.release(b"");
    while let Some(op) = peer.tree.ready() {
        peer.session.complete(&mut peer.tree, op, AT);
    }
}

/// What comes behind a part waits until the tree has taken that part.
#[test]
fn a_part_that_waits_holds_what_is_behind_it() {
    let bytes = large(1, 20_000);
    let mut peer = peer(b"log");
    let received = peer.session.receive(&mut peer.tree, AT, &bytes[..23]).expect("not broken");
    assert_eq!((received.consumed, received.need.held), (23, false));
    for (n, part) in bytes[23..].chunks(5_000).enumerate() {
        let received = peer.session.receive(&mut peer.tree, AT, part).expect("not broken");
        let need = Need { more: 15_000 - 5_000 * n, skip: 0, held: true, again: false };
        assert_eq!((received.consumed, received.need, peer.tree.writes), (5_000, need, n + 1));
        let received = peer.session.receive(&mut peer.tree, AT, part).expect("not broken");
        assert_eq!((received.consumed, received.need), (0, need), "before that part is taken");
        peer.hears(&[]);
        assert_eq!(peer.tree.waiting.len(), 1);
        release(&mut peer);
    }
    peer.hears(&[(7, Message::Rwrite { count: 20_000 })]);
    assert!(peer.tree.waiting.is_empty());
    peer.ends();
}

#[test]
fn a_file_that_keeps_nothing_needs_no_payload() {
    let mut peer = peer(b"null");
    let bytes = large(1, 40_000);
    let need = peer.feed(&bytes[..100]).expect("not broken");
    assert_eq!(need, Need { more: 40_000 - 77, skip: 40_000 - 77, held: false, again: false });
    peer.session.skipped(&mut peer.tree, 30_000, AT);
    peer.hears(&[]);
    peer.session.skipped(&mut peer.tree, 10_000 - 77, AT);
    peer.hears(&[(7, Message::Rwrite { count: 40_000 })]);
    assert_eq!((peer.tree.writes, peer.session.deadline()), (0, None));
    peer.says(&walk(0, 2, &[]), &walked(&[]));
    peer.ends();
}

#[test]
fn a_refused_payload_is_skipped_and_then_answered() {
    let cases: [(u32, Error); 3] = [(9, Error::EBADF), (2, Error::EBADF), (3, Error::EISDIR)];
    for (fid, error) in cases {
        let mut peer = peer(b"hello");
        peer.walks(2, &[b"hello"]);
        peer.walks(3, &[b"dir"]);
        peer.send(7, &Message::Tlopen { fid: 3, flags: 0 }).expect("not broken");
        assert_eq!(peer.lines().len(), 1);
        let bytes = large(fid, 20_000);
        let need = peer.feed(&bytes[..23]).expect("not broken");
        assert_eq!(need, Need { more: 20_000, skip: 20_000, held: false, again: false });
        // Shown or skipped, in any mix.
        peer.feed(&bytes[23..5_023]).expect("not broken");
        peer.session.skipped(&mut peer.tree, 15_000, AT);
        peer.hears(&[(7, failure(Dialect::L, error))]);
        peer.ends();
    }
}

#[test]
fn large_messages_that_are_no_writes_are_skipped() {
    let mut bytes = frame(7, &walk(0, 1, &[b"dir"]), Dialect::L);
    bytes.resize(20_000, 1);
    bytes[..4].copy_from_slice(&20_000u32.to_le_bytes());
    for first in [7, 20_000] {
        let mut peer = Peer::new(Dialect::L);
        let need = peer.feed(&bytes[..first]).expect("not broken");
        assert_eq!(need.skip, 20_000 - first);
        peer.feed(&bytes[first..]).expect("not broken");
        peer.hears(&[(7, failure(Dialect::L, Error::EMSGSIZE))]);
        peer.says(&walk(0, 1, &[b"dir"]), &walked(&[peer.tree.qid(6)]));
        peer.ends();
    }
}

/// A6: a count that is not what the frame has room for, and a tag that is none, before a byte of payload is taken.
#[test]
fn heads_that_lie_are_refused_before_their_payload() {
    let mut count = large(1, 20_000);
    count[19..23].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut tag = large(1, 20_000);
    tag[5..7].copy_from_slice(&NOTAG.to_le_bytes());
    for (bytes, tag) in [(count, 7), (tag, NOTAG)] {
        for split in [23, 24, 10_000, bytes.len()] {
            let mut peer = peer(b"hello");
            peer.feed(&bytes[..split]).expect("the frame is sound");
            peer.feed(&bytes[split..]).expect("the frame is sound");
            peer.hears(&[(tag, failure(Dialect::L, Error::EINVAL))]);
            assert_eq!((peer.tree.writes, peer.session.errors), (0, 1));
            peer.ends();
        }
    }
}

/// D9: the peer dies with half of a payload.
#[test]
fn a_close_in_the_middle_of_a_payload_ends_it() {
    for name in [&b"hello"[..], b"null"] {
        let mut peer = peer(name);
        peer.feed(&large(1, 20_000)[..9_000]).expect("not broken");
        peer.session.close(&mut peer.tree, AT);
        assert_eq!(peer.session.deadline(), None);
        peer.session.skipped(&mut peer.tree, 1, AT);
        peer.hears(&[]);
        peer.ends();
    }
}

#[test]
fn there_is_no_landing_without_a_grant() {
    let mut peer = peer(b"hello");
    assert!(peer.session.landing().is_none());
    peer.feed(&large(1, 20_000)[..9_000]).expect("not broken");
    assert!(peer.session.landing().is_none());
    peer.ends();
}
