//! `baseline-epoll`: flags -> tree -> listeners -> loop.

use common::{Clock, Flags};

fn main() -> anyhow::Result<()> {
    let mut start = common::start(&Flags::of_process())?;
    baseline_epoll::serve(&start.listeners, &mut start.fs, &start.configs, &Clock::Real)?;
    Ok(())
}
