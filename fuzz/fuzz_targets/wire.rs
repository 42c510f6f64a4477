//! libFuzzer's way into `src/wire.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ring9_fuzz::wire::check(input));
