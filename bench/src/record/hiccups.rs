//! A thread that does nothing but sleep, beside the generator. What wakes it late also delays the
//! generator, whatever the server does.

use super::recorder::{Histogram, histogram};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Each sleep.
const PAUSE: Duration = Duration::from_millis(1);

/// The thread, while it sleeps.
pub(crate) struct Hiccups {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<(Histogram, u64)>,
}

impl Hiccups {
    /// Begins, on a cpu or anywhere.
    pub(crate) fn start(cpu: Option<usize>) -> std::io::Result<Hiccups> {
        let ends = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ends);
        let sleep = move || {
            if let Some(cpu) = cpu {
                let mut set = CpuSet::new();
                set.set(cpu);
                // Where it may not, it sleeps anywhere.
                let _ = sched_setaffinity(None, &set);
            }
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            let (mut late, mut max) = (histogram(), 0);
            while !until.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(PAUSE);
                let ns = before.elapsed().saturating_sub(PAUSE).as_nanos() as u64;
                late.saturating_record(ns);
                max = max.max(ns);
            }
            (late, max)
        };
        Ok(Hiccups { ends, thread: std::thread::Builder::new().name("hiccups".into()).spawn(sleep)? })
    }

    /// How late it woke, in nanoseconds, and the most.
    pub(crate) fn stop(self) -> (Histogram, u64) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| (histogram(), 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_counts_its_sleeps() {
        let hiccups = Hiccups::start(None).expect("a thread");
        std::thread::sleep(Duration::from_millis(50));
        let (late, max) = hiccups.stop();
        assert!((1..=60).contains(&late.len()) && max > 0, "{} {max}", late.len());
    }
}
