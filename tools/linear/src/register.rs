//! Is there an order in which the operations on one register make sense? Exact, for registers whose writes all leave different values.
//!
//! After Gibbons and Korach, "Testing Shared Memories" (SIAM Journal on Computing 26, 1997): the operations on one value, a write and the reads that saw it, stand
//! together in every order that makes sense, and the write comes first. Of two values, one has to come before the other if any operation on it ended before any
//! operation on the other began. So a history has an order unless
//!
//! - a read saw what was never written, or ended before the write of what it saw began; or
//! - two values would each have to come before the other.
//!
//! Longer circles always contain one of two: were A before B, B before C and C before A without any of them being true in the other direction too, then
//! `first_end(A) < last_start(B) <= first_end(C) < last_start(A) <= first_end(B) < last_start(C) <= first_end(A)`. For four and more the same holds.
//!
//! Must not know: files, bytes, clients.

use crate::grid::WriteId;
use std::collections::BTreeMap;

/// One operation on the register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// The caller's number of it.
    pub(crate) op: usize,
    pub(crate) is_write: bool,
    /// What was written or seen; `None` is what was there at first.
    pub(crate) value: Option<WriteId>,
    /// Above 0.
    pub(crate) call_ns: u64,
    pub(crate) ret_ns: u64,
}

/// Why there is no order. Numbers are those of [`Access::op`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What was seen was not written in this life of the register.
    NeverWritten {
        /// The operation that saw it.
        read: usize,
    },
    /// A read ended before the write of what it saw began.
    FromTheFuture {
        /// The operation that saw it.
        read: usize,
        /// The one that wrote it.
        write: usize,
    },
    /// Two values would each have to come before the other.
    Circle([Before; 2]),
}

/// One value comes before another, since `ended` is over when `began` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) value: Option<WriteId>,
    pub(crate) than: Option<WriteId>,
    /// An operation on `value`; `None`: it was there at first.
    pub(crate) ended: Option<usize>,
    /// An operation on `than`.
    pub(crate) began: usize,
}

impl Fault {
    /// The operations that show it, each once. They are a history without an order by themselves, together with the writes of their values.
    pub(crate) fn witnesses(&self) -> Vec<usize> {
        let mut all = match self {
            Fault::NeverWritten { read } => vec![*read],
            Fault::FromTheFuture { read, write } => vec![*read, *write],
            Fault::Circle(sides) => sides.iter().flat_map(|side| side.ended.into_iter().chain([side.began])).collect(),
        };
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// All operations on one value.
struct Cluster {
    value: Option<WriteId>,
    /// When the first of them to end ends, and which one that is.
    first_end: (u64, Option<usize>),
    /// When the last of them to begin begins.
    last_start: (u64, Option<usize>),
}

impl Cluster {
    fn of(write: &Access) -> Cluster {
        let end = |at| (at, Some(write.op));
        Cluster { value: write.value, first_end: end(write.ret_ns), last_start: end(write.call_ns) }
    }

    /// It was there before all operations.
    fn initial() -> Cluster {
        Cluster { value: None, first_end: (0, None), last_start: (0, None) }
    }

    fn add(&mut self, read: &Access) {
        if read.ret_ns < self.first_end.0 {
            self.first_end = (read.ret_ns, Some(read.op));
        }
        if read.call_ns > self.last_start.0 {
            self.last_start = (read.call_ns, Some(read.op));
        }
    }

    fn before(&self, other: &Cluster) -> Option<Before> {
        let began = other.last_start.1.filter(|_| self.first_end.0 < other.last_start.0)?;
        Some(Before { value: self.value, than: other.value, ended: self.first_end.1, began })
    }
}

/// The fault with the fewest witnesses, if there is no order.
pub(crate) fn check(accesses: &[Access]) -> Result<(), Fault> {
    let mut clusters = BTreeMap::from([(None, Cluster::initial())]);
    for write in accesses.iter().filter(|access| access.is_write) {
        let twice = clusters.insert(write.value, Cluster::of(write));
        assert!(twice.is_none(), "a history has no two writes of one value");
    }
    let calls: BTreeMap<_, _> = accesses.iter().filter(|access| access.is_write).map(|w| (w.value, w)).collect();
    for read in accesses.iter().filter(|access| !access.is_write) {
        let Some(cluster) = clusters.get_mut(&read.value) else {
            return Err(Fault::NeverWritten { read: read.op });
        };
        if let Some(write) = calls.get(&read.value).filter(|write| read.ret_ns < write.call_ns) {
            return Err(Fault::FromTheFuture { read: read.op, write: write.op });
        }
        cluster.add(read);
    }
    let clusters: Vec<Cluster> = clusters.into_values().collect();
    let circles = clusters.iter().enumerate().flat_map(|(at, one)| {
        // Two values of which neither ended before it last began cannot be in a circle, which spares most of the pairs.
        let long = one.first_end.0 < one.last_start.0;
        let others = clusters.iter().enumerate().filter(move |(other, _)| long && *other != at);
        others.filter_map(|(_, other)| Some(Fault::Circle([one.before(other)?, other.before(one)?])))
    });
    match circles.min_by_key(|circle| circle.witnesses().len()) {
        Some(circle) => Err(circle),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn value(seq: u32) -> Option<WriteId> {
        (seq > 0).then_some(WriteId { client: 0, seq })
    }

    fn access(op: usize, is_write: bool, seq: u32, call_ns: u64, ret_ns: u64) -> Access {
        Access { op, is_write, value: value(seq), call_ns, ret_ns }
    }

    /// `W1 2..5` is a write of 1 from 2 to 5, `R0 ...` a read of what was there at first.
    fn accesses(text: &str) -> Vec<Access> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let of = |(op, pair): (usize, &[&str])| {
            let (call, ret) = pair[1].split_once("..").expect("a range");
            let number = |text: &str| text.parse().expect("a number");
            access(op, pair[0].starts_with('W'), number(&pair[0][1..]) as u32, number(call), number(ret))
        };
        words.chunks(2).enumerate().map(of).collect()
    }

    /// Every order that time allows, one after the other.
    fn has_order_by_trying(all: &[Access]) -> bool {
        fn go(all: &[Access], done: u32, now: Option<WriteId>) -> bool {
            let left = || (0..all.len()).filter(|at| done & 1 << at == 0);
            if left().next().is_none() {
                return true;
            }
            left().any(|at| {
                let next = &all[at];
                let may = left().all(|other| all[other].ret_ns >= next.call_ns);
                may && (next.is_write || next.value == now) && go(all, done | 1 << at, next.value)
            })
        }
        go(all, 0, None)
    }

    #[test]
    fn operations_at_the_same_time_may_go_either_way() {
        for text in [
            "W1 1..9 R0 2..3 R1 4..5",
            "W1 1..9 W2 1..9 R2 2..3 R1 4..8",
            "W1 1..5 R0 5..6",
            "W1 1..2 W2 3..9 R1 4..5 R1 6..7 R2 10..11",
            "",
        ] {
            assert_eq!(check(&accesses(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_read_of_what_was_replaced_is_a_circle() {
        let Err(Fault::Circle([a, b])) = check(&accesses("W1 1..2 W2 3..4 R1 5..6")) else { panic!("no circle") };
        assert_eq!((a.value, a.than, a.ended, a.began), (value(1), value(2), Some(0), 1));
        assert_eq!((b.value, b.than, b.ended, b.began), (value(2), value(1), Some(1), 2));
    }

    #[test]
    fn what_was_there_at_first_comes_before_all() {
        let fault = check(&accesses("W1 1..2 R0 3..4")).expect_err("a lost write");
        assert_eq!(fault.witnesses(), [0, 1]);
        // The write is still under way, but someone has seen it already.
        assert!(check(&accesses("W1 1..9 R1 2..3 R0 4..5")).is_err());
        assert!(check(&accesses("W1 1..9 R1 2..4 R0 3..5")).is_ok());
    }

    #[test]
    fn a_read_does_not_know_the_future() {
        let fault = check(&accesses("R1 1..2 W1 3..4")).expect_err("it cannot know");
        assert_eq!(fault, Fault::FromTheFuture { read: 0, write: 1 });
        assert_eq!(check(&accesses("R7 1..2")), Err(Fault::NeverWritten { read: 0 }));
    }

    /// The exact check and the naive one, on random histories that are small enough for the naive one.
    #[test]
    fn it_says_what_trying_every_order_says() {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..20_000 {
            let mut random = Random::new(seed);
            let (count, span, longest) = (1 + random.below(7), 4 + random.below(20), 1 + random.below(12));
            let mut all = Vec::new();
            let writes = random.below(count + 1) as u32;
            for op in 0..count {
                let is_write = (op as u32) < writes;
                let seq = if is_write { op as u32 + 1 } else { random.below(writes as usize + 1) as u32 };
                let call_ns = 1 + random.below(span) as u64;
                all.push(access(op, is_write, seq, call_ns, call_ns + random.below(longest) as u64));
            }
            let checked = check(&all);
            assert_eq!(checked.is_ok(), has_order_by_trying(&all), "seed {seed}: {all:?} {checked:?}");
            if let Err(fault) = checked {
                bad += 1;
                // What is shown for it has no order either, by itself.
                let shown = fault.witnesses();
                let values: Vec<_> = all.iter().filter(|a| shown.contains(&a.op)).map(|a| a.value).collect();
                let few: Vec<Access> = all
                    .iter()
                    .filter(|a| shown.contains(&a.op) || a.is_write && values.contains(&a.value))
                    .copied()
                    .collect();
                assert!(few.len() <= 6 && !has_order_by_trying(&few), "seed {seed}: {few:?}");
            } else {
                good += 1;
            }
        }
        assert!(good > 2_000 && bad > 2_000, "{good} with an order and {bad} without say little");
    }
}
