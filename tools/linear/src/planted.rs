//! Histories with a fault in each, by hand: what the checker must not let pass. Every run starts with them, so that its count of violations means something.
//!
//! Must not know: servers.

use crate::check::check;
use crate::grid::{Grid, WriteId};
use crate::history::{Cut, History, Op, What};
use std::ops::Range;

const GRID: Grid = Grid { regions: 2, shift: 0, cut: None };
const NUMBER: u32 = 1;
const A: WriteId = WriteId { client: 1, seq: 1 };
const B: WriteId = WriteId { client: 2, seq: 1 };

fn history(ops: Vec<Op>) -> History {
    History { number: NUMBER, title: "planted".into(), grid: GRID, ops, cuts: Vec::new() }
}

fn resize(cells: Range<usize>, at: Range<u64>) -> Op {
    Op { id: WriteId { client: 4, seq: 1 }, cells, call_ns: at.start, ret_ns: at.end, what: What::Resize }
}

fn write(id: WriteId, cells: Range<usize>, at: Range<u64>) -> Op {
    Op { id, cells, call_ns: at.start, ret_ns: at.end, what: What::Write }
}

/// A read of one client by its bytes, as a server would have sent them.
fn read(seq: u32, cells: Range<usize>, at: Range<u64>, bytes: &[u8]) -> Op {
    let values = GRID.see(NUMBER, &cells, bytes);
    Op { id: WriteId { client: 3, seq }, cells, call_ns: at.start, ret_ns: at.end, what: What::Read(values) }
}

/// What a write leaves in cells.
fn left(id: WriteId, cells: Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    GRID.fill(NUMBER, &cells, id, &mut bytes);
    bytes
}

/// What is wrong in each, and the histories.
pub(crate) fn histories() -> Vec<(&'static str, History)> {
    let (a, b) = (left(A, 0..1), left(B, 0..1));
    let mut torn = a.clone();
    torn[2048..].copy_from_slice(&b[2048..]);
    let both = [left(A, 0..1), left(B, 1..2)].concat();
    let half = [left(A, 0..1), vec![0; 4096]].concat();
    let mut cut = history(vec![write(A, 0..1, 10..20), read(1, 0..1, 40..50, &a)]);
    cut.cuts.push(Cut { at_ns: 30, kept: 0 });
    vec![
        // B was seen once; while its write is still under way, A must not come back.
        (
            "a stale read",
            history(vec![
                write(A, 0..1, 10..20),
                write(B, 0..1, 30..90),
                read(1, 0..1, 40..50, &b),
                read(2, 0..1, 60..70, &a),
            ]),
        ),
        ("a lost write", history(vec![write(A, 0..1, 10..20), read(1, 0..1, 30..40, &[0; 4096])])),
        ("a file that lost its end", history(vec![write(A, 0..1, 10..20), read(1, 0..1, 30..40, b"")])),
        ("a torn region", history(vec![write(A, 0..1, 10..90), write(B, 0..1, 10..90), read(1, 0..1, 20..80, &torn)])),
        ("a read from the future", history(vec![read(1, 0..1, 10..20, &a), write(A, 0..1, 30..40)])),
        ("a value from nowhere", history(vec![write(A, 0..1, 10..20), read(1, 0..1, 30..40, &left(A, 1..2))])),
        ("what a cut has taken", cut),
        (
            "what a resize has taken",
            history(vec![write(A, 0..2, 10..20), resize(0..2, 30..40), read(1, 0..1, 50..60, &a)]),
        ),
        (
            "zeros that no resize explains",
            history(vec![resize(0..2, 10..20), write(A, 0..2, 30..40), read(1, 0..1, 50..60, &[0; 4096])]),
        ),
        (
            "half of two writes",
            history(vec![write(A, 0..2, 10..90), write(B, 0..2, 10..90), read(1, 0..2, 20..80, &both)]),
        ),
        ("half of one write", history(vec![write(A, 0..2, 10..90), read(1, 0..2, 20..80, &half)])),
    ]
}

/// What the checker lets pass of them.
pub(crate) fn unnoticed() -> Vec<&'static str> {
    histories().into_iter().filter(|(_, history)| check(history).is_none()).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_fault_is_found_for_what_it_is() {
        let found = |name: &str| {
            let (_, history) = histories().into_iter().find(|(planted, _)| *planted == name).expect("it is planted");
            check(&history).map_or(String::new(), |violation| violation.text(&history))
        };
        for (name, words) in [
            ("a stale read", "c2.1 comes before c1.1"),
            ("a lost write", "c1.1 comes before zeros"),
            ("a file that lost its end", "c1.1 comes before zeros"),
            ("a torn region", "torn: "),
            ("a read from the future", "before the write of what it saw"),
            ("a value from nowhere", "nothing that was ever written here"),
            ("what a resize has taken", "c1.1 comes before c4.1"),
            ("zeros that no resize explains", "c1.1 comes before zeros"),
            ("what a cut has taken", "since the file was cut"),
            ("half of two writes", "c1.1 here and c2.1 in region 1"),
            ("half of one write", "still zeros in region 1"),
        ] {
            assert!(found(name).contains(words), "{name}: {:?}", found(name));
        }
        assert_eq!(unnoticed(), Vec::<&str>::new());
    }

    /// The same shapes, sound: a checker that finds fault with everything would pass the test above.
    #[test]
    fn sound_histories_pass() {
        let (a, b) = (left(A, 0..1), left(B, 0..1));
        let half = [left(A, 0..1), vec![0; 4096]].concat();
        let mixed = [left(A, 0..1), left(B, 1..2)].concat();
        let mut cut = history(vec![write(A, 0..2, 10..20), read(1, 0..2, 40..50, &a)]);
        cut.cuts.push(Cut { at_ns: 30, kept: 1 });
        for (name, history) in [
            (
                "a read before and one after, during a write",
                history(vec![
                    write(A, 0..1, 10..20),
                    write(B, 0..1, 30..90),
                    read(1, 0..1, 40..50, &a),
                    read(2, 0..1, 60..70, &b),
                ]),
            ),
            ("nothing yet", history(vec![write(A, 0..1, 10..20), read(1, 0..1, 15..40, &[0; 4096])])),
            ("cut off", cut),
            (
                "a resize during a write",
                history(vec![
                    write(A, 0..2, 10..90),
                    resize(1..2, 20..80),
                    read(1, 0..2, 30..70, &half),
                    read(2, 0..2, 95..99, &a),
                ]),
            ),
            // B's write covers the second region alone, so both are whole.
            (
                "two writes side by side",
                history(vec![write(A, 0..2, 10..90), write(B, 1..2, 10..90), read(1, 0..2, 20..80, &mixed)]),
            ),
        ] {
            assert!(check(&history).is_none(), "{name}: {:?}", check(&history));
        }
    }
}
