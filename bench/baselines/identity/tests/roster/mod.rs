//! The runtimes that these tests hold, and `bench/baselines/roster.json`, which lists all baselines.
//!
//! A crate has to be named in Rust before a test can call it, so this list is written by hand. A
//! test in `facts.rs` compares it with the roster.

/// Calls a macro with the crates of all runtimes, in the order of the roster.
macro_rules! runtimes {
    ($each:ident) => {
        $each! { baseline_tokio baseline_smol baseline_monoio baseline_compio baseline_glommio baseline_tokio_uring }
    };
}
pub(crate) use runtimes;
