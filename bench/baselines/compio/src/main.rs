//! `baseline-compio`: flags -> tree -> listeners -> runtime.

use common::{Clock, Flags};

fn main() -> anyhow::Result<()> {
    let start = common::start(&Flags::of_process())?;
    baseline_compio::serve(start.listeners, start.fs, start.configs, Clock::Real)?;
    Ok(())
}
