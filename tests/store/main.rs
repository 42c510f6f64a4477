//! A store on a simulated disk that crashes, again and again over the life of one store: what is recovered is the tree as it
//! was after some change, at or behind everything that a reply has shown.
//!
//! Files are real, in memory where that is possible. The disk is simulated by what it forgets: of each write that was not
//! synced, a crash keeps any subset of 512 bytes; and of new, changed and removed names, any subset.
#![allow(missing_docs, unreachable_pub, reason = "nobody else uses this")]

mod copies;
mod disk;
mod faults;
mod figures;
mod flips;
mod full;
mod pairs;
#[path = "../support/random.rs"]
mod random;
mod refused;
mod reuse;
#[path = "../histories/shape.rs"]
mod shape;
mod syncs;

use disk::Disk;
use random::Random;
use ring9::arena::Arena;
use ring9::fs::mem::Options;
use ring9::fs::{
    At, Call, Change, Done, FileId, Gate, Make, New, OpId, Open, Outcome, Result, Service, SetXattr, Show, Time, User,
    mode,
};
use ring9::store::{How, NotOpened, Report, Stored, SyncMode, open};
use ring9::wire::Names;
use shape::{Shape, same_shape, shape};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A segment takes eight of the largest writes.
const SEGMENT_BYTES: u64 = 256 << 10;
const WRITE: Open = Open { read: true, write: true, ..Open::NONE };
const ROOT: User = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };

thread_local! {
    /// Memory to be used again: an arena is never unmapped.
    static ARENAS: RefCell<Vec<Arena>> = const { RefCell::new(Vec::new()) };
}

/// Recovered trees go into memory that was used before.
fn arena() -> Arena {
    let used = ARENAS.with(|arenas| arenas.borrow_mut().pop());
    used.unwrap_or_else(|| Arena::new(2 << 20).expect("a small mapping"))
}

/// The memory of a store whose asks are gone is used again.
fn recycle(store: Stored) {
    let arena = store.into_tree().into_arena();
    if arena.gauge().used_bytes() == 0 {
        ARENAS.with(|arenas| arenas.borrow_mut().push(arena));
    }
}

fn how() -> How {
    How {
        segment_bytes: SEGMENT_BYTES,
        store_bytes: 1 << 30,
        margin_bytes: 2 * SEGMENT_BYTES,
        sync: SyncMode::Always,
        id: *b"sixteen bytes of",
        tree: Options { inodes_max: 1000, hash_key: 7, root: (0, 0, 0o777), ..Options::default() },
        fail: Box::new(|_| ()),
    }
}

/// Stores of some sizes, with few checkpoints and with many.
fn how_of(seed: u64) -> How {
    let store_bytes = [1 << 30, 16 * SEGMENT_BYTES, 12 * SEGMENT_BYTES][seed as usize % 3];
    let margin_bytes = [2 * SEGMENT_BYTES, 0, SEGMENT_BYTES / 2, 1 << 30][seed as usize / 3 % 4];
    How { store_bytes, margin_bytes, ..how() }
}

fn opened(disk: &Disk, arena: Arena) -> std::result::Result<(Stored, Report), NotOpened> {
    open(disk.path(), arena, how(), at(1))
}

fn at(sec: i64) -> At {
    At { wall: Time { sec, nsec: 5 }, mono_ns: sec as u64 }
}

/// A store that is served, and what it was after each change.
struct Served {
    store: Stored,
    shapes: BTreeMap<u64, Shape>,
    clock: i64,
    serial: u64,
    /// Shapes are not looked at.
    is_blind: bool,
    /// The last change, and the last one that a reply has shown.
    changed: u64,
    shown: u64,
    /// Gates of replies that wait, each with what the reply shows.
    waiting: Vec<(Gate, u64)>,
}

impl Served {
    fn new(mut store: Stored, clock: i64) -> Served {
        store.init(at(clock)).expect("a tree starts");
        let (lsn, durable) = store.positions();
        let mut shapes = BTreeMap::from([(0, Shape::new())]);
        shapes.insert(lsn, shape(store.tree()));
        Served { store, shapes, clock, serial: 0, is_blind: false, changed: lsn, shown: durable, waiting: Vec::new() }
    }

    fn call(&mut self, call: Call<'_>, show: Show<'_>) -> Result<Done> {
        self.answer(call, show).0
    }

    fn answer(&mut self, call: Call<'_>, show: Show<'_>) -> (Result<Done>, Gate) {
        self.serial += 1;
        let op = OpId { peer: 1, serial: self.serial };
        let before = self.store.tree().changes();
        let shows = !matches!(call, Call::Close { .. });
        let Outcome::Done(answer) = self.store.call(op, call, show, at(self.clock)) else {
            panic!("a tree in memory answers at once");
        };
        let (lsn, _) = self.store.positions();
        if self.store.tree().changes() != before && !self.is_blind {
            self.shapes.insert(lsn, shape(self.store.tree()));
            self.changed = lsn;
        }
        // A reply without a gate leaves at once.
        if shows || answer.gate != Gate::OPEN {
            self.waiting.push((answer.gate, self.changed));
        }
        (answer.result, answer.gate)
    }

    /// What the tree was after this change: batches that carry a part of a checkpoint alone have numbers, but change nothing.
    fn shape_at(&self, lsn: u64) -> &Shape {
        self.shapes.range(..=lsn).next_back().map(|(_, shape)| shape).expect("there is a first one")
    }

    fn root(&mut self) -> FileId {
        match self.call(Call::Attach { user: ROOT, aname: b"" }, Show::Nothing) {
            Ok(Done::File { file, .. }) => file,
            other => panic!("{other:?}"),
        }
    }

    fn walk(&mut self, names: &[&[u8]]) -> Option<FileId> {
        let from = self.root();
        let walked = self.call(Call::Walk { from, names: Names::list(names), dots: false }, Show::Steps(&mut |_| ()));
        self.close(from);
        match walked {
            Ok(Done::Walked(file)) => file,
            _ => None,
        }
    }

    fn close(&mut self, file: FileId) {
        self.call(Call::Close { file }, Show::Nothing).expect("it is held");
    }

    fn step(&mut self, random: &mut Random) {
        self.clock += 1;
        let names: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
        let (name, other) = (names[random.below(6)], names[random.below(6)]);
        let write = Open { read: true, write: true, ..Open::NONE };
        match random.below(12) {
            0..=4 => {
                let new = New { flags: write, mode: mode::IFREG | 0o644, or_open: true, ..New::default() };
                let file = self.root();
                if self.call(Call::Create { dir: file, name, new }, Show::Nothing).is_ok() {
                    let data = vec![random.below(250) as u8 + 1; 1 + [10, 5000, 30_000][random.below(3)]];
                    let offset = [0, 100, 4096, 8000][random.below(4)];
                    let _ = self.call(Call::Write { file, offset, data: &data }, Show::Nothing);
                }
                self.close(file);
            }
            5 => {
                let dir = self.root();
                let what = [Make::Dir, Make::Symlink(b"target"), Make::Fifo][random.below(3)];
                let make = Call::Make { dir, name, what, mode: 0o755, gid: None, enter: false };
                let _ = self.call(make, Show::Nothing);
                self.close(dir);
            }
            6 => {
                let dir = self.root();
                let want_dir = random.below(4) == 0;
                let _ = self.call(Call::Unlink { dir, name, want_dir }, Show::Nothing);
                self.close(dir);
            }
            7 | 8 => {
                let from = self.root();
                let _ = self.call(Call::Rename { from, name, to: from, new_name: other }, Show::Nothing);
                self.close(from);
            }
            9 => {
                let Some(file) = self.walk(&[name]) else { return };
                let size = [0, 50, 4096, 20_000][random.below(4)];
                let change = Change { size: Some(size), ..Change::default() };
                let _ = self.call(Call::Wstat { file, change }, Show::Nothing);
                self.close(file);
            }
            10 => {
                let Some(file) = self.walk(&[name]) else { return };
                let value = [name, other].concat();
                let value = (random.below(3) > 0).then_some(&value[..]);
                let call = Call::SetXattr { file, name: b"user.x", value, how: SetXattr::Any };
                let _ = self.call(call, Show::Nothing);
                self.close(file);
            }
            _ => {
                let Some(file) = self.walk(&[name]) else { return };
                let dir = self.root();
                let _ = self.call(Call::Link { dir, name: other, file, enter: false }, Show::Nothing);
                self.close(dir);
                self.close(file);
            }
        }
    }

    /// Replies whose gates are open leave.
    fn reply(&mut self) {
        let Served { store, shown, waiting, .. } = self;
        waiting.retain(|&(gate, shows)| {
            let is_open = store.is_open(gate);
            if is_open {
                *shown = (*shown).max(shows);
            }
            !is_open
        });
    }
}

/// The store that a crash has left is the tree as it was after some change, at or behind everything that a reply has shown.
/// Returns it.
fn recovered(served: &Served, disk: &Disk, what: &str) -> (Stored, Report) {
    recovered_by(how(), served, disk, what)
}

fn recovered_by(how: How, served: &Served, disk: &Disk, what: &str) -> (Stored, Report) {
    let (lsn, durable) = served.store.positions();
    assert!(served.shown <= durable, "{what}: shown before it was durable");
    let (mut store, report) = open(disk.path(), arena(), how, at(1)).unwrap_or_else(|why| panic!("{what}: {why}"));
    assert!(
        (durable.max(served.shown)..=lsn).contains(&report.lsn),
        "{what}: durable {durable} <= found {} <= changed {lsn}",
        report.lsn
    );
    assert_eq!((report.found.doomed, report.found.nameless), (0, 0), "{what}");
    if report.lsn > 0 {
        let same = same_shape(served.shape_at(report.lsn), &shape(store.tree()));
        same.unwrap_or_else(|why| panic!("{what}: after change {} of {lsn}: {why}", report.lsn));
    }
    (store, report)
}

#[derive(Debug, Default)]
struct Met {
    crashes: usize,
    torn: usize,
    lost: u64,
    kept: u64,
    checkpoints: u64,
    /// Crashes while a checkpoint was on its way, and recoveries from one.
    within: usize,
    from: usize,
    segments_max: usize,
}

/// The life of a store: served, crashed and recovered some times.
fn life(seed: u64, met: &mut Met) {
    let (mut random, mut disk) = (Random::new(seed), Disk::new());
    let (store, report) = open(disk.path(), arena(), how_of(seed), at(1)).expect("a new store");
    assert!(report.is_new);
    let mut served = Served::new(store, 10);
    for start in 0..4 {
        let steps = random.below(120);
        let pumps = 1 + random.below(12);
        for _ in 0..steps {
            served.step(&mut random);
            // Some of what it asks for is done, in any order.
            let most = random.below(pumps);
            disk.pump(&mut served.store, &mut random, most);
            served.reply();
            met.segments_max = met.segments_max.max(disk.segments());
        }
        let (lsn, durable) = served.store.positions();
        met.checkpoints += served.store.checkpoints();
        met.within += usize::from(served.store.is_in_checkpoint());
        disk = disk.crash(&mut random);
        let (store, report) = recovered_by(how_of(seed), &served, &disk, &format!("seed {seed}, start {start}"));
        met.crashes += 1;
        met.torn += usize::from(report.torn.is_some());
        met.lost += lsn - report.lsn;
        met.kept += report.lsn - durable;
        met.from += usize::from(report.found.skipped > 0);
        let clock = served.clock;
        recycle(std::mem::replace(&mut served, Served::new(store, clock)).store);
    }
    // At the end everything becomes durable.
    served.step(&mut random);
    served.store.retire(at(served.clock));
    assert!(served.store.has_asks() || served.store.positions().0 == served.store.positions().1);
    disk.pump(&mut served.store, &mut random, usize::MAX);
    let (lsn, durable) = served.store.positions();
    assert!(lsn == durable && !served.store.has_asks(), "seed {seed}: {durable} of {lsn}");
    disk = disk.crash(&mut random);
    let (store, _) = recovered(&served, &disk, &format!("seed {seed}, at the end"));
    recycle(store);
    recycle(served.store);
    disk.crash(&mut random);
}

/// `RING9_STORES`: how many lives are lived. `RING9_STORES_FROM`: the seed of the first one.
#[test]
fn a_store_that_crashes_loses_nothing_that_was_shown() {
    let number = |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (first, count) = (number("RING9_STORES_FROM", 1), number("RING9_STORES", 60));
    let mut met = Met::default();
    for seed in first..first + count {
        life(seed, &mut met);
    }
    println!("{met:?}");
    let Met { crashes, torn, lost, kept, checkpoints, within, .. } = met;
    let is_enough = crashes > 100 && torn > 5 && lost > 100 && kept > 10 && checkpoints > 50 && within > 10;
    assert!(is_enough || count < 60, "{met:?}");
}
