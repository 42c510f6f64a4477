//! Many seeds, each run twice. Each hundred seeds have a process of their own: a server never
//! unmaps its memory, and a failure may end its process.

use nix::time::{ClockId, clock_gettime};
use ring9_sim::{Fault, Figures, Plan, Serves, oracle, run, shrink};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Seeds of one process.
const CHUNK: u64 = 100;

/// The command that shows a failure again.
fn command(plan: &Plan) -> String {
    let mut text = format!("ring9-sim --seed {} --steps {}", plan.seed, plan.steps);
    if let Some(clients) = plan.clients {
        text += &format!(" --clients {clients}");
    }
    if let Some(flag) = plan.serves.flag() {
        text = text + " " + flag;
    }
    if !plan.without.is_empty() {
        let names: Vec<_> = plan.without.iter().map(|fault| fault.name()).collect();
        text += &format!(" --without {}", names.join(","));
    }
    if let Some(number) = plan.fails_at {
        text += &format!(" --fails-at {number}");
    }
    text
}

/// The cpu time that this thread has used.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock").into()
}

/// Runs these seeds; a line with the figures of each, or with what has failed. Whether all went well.
pub(crate) fn work(seeds: Range<u64>, plan: impl Fn(u64) -> Plan, first: bool) -> bool {
    let mut all_well = true;
    for seed in seeds {
        let plan = plan(seed);
        // Should the process die, this is the one.
        println!("@{seed}");
        let start = cpu();
        let runs = (run(&plan), run(&plan));
        println!("+{}", (cpu() - start).as_micros() / 2);
        match runs {
            (Ok(one), Ok(two)) if one == two => println!("={}", one.line()),
            (Ok(one), Ok(two)) => {
                all_well = false;
                println!("seed {seed}: two runs differ: {one:?}, {two:?}");
            }
            (Err(why), _) | (_, Err(why)) if first => {
                println!("seed {seed}: {} says: {why}\n    {}", oracle(&why), command(&plan));
                return false;
            }
            _ => {
                all_well = false;
                let (shortest, why) = shrink(&plan);
                println!("seed {seed}: {} says: {why}\n    {}", oracle(&why), command(&shortest));
            }
        }
    }
    all_well
}

/// For each seed, the first submission fails, then the second, until there is none of that number.
pub(crate) fn sweep(seeds: Range<u64>, plan: impl Fn(u64) -> Plan) -> bool {
    let (mut runs, mut failed) = (0_u64, 0_u64);
    for seed in seeds.clone() {
        for number in 1.. {
            let plan = Plan { fails_at: Some(number), ..plan(seed) };
            runs += 1;
            match run(&plan) {
                Ok(figures) if figures.submitted < number => break,
                Ok(_) => {}
                Err(why) => {
                    failed += 1;
                    println!("seed {seed}: {} says: {why}\n    {}", oracle(&why), command(&plan));
                }
            }
        }
    }
    let count = seeds.end.saturating_sub(seeds.start);
    println!("sweep: {count} seeds, {runs} runs with one submission that fails, {failed} failed");
    failed == 0
}

/// Many seeds in several processes.
pub(crate) struct Many {
    pub(crate) seeds: Range<u64>,
    pub(crate) jobs: usize,
    pub(crate) first: bool,
    /// Every kind of fault must have happened.
    pub(crate) all_faults: bool,
    /// What the servers serve.
    pub(crate) serves: Serves,
}

#[derive(Default)]
struct Sum {
    all: Figures,
    done: u64,
    failed: u64,
    /// The most cpu time that one run of a seed has taken, in microseconds, and the seed.
    slowest: (u64, u64),
}

impl Many {
    /// Runs them and prints figures. Whether all went well.
    pub(crate) fn run(self) -> bool {
        let next = AtomicU64::new(self.seeds.start);
        let stop = AtomicBool::new(false);
        let sum = Mutex::new(Sum::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                        if from >= self.seeds.end {
                            break;
                        }
                        if !chunk(from..(from + CHUNK).min(self.seeds.end), &sum) && self.first {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let Sum { all, done, failed, slowest } = sum.into_inner().expect("no worker panics");
        println!(
            "sim: {done} seeds, each twice, {failed} failed; {} steps, {} completions, {} requests, {} replies, {} operations against the model, \
             {} replies and writes against what was executed, {} asks, {} connections, {} s of virtual time; the slowest, seed {}, took {} ms of cpu",
            all.steps,
            all.events,
            all.requests,
            all.replies,
            all.operations,
            all.checked,
            all.asks,
            all.accepted,
            all.lasted_ns / 1_000_000_000,
            slowest.1,
            slowest.0 / 1000
        );
        let fired = |fault: &Fault| all.fired.get(*fault as usize).copied().unwrap_or(0);
        let counts: Vec<String> = Fault::ALL.iter().map(|fault| format!("{} {}", fault.name(), fired(fault))).collect();
        println!("faults: {}", counts.join(", "));
        let missed = |fault: &&Fault| fired(fault) == 0 && fault.may_happen(self.serves);
        let missing: Vec<&str> = Fault::ALL.iter().filter(missed).map(|fault| fault.name()).collect();
        if self.all_faults && !missing.is_empty() {
            println!("never happened: {}", missing.join(", "));
            return false;
        }
        failed == 0
    }
}

/// One process: its figures are added, its failures printed.
fn chunk(seeds: Range<u64>, sum: &Mutex<Sum>) -> bool {
    let program = std::env::current_exe().expect("this program is somewhere");
    // The flags of this process, but for the seeds.
    let given: Vec<String> = std::env::args().skip(1).collect();
    let at = given.iter().position(|flag| flag.starts_with("--seeds")).expect("seeds were given");
    let count = if given[at].contains('=') { 1 } else { 2 };
    let kept = given[..at].iter().chain(&given[at + count..]);
    let mut command = Command::new(program);
    command.args(kept).arg(format!("--seeds={}..{}", seeds.start, seeds.end)).arg("--worker");
    let output = command.stdin(Stdio::null()).output().expect("this program can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut sum = sum.lock().expect("no worker panics");
    let mut at = seeds.start;
    for line in text.lines() {
        if let Some(seed) = line.strip_prefix('@') {
            at = seed.parse().unwrap_or(at);
            sum.done += 1;
        } else if let Some(us) = line.strip_prefix('+').and_then(|us| us.parse().ok()) {
            sum.slowest = sum.slowest.max((us, at));
        } else if let Some(figures) = line.strip_prefix('=').and_then(Figures::read) {
            sum.all.add(&figures);
        } else {
            sum.failed += u64::from(line.starts_with("seed "));
            println!("{line}");
        }
    }
    if output.status.code().is_none() {
        sum.failed += 1;
        let is_of_world = |flag: &&String| ["--relay", "--store"].contains(&flag.as_str());
        let world: String = given.iter().filter(is_of_world).map(|flag| format!(" {flag}")).collect();
        println!("seed {at}: the process died: {}\n    ring9-sim --seed {at}{world}", output.status);
    }
    output.status.success()
}
