//! SIGINT, SIGTERM and SIGHUP in the middle of a copy: what is under way is given up in order, and
//! then the process dies of the signal, so that a shell sees what it expects.
//!
//! A thread waits for the signals, which are blocked everywhere else. The first one is given to the
//! connection; after a second one the process ends at once.

use crate::say::say;
use nix::sys::signal::{SigSet, Signal, raise};
use ring9::client::Interrupt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

/// The signal that has come, or 0.
static CAME: AtomicI32 = AtomicI32::new(0);
/// What it is given to.
static INTERRUPT: OnceLock<Arc<Interrupt>> = OnceLock::new();

/// Which of them may interrupt: nohup(1), and the `&` of a script, have some ignored, and that stays so.
fn wanted() -> SigSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    signals.into_iter().filter(|&signal| ignored >> (signal as i32 - 1) & 1 == 0).collect()
}

/// From here on signals are given to this interrupt. To be called while the process has one thread.
pub(crate) fn catch() -> anyhow::Result<Arc<Interrupt>> {
    let interrupt = Arc::new(Interrupt::new()?);
    let signals = wanted();
    if signals.iter().next().is_none() || INTERRUPT.set(interrupt.clone()).is_err() {
        return Ok(interrupt);
    }
    signals.thread_block()?;
    let given = interrupt.clone();
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if CAME.swap(signal as i32, Ordering::Relaxed) != 0 {
                say(format_args!("{signal} again: ends at once, and may leave a temporary file"));
                std::process::exit(128 + signal as i32);
            }
            given.give();
        }
    });
    Ok(interrupt)
}

/// The signal that has come.
pub(crate) fn came() -> Option<Signal> {
    Signal::try_from(CAME.load(Ordering::Relaxed)).ok()
}

/// Dies of this signal.
pub(crate) fn die_of(signal: Signal) -> std::process::ExitCode {
    let _ = raise(signal);
    let _ = SigSet::from(signal).thread_unblock();
    // It was blocked in this thread alone, and has not come to an end: as a shell would say it.
    std::process::ExitCode::from(128 + signal as u8)
}
