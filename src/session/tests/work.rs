//! A turn has a budget of work: dear messages end it early, and what lets go of much takes several turns.

use super::*;
use crate::arena::Arena;
use crate::fs::Simple;
use crate::fs::mem::{Mem, Options};

fn ask(session: &mut Session<Simple<Mem>>, fs: &mut Simple<Mem>, message: &Message<'_>) -> Vec<u8> {
    session.receive(fs, AT, &frame(1, message, Dialect::L)).expect("a sound message");
    let batch = session.take(fs).expect("a reply");
    batch.to_vec()
}

fn started() -> (Session<Simple<Mem>>, Simple<Mem>) {
    let mut fs = Simple::from(Mem::new(Arena::new(1 << 20).expect("a small mapping"), Options::default()));
    let mut session: Session<Simple<Mem>> = Session::new(Config { msize_max: 1 << 20, ..config() });
    let version = frame(NOTAG, &Message::Tversion { msize: 1 << 20, version: b"9P2000.L" }, Dialect::L);
    session.receive(&mut fs, AT, &version).expect("a sound message");
    drop(session.take(&fs));
    ask(&mut session, &mut fs, &attach(0, b"", 0));
    (session, fs)
}

/// The whole budget of a turn in bytes of `frames`, and how many turns all of them take.
fn turns(session: &mut Session<Simple<Mem>>, fs: &mut Simple<Mem>, frames: &[u8], each: usize) -> Vec<usize> {
    let (mut rest, mut served) = (frames, Vec::new());
    while !rest.is_empty() {
        session.begin_turn();
        let received = session.receive_in_turn(fs, AT, rest).expect("sound messages");
        served.push(received.consumed / each);
        rest = &rest[received.consumed..];
        assert!(rest.is_empty() || received.need.held && received.need.again, "{:?}", received.need);
        drop(session.take(fs));
        assert!(served.len() < 1000, "it never ends");
    }
    served
}

#[test]
fn dear_messages_are_served_a_few_at_a_time() {
    let (mut session, mut fs) = started();
    ask(&mut session, &mut fs, &walk(0, 1, &[]));
    ask(&mut session, &mut fs, &Message::Tlcreate { fid: 1, name: b"f", flags: 0o102, mode: 0o644, gid: 0 });
    let lock = |start, process| Message::Tlock {
        fid: 1,
        type_: 1,
        flags: 0,
        start,
        length: 1,
        proc_id: process,
        client_id: b"c",
    };
    let cheap: Vec<u8> = (1..201).flat_map(|tag| frame(tag, &lock(0, 1), Dialect::L).to_vec()).collect();
    let served = turns(&mut session, &mut fs, &cheap, cheap.len() / 200);
    assert_eq!(served, [64, 64, 64, 8], "the bound of messages");
    for range in 0..4000 {
        ask(&mut session, &mut fs, &lock(2 * range, 1));
    }
    let dear: Vec<u8> = (1..101).flat_map(|tag| frame(tag, &lock(7998, 2), Dialect::L).to_vec()).collect();
    let served = turns(&mut session, &mut fs, &dear, dear.len() / 100);
    // Each looks at 4,000 ranges, 128 of which are a unit.
    let most = WORK_MAX as usize / 32 + 1;
    assert!(served.iter().all(|&count| count <= most), "{served:?}");
    assert!(served.len() >= 100 / most, "{served:?}");
}

/// What a message takes beyond the budget counts in the turns to come.
#[test]
fn what_was_taken_too_much_is_paid_for() {
    let (mut session, mut fs) = started();
    session.charge(5 * WORK_MAX);
    let frames: Vec<u8> = (1..5).flat_map(|tag| frame(tag, &walk(0, 0, &[]), Dialect::L).to_vec()).collect();
    assert_eq!(turns(&mut session, &mut fs, &frames, frames.len() / 4), [0, 0, 0, 0, 4]);
    session.charge(5 * WORK_MAX);
    let received = session.receive(&mut fs, AT, &frames).expect("sound messages");
    assert_eq!(received.consumed, frames.len() / 4, "a driver that knows no turns is always served");
}

#[test]
fn many_fids_are_closed_in_parts() {
    const FIDS: usize = 1000;
    for disconnects in [false, true] {
        let (mut session, mut fs) = started();
        for fid in 1..FIDS as u32 {
            ask(&mut session, &mut fs, &walk(0, fid, &[]));
        }
        let version = frame(NOTAG, &Message::Tversion { msize: 1 << 20, version: b"9P2000.L" }, Dialect::L);
        let mut calls = 0;
        loop {
            let before = session.fids();
            let ended = if disconnects {
                session.close_part(&mut fs, AT)
            } else {
                let received = session.receive(&mut fs, AT, &version).expect("a sound message");
                assert_eq!(received.consumed > 0, session.queued_bytes() > 0, "answered once all are closed");
                assert!(received.consumed > 0 || received.need.held && received.need.again);
                received.consumed > 0
            };
            calls += 1;
            assert!(before - session.fids() <= CLOSED_MAX as usize, "{before} fids, then {}", session.fids());
            assert_eq!(session.config.budget.fids(), session.fids());
            if ended {
                break;
            }
        }
        assert!(calls >= FIDS / CLOSED_MAX as usize && calls <= FIDS / CLOSED_MAX as usize + 2, "{calls} calls");
        assert_eq!(session.fids(), 0);
    }
}
