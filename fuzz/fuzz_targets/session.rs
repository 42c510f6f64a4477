//! libFuzzer's way into `src/session.rs`. With the script as its input, `cargo fuzz fmt session FILE` prints one.
#![no_main]

use ring9_fuzz::script::Script;

libfuzzer_sys::fuzz_target!(|script: Script| ring9_fuzz::session::play(&script));
