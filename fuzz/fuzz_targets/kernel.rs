//! libFuzzer's way into `src/kernel.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ring9_fuzz::kernel::check(input));
