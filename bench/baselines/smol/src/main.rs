//! `baseline-smol`: flags -> tree -> listeners -> runtime.

use baseline_smol::{FACTS, serve};
use common::{Clock, RuntimeFlags};

fn main() -> anyhow::Result<()> {
    let RuntimeFlags { flags, tier } = RuntimeFlags::of_process(FACTS);
    let start = common::start(&flags)?;
    serve(start.listeners, start.fs, start.configs, Clock::Real, tier)?;
    Ok(())
}
