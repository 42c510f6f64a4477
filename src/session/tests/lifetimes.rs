//! Files and fids while operations are late: closed once and last, reserved until the answer, given back when nobody waits.

use super::late::Late;
use super::*;
use crate::fs::Call;

const CLUNK: Message<'static> = Message::Tclunk { fid: 1 };
const REMOVE: Message<'static> = Message::Tremove { fid: 1 };
const VERSION: Message<'static> = Message::Tversion { msize: MSIZE, version: b"9P2000.L" };

fn getattr(fid: u32) -> Message<'static> {
    Message::Tgetattr { fid, request_mask: 0x3fff }
}

fn flush(oldtag: Tag) -> Message<'static> {
    Message::Tflush { oldtag }
}

/// Two operations on the file of fid 1, and then its end. The tree itself panics at a second close, and at one that comes too early.
#[test]
fn a_file_is_closed_once_and_after_its_last_operation() {
    for (end, replies) in [
        (Some(CLUNK), &["Rgetattr 1", "Rgetattr 2", "Rclunk 3"][..]),
        (Some(REMOVE), &["Rgetattr 1", "Rgetattr 2", "Rremove 3"]),
        (Some(walk(1, 1, &[])), &["Rgetattr 1", "Rgetattr 2", "Rwalk 3"]),
        (Some(VERSION), &["Rversion 3"]),
        (None, &[]),
    ] {
        for last_first in [false, true] {
            let mut late = Late::new(Dialect::L);
            late.send(1, &walk(0, 1, &[b"f"]));
            assert_eq!(late.kinds(), ["Rwalk 1"]);
            let file = late.file(1);
            late.tree.holds = |call| matches!(call, Call::Stat { .. });
            late.tree.too_late = true;
            late.send(1, &getattr(1));
            late.send(2, &getattr(1));
            match end {
                Some(end) => late.send(3, &end),
                None => late.session.close(&mut late.tree, AT),
            }
            let mut said = late.kinds();
            let mut ops: Vec<_> = late.tree.kept.keys().copied().collect();
            if last_first {
                ops.reverse();
            }
            for op in ops {
                assert!(!late.tree.closed.contains(&file), "it is in use");
                late.finish(op);
            }
            assert_eq!(late.tree.closed.iter().filter(|&&closed| closed == file).count(), 1);
            said.extend(late.kinds());
            said.sort();
            let mut replies = replies.to_vec();
            replies.sort_unstable();
            assert_eq!(said, replies);
            late.ends();
        }
    }
}

#[test]
fn the_number_of_a_late_fid_is_reserved() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    for second in [walk(0, 5, &[]), attach(5, b"", 0), Message::Txattrwalk { fid: 0, newfid: 5, name: b"" }] {
        late.send(1, &walk(0, 5, &[b"f"]));
        late.send(2, &second);
        assert_eq!((late.tree.kept.len(), late.session.pending(), late.kinds()), (1, 2, vec![]));
        late.go();
        assert_eq!(late.kinds(), ["Rwalk 1", "Rlerror 2 22"]);
        late.send(3, &Message::Tclunk { fid: 5 });
        assert_eq!(late.kinds(), ["Rclunk 3"]);
    }
    // One that fails leaves the number free.
    late.send(1, &walk(0, 5, &[b"nowhere"]));
    late.send(2, &walk(0, 5, &[b"f"]));
    late.go();
    assert_eq!(late.kinds(), ["Rlerror 1 2", "Rwalk 2"]);
    late.ends();
}

#[test]
fn a_flush_frees_the_number_of_a_late_fid() {
    for (too_late, said) in [(false, vec!["Rflush 3", "Rwalk 2"]), (true, vec!["Rwalk 1", "Rflush 3", "Rlerror 2 22"])]
    {
        let mut late = Late::new(Dialect::L);
        late.tree.holds = |call| matches!(call, Call::Walk { .. });
        late.tree.too_late = too_late;
        late.send(1, &walk(0, 5, &[b"f"]));
        late.send(2, &walk(0, 5, &[b"d"]));
        late.send(3, &flush(1));
        late.go();
        assert_eq!(late.kinds(), said);
        late.ends();
    }
}

/// It was there when nobody waited any more: its file goes as if it had never been.
#[test]
fn a_walk_that_ends_for_nobody_gives_its_file_back() {
    for (message, makes) in [(walk(0, 5, &[b"f"]), 1), (walk(0, 5, &[b"d", b".."]), 1), (walk(0, 5, &[b"d", b"x"]), 0)]
    {
        for by_version in [true, false] {
            let mut late = Late::new(Dialect::L);
            late.tree.holds = |call| matches!(call, Call::Walk { .. });
            late.tree.eager = true;
            late.send(1, &message);
            if by_version {
                late.send(NOTAG, &VERSION);
                assert_eq!(late.kinds(), ["Rversion 65535"]);
            } else {
                late.session.close(&mut late.tree, AT);
            }
            assert_eq!((late.session.is_ending(), late.tree.tree.held()), (true, 1 + makes));
            late.go();
            assert_eq!((late.session.is_ending(), late.tree.tree.held(), late.kinds()), (false, 0, vec![]));
            late.ends();
        }
    }
}

/// The session itself is gone, and the tree still has an operation of it.
#[test]
fn a_walk_that_ends_without_its_session_gives_its_file_back() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.tree.eager = true;
    late.send(1, &walk(0, 5, &[b"f"]));
    let op = *late.tree.kept.keys().next().expect("the walk");
    assert_eq!(late.tree.tree.held(), 2);
    assert!(crate::session::discard(&mut late.tree, op, AT));
    assert_eq!((late.tree.tree.held(), late.tree.kept.len()), (1, 0));
}

/// Once its client is quiet, a session in which much has waited has no memory of it.
#[test]
fn a_quiet_session_gives_memory_of_what_waited_back() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Stat { .. });
    (1..20).for_each(|tag| late.send(tag, &getattr(0)));
    assert!(late.session.pending.capacity() >= 19);
    late.go();
    assert_eq!(late.kinds().len(), 19);
    late.session.trim();
    assert_eq!(late.session.pending.capacity(), 0);
    late.ends();
}

/// The session is not over before the tree has closed its files, also those that only the end of a walk gives out.
#[test]
fn a_session_ends_after_its_last_close() {
    for walks in [false, true] {
        let mut late = Late::new(Dialect::L);
        late.send(1, &walk(0, 1, &[b"f"]));
        late.kinds();
        late.tree.holds = |call| matches!(call, Call::Close { .. } | Call::Walk { .. });
        late.tree.eager = true;
        if walks {
            late.send(1, &walk(0, 2, &[b"f"]));
        }
        late.session.close(&mut late.tree, AT);
        assert_eq!((late.session.is_ending(), late.tree.tree.held()), (true, 2 + usize::from(walks)));
        while let Some(&op) = late.tree.kept.keys().next() {
            assert!(late.session.is_ending());
            late.finish(op);
        }
        assert!(!late.session.is_ending());
        late.ends();
    }
}

/// What has begun to end a file ends it, with whoever has asked or without.
#[test]
fn the_end_of_a_file_is_never_taken_back() {
    for end in [CLUNK, REMOVE] {
        for way in 0..3 {
            let mut late = Late::new(Dialect::L);
            late.send(1, &walk(0, 1, &[b"f"]));
            late.kinds();
            late.tree.holds = |call| matches!(call, Call::Close { .. } | Call::Remove { .. });
            late.send(1, &end);
            match way {
                0 => late.send(2, &flush(1)),
                1 => late.send(2, &VERSION),
                _ => late.session.close(&mut late.tree, AT),
            }
            late.go();
            let (ended, kinds) = (if end == CLUNK { "Rclunk 1" } else { "Rremove 1" }, late.kinds());
            match way {
                0 => assert_eq!(kinds, [ended, "Rflush 2"]),
                1 => assert_eq!(kinds, ["Rversion 2"]),
                _ => assert_eq!(kinds, [""; 0]),
            }
            assert_eq!(late.tree.tree.held(), usize::from(way == 0), "the root is left");
            late.ends();
        }
    }
}

/// The same where the attribute of a fid is set first.
#[test]
fn setting_an_attribute_may_end_for_nobody() {
    for way in 0..3 {
        let mut late = Late::new(Dialect::L);
        late.send(1, &walk(0, 1, &[b"f"]));
        late.send(1, &Message::Txattrcreate { fid: 1, name: b"user.a", attr_size: 1, flags: 0 });
        late.send(1, &write(1, 0, b"x"));
        late.kinds();
        late.tree.holds = |call| matches!(call, Call::SetXattr { .. });
        late.send(1, &CLUNK);
        match way {
            0 => late.send(2, &flush(1)),
            1 => late.send(2, &VERSION),
            _ => late.session.close(&mut late.tree, AT),
        }
        late.go();
        if way == 0 {
            assert_eq!(late.kinds(), ["Rclunk 1", "Rflush 2"]);
        }
        late.replies();
        assert_eq!(late.tree.tree.held(), usize::from(way == 0));
        late.ends();
    }
}

/// A clunk that waits for another operation has ended its fid already: its flush comes too late.
#[test]
fn a_flush_of_a_clunk_that_waits_follows_its_reply() {
    for (end, ended) in [(CLUNK, "Rclunk 2"), (REMOVE, "Rremove 2")] {
        let mut late = Late::new(Dialect::L);
        late.send(1, &walk(0, 1, &[b"f"]));
        late.kinds();
        late.tree.holds = |call| matches!(call, Call::Stat { .. } | Call::Close { .. } | Call::Remove { .. });
        late.send(1, &getattr(1));
        late.send(2, &end);
        late.send(3, &flush(2));
        late.send(4, &flush(2));
        assert_eq!((late.kinds(), late.session.pending()), (vec![], 4));
        for tag in [2, 3] {
            assert_eq!(late.shows(tag, &getattr(0)), Err(Broken::TagInFlight(tag)));
        }
        // A flush of a flush that waits is the only one that is owed then.
        late.send(5, &flush(4));
        assert_eq!(late.kinds(), ["Rflush 5"]);
        late.go();
        assert_eq!(late.kinds(), ["Rgetattr 1", ended, "Rflush 3"]);
        late.ends();
    }
}

/// Twstat asks twice. A flush that came too late for the first step waits for the second one.
#[test]
fn a_flush_follows_both_steps_of_a_wstat() {
    let mut late = Late::new(Dialect::U);
    late.send(1, &walk(0, 1, &[b"f"]));
    late.kinds();
    late.tree.holds = |call| matches!(call, Call::Stat { .. } | Call::Wstat { .. });
    late.tree.too_late = true;
    late.send(1, &Message::Twstat { fid: 1, stat: wire::Stat { mode: 0o600, ..wire::Stat::dont_touch() } });
    late.send(2, &flush(1));
    late.finish(late.first());
    assert_eq!((late.kinds(), late.session.pending()), (vec![], 2), "the second step waits");
    late.go();
    assert_eq!(late.kinds(), ["Rwstat 1", "Rflush 2"]);
    late.ends();
}

/// The fid is gone between the steps, and its number stands for another file.
#[test]
fn a_wstat_changes_the_file_that_it_was_asked_for() {
    let mut late = Late::new(Dialect::U);
    late.send(1, &walk(0, 1, &[b"f"]));
    late.kinds();
    late.tree.holds = |call| matches!(call, Call::Stat { .. });
    late.send(1, &Message::Twstat { fid: 1, stat: wire::Stat { mode: 0o600, ..wire::Stat::dont_touch() } });
    late.send(2, &CLUNK);
    late.send(3, &walk(0, 1, &[]));
    assert_eq!(late.kinds(), ["Rwalk 3"]);
    late.go();
    assert_eq!(late.kinds(), ["Rwstat 1", "Rclunk 2"]);
    late.tree.holds = |_| false;
    late.send(1, &Message::Tstat { fid: 1 });
    let lines = late.lines();
    assert!(!lines[0].contains("mode=2147484032"), "the root is as it was: {lines:?}");
    late.send(1, &walk(0, 2, &[b"f"]));
    late.send(1, &Message::Tstat { fid: 2 });
    let lines = late.lines();
    assert!(lines[1].contains("mode=384"), "{lines:?}");
    late.ends();
}

#[test]
fn a_flushed_request_of_the_queue_is_never_served() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &walk(0, 5, &[]));
    late.send(2, &Message::Tmkdir { dfid: 5, name: b"never", mode: 0o755, gid: 0 });
    late.send(3, &Message::Tmkdir { dfid: 5, name: b"made", mode: 0o755, gid: 0 });
    assert_eq!(late.shows(2, &getattr(0)), Err(Broken::TagInFlight(2)));
    late.send(4, &flush(2));
    assert_eq!(late.kinds(), ["Rflush 4"]);
    // Its tag is free.
    late.send(2, &getattr(0));
    assert_eq!(late.kinds(), ["Rgetattr 2"]);
    late.go();
    assert_eq!(late.kinds(), ["Rwalk 1", "Rmkdir 3"]);
    late.send(1, &walk(0, 6, &[b"never"]));
    late.send(2, &walk(0, 7, &[b"made"]));
    late.go();
    assert_eq!(late.kinds(), ["Rlerror 1 2", "Rwalk 2"]);
    late.ends();
}

#[test]
fn a_version_drops_what_waits_what_is_queued_and_what_is_held() {
    let mut late = Late::new(Dialect::L);
    late.opens(1, &[b"f"]);
    late.tree.gated = |call| matches!(call, Call::Write { .. });
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &write(1, 0, b"x"));
    late.send(2, &walk(0, 5, &[]));
    late.send(3, &Message::Tmkdir { dfid: 5, name: b"never", mode: 0o755, gid: 0 });
    late.send(4, &flush(1));
    assert_eq!(late.session.gates().collect::<Vec<_>>(), [Gate(1)]);
    late.send(NOTAG, &VERSION);
    assert_eq!((late.kinds(), late.session.pending()), (vec!["Rversion 65535".to_owned()], 0));
    late.go();
    late.tree.opened = Gate(9);
    assert_eq!(late.kinds(), [""; 0]);
    // All tags are free, and nothing of it was done.
    late.tree.holds = |_| false;
    for tag in 1..5 {
        late.send(tag, &attach(tag.into(), b"", 0));
    }
    late.send(5, &walk(1, 9, &[b"never"]));
    assert_eq!(late.kinds(), ["Rattach 1", "Rattach 2", "Rattach 3", "Rattach 4", "Rlerror 5 2"]);
    late.ends();
}

/// A payload that is written in parts: the next part waits for the one before, and that is not the peer's doing.
#[test]
fn a_payload_waits_for_its_part() {
    for more in [20_000, 0] {
        let mut late = Late::new(Dialect::L);
        late.opens(1, &[b"f"]);
        late.tree.lends = false;
        late.tree.holds = |call| matches!(call, Call::Write { .. });
        let payload = vec![b'p'; 20_000 + more];
        let bytes = frame(1, &write(1, 0, &payload), Dialect::L);
        let received = late.session.receive(&mut late.tree, AT, &bytes[..23]).expect("not broken");
        assert_eq!((received.consumed, received.need.held), (23, false));
        assert!(late.session.deadline().is_some());
        let first = late.session.receive(&mut late.tree, AT, &bytes[23..20_023]).expect("not broken");
        assert_eq!((first.consumed, first.need.held, first.need.again), (20_000, true, false));
        assert_eq!(late.session.deadline(), None, "the tree is slow, not the peer");
        if more > 0 {
            let next = late.session.receive(&mut late.tree, AT, &bytes[20_023..]).expect("not broken");
            assert_eq!((next.consumed, next.need.held), (0, true));
            late.finish(late.first());
            assert_eq!(late.kinds(), [""; 0]);
            assert!(late.session.deadline().is_some());
            let next = late.session.receive(&mut late.tree, AT, &bytes[20_023..]).expect("not broken");
            assert_eq!((next.consumed, next.need.held), (more, true));
        }
        late.finish(late.first());
        assert_eq!(late.session.deadline(), None, "between messages there is none");
        assert_eq!(late.kinds(), ["Rwrite 1"]);
        late.send(2, &getattr(1));
        assert_eq!(late.kinds(), ["Rgetattr 2"]);
        late.ends();
    }
}

/// The payload of a fid that is about to change waits with its message.
#[test]
fn a_large_write_waits_for_its_fid() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &walk(0, 5, &[b"f"]));
    late.send(2, &Message::Tlopen { fid: 5, flags: 2 });
    let bytes = frame(3, &write(5, 0, &[7; 20_000]), Dialect::L);
    let received = late.session.receive(&mut late.tree, AT, &bytes[..1000]).expect("not broken");
    assert_eq!((received.consumed, received.need.held, received.need.again), (0, true, false));
    late.go();
    assert_eq!(late.kinds(), ["Rwalk 1", "Rlopen 2"]);
    late.exchange(&bytes);
    late.send(4, &read(5, 19_999, 9));
    assert_eq!(late.lines().len(), 1);
    late.ends();
}

#[test]
fn messages_of_the_queue_are_bounded() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &walk(0, 5, &[b"f"]));
    let payload = [7; 15_000];
    for tag in 2..7 {
        late.send(tag, &write(5, 0, &payload));
    }
    assert!(late.session.queue.bytes() >= OWN_BYTES_MAX);
    let received = late.shows(7, &write(5, 0, b"x")).expect("not broken");
    assert_eq!((received.consumed, received.need.held, received.need.again), (0, true, false));
    // What ends waiting passes.
    late.send(8, &Message::Tclunk { fid: 5 });
    late.send(9, &flush(2));
    assert_eq!(late.kinds(), ["Rflush 9"]);
    late.send(7, &write(5, 0, b"x"));
    late.go();
    assert_eq!(late.session.queue.bytes(), 0);
    let kinds = late.kinds();
    assert_eq!(
        (kinds.len(), &*kinds[0], &*kinds[1], &*kinds[5], &*kinds[6]),
        (7, "Rwalk 1", "Rlerror 3 9", "Rclunk 8", "Rlerror 7 9")
    );
    late.ends();
}

/// What comes free at once is served in the bounds of a turn, and the rest in the next ones.
#[test]
fn requests_that_waited_are_served_in_turns() {
    const COUNT: u16 = 200;
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &walk(0, 5, &[b"f"]));
    for tag in 0..COUNT {
        late.send(100 + tag, &Message::Tgetattr { fid: 5, request_mask: 0 });
    }
    late.go();
    let first = late.kinds().len();
    assert!(late.session.is_held() && first < usize::from(COUNT), "{first} at once");
    let mut said = first;
    while late.session.is_held() {
        let received = late.session.receive(&mut late.tree, AT, &[]).expect("not broken");
        assert_eq!(received.need.held, late.session.is_held());
        said += late.kinds().len();
    }
    assert_eq!((said, late.session.pending()), (1 + usize::from(COUNT), 0));
    late.ends();
}

#[test]
fn a_flush_of_a_queued_request_frees_what_waits_behind_it() {
    let mut late = Late::new(Dialect::L);
    late.send(1, &walk(0, 6, &[b"d"]));
    assert_eq!(late.kinds(), ["Rwalk 1"]);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &walk(0, 5, &[b"f"]));
    late.send(2, &Message::Tlink { dfid: 6, fid: 5, name: b"link" });
    late.send(3, &Message::Tgetattr { fid: 6, request_mask: 0 });
    assert_eq!(late.kinds(), Vec::<String>::new());
    late.send(4, &flush(2));
    assert_eq!(late.kinds(), ["Rflush 4", "Rgetattr 3"]);
    late.go();
    assert_eq!(late.kinds(), ["Rwalk 1"]);
    late.ends();
}

/// Nothing is pending any more, but a part of what waited behind it is left, since the tree is behind.
#[test]
fn a_session_ends_with_what_waits_for_its_tree() {
    for by_version in [true, false] {
        let mut late = Late::new(Dialect::L);
        late.tree.holds = |call| matches!(call, Call::Walk { .. });
        late.send(1, &walk(0, 5, &[b"f"]));
        (0..200).for_each(|tag| late.send(100 + tag, &Message::Tgetattr { fid: 5, request_mask: 0 }));
        late.go();
        assert!(late.session.is_held());
        late.replies();
        late.tree.behind = true;
        if by_version {
            late.shows(NOTAG, &VERSION).expect("not broken");
            assert_eq!(late.kinds(), ["Rversion 65535"]);
        } else {
            late.session.close(&mut late.tree, AT);
        }
        assert_eq!((late.session.is_held(), late.session.pending(), late.kinds()), (false, 0, vec![]));
    }
}

/// The fid of the other file is a text in the message (.u).
#[test]
fn a_link_waits_for_the_fid_of_its_file() {
    for text in [&b"5\n"[..], b"5"] {
        let mut late = Late::new(Dialect::U);
        late.tree.holds = |call| matches!(call, Call::Walk { .. });
        late.send(1, &walk(0, 5, &[b"f"]));
        late.send(2, &walk(0, 6, &[]));
        late.go();
        assert_eq!(late.kinds(), ["Rwalk 1", "Rwalk 2"]);
        late.send(3, &walk(5, 5, &[]));
        late.send(4, &Message::Tcreate { fid: 6, name: b"link", perm: 0x0100_0000, mode: 0, extension: UOnly(text) });
        assert_eq!((late.kinds(), late.session.pending()), (vec![], 2));
        late.go();
        assert_eq!(late.kinds(), ["Rwalk 3", "Rcreate 4"]);
        late.ends();
    }
}
