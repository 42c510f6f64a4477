//! What the fuzz targets do with every file of their corpora, and with every input that was ever found to break something (docs/fuzzing.md): without libFuzzer.
#![allow(dead_code, unreachable_pub, reason = "the modules are those of another crate")]

#[path = "../fuzz/src/kernel.rs"]
mod kernel;
#[path = "../fuzz/src/like.rs"]
mod like;
#[path = "../fuzz/src/memory.rs"]
mod memory;
#[path = "../fuzz/src/say.rs"]
mod say;
#[path = "../fuzz/src/script.rs"]
mod script;
#[path = "../fuzz/src/session.rs"]
mod session;
#[path = "../fuzz/src/store.rs"]
mod store;
#[path = "../fuzz/src/stream.rs"]
mod stream;
mod support;
#[path = "../fuzz/src/wire.rs"]
mod wire;

use arbitrary::{Arbitrary, Unstructured};
use script::Script;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Tries each file; those that fail are named together.
fn replay(target: &str, seeds_min: usize, check: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let (corpus, found) = (files(&fuzz.join("corpus").join(target)), files(&fuzz.join("found").join(target)));
    assert!(corpus.len() >= seeds_min, "{} seeds of {target}: where are the others?", corpus.len());
    let fails = |path: &PathBuf| {
        let input = std::fs::read(path).expect("an input can be read");
        catch_unwind(AssertUnwindSafe(|| check(&input))).is_err()
    };
    let failed: Vec<_> = corpus.into_iter().chain(found).filter(fails).collect();
    assert!(failed.is_empty(), "{target} fails with {failed:#?}");
}

/// The inputs in a folder, which need not be there: git keeps no empty ones.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    paths
}

#[test]
fn frames_and_lines_come_out_as_they_went_in() {
    replay("wire", 50, wire::check);
}

#[test]
fn records_of_a_store_make_a_tree_or_are_refused() {
    let seeds = store::seeds();
    seeds.iter().for_each(|(_, seed)| store::check(seed));
    replay("store", seeds.len(), store::check);
}

#[test]
fn a_stream_has_the_same_replies_however_it_is_cut() {
    replay("stream", 40, stream::check);
}

#[test]
fn each_request_of_a_script_has_one_reply_and_nothing_is_left() {
    replay("session", 40, |input| {
        let script = Script::arbitrary_take_rest(Unstructured::new(input)).expect("scripts are made of any bytes");
        session::play(&script);
    });
}

#[test]
fn a_script_finds_in_the_tree_what_a_naive_model_has() {
    for target in ["session", "model"] {
        replay(target, if target == "session" { 40 } else { 0 }, |input| {
            let script = Script::arbitrary_take_rest(Unstructured::new(input)).expect("scripts are made of any bytes");
            session::play_watched(&script);
        });
    }
}

#[test]
fn the_oracles_of_the_simulated_kernel_agree_with_every_schedule() {
    replay("kernel", 40, kernel::check);
}
