//! A join of three trees. Every read of them waits.

use super::*;
use crate::fs::User;
use crate::fs::wrap::{Trace, Wrapped};
use crate::wire::{Names, Qid};
use std::collections::VecDeque;

/// A tree with a number, which its qids show. Every read of it waits.
struct Slow {
    number: u64,
    files: u32,
    reads: VecDeque<OpId>,
    opened: Gate,
    asks: VecDeque<(AskId, Ask)>,
    answers: Vec<(AskId, Ask, Result<u32>)>,
    retired: bool,
}

impl Slow {
    fn new(number: u64) -> Slow {
        Slow {
            number,
            files: 0,
            reads: VecDeque::new(),
            opened: Gate::OPEN,
            asks: VecDeque::new(),
            answers: Vec::new(),
            retired: false,
        }
    }

    fn qid(&self) -> Qid {
        Qid { kind: 0, version: 1, path: self.number }
    }

    fn file(&mut self) -> FileId {
        self.files += 1;
        FileId::new(self.files, self.files)
    }

    /// Only names that it has given out are good.
    fn check(&self, file: FileId) -> Result<()> {
        if file == FileId::new(file.number(), file.number()) && file.number() <= self.files {
            Ok(())
        } else {
            Err(Error::EBADF)
        }
    }

    /// Each tree has gates of its own.
    fn gate(&self, gate: u64) -> Gate {
        Gate(self.number * 100 + gate)
    }
}

impl Service for Slow {
    const FILE_BYTES: usize = 8;
    const NEEDS_ASKS: bool = true;

    fn is_private(&self, _: &[u8]) -> bool {
        self.number == 2
    }

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, _: At) -> Outcome {
        let result = match call {
            Call::Attach { .. } => Ok(Done::File { file: self.file(), qid: self.qid() }),
            Call::Walk { from, names, .. } => self.check(from).map(|()| {
                let Show::Steps(step_to) = show else { panic!("a walk shows its steps") };
                names.iter().for_each(|_| step_to(self.qid()));
                Done::Walked(Some(self.file()))
            }),
            Call::Read { file, .. } => match self.check(file) {
                Ok(()) => {
                    self.reads.push_back(op);
                    return Outcome::Pending;
                }
                Err(error) => Err(error),
            },
            Call::Rename { from, to, .. } => self.check(from).and(self.check(to)).map(|()| Done::Nothing),
            Call::RenameFile { file, to, .. } => self.check(file).and(self.check(to)).map(|()| Done::Nothing),
            Call::Link { dir, file, .. } => self.check(dir).and(self.check(file)).map(|()| Done::Nothing),
            Call::Xattr { file, .. } => self.check(file).map(|()| Done::File { file: self.file(), qid: self.qid() }),
            Call::Write { file, .. } => {
                let result = self.check(file).map(|()| Done::Count(self.number as u32));
                return Outcome::Done(Answer { result, gate: self.gate(7) });
            }
            Call::Stat { file, target: false } | Call::Close { file } | Call::StatFs { file } => {
                self.check(file).map(|()| Done::Count(self.number as u32))
            }
            other => panic!("{other:?}"),
        };
        Outcome::now(result)
    }

    fn finish(&mut self, op: OpId, _: Show<'_>, _: At) -> Outcome {
        Outcome::Done(Answer { result: Ok(Done::Count((self.number * 100 + op.serial) as u32)), gate: self.gate(9) })
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        if self.number == 1 && op.serial == 1 { Cancel::Cancelled } else { Cancel::TooLate }
    }

    fn grant(&mut self, file: FileId, _: u64, _: u32, _: At) -> Result<Payload> {
        self.check(file).map(|()| if self.number == 3 { Payload::Discarded } else { Payload::Parts })
    }

    fn ready(&mut self) -> Option<OpId> {
        self.reads.pop_front()
    }

    fn is_open(&self, gate: Gate) -> bool {
        assert!(gate == Gate::OPEN || gate.0 / 100 == self.number, "a gate of another tree: {gate:?}");
        gate <= self.opened
    }

    fn is_behind(&self) -> bool {
        self.number == 3 && self.opened != Gate::OPEN
    }

    fn spent(&mut self) -> u32 {
        self.number as u32
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        self.asks.pop_front()
    }

    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, _: At) {
        self.answers.push((id, ask, result));
    }

    fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    fn retire(&mut self, _: At) {
        self.retired = true;
    }
}

type Trees = Join<Slow, Join<Slow, Join<Slow, End>>>;

fn three_trees() -> Trees {
    let three = Join::new((&[b"", b"three"], Slow::new(3)), End);
    let two = Join::new((&[b"two", b"zwei"], Slow::new(2)), three);
    Join::new((&[b"one"], Slow::new(1)), two)
}

const USER: User = User { uid: 0, gid: Some(0), vouched: true, peer: 1 };

fn op(serial: u64) -> OpId {
    OpId { peer: 1, serial }
}

fn call(trees: &mut Trees, call: Call<'_>) -> Answer {
    match trees.call(op(1_000), call, Show::Nothing, At::default()) {
        Outcome::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn attach(trees: &mut Trees, aname: &[u8]) -> Result<(FileId, u64)> {
    match call(trees, Call::Attach { user: USER, aname }).result? {
        Done::File { file, qid } => Ok((file, qid.path)),
        other => panic!("{other:?}"),
    }
}

fn root(trees: &mut Trees, aname: &[u8]) -> FileId {
    attach(trees, aname).expect("every name leads somewhere").0
}

#[test]
fn attach_names_lead_to_their_tree_and_all_others_nowhere() {
    let mut trees = three_trees();
    for (name, number) in [(&b"one"[..], 1), (b"two", 2), (b"zwei", 2), (b"", 3), (b"three", 3)] {
        let (file, found) = attach(&mut trees, name).expect("there");
        let mut steps = Vec::new();
        let names: [&[u8]; 2] = [b"x", b"y"];
        let walk = Call::Walk { from: file, names: Names::list(&names), dots: false };
        let walked = trees.call(op(1), walk, Show::Steps(&mut |qid| steps.push(qid)), At::default());
        let Outcome::Done(Answer { result: Ok(Done::Walked(Some(below))), .. }) = walked else { panic!("{walked:?}") };
        assert_eq!((found, steps.len(), steps[1].path), (number, 2, number));
        assert_eq!((u64::from(file.tree()) + 1, u64::from(below.tree()) + 1), (number, number));
        for file in [file, below] {
            assert_eq!(call(&mut trees, Call::Stat { file, target: false }).result, Ok(Done::Count(number as u32)));
        }
    }
    for name in [&b"One"[..], b"on", b"one/", b"/", b".."] {
        assert_eq!(attach(&mut trees, name), Err(Error::ENOENT));
    }
}

/// What a call gives out is named so that the next call finds it.
#[test]
fn files_are_named_apart_and_those_of_no_tree_are_none() {
    let mut trees = three_trees();
    let roots = [&b"one"[..], b"two", b""].map(|name| root(&mut trees, name));
    let attributes = roots.map(|file| match call(&mut trees, Call::Xattr { file, name: b"a" }).result {
        Ok(Done::File { file, qid }) => (file, qid.path),
        other => panic!("{other:?}"),
    });
    for (number, (file, path)) in attributes.into_iter().enumerate() {
        assert_eq!((usize::from(file.tree()), path), (number, number as u64 + 1));
        assert_eq!(call(&mut trees, Call::Close { file }).result, Ok(Done::Count(number as u32 + 1)));
    }
    let all = roots.iter().chain(attributes.iter().map(|(file, _)| file));
    assert_eq!(all.collect::<BTreeSet<_>>().len(), 6);
    let beyond = roots[2].behind(1);
    for file in [beyond, FileId::NONE] {
        assert_eq!(call(&mut trees, Call::Stat { file, target: false }).result, Err(Error::EBADF));
    }
}

#[test]
fn a_private_tree_is_private_in_every_join_under_each_of_its_names() {
    let trees = three_trees();
    let private = |name: &[u8]| trees.is_private(name);
    assert_eq!([private(b"one"), private(b"three"), private(b""), private(b"nowhere")], [false; 4]);
    assert_eq!([private(b"two"), private(b"zwei")], [true; 2]);
    let as_first = Join::new((&[b"two"], Slow::new(2)), Join::new((&[b"one"], Slow::new(1)), End));
    assert_eq!([as_first.is_private(b"two"), as_first.is_private(b"one")], [true, false]);
}

#[test]
fn nothing_moves_from_one_tree_to_another() {
    let mut trees = three_trees();
    let files = [&b"one"[..], b"two", b""].map(|name| root(&mut trees, name));
    for (from, to) in (0..9).map(|pair| (pair / 3, pair % 3)) {
        let answer = if from == to { Ok(Done::Nothing) } else { Err(Error::EXDEV) };
        let (from, to) = (files[from], files[to]);
        let calls = [
            Call::Rename { from, name: b"a", to, new_name: b"b" },
            Call::Link { dir: from, name: b"a", file: to, enter: false },
            Call::RenameFile { file: from, to, new_name: b"b" },
        ];
        for asked in calls {
            assert_eq!(call(&mut trees, asked).result, answer);
        }
    }
}

#[test]
fn operations_find_their_way_back() {
    let mut trees = three_trees();
    let mut ops = Vec::new();
    for (serial, name) in [&b"one"[..], b"two", b"", b"two"].iter().enumerate() {
        let file = root(&mut trees, name);
        let op = op(serial as u64 + 1);
        assert_eq!(trees.call(op, Call::Read { file, offset: 0 }, Show::Nothing, At::default()), Outcome::Pending);
        ops.push(op);
    }
    let mut ready: Vec<_> = std::iter::from_fn(|| trees.ready()).collect();
    ready.sort();
    assert_eq!(ready, ops);
    // The last one is of the second tree, and the first one is taken back.
    assert_eq!(
        ops.iter().map(|&op| trees.cancel(op)).collect::<Vec<_>>(),
        [Cancel::Cancelled, Cancel::TooLate, Cancel::TooLate, Cancel::TooLate]
    );
    for (&op, (number, gate)) in ops.iter().zip([(101, 109), (202, 209), (303, 309), (204, 209)]) {
        let Outcome::Done(Answer { result, gate: found }) = trees.finish(op, Show::Nothing, At::default()) else {
            panic!("they are done by now")
        };
        assert_eq!(result, Ok(Done::Count(number)));
        assert_eq!(found.0 & 0xff_ffff, gate);
    }
    assert!(trees.in_rest.is_empty() && trees.rest().in_rest.is_empty(), "none is left");
}

/// A gate is asked of the tree that it belongs to, and one of another tree opens apart from it.
#[test]
fn gates_belong_to_their_trees() {
    let mut trees = three_trees();
    let gates = [&b"one"[..], b"two", b""].map(|name| {
        let file = root(&mut trees, name);
        call(&mut trees, Call::Write { file, offset: 0, data: b"x" }).gate
    });
    assert_eq!(gates.map(Gate::tree), [0, 1, 2]);
    assert_eq!(gates.map(|gate| trees.is_open(gate)), [false; 3]);
    trees.rest().first().opened = Gate(207);
    assert_eq!(gates.map(|gate| trees.is_open(gate)), [false, true, false]);
    assert!(!trees.is_behind());
    trees.rest().rest().first().opened = Gate(306);
    assert!(trees.is_behind());
    assert_eq!(gates.map(|gate| trees.is_open(gate)), [false, true, false]);
    trees.rest().rest().first().opened = Gate(307);
    trees.first().opened = Gate(107);
    assert_eq!(gates.map(|gate| trees.is_open(gate)), [true; 3]);
    assert!(trees.is_open(Gate::OPEN));
    assert_eq!(trees.spent(), 6);
}

#[test]
fn payloads_go_where_their_file_is() {
    let mut trees = three_trees();
    for (name, discards) in [(&b"one"[..], false), (b"two", false), (b"", true)] {
        let file = root(&mut trees, name);
        let payload = trees.grant(file, 0, 100, At::default()).expect("it is a file");
        assert_eq!(matches!(payload, Payload::Discarded), discards);
    }
}

const fn needs_asks<T: Service>() -> bool {
    T::NEEDS_ASKS
}

#[test]
fn asks_find_their_way_back_and_no_tree_keeps_others_from_asking() {
    let mut trees = Wrapped::new(three_trees(), Trace);
    assert!(needs_asks::<Wrapped<Trees, Trace>>() && !needs_asks::<Wrapped<Join<End, End>, Trace>>());
    assert!(needs_asks::<Join<End, Join<Slow, End>>>() && trees.ask().is_none());
    let inner = trees.inner();
    for number in 0..4 {
        inner.first().asks.push_back((AskId(number), Ask::Timer { ns: 1 }));
        inner.rest().first().asks.push_back((AskId(number), Ask::Cancel { of: AskId(number + 20) }));
        inner.rest().rest().first().asks.push_back((AskId(number), Ask::Cancel { of: AskId(number + 30) }));
    }
    let mut asked = Vec::new();
    while let Some((id, ask)) = trees.ask() {
        if let Ask::Cancel { of } = &ask {
            assert_eq!((of.tree(), of.0 & 0xff), (id.tree(), u64::from(id.tree() + 1) * 10 + (id.0 & 0xff)));
        }
        asked.push((id, ask));
        assert_eq!(trees.has_asks(), asked.len() < 12);
    }
    let order: Vec<u8> = asked.iter().map(|(id, _)| id.tree()).collect();
    assert!((0..3).all(|tree| order[..6].contains(&tree)), "{order:?}");
    for (id, ask) in asked {
        let result = if id.0 & 1 == 0 { Ok(u32::from(id.tree())) } else { Err(Error::EIO) };
        trees.answered(id, ask, result, At::default());
    }
    let inner = trees.inner();
    for tree in 0..3u32 {
        let slow = match tree {
            0 => inner.first(),
            1 => inner.rest().first(),
            _ => inner.rest().rest().first(),
        };
        for (number, (id, ask, result)) in (0u64..).zip(&slow.answers) {
            assert_eq!((id, *result), (&AskId(number), if number & 1 == 0 { Ok(tree) } else { Err(Error::EIO) }));
            assert!(match ask {
                Ask::Cancel { of } => of.0 == u64::from(tree + 1) * 10 + number,
                _ => tree == 0,
            });
        }
        assert_eq!((slow.answers.len(), slow.retired), (4, false));
    }
    trees.retire(At::default());
    let inner = trees.inner();
    assert!(inner.first().retired && inner.rest().first().retired && inner.rest().rest().first().retired);
}
