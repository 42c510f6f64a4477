//! What the fuzz targets do with their input. libFuzzer calls it through `fuzz_targets`, `cargo test` of the server through `tests/found.rs`, with every file of
//! `corpus` and `found`. docs/fuzzing.md says how to run both.
//!
//! Must not know: libFuzzer.

pub mod kernel;
pub mod like;
pub mod memory;
pub mod say;
pub mod script;
pub mod session;
pub mod store;
pub mod stream;
pub mod wire;

#[path = "../../tests/support/mod.rs"]
#[expect(missing_docs, clippy::should_implement_trait, reason = "it belongs to the tests of the server")]
pub mod support;
