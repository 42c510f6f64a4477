//! Is a history one of a file whose regions are written and read at once? Says why not, by as few operations as show it.
//!
//! What is looked for, per message:
//!
//! - a cell with two stamps in it, or with one that was never written there: no order of writes leaves that;
//! - two cells of one reply of which each shows another write, although both writes covered both cells: one of them was seen half. 9P does not promise this,
//!   ring9 does: what is in one message happens at once.
//!
//! And per cell, over all clients: an order of all operations in which each takes effect between its call and its return (`register`). A history of registers is
//! linearizable if and only if that of each of them is, so nothing is lost by looking at them one by one.
//!
//! Must not know: how the history was had.

use crate::grid::{Value, WriteId};
use crate::history::{History, Op, What};
use crate::register::{self, Access, Before, Fault};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a history cannot have.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// In one sentence or two.
    pub(crate) why: String,
    pub(crate) cell: usize,
    /// Numbers of the operations that show it.
    pub(crate) ops: Vec<usize>,
}

impl Violation {
    /// The part of the history that shows it.
    pub(crate) fn text(&self, history: &History) -> String {
        let region = history.grid.region_of(self.cell);
        let bytes = history.grid.bytes(&(self.cell..self.cell + 1));
        let mut text =
            format!("{}\nregion {region}, bytes {} to {}: {}\n", history.title, bytes.start, bytes.end, self.why);
        for &op in &self.ops {
            let op = &history.ops[op];
            let cell = op.cells.contains(&self.cell).then_some(self.cell);
            let _ = writeln!(text, "  {}", history.line(op, cell));
        }
        text
    }
}

/// The violation that takes the fewest operations to show.
pub(crate) fn check(history: &History) -> Option<Violation> {
    let writes: BTreeMap<WriteId, usize> =
        history.ops.iter().enumerate().filter(|(_, op)| op.is_change()).map(|(at, op)| (op.id, at)).collect();
    let reads = history.ops.iter().enumerate().filter_map(|(at, op)| match &op.what {
        What::Read(values) => Some((at, op, values.as_slice())),
        What::Write | What::Resize => None,
    });
    let replies = reads.flat_map(|(at, op, values)| {
        let unreadable = values.iter().zip(op.cells.clone()).find_map(|(value, cell)| unreadable(at, value, cell));
        unreadable.or_else(|| half_seen(history, &writes, at, op, values))
    });
    let cells = (0..history.grid.cells()).flat_map(|cell| disordered(history, &writes, cell));
    replies.chain(cells).min_by_key(|violation| violation.ops.len())
}

fn unreadable(at: usize, value: &Value, cell: usize) -> Option<Violation> {
    let why = match value {
        Value::Initial | Value::Written(_) => return None,
        Value::Alien(_) => format!("{value}: nothing that was ever written here"),
        Value::Torn { .. } => format!("{value}"),
    };
    Some(Violation { why, cell, ops: vec![at] })
}

/// Two cells of one reply that cannot have been so at the same time.
fn half_seen(
    history: &History,
    writes: &BTreeMap<WriteId, usize>,
    at: usize,
    read: &Op,
    values: &[Value],
) -> Option<Violation> {
    let cells: Vec<(usize, &Value)> = read.cells.clone().zip(values).collect();
    // One cell for each value will not do: whether a write covered another cell depends on the cell.
    for (nth, &(one, seen)) in cells.iter().enumerate() {
        let Value::Written(seen) = seen else { continue };
        let Some(&first) = writes.get(seen) else { continue };
        for (other_nth, &(other, beside)) in cells.iter().enumerate() {
            if other == one || !history.ops[first].cells.contains(&other) {
                continue;
            }
            match beside {
                Value::Written(beside) if beside != seen && other_nth > nth => {
                    let Some(&second) = writes.get(beside) else { continue };
                    if history.ops[second].cells.contains(&one) {
                        let why = format!(
                            "{seen} here and {beside} in region {} of the same reply: both writes cover both",
                            history.grid.region_of(other)
                        );
                        return Some(Violation { why, cell: one, ops: vec![first, second, at] });
                    }
                }
                // Not so if the other cell was cut off since.
                Value::Initial
                    if history.life(other, history.ops[first].call_ns) == history.life(other, read.call_ns)
                        && !history.may_be_resized(other, history.ops[first].call_ns, read.ret_ns) =>
                {
                    let why = format!(
                        "{seen} here and still zeros in region {} of the same reply: the write covers both",
                        history.grid.region_of(other)
                    );
                    return Some(Violation { why, cell: one, ops: vec![first, at] });
                }
                _ => {}
            }
        }
    }
    None
}

/// The histories of one register: one for each of its lives.
fn disordered(history: &History, writes: &BTreeMap<WriteId, usize>, cell: usize) -> Option<Violation> {
    let mut lives: BTreeMap<usize, Vec<Access>> = BTreeMap::new();
    for (at, op) in history.ops.iter().enumerate().filter(|(_, op)| op.cells.contains(&cell)) {
        let value = match &op.what {
            What::Write | What::Resize => Some(op.id),
            What::Read(values) => match values[cell - op.cells.start] {
                Value::Initial => None,
                Value::Written(write) => Some(write),
                // Said already.
                Value::Alien(_) | Value::Torn { .. } => continue,
            },
        };
        let access = Access { op: at, is_write: op.is_change(), value, call_ns: op.call_ns, ret_ns: op.ret_ns };
        lives.entry(history.life(cell, op.call_ns)).or_default().push(access);
    }
    let faults = lives.values().filter_map(|accesses| in_order(history, accesses).err());
    faults.map(|fault| told(history, writes, cell, &fault)).min_by_key(|violation| violation.ops.len())
}

/// Resizes leave the zeros that were there at first, so a read of zeros may have seen either. Trying all combinations would take for ever; what is looked at
/// is everything without these reads, and then each of them by itself: there has to be one thing that it can have seen.
fn in_order(history: &History, accesses: &[Access]) -> Result<(), Fault> {
    let resizes = accesses.iter().filter(|access| history.ops[access.op].what == What::Resize);
    let resizes: Vec<Option<WriteId>> = resizes.map(|access| access.value).collect();
    if resizes.is_empty() {
        return register::check(accesses);
    }
    let (zeros, mut others): (Vec<Access>, Vec<Access>) = accesses.iter().partition(|access| access.value.is_none());
    register::check(&others)?;
    for read in zeros {
        let mut explained = |value| {
            others.push(Access { value, ..read });
            let checked = register::check(&others);
            others.pop();
            checked
        };
        if !resizes.iter().any(|&resize| explained(resize).is_ok()) {
            explained(None)?;
        }
    }
    Ok(())
}

fn told(history: &History, writes: &BTreeMap<WriteId, usize>, cell: usize, fault: &Fault) -> Violation {
    let name = |value: Option<WriteId>| value.map_or("zeros".into(), |write: WriteId| write.to_string());
    let mut ops = fault.witnesses();
    let why = match fault {
        Fault::NeverWritten { .. } => "a value that was not written here since the file was cut".into(),
        Fault::FromTheFuture { .. } => "a read ends before the write of what it saw begins".into(),
        Fault::Circle(sides) => {
            ops.extend(sides.iter().filter_map(|side| writes.get(&side.value?)));
            ops.sort_unstable();
            ops.dedup();
            let side = |side: &Before| format!("{} comes before {}", name(side.value), name(side.than));
            format!("{}, and {}: there is no such order", side(&sides[0]), side(&sides[1]))
        }
    };
    ops.sort_by_key(|&op| history.ops[op].call_ns);
    Violation { why, cell, ops }
}
