//! libFuzzer's way into `src/session.rs`, with a model beside the tree. Its inputs are those of `session`.
#![no_main]

use ring9_fuzz::script::Script;

libfuzzer_sys::fuzz_target!(|script: Script| ring9_fuzz::session::play_watched(&script));
