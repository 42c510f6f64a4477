//! `baseline-epoll`: flags -> tree -> listeners -> loop.

use baseline_epoll::{FACTS, serve};
use common::{Clock, Flags};

fn main() -> anyhow::Result<()> {
    let mut start = common::start(&Flags::of_process(FACTS))?;
    serve(&start.listeners, &mut start.fs, &start.configs, &Clock::Real)?;
    Ok(())
}
