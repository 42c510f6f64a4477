//! Bounds of what waits for its tree: bytes of requests, fids that answers will make, listings that end together.

use super::super::budget::LateBytes;
use super::super::pending::WAITING_BYTES;
use super::late::Late;
use super::*;
use crate::fs::Call;

fn getattr(fid: u32) -> Message<'static> {
    Message::Tgetattr { fid, request_mask: 0x3fff }
}

/// With what the tree keeps of them; [`Late::ends`] looks that nothing stays counted.
#[test]
fn bytes_of_requests_that_wait_are_counted() {
    for ends_early in [false, true] {
        let mut late = Late::new(Dialect::L);
        late.opens(1, &[b"f"]);
        assert_eq!(late.budget.late_bytes(), 0);
        late.tree.holds = |call| matches!(call, Call::Write { .. } | Call::Walk { .. });
        let payload = [7; 10_000];
        late.send(1, &write(1, 0, &payload));
        let one = late.budget.late_bytes();
        assert!((10_000 + WAITING_BYTES..10_100 + WAITING_BYTES).contains(&one), "{one} bytes");
        late.send(2, &walk(0, 5, &[b"f"]));
        let two = late.budget.late_bytes();
        // It waits for the walk.
        late.send(3, &write(5, 0, &payload));
        let three = late.budget.late_bytes();
        assert!(two > one + WAITING_BYTES && three > two + 10_000, "{one}, {two}, {three} bytes");
        if !ends_early {
            late.go();
            assert_eq!((late.kinds().len(), late.budget.late_bytes()), (3, 0));
        }
        late.ends();
    }
}

#[test]
fn where_requests_that_wait_take_all_memory_each_session_has_one() {
    let mut late = Late::new(Dialect::L);
    late.opens(1, &[b"f"]);
    late.tree.holds = |call| matches!(call, Call::Stat { .. });
    let others = LateBytes::new(&late.budget, LATE_BYTES_ALL);
    for round in 0..2 {
        late.send(1, &getattr(1));
        let received = late.shows(2, &getattr(1)).expect("not broken");
        assert_eq!((received.consumed, received.need.held, received.need.again), (0, true, false), "round {round}");
        // What ends waiting passes.
        late.send(3, &Message::Tflush { oldtag: 9 });
        late.go();
        assert_eq!(late.kinds(), ["Rflush 3", "Rgetattr 1"]);
    }
    // What the tree answers at once is served all the same.
    late.tree.holds = |_| false;
    late.send(1, &getattr(1));
    late.send(2, &getattr(1));
    assert_eq!(late.kinds(), ["Rgetattr 1", "Rgetattr 2"]);
    drop(others);
    late.tree.holds = |call| matches!(call, Call::Stat { .. });
    late.send(1, &getattr(1));
    late.send(2, &getattr(1));
    late.ends();
}

#[test]
fn fids_that_answers_will_make_count_as_fids() {
    let mut late = Late::new(Dialect::L);
    late.session = Session::new(Config { budget: late.budget.clone(), fids_max: 4, ..config() });
    late.send(NOTAG, &Message::Tversion { msize: MSIZE, version: b"9P2000.L" });
    late.send(1, &attach(0, b"", 0));
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    for fid in 1..=5 {
        late.send(fid as u16, &walk(0, fid, &[b"f"]));
    }
    assert_eq!(late.kinds(), ["Rversion 65535", "Rattach 1", "Rlerror 4 24", "Rlerror 5 24"]);
    late.go();
    assert_eq!((late.kinds(), late.session.fids()), (vec!["Rwalk 1".into(), "Rwalk 2".into(), "Rwalk 3".into()], 4));
}

/// Each of them may say as much as replies may have in all.
#[test]
fn listings_that_end_together_are_short_once_replies_have_all_their_memory() {
    const COUNT: u16 = 20;
    for dialect in [Dialect::L, Dialect::P9] {
        let mut late = Late::new(dialect);
        for number in 0..1000 {
            let name = format!("{number:0>200}");
            late.send(1, &walk(0, 2, &[]));
            let (name, mode) = (name.as_bytes(), 0o644);
            late.send(
                1,
                &match dialect {
                    Dialect::L => Message::Tlcreate { fid: 2, name, flags: 2, mode, gid: 0 },
                    _ => Message::Tcreate { fid: 2, name, perm: mode, mode: 2, extension: UOnly(b"") },
                },
            );
            late.send(1, &Message::Tclunk { fid: 2 });
            late.replies();
        }
        late.tree.holds = |call| matches!(call, Call::List { .. });
        for tag in 0..COUNT {
            // In 9P2000 a read of a directory waits for the one before it.
            let fid = 10 + u32::from(tag);
            late.send(tag, &walk(0, fid, &[]));
            late.send(
                tag,
                &match dialect {
                    Dialect::L => Message::Tlopen { fid, flags: 0 },
                    _ => Message::Topen { fid, mode: 0 },
                },
            );
            late.replies();
            late.send(
                tag,
                &match dialect {
                    Dialect::L => Message::Treaddir { fid, offset: 0, count: MSIZE },
                    _ => read(fid, 0, MSIZE),
                },
            );
        }
        late.go();
        let bytes = late.replies().len();
        let most = OWN_BYTES_MAX + OWN_BYTES_MAX + usize::from(COUNT) * TIGHT_LISTING_BYTES_MAX;
        assert!(bytes > OWN_BYTES_MAX && bytes < most, "{bytes} bytes");
        late.ends();
    }
}
