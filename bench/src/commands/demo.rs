//! A short tour: starts ring9, measures it, and writes a page. Each step is a command that is
//! printed.

use super::floor::Floor;
use super::run::Run;
use super::sweep::SweepFlags;
use super::{Blame, Ending, Failure};
use crate::report::{Given, write};
use crate::result;
use anyhow::{Context, ensure};
use clap::{Args, Parser};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Of the highest rate with which the server keeps up: what a busy server that is not overloaded gets.
const BUSY: f64 = 0.5;

/// Starts ring9, measures it in less than two minutes, and leaves a page with pictures
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where report.html goes
    #[arg(long, default_value = "ring9-demo", value_name = "FOLDER")]
    out: PathBuf,
}

/// Flags of a command, from words.
#[derive(Debug, Parser)]
pub(crate) struct Of<T: Args> {
    #[command(flatten)]
    pub(crate) flags: T,
}

/// Says the command, and reads it as if somebody had typed it.
fn flags<T: Args>(name: &str, words: &[&str]) -> anyhow::Result<T> {
    let shown: Vec<String> =
        words.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() }).collect();
    eprintln!("ring9-bench {name} {}", shown.join(" "));
    Ok(Of::<T>::try_parse_from([name].iter().chain(words))?.flags)
}

impl Demo {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let ring9 = ring9().usage()?;
        let scratch = tempfile::tempdir().usage()?;
        let socket = scratch.path().join("ring9");
        // A cpu each, if there are two; the same for all steps.
        let two = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        let (theirs, ours): (&str, &[&str]) = if two { (" --cpu 0", &["--cpu", "1"]) } else { ("", &[]) };
        let server = format!("{ring9} --memory 64MiB --trust all --listen unix:{}{theirs}", socket.display());
        let common =
            [&["--server", &server, "--op", "read", "--size", "4096", "--connections", "4", "--depth", "4"][..], ours]
                .concat();
        let sweep: SweepFlags =
            flags("sweep", &[&common[..], &["--duration", "1s", "--steps", "4"]].concat()).usage()?;
        let sweep = sweep.sweep()?;
        let rate = sweep.max.map_or(1000.0, |edge| (edge.holds * BUSY).round()).to_string();
        let run: Run =
            flags("run", &[&common[..], &["--rate", &rate, "--arrivals", "poisson", "--duration", "5s"]].concat())
                .usage()?;
        let (open, _) = run.measure()?;
        let run: Run = flags("run", &[&common[..], &["--duration", "5s"]].concat()).usage()?;
        let (closed, _) = run.measure()?;
        let floor: Floor =
            flags("floor", &[&common[..], &["--duration", "500ms", "--rounds", "9"]].concat()).usage()?;
        let floor = floor.compare()?;
        let mut out = std::io::stdout().lock();
        result::print_sweep(&sweep, &mut out).usage()?;
        result::print(&open, &mut out).usage()?;
        result::print(&closed, &mut out).usage()?;
        result::print_comparison(&floor, &mut out).usage()?;
        let given = Given {
            runs: vec![(format!("{rate}/s"), open), ("as fast as it goes".into(), closed)],
            sweeps: vec![sweep],
            comparisons: vec![floor],
            ..Default::default()
        };
        write(&self.out, &given).usage()?;
        println!("{}", self.out.join("report.html").display());
        Ok(Ending::Well)
    }
}

/// The server: beside this program. `cargo run -p ring9-bench` builds only this one, so that it may have to be built.
fn ring9() -> anyhow::Result<String> {
    let this = std::env::current_exe().context("this program")?;
    let ring9 = this.with_file_name("ring9");
    if let Some(cargo) = std::env::var_os("CARGO").filter(|_| !ring9.exists()) {
        let release = this.parent().is_some_and(|folder| folder.ends_with("release"));
        let mut build = Command::new(cargo);
        build
            .args(["build", "-p", "ring9", "--bin", "ring9"])
            .args(release.then_some("--release"))
            .stdout(Stdio::null());
        ensure!(build.status().context("cargo")?.success(), "ring9 could not be built");
    }
    ensure!(ring9.exists(), "{} is not there: cargo build --release", ring9.display());
    let path = ring9.to_str().filter(|path| !path.contains(' '));
    Ok(path.context("a path without blanks to ring9")?.to_owned())
}
