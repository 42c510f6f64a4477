//! ring9 beside the same server on other I/O layers: one command, one page.

use super::yard::Yard;
use super::{Blame, Ending, Failure};
use crate::environment::environment;
use crate::report::{self, Given};
use crate::result::{self, Runtimes};
use crate::runtimes::{Roster, SHAPES, Shape};
use anyhow::{Context, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What open loops are called among the loads.
const RATES: &str = "rates";

/// ring9 beside the same server on other I/O layers: builds and starts them, and measures them in interleaved rounds
#[derive(Debug, Args)]
pub(crate) struct RuntimesFlags {
    /// A part of the loads, in fewer and shorter rounds: under three minutes after the build
    #[arg(long)]
    quick: bool,
    /// Where result.json.gz and report.html go
    #[arg(long, default_value = "ring9-runtimes", value_name = "FOLDER")]
    out: PathBuf,
    /// Only these loads, by the names that the report gives them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep servers on this cpu
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    server_cpu: usize,
    /// Keep this program on this cpu, but for the loads that have both on one
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    cpu: usize,
    /// Where ring9's sources are; by default this folder, or one that this program was built in
    #[arg(long, value_name = "FOLDER")]
    repository: Option<PathBuf>,
}

impl RuntimesFlags {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let shapes: Vec<&Shape> = SHAPES
            .iter()
            .filter(|shape| match self.only.is_empty() {
                true => shape.quick || !self.quick,
                false => self.only.iter().any(|id| id == shape.id),
            })
            .collect();
        for id in &self.only {
            let known = || SHAPES.iter().map(|shape| shape.id).chain([RATES]).collect::<Vec<_>>().join(", ");
            (|| {
                ensure!(id == RATES || shapes.iter().any(|shape| shape.id == id), "--only {id}: there are {}", known());
                Ok(())
            })()
            .usage()?;
        }
        let cpus = std::thread::available_parallelism().usage()?.get();
        (|| {
            ensure!(self.cpu < cpus && self.server_cpu < cpus, "this machine has {cpus} cpus: --cpu, --server-cpu");
            Ok(())
        })()
        .usage()?;
        let began = SystemTime::now();
        let roster = Roster::build(&repository(self.repository.as_deref()).usage()?).usage()?;
        let yard = Yard::new(&roster, self.server_cpu, self.cpu, self.quick).usage()?;
        let mut servers = Vec::new();
        for server in &roster.servers {
            servers.push(yard.profile(server)?);
        }
        let (mut measured, mut rates, mut objectives, mut failure) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (number, shape) in shapes.iter().enumerate() {
            eprintln!("{} of {}: {}", number + 1, shapes.len(), shape.id);
            match yard.measure(shape) {
                Ok(one) => measured.push(one),
                Err(error) => {
                    // What was measured before is not lost.
                    failure = Some(error);
                    break;
                }
            }
        }
        if failure.is_none() && (self.only.is_empty() || self.only.iter().any(|id| id == RATES)) {
            eprintln!("open loops");
            match yard.rates() {
                Ok(both) => (rates, objectives) = both,
                Err(error) => failure = Some(error),
            }
        }
        let runtimes = Runtimes {
            version: result::VERSION,
            began: humantime::format_rfc3339_millis(began).to_string(),
            quick: self.quick,
            servers,
            shapes: measured,
            rates,
            objectives,
            environment: environment(Some(self.cpu)),
        };
        result::print_runtimes(&runtimes, &mut std::io::stdout().lock()).usage()?;
        runtimes.put(&self.out).usage()?;
        report::write(&self.out, &Given { runtimes: vec![runtimes], ..Default::default() }).usage()?;
        println!("{}", self.out.join("report.html").display());
        failure.map_or(Ok(Ending::Well), Err)
    }
}

/// Where ring9's sources are: the folder given, or the current folder or that of this program or one above them.
pub(super) fn repository(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(repository) = given {
        return Ok(repository.to_owned());
    }
    let (here, this) = (std::env::current_dir()?, std::env::current_exe()?);
    let found =
        here.ancestors().chain(this.ancestors()).find(|folder| folder.join("bench/baselines/Cargo.toml").exists());
    found.map(Path::to_owned).context("ring9's sources are not here: --repository")
}
