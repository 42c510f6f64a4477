//! Frames: what breaks a connection, what is answered and counted, and the bounds of one call, one queue and one message.

use super::*;
use bytes::BufMut;

/// A1, A2, A8 of what a server must survive: ends that no reply can follow.
#[test]
fn framing_that_cannot_be_resynchronised_breaks() {
    for size in 0..7u32 {
        let mut peer = Peer::new(Dialect::L);
        let mut bytes = frame(1, &read(1, 0, 1), Dialect::L);
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        assert_eq!(peer.feed(&bytes), Err(Broken::TooSmall(size)));
        peer.ends();
    }
    for size in [MSIZE + 1, u32::MAX] {
        let mut peer = Peer::new(Dialect::L);
        let mut bytes = frame(1, &read(1, 0, 1), Dialect::L);
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        assert_eq!(peer.feed(&bytes), Err(Broken::TooLarge(size)));
        peer.ends();
    }
    let mut peer = Peer::unversioned(config());
    let mut bytes = BytesMut::new();
    bytes.put_u32_le((8 << 10) + 1);
    bytes.put_slice(&[100, 0, 0]);
    assert_eq!(peer.feed(&bytes), Err(Broken::TooLarge((8 << 10) + 1)));
    let mut peer = Peer::unversioned(config());
    assert_eq!(peer.send(1, &attach(0, b"", 0)), Err(Broken::NotNegotiated(Kind::TATTACH)));
    assert!(Broken::TooSmall(3).to_string().contains('3'));
}

/// A5, A6, A7, A12: the frame is sound, so one goes on; but not for ever.
#[test]
fn broken_bodies_are_answered_and_counted() {
    let sound = frame(7, &walk(0, 1, &[b"dir", b"inner"]), Dialect::L);
    let with = |change: &dyn Fn(&mut BytesMut)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        let size = bytes.len() as u32;
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        bytes
    };
    let lies: [(BytesMut, Error); 9] = [
        (with(&|bytes| bytes.truncate(20)), Error::EINVAL),
        (with(&|bytes| bytes.put_u8(0)), Error::EINVAL),
        (with(&|bytes| bytes[15] = 17), Error::EINVAL),
        (with(&|bytes| bytes[17] = 255), Error::EINVAL),
        (with(&|bytes| bytes[19] = 0), Error::EINVAL),
        (with(&|bytes| bytes[4] = 111), Error::EOPNOTSUPP),
        (with(&|bytes| bytes[4] = 255), Error::EOPNOTSUPP),
        (with(&|bytes| bytes[4] = 6), Error::EOPNOTSUPP),
        (with(&|bytes| bytes.truncate(7)), Error::EINVAL),
    ];
    let mut peer = Peer::new(Dialect::L);
    for (bytes, error) in &lies {
        peer.feed(bytes).expect("the frame is sound");
        peer.hears(&[(7, failure(Dialect::L, *error))]);
    }
    peer.send(NOTAG, &read(0, 0, 1)).expect("the frame is sound");
    peer.hears(&[(NOTAG, failure(Dialect::L, Error::EINVAL))]);
    peer.says(&walk(0, 1, &[b"dir"]), &walked(&[peer.tree.qid(6)]));
    for _ in 10..PROTOCOL_ERRORS_MAX - 1 {
        peer.feed(&lies[0].0).expect("the frame is sound");
    }
    assert_eq!(peer.feed(&lies[0].0), Err(Broken::TooManyErrors));
    peer.ends();
}

#[test]
fn a_call_serves_so_many_messages_and_no_more_than_may_be_queued() {
    let mut peer = Peer::with(Dialect::L, Config { messages_max: 2, ..config() });
    let bytes = frame(1, &walk(0, 0, &[]), Dialect::L).repeat(3);
    let received = peer.session.receive(&mut peer.tree, AT, &bytes).expect("not broken");
    assert_eq!(
        (received.consumed, received.need),
        (bytes.len() / 3 * 2, Need { held: true, again: true, ..Need::default() })
    );
    assert_eq!(peer.lines().len(), 2);
    let mut peer = Peer::with(Dialect::L, Config { queued_bytes_max: 1, ..config() });
    let received = peer.session.receive(&mut peer.tree, AT, &bytes).expect("not broken");
    assert_eq!((received.consumed, received.need), (bytes.len() / 3, Need { held: true, ..Need::default() }));
    assert_eq!((peer.session.queued_bytes(), peer.lines().len()), (9, 1));
    let received = peer.session.receive(&mut peer.tree, AT, &bytes[received.consumed..]).expect("not broken");
    assert!(received.need.held && received.consumed > 0, "goes on once replies have left");
}

/// The clock of a message runs from its own first byte, and by its own length.
#[test]
fn each_message_has_a_deadline_of_its_own() {
    let after = |seconds: u64| At { mono_ns: AT.mono_ns + seconds * 1_000_000_000, ..AT };
    let mut peer = Peer::new(Dialect::L);
    let bytes = frame(1, &walk(0, 0, &[]), Dialect::L);
    assert_eq!(peer.session.deadline(), None);
    peer.session.receive(&mut peer.tree, AT, &bytes[..3]).expect("not broken");
    assert_eq!(peer.session.deadline(), Some(AT.mono_ns + allowance_ns(HEAD)));
    // More of the same message moves nothing but the bytes that are now known.
    peer.session.receive(&mut peer.tree, after(20), &bytes[..9]).expect("not broken");
    assert_eq!(peer.session.deadline(), Some(AT.mono_ns + allowance_ns(bytes.len())));
    // A peer that always has a message under way is not a slow one.
    let mut both = bytes.clone();
    both.extend_from_slice(&bytes[..5]);
    peer.session.receive(&mut peer.tree, after(25), &both).expect("not broken");
    assert_eq!(peer.session.deadline(), Some(after(25).mono_ns + allowance_ns(HEAD)));
    peer.session.receive(&mut peer.tree, after(26), &bytes).expect("not broken");
    assert_eq!((peer.session.deadline(), peer.lines().len()), (None, 2));
    // A payload has the time that its length takes, and then it is over.
    peer.opens(1, &[b"hello"]);
    let large = frame(1, &write(1, 0, &[1; 40_000]), Dialect::L);
    peer.session.receive(&mut peer.tree, AT, &large[..23]).expect("not broken");
    assert_eq!(peer.session.deadline(), Some(AT.mono_ns + allowance_ns(large.len())));
    peer.session.receive(&mut peer.tree, after(29), &large[23..]).expect("not broken");
    assert_eq!(peer.session.deadline(), None);
}

/// A reply whose gate is shut waits. What is behind it and waits for nothing overtakes it.
#[test]
fn gates_hold_replies_back_in_order() {
    let mut peer = Peer::new(Dialect::L);
    peer.opens(1, &[b"hello"]);
    peer.tree.opened = Gate::OPEN;
    peer.send(1, &read(1, 0, 5)).expect("not broken");
    peer.send(2, &write(1, 0, b"J")).expect("not broken");
    peer.send(3, &read(1, 0, 5)).expect("not broken");
    peer.hears(&[(1, data(b"hello")), (3, data(b"Jello"))]);
    peer.send(4, &write(1, 0, b"H")).expect("not broken");
    // What a read shows decides, not what was before it.
    peer.tree.read_gate = Gate(2);
    peer.send(5, &read(1, 0, 5)).expect("not broken");
    peer.send(6, &read(1, u64::MAX, 5)).expect("not broken");
    peer.says(&walk(0, 2, &[]), &walked(&[]));
    assert_eq!(peer.session.gates().collect::<Vec<_>>(), [Gate(1)]);
    peer.tree.opened = Gate(1);
    peer.hears(&[(2, Message::Rwrite { count: 1 })]);
    assert_eq!(peer.session.gates().collect::<Vec<_>>(), [Gate(2)]);
    peer.tree.opened = Gate(2);
    peer.hears(&[(4, Message::Rwrite { count: 1 }), (5, data(b"Hello")), (6, data(b""))]);
    peer.ends();
}
