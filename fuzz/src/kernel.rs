//! The simulated kernel, with an input as its schedule: who goes on next, with how much, and what fails are choices of libFuzzer.
//!
//! What must hold is what the oracles of `ring9-sim` say.

use ring9_sim::{INPUT_STEPS, Plan, run};

/// Simulates what the input says; `ring9-sim --input FILE --trace` shows the same.
pub fn check(input: &[u8]) {
    if let Err(why) = run(&Plan::of_input(input, INPUT_STEPS)) {
        panic!("{why}");
    }
}
