//! The simulated kernel, with an input as its schedule: libFuzzer chooses what acts next, with how many
//! bytes, and what fails.
//!
//! What must hold is what the oracles of `ring9-sim` say.

use ring9_sim::{INPUT_STEPS, Plan, run};

/// Simulates what the input says; `ring9-sim --input FILE --trace` shows the same.
pub fn check(input: &[u8]) {
    if let Err(why) = run(&Plan::of_input(input, INPUT_STEPS)) {
        panic!("{why}");
    }
}
