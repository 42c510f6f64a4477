//! libFuzzer's way into `src/stream.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ring9_fuzz::stream::check(input));
