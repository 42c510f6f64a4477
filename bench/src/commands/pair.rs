//! Two servers side by side: A B, B A, A B, … so that a machine that changes its speed changes it for both.

use crate::load::Load;
use crate::server::Server;
use clap::Args;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::time::Duration;

/// What is compared.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// Command of the first server; it prints `ring9 ready ADDR`, and is pinned by its own --cpu
    #[arg(long, value_name = "COMMAND")]
    a: String,
    /// Command of the second server
    #[arg(long, value_name = "COMMAND")]
    b: String,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Reads in flight on each connection
    #[arg(long, default_value_t = 1)]
    depth: u16,
    /// Bytes of each read
    #[arg(long, default_value_t = 4096)]
    size: u32,
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Length of a round of one server, in milliseconds
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Keep this program on one cpu
    #[arg(long)]
    cpu: Option<usize>,
}

/// What one server did in one round.
struct Sample {
    per_second: f64,
    cpu_ns_per_op: f64,
}

impl Pair {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let (a, b) = (Server::start(&self.a)?, Server::start(&self.b)?);
        if let Some(cpu) = self.cpu {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
        }
        let connect = |server: &Server| Load::connect(&server.address, self.connections, self.depth, self.size);
        let (mut load_a, mut load_b) = (connect(&a)?, connect(&b)?);
        // The first round warms up and is not counted.
        let (mut operations, mut cpu) = (Vec::new(), Vec::new());
        let (mut a_per_second, mut b_per_second) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let (first, second);
            if round % 2 == 0 {
                first = self.sample(&a, &mut load_a)?;
                second = self.sample(&b, &mut load_b)?;
            } else {
                second = self.sample(&b, &mut load_b)?;
                first = self.sample(&a, &mut load_a)?;
            }
            if round > 0 {
                operations.push(first.per_second / second.per_second);
                cpu.push(first.cpu_ns_per_op / second.cpu_ns_per_op);
                a_per_second.push(first.per_second);
                b_per_second.push(second.per_second);
            }
        }
        let placed = self.cpu.map_or("client anywhere".into(), |cpu| format!("client on cpu {cpu}"));
        println!(
            "{} connections, depth {}, reads of {} bytes, {} rounds of {} ms, {placed}",
            self.connections, self.depth, self.size, self.rounds, self.millis
        );
        for (name, values) in [("operations A/B", operations), ("CPU per operation A/B", cpu)] {
            let [low, median, high] = quartiles(values);
            println!("{name:<24} median {median:.2}  quartiles {low:.2} {high:.2}");
        }
        let [_, a, _] = quartiles(a_per_second);
        let [_, b, _] = quartiles(b_per_second);
        println!("operations per second    A {a:.0}  B {b:.0}   (medians; they mean little from one run to the next)");
        Ok(())
    }

    fn sample(&self, server: &Server, load: &mut Load) -> anyhow::Result<Sample> {
        let before = server.cpu_ns()?;
        let (done, took) = load.run(Duration::from_millis(self.millis))?;
        let cpu = server.cpu_ns()? - before;
        Ok(Sample { per_second: done as f64 / took.as_secs_f64(), cpu_ns_per_op: cpu as f64 / done as f64 })
    }
}

/// First quartile, median and third quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_an_odd_count_are_values() {
        assert_eq!(quartiles(vec![5.0, 1.0, 3.0, 2.0, 4.0]), [2.0, 3.0, 4.0]);
    }
}
