//! System calls of a process, counted by tracing it (ptrace(2)): those of all its threads, also of threads that begin meanwhile.
//!
//! A traced process stops twice for each call and waits for its tracer, so it is slow: what it does is counted then, and never timed. Ordinary users may trace what they have started
//! themselves, almost everywhere; where they may not, there is nothing to be counted.
//!
//! Must not know: what the process is for, and who keeps it busy.

use crate::measure::pin;
use anyhow::Context;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Stops the process, so that its tracer wakes; for itself it means nothing to a program without a terminal.
const WAKE: Signal = Signal::SIGWINCH;

/// A process that is traced until this is dropped. Nobody may wait for it meanwhile: its stops would be taken for its end.
pub(crate) struct Traced {
    process: Pid,
    shared: Arc<Shared>,
    tracer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    calls: AtomicU64,
    ends: AtomicBool,
}

impl Traced {
    /// Begins to trace a process. The thread that does stays on `cpu`.
    pub(crate) fn start(process: u32, cpu: Option<usize>) -> anyhow::Result<Traced> {
        let process = Pid::from_raw(process.try_into()?);
        let shared = Arc::new(Shared::default());
        let (began, begins) = sync_channel(1);
        // All requests have to come from one thread.
        let tracer = {
            let shared = shared.clone();
            std::thread::Builder::new().name("tracer".into()).spawn(move || trace(process, cpu, &shared, &began))?
        };
        let traced = Traced { process, shared, tracer: Some(tracer) };
        begins.recv().context("the tracer")??;
        Ok(traced)
    }

    /// Calls that have begun so far.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        // Where it has ended already there is nobody to be woken either.
        let _ = kill(self.process, WAKE);
        // Once it has ended, the process is as it was before.
        let _ = self.tracer.take().map(JoinHandle::join);
    }
}

fn trace(process: Pid, cpu: Option<usize>, shared: &Shared, began: &SyncSender<anyhow::Result<()>>) {
    let mut threads = Threads::new();
    let seized = pin(cpu).and_then(|()| seize(process, &mut threads));
    let seizes = seized.is_ok();
    if !seizes {
        // Those that are traced already go their way.
        shared.ends.store(true, Ordering::Relaxed);
    }
    let told = began.send(seized);
    debug_assert!(told.is_ok(), "who started this waits");
    if !seizes {
        interrupt(&threads);
    }
    follow(shared, threads, !seizes);
}

/// Those that are traced, and whether each is within a call.
type Threads = BTreeMap<Pid, bool>;

/// Has all threads of a process stop, to be traced from there on.
fn seize(process: Pid, threads: &mut Threads) -> anyhow::Result<()> {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    // Those that begin while this looks are found when it looks again, or belong to one that is traced already.
    let mut known = None;
    while known != Some(threads.len()) {
        known = Some(threads.len());
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let task = task?;
            let thread = Pid::from_raw(task.file_name().to_string_lossy().parse()?);
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            // Threads of the kernel (io_uring's) make no calls.
            if threads.contains_key(&thread) || name.starts_with("iou-") {
                continue;
            }
            match ptrace::seize(thread, options) {
                Ok(()) => {
                    threads.insert(thread, false);
                    let _ = ptrace::interrupt(thread);
                }
                // It has ended, or is traced since it began.
                Err(Errno::ESRCH | Errno::EPERM) if thread != process => {}
                Err(error) => return Err(error).with_context(|| format!("process {process} may not be traced")),
            }
        }
    }
    Ok(())
}

fn interrupt(threads: &Threads) {
    for thread in threads.keys() {
        // One that has ended needs none.
        let _ = ptrace::interrupt(*thread);
    }
}

/// Lets threads go on from stop to stop, and counts; once this is to end, from their next stop without a tracer. Returns when none is traced.
fn follow(shared: &Shared, mut threads: Threads, mut interrupted: bool) {
    loop {
        // Of this thread alone: other children are waited for elsewhere.
        let stop = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Err(Errno::EINTR) => continue,
            // ECHILD: none is left. What else there may be, the kernel lets go whom a thread has traced that ends.
            Err(_) => return,
            Ok(stop) => stop,
        };
        let Some(thread) = stop.pid() else { continue };
        let signal = match stop {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                threads.remove(&thread);
                continue;
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => None,
        };
        let is_inside = threads.entry(thread).or_default();
        if matches!(stop, WaitStatus::PtraceSyscall(_)) {
            *is_inside = !*is_inside;
            shared.calls.fetch_add(u64::from(*is_inside), Ordering::Relaxed);
        }
        // One that was killed meanwhile does not go on: its end is the next that is heard of it.
        let _ = if shared.ends.load(Ordering::Relaxed) {
            if !std::mem::replace(&mut interrupted, true) {
                interrupt(&threads);
            }
            ptrace::detach(thread, signal.filter(|signal| *signal != WAKE))
        } else {
            ptrace::syscall(thread, signal)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn calls_are_counted_and_the_process_goes_on_afterwards() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
        let (mut to, mut from) = (cat.stdin.take().expect("piped"), cat.stdout.take().expect("piped"));
        let mut echo = || {
            to.write_all(b"x").expect("cat reads");
            from.read_exact(&mut [0]).expect("cat writes");
        };
        match Traced::start(cat.id(), None) {
            Ok(traced) => {
                // It has one tracer, and whoever comes later leaves it as it is.
                assert!(Traced::start(cat.id(), None).is_err());
                (0..10).for_each(|_| echo());
                let before = traced.calls();
                (0..100).for_each(|_| echo());
                let calls = traced.calls() - before;
                // A read and a write each; where it is within one of them at either end is not known.
                assert!((199..=201).contains(&calls), "{calls}");
            }
            Err(error) => {
                assert_eq!(error.downcast_ref(), Some(&Errno::EPERM), "{error:#}");
                eprintln!("processes may not be traced here");
            }
        }
        echo();
        drop(to);
        assert!(cat.wait().expect("it was started here").success());
    }

    #[test]
    fn who_is_not_there_cannot_be_traced() {
        assert!(Traced::start(i32::MAX as u32, None).is_err());
    }
}
