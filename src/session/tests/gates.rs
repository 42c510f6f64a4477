//! Replies that wait for gates: what overtakes them, what follows them, and what they hold up.

use super::late::{Late, Slow};
use super::*;
use crate::fs::Call;
use crate::fs::join::{End, Join};

/// A peer whose writes and unlinks have gates.
fn gated() -> Late {
    let mut late = Late::new(Dialect::L);
    late.opens(1, &[b"f"]);
    late.tree.gated = |call| matches!(call, Call::Write { .. } | Call::Unlink { .. });
    late
}

fn unlink(name: &[u8]) -> Message<'_> {
    Message::Tunlinkat { dfid: 0, name, flags: 0 }
}

#[test]
fn replies_wait_for_their_gates_errors_too_and_open_ones_overtake() {
    let mut late = gated();
    late.tree.gate = Gate(5);
    late.send(1, &write(1, 0, b"x"));
    late.send(2, &unlink(b"nowhere"));
    late.send(3, &read(1, 0, 9));
    late.tree.gate = Gate(6);
    late.send(4, &unlink(b"f"));
    assert_eq!(late.kinds(), ["Rread 3"]);
    for tag in [1, 2, 4] {
        assert_eq!(late.shows(tag, &read(1, 0, 9)), Err(Broken::TagInFlight(tag)));
        late.send(10 + tag, &Message::Tflush { oldtag: tag });
    }
    assert_eq!(late.kinds(), [""; 0]);
    assert_eq!(late.session.gates().collect::<Vec<_>>(), [Gate(5)]);
    late.tree.opened = Gate(4);
    assert_eq!(late.kinds(), [""; 0]);
    late.tree.opened = Gate(5);
    assert_eq!(late.kinds(), ["Rwrite 1", "Rlerror 2 2", "Rflush 11", "Rflush 12"]);
    late.send(2, &read(1, 0, 9));
    assert_eq!(late.kinds(), ["Rread 2"]);
    late.tree.opened = Gate(6);
    assert_eq!(late.kinds(), ["Runlinkat 4", "Rflush 14"]);
    assert_eq!(late.session.gates().count(), 0);
    late.ends();
}

/// A payload that has no place is thrown away, and then its error waits for the gate that it had.
#[test]
fn the_error_of_a_payload_without_a_place_waits_for_its_gate() {
    let mut late = gated();
    late.tree.gate = Gate(3);
    late.send(1, &write(1, (1 << 63) - 10_000, &[7; 20_000]));
    late.tree.gate = Gate(4);
    late.send(2, &read(1, 0, 9));
    assert_eq!(late.kinds(), ["Rread 2"]);
    late.tree.opened = Gate(3);
    assert_eq!(late.kinds(), ["Rlerror 1 27"]);
    late.ends();
}

/// What the reply to a Txattrwalk waits for, those that show the value wait for as well.
#[test]
fn the_value_of_an_attribute_waits_for_its_gate() {
    let mut late = gated();
    late.tree.gated = |call| matches!(call, Call::Xattr { .. });
    late.send(1, &Message::Txattrwalk { fid: 1, newfid: 2, name: b"" });
    late.send(2, &read(2, 0, 9));
    late.send(3, &Message::Tclunk { fid: 2 });
    assert_eq!(late.kinds(), ["Rclunk 3"]);
    late.tree.opened = Gate(1);
    assert_eq!(late.kinds(), ["Rxattrwalk 1", "Rread 2"]);
    late.send(1, &Message::Txattrwalk { fid: 1, newfid: 2, name: b"" });
    late.send(2, &read(2, 0, 9));
    assert_eq!(late.kinds(), ["Rxattrwalk 1", "Rread 2"], "it is open by now");
    late.ends();
}

#[test]
fn replies_of_one_gate_keep_their_order() {
    let mut late = gated();
    for tag in [3, 1, 2] {
        late.send(tag, &write(1, 0, b"x"));
    }
    late.tree.opened = Gate(1);
    assert_eq!(late.kinds(), ["Rwrite 3", "Rwrite 1", "Rwrite 2"]);
    late.ends();
}

/// A gate that is open by the time of the answer is none.
#[test]
fn nothing_waits_for_an_open_gate() {
    let mut late = gated();
    late.tree.opened = Gate(1);
    late.send(1, &write(1, 0, b"x"));
    assert_eq!((late.session.gates().count(), late.kinds()), (0, vec!["Rwrite 1".to_owned()]));
    late.ends();
}

#[test]
fn replies_behind_gates_count_against_the_peer() {
    let mut late = gated();
    for tag in 1..=10_000 {
        let received = late.shows(tag, &unlink(b"nowhere")).expect("not broken");
        if received.need.held {
            assert!(received.consumed == 0 && !received.need.again, "{received:?}");
            let flushed = late.shows(20_000, &Message::Tflush { oldtag: 1 }).expect("not broken");
            assert!(flushed.need.held, "its reply would queue as well");
            late.tree.opened = Gate(1);
            assert_eq!(late.kinds().len(), usize::from(tag) - 1);
            assert!(late.shows(tag, &unlink(b"nowhere")).is_ok_and(|received| received.consumed > 0));
            late.replies();
            return late.ends();
        }
    }
    panic!("replies without a bound");
}

/// A tree that is behind is asked for nothing more, but whoever waits can still give up.
#[test]
fn a_tree_that_is_behind_is_asked_for_nothing() {
    let mut late = gated();
    late.tree.behind = true;
    for message in [read(1, 0, 9), walk(0, 2, &[]), write(1, 0, b"x")] {
        let received = late.shows(1, &message).expect("not broken");
        assert_eq!((received.consumed, received.need.held, received.need.again), (0, true, false));
    }
    late.send(2, &Message::Tflush { oldtag: 9 });
    late.send(3, &Message::Tclunk { fid: 1 });
    late.send(NOTAG, &Message::Tversion { msize: MSIZE, version: b"9P2000.L" });
    assert_eq!(late.kinds(), ["Rflush 2", "Rclunk 3", "Rversion 65535"]);
    late.tree.behind = false;
    late.send(1, &attach(0, b"", 0));
    assert_eq!(late.kinds(), ["Rattach 1"]);
    late.ends();
}

/// One session on two trees: each opens its gates in its own time.
#[test]
fn gates_of_two_trees_do_not_wait_for_each_other() {
    let names: [&'static [&'static [u8]]; 2] = [&[b"one"], &[b"two"]];
    let [mut one, mut two] = [Slow::new(), Slow::new()];
    for tree in [&mut one, &mut two] {
        tree.gated = |call| matches!(call, Call::Make { .. });
        tree.gate = Gate(3);
    }
    let mut fs = Join::new((names[0], one), Join::new((names[1], two), End));
    let mut session = Session::new(config());
    let mut ask = |fs: &mut _, tag, message: &Message<'_>| {
        session.receive(fs, AT, &frame(tag, message, Dialect::L)).expect("not broken");
        let mut tags = Vec::new();
        while let Some(batch) = session.take(fs) {
            let bytes = batch.to_vec();
            let mut rest = bytes.as_slice();
            while let Some(head) = wire::head(rest) {
                tags.push(head.tag);
                rest = &rest[head.size as usize..];
            }
            session.recycle(batch);
        }
        tags
    };
    let mkdir = |dfid| Message::Tmkdir { dfid, name: b"d", mode: 0o755, gid: 0 };
    assert_eq!(ask(&mut fs, NOTAG, &Message::Tversion { msize: MSIZE, version: b"9P2000.L" }), [NOTAG]);
    assert_eq!(ask(&mut fs, 1, &attach(1, b"one", 0)), [1]);
    assert_eq!(ask(&mut fs, 2, &attach(2, b"two", 0)), [2]);
    assert_eq!(ask(&mut fs, 1, &mkdir(1)), [0; 0]);
    assert_eq!(ask(&mut fs, 2, &mkdir(2)), [0; 0]);
    fs.rest().first().opened = Gate(3);
    assert_eq!(ask(&mut fs, 3, &walk(1, 3, &[b"d"])), [2, 3]);
    assert_eq!(ask(&mut fs, 4, &walk(2, 4, &[b"d"])), [4]);
    fs.first().opened = Gate(3);
    assert_eq!(ask(&mut fs, 5, &walk(3, 5, &[])), [1, 5]);
    session.close(&mut fs, AT);
    assert_eq!((fs.first().tree.held(), fs.rest().first().tree.held()), (0, 0));
}
