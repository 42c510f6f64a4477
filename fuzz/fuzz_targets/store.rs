//! libFuzzer's way into `src/store.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ring9_fuzz::store::check(input));
