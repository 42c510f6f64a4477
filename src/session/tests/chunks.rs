//! A conversation gives the same bytes however it is cut: whole, byte by byte, and at every split point.

use super::*;
use crate::wire::Stat;

/// All kinds of requests, mistakes included, in few bytes; one payload is large.
fn conversation(dialect: Dialect) -> Vec<u8> {
    let mut bytes = frame(NOTAG, &Message::Tversion { msize: MSIZE, version: dialect.name().as_bytes() }, dialect);
    let mut tag = 0;
    let mut ask = |message: Message<'_>| {
        tag += 1;
        message.emit(tag, dialect, &mut bytes);
    };
    ask(attach(0, b"", 1000));
    ask(walk(0, 1, &[b"hello"]));
    ask(walk(0, 2, &[b"dir", b"nowhere"]));
    ask(walk(0, 2, &[b"null"]));
    ask(walk(0, 3, &[]));
    match dialect {
        Dialect::L => {
            ask(Message::Tlopen { fid: 1, flags: 2 });
            ask(Message::Tlopen { fid: 2, flags: 2 });
            ask(Message::Tlopen { fid: 3, flags: 0 });
            ask(Message::Tgetattr { fid: 1, request_mask: 0x7ff });
            ask(Message::Treaddir { fid: 3, offset: 0, count: 100 });
            ask(Message::Txattrwalk { fid: 1, newfid: 9, name: b"user.x" });
        }
        _ => {
            ask(Message::Topen { fid: 1, mode: 2 });
            ask(Message::Topen { fid: 2, mode: 2 });
            ask(Message::Topen { fid: 3, mode: 0 });
            ask(Message::Tstat { fid: 1 });
            ask(read(3, 0, 200));
            ask(Message::Twstat { fid: 1, stat: Stat::dont_touch() });
        }
    }
    ask(write(1, 3, b"written"));
    ask(read(1, 0, 100));
    ask(write(1, 12, &[b'x'; 17_000]));
    ask(read(1, 10, 5));
    ask(write(2, 0, &[b'y'; 17_000]));
    ask(write(9, 0, &[b'z'; 17_000]));
    ask(Message::Tflush { oldtag: 1 });
    ask(Message::Tclunk { fid: 9 });
    ask(Message::Tremove { fid: 1 });
    bytes.to_vec()
}

/// Every place to cut the conversation, but within a large payload only its edges and some more: one place there is like the next.
fn splits(bytes: &[u8]) -> Vec<usize> {
    const EDGE: usize = 64;
    let (mut splits, mut start) = (Vec::new(), 0);
    while let Some(head) = wire::head(&bytes[start..]) {
        let size = head.size as usize;
        splits.extend((1..=size).filter(|at| *at < EDGE || size - at < EDGE || at % 997 == 0).map(|at| start + at));
        start += size;
    }
    splits.pop();
    splits
}

/// What comes back if the bytes arrive in these pieces. With `skips` the driver throws away what it may.
fn drive(dialect: Dialect, bytes: &[u8], mut pieces: impl FnMut() -> usize, skips: bool) -> Vec<u8> {
    let mut peer = Peer { dialect, ..Peer::unversioned(config()) };
    let (mut all, mut inbox, mut fed) = (Vec::new(), Vec::new(), 0);
    while fed < bytes.len() {
        let n = pieces().min(bytes.len() - fed);
        inbox.extend_from_slice(&bytes[fed..fed + n]);
        fed += n;
        let received = peer.session.receive(&mut peer.tree, AT, &inbox).expect("not broken");
        assert!(!received.need.held);
        inbox.drain(..received.consumed);
        if skips && received.need.skip > 0 {
            assert!(inbox.is_empty(), "what may be skipped is behind what was shown");
            let n = received.need.skip.min(bytes.len() - fed);
            peer.session.skipped(&mut peer.tree, n, AT);
            fed += n;
        }
        all.extend(peer.replies());
    }
    assert!(inbox.is_empty());
    peer.ends();
    all
}

#[test]
fn every_split_point_gives_the_same_replies() {
    for dialect in Dialect::ALL {
        let bytes = conversation(dialect);
        let whole = drive(dialect, &bytes, || usize::MAX, false);
        assert!(whole.len() > 500, "a conversation");
        for skips in [false, true] {
            assert_eq!(drive(dialect, &bytes, || 1, skips), whole, "byte by byte");
            for split in splits(&bytes) {
                let mut first = Some(split);
                let same = drive(dialect, &bytes, || first.take().unwrap_or(usize::MAX), skips) == whole;
                assert!(same, "{dialect:?} cut at {split}, skips: {skips}");
            }
        }
    }
}

/// The need says how much completes the message, so that a driver can read exactly that.
#[test]
fn need_leads_from_message_to_message() {
    for dialect in Dialect::ALL {
        let bytes = conversation(dialect);
        let mut peer = Peer { dialect, ..Peer::unversioned(config()) };
        let (mut start, mut end, mut all) = (0, HEAD, Vec::new());
        while end <= bytes.len() {
            let received = peer.session.receive(&mut peer.tree, AT, &bytes[start..end]).expect("not broken");
            start += received.consumed;
            let more = received.need.more;
            assert!(more > 0 || start == end, "0 means that nothing has begun");
            if end == bytes.len() {
                break;
            }
            end += if more == 0 { HEAD } else { more };
        }
        all.extend(peer.replies());
        assert_eq!(all, drive(dialect, &bytes, || usize::MAX, false));
    }
}
