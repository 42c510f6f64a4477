//! Seeded random histories, played on memfs and on a naive model. Every answer is compared, and after each step all that can be seen.
//!
//! Memory and files are few, so that both run out: what memfs refuses then must change nothing. A history that fails is made shorter by leaving steps out, and
//! printed with its seed.
#![allow(missing_docs, unreachable_pub, reason = "nobody else uses this")]

mod history;
#[allow(dead_code, reason = "the simulator in tools/sim uses the rest")]
mod model;
mod ops;
mod shape;
#[path = "../acceptance/through.rs"]
mod through;
mod twin;

use history::{FILES_MAX, History, Met};
use ops::{Op, Random};
use ring9::arena::Arena;
use ring9::fs::Filesystem;
use ring9::fs::Simple;
use ring9::fs::mem::{Mem, Options};
use std::panic::{self, AssertUnwindSafe};
use through::Through;

const GROUPS: &[(u32, u32)] = &[(1, 1), (1, 5), (2, 5), (3, 3)];
const SEEDS: u64 = 300;
const STEPS: usize = 300;
/// Seeds that are played on late trees as well.
const LATE_SEEDS: u64 = 40;
/// Seeds that are told to a second tree.
const TWIN_SEEDS: u64 = 60;

/// Memory for 14 blocks.
fn mem(groups: Option<&[(u32, u32)]>) -> Mem {
    let groups = groups.map(|pairs| pairs.iter().copied().collect());
    let options = Options { inodes_max: FILES_MAX, hash_key: 7, root: (0, 0, 0o777), groups, ..Options::default() };
    Mem::new(Arena::new(1 << 20).expect("a small mapping"), options)
}

/// Plays a history; the step that failed, and why.
fn play(ops: &[Op], groups: Option<&[(u32, u32)]>) -> std::result::Result<Met, (usize, String)> {
    play_on(|| mem(groups), ops, groups)
}

/// The same on another tree.
fn play_on<F: Filesystem>(
    make: impl FnOnce() -> F,
    ops: &[Op],
    groups: Option<&[(u32, u32)]>,
) -> std::result::Result<Met, (usize, String)> {
    let mut step = 0;
    let played = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut history = History::new(make(), groups);
        for op in ops {
            history.step(op)?;
            step += 1;
        }
        history.end()
    }));
    match played {
        Ok(checked) => checked.map_err(|why| (step, why)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err((step, format!("a panic: {}", text.unwrap_or_default())))
        }
    }
}

/// Leaves out as many steps as it can: halves, then quarters, down to single ones.
fn shorten(mut ops: Vec<Op>, groups: Option<&[(u32, u32)]>) -> Vec<Op> {
    let mut width = ops.len() / 2;
    while width > 0 {
        let mut start = 0;
        while start < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(start..(start + width).min(ops.len()));
            match play(&fewer, groups) {
                Err((step, _)) => {
                    fewer.truncate(step + 1);
                    ops = fewer;
                }
                Ok(_) => start += width,
            }
        }
        width /= 2;
    }
    ops
}

#[test]
fn random_histories_equal_a_naive_model() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let mut met = Met::default();
    let mut failed = None;
    for seed in 1..=SEEDS {
        let mut random = Random::new(seed);
        let ops: Vec<_> = (0..STEPS).map(|_| random.op()).collect();
        let groups = (seed % 2 == 0).then_some(GROUPS);
        match play(&ops, groups) {
            Ok(of_one) => {
                met.no_memory += of_one.no_memory;
                met.no_files += of_one.no_files;
                met.denied += of_one.denied;
                met.committed += of_one.committed;
                met.replaced += of_one.replaced;
                met.replaced_here += of_one.replaced_here;
                met.listed += of_one.listed;
            }
            Err(_) => {
                let ops = shorten(ops, groups);
                let (step, why) = play(&ops, groups).err().expect("a shortened history fails as well");
                let lines: String = ops.iter().map(|op| format!("\n    {op:?}")).collect();
                failed = Some(format!("seed {seed}, groups {groups:?}: step {step}: {why}{lines}"));
                break;
            }
        }
    }
    panic::set_hook(hook);
    if let Some(text) = failed {
        panic!("{text}");
    }
    // The histories are worth something only if they meet what they are made for.
    let Met { no_memory, no_files, denied, committed, replaced, replaced_here, listed } = met;
    let counts = [no_memory, no_files, denied, committed, replaced, replaced_here, listed];
    assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
}

/// The same on trees whose effects and answers come late, and whose answers have gates.
#[test]
fn some_histories_of_late_trees_do_as_well() {
    for seed in 1..=LATE_SEEDS {
        let mut random = Random::new(seed);
        let ops: Vec<_> = (0..STEPS).map(|_| random.op()).collect();
        let groups = (seed % 2 == 0).then_some(GROUPS);
        let played = play_on(|| Through::late(Simple::from(mem(groups)), seed), &ops, groups);
        assert!(played.is_ok(), "seed {seed}: {:?}", played.err());
    }
}

/// What a tree tells of its changes makes the same tree elsewhere.
#[test]
fn some_histories_are_told_to_a_second_tree() {
    let (mut records, mut pages, mut sweeps, mut replaced, mut committed) = (0, 0, 0, 0, 0);
    for seed in 1..=TWIN_SEEDS {
        let mut random = Random::new(seed);
        let ops: Vec<_> = (0..STEPS).map(|_| random.op()).collect();
        let groups = (seed % 2 == 0).then_some(GROUPS);
        let (met, heard) = twin::play(&ops, groups, seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        records += heard.records;
        pages += heard.pages;
        sweeps += heard.sweeps;
        replaced += met.replaced;
        committed += met.committed;
    }
    let counts = [records, pages, sweeps, replaced, committed];
    assert!(counts.iter().all(|&count| count > 40), "{counts:?}");
}
