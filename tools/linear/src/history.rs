//! A recorded history: who asked for what, when, and what came back.
//!
//! Must not know: how it was had.

use crate::grid::{Grid, Value, WriteId};
use std::ops::Range;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// All of its cells get its [`WriteId`].
    Write,
    /// One value for each of its cells.
    Read(Vec<Value>),
    /// The file ends where its cells begin, and they are zeros from then on. There are none if it gets its whole length.
    Resize,
}

/// One request and its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) id: WriteId,
    pub(crate) cells: Range<usize>,
    /// Before its first byte was sent; never 0.
    pub(crate) call_ns: u64,
    /// After its reply was there.
    pub(crate) ret_ns: u64,
    pub(crate) what: What,
}

impl Op {
    pub(crate) fn is_write(&self) -> bool {
        self.what == What::Write
    }

    /// What it leaves in its cells is there afterwards.
    pub(crate) fn is_change(&self) -> bool {
        matches!(self.what, What::Write | What::Resize)
    }

    /// A read or a write, and a write, which may have taken effect in either order.
    fn overlaps(&self, other: &Op) -> bool {
        let in_time = self.call_ns <= other.ret_ns && other.call_ns <= self.ret_ns;
        let in_place = self.cells.start < other.cells.end && other.cells.start < self.cells.end;
        let resizes = self.what == What::Resize || other.what == What::Resize;
        in_time && in_place && !resizes && (self.is_write() || other.is_write())
    }
}

/// The file lost what is behind: cells from `kept` on start again. Nothing is in flight at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) at_ns: u64,
    pub(crate) kept: usize,
}

/// All that was done to one file.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) number: u32,
    /// How it was had, on one line.
    pub(crate) title: String,
    pub(crate) grid: Grid,
    /// In the order of their calls.
    pub(crate) ops: Vec<Op>,
    /// In the order of time.
    pub(crate) cuts: Vec<Cut>,
}

impl History {
    /// Which life of a cell an operation of this time belongs to: each cut that takes the cell begins a new one.
    pub(crate) fn life(&self, cell: usize, call_ns: u64) -> usize {
        self.cuts.iter().filter(|cut| cut.kept <= cell && cut.at_ns < call_ns).count()
    }

    /// Whether a change of the length may have taken a cell within this time.
    pub(crate) fn may_be_resized(&self, cell: usize, from_ns: u64, to_ns: u64) -> bool {
        let resizes = self.ops.iter().filter(|op| op.what == What::Resize && op.cells.contains(&cell));
        resizes.into_iter().any(|op| op.call_ns <= to_ns && from_ns <= op.ret_ns)
    }

    /// Pairs of operations of two clients that overlap in time on a cell, one of them a write. What one client has in flight at the same time does not count,
    /// although it overlaps: a server that takes each connection in turn is not tried by it.
    pub(crate) fn overlapping_pairs(&self) -> usize {
        let mut pairs = 0;
        for (at, op) in self.ops.iter().enumerate() {
            let others = self.ops[at + 1..].iter().take_while(|other| other.call_ns <= op.ret_ns);
            pairs += others.filter(|other| other.id.client != op.id.client && op.overlaps(other)).count();
        }
        pairs
    }

    /// One operation on one line; of a read, what it saw in `cell`, or in all of its cells.
    pub(crate) fn line(&self, op: &Op, cell: Option<usize>) -> String {
        let (from, to) = (op.call_ns as f64 / 1e3, op.ret_ns as f64 / 1e3);
        let bytes = self.grid.bytes(&op.cells);
        let saw = match &op.what {
            What::Write => format!("writes {}", op.id),
            What::Resize => format!("makes the file end here ({})", op.id),
            What::Read(values) => {
                let here = cell.map_or(0..values.len(), |cell| cell - op.cells.start..cell - op.cells.start + 1);
                let seen: Vec<_> = values[here].iter().map(Value::to_string).collect();
                format!("reads {}", seen.join(", "))
            }
        };
        format!(
            "{:>9.1} to {:>9.1} us  client {}  bytes {:>7} to {:>7}  {saw}",
            from, to, op.id.client, bytes.start, bytes.end
        )
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n{:?}\n", self.title, self.grid);
        for cut in &self.cuts {
            text += &format!("{:>9.1} us  cells from {} on start again\n", cut.at_ns as f64 / 1e3, cut.kept);
        }
        self.ops.iter().for_each(|op| text += &format!("{}\n", self.line(op, None)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(client: u8, cells: Range<usize>, at: Range<u64>, what: What) -> Op {
        Op { id: WriteId { client, seq: 1 }, cells, call_ns: at.start, ret_ns: at.end, what }
    }

    fn pairs(ops: Vec<Op>) -> usize {
        let grid = Grid { regions: 4, shift: 0, cut: None };
        History { number: 0, title: String::new(), grid, ops, cuts: Vec::new() }.overlapping_pairs()
    }

    #[test]
    fn a_pair_overlaps_in_time_and_place_and_has_a_write_and_two_clients() {
        let read = || What::Read(vec![Value::Initial; 2]);
        assert_eq!(pairs(vec![op(0, 0..2, 1..9, What::Write), op(1, 1..3, 5..12, read())]), 1);
        assert_eq!(pairs(vec![op(0, 0..2, 1..9, read()), op(1, 1..3, 5..12, read())]), 0, "two reads");
        assert_eq!(pairs(vec![op(0, 0..2, 1..9, What::Write), op(1, 2..4, 5..12, read())]), 0, "other places");
        assert_eq!(pairs(vec![op(0, 0..2, 1..4, What::Write), op(1, 1..3, 5..12, read())]), 0, "other times");
        assert_eq!(pairs(vec![op(0, 0..2, 1..9, What::Write), op(0, 1..3, 5..12, read())]), 0, "one client");
        assert_eq!(pairs(vec![op(0, 0..2, 1..9, What::Write), op(1, 1..4, 5..12, What::Resize)]), 0, "a resize");
    }

    #[test]
    fn a_cut_begins_a_new_life_of_what_is_behind_it() {
        let grid = Grid { regions: 4, shift: 0, cut: None };
        let cuts = vec![Cut { at_ns: 10, kept: 2 }, Cut { at_ns: 20, kept: 0 }];
        let history = History { number: 0, title: String::new(), grid, ops: Vec::new(), cuts };
        assert_eq!([5, 15, 25].map(|at| history.life(1, at)), [0, 0, 1]);
        assert_eq!([5, 15, 25].map(|at| history.life(2, at)), [0, 1, 2]);
    }
}
