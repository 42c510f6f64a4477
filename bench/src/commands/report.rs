//! One page of results that were left in folders.

use super::{Blame, Ending, Failure};
use crate::report::{Given, write};
use crate::result::{Runtimes, read_in};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One page with pictures of several results
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folders of --out
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Where report.html goes
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl Report {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let given = self.read().usage()?;
        write(&self.out, &given).usage()?;
        println!("{}", self.out.join("report.html").display());
        Ok(Ending::Well)
    }

    fn read(&self) -> anyhow::Result<Given> {
        let mut given = Given::default();
        let mut names = BTreeSet::new();
        for folder in &self.folders {
            let (run, sweep, comparison) = (
                read_in::<Value>(folder, "result.json")?,
                read_in(folder, "sweep.json")?,
                read_in(folder, "compare.json")?,
            );
            if run.is_none() && sweep.is_none() && comparison.is_none() {
                bail!(
                    "{} has neither result.json (or result.json.gz) nor sweep.json nor compare.json",
                    folder.display()
                );
            }
            let wrong = || format!("{}: no result of a run, and none of runtimes", folder.display());
            match run {
                Some(many) if many.get("shapes").is_some() => {
                    given.runtimes.push(Runtimes::of_json(many).with_context(wrong)?);
                }
                Some(run) => {
                    let run = serde_json::from_value(run).with_context(wrong)?;
                    let short = folder
                        .file_name()
                        .map_or(folder.display().to_string(), |name| name.to_string_lossy().into_owned());
                    let name = if names.contains(&short) { folder.display().to_string() } else { short };
                    names.insert(name.clone());
                    given.runs.push((name, run));
                }
                None => {}
            }
            given.sweeps.extend(sweep);
            given.comparisons.extend(comparison);
        }
        Ok(given)
    }
}
