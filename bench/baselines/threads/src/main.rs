//! `baseline-threads`: flags -> tree -> listeners -> threads.

use baseline_threads::{FACTS, serve};
use common::{Clock, Flags};

fn main() -> anyhow::Result<()> {
    let start = common::start(&Flags::of_process(FACTS))?;
    serve(start.listeners, start.fs, &start.configs, Clock::Real)?;
    Ok(())
}
