//! One page of results that were left in folders.

use super::{Blame, Ending, Failure};
use crate::report::{Given, write};
use crate::result::VERSION;
use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
            let (run, sweep, comparison) =
                (of::<Value>(folder, "result.json")?, of(folder, "sweep.json")?, of(folder, "compare.json")?);
            if run.is_none() && sweep.is_none() && comparison.is_none() {
                bail!("{} has neither result.json nor sweep.json nor compare.json", folder.display());
            }
            let wrong = || format!("{}: no result of a run, and none of runtimes", folder.display());
            match run {
                Some(many) if many.get("shapes").is_some() => {
                    given.runtimes.push(serde_json::from_value(many).with_context(wrong)?);
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

/// A result of that folder, if it has one.
pub(crate) fn of<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Option<T>> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    read(&path).map(Some)
}

/// A file of this version of the format.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let value: Value = serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))?;
    let version = value.get("version").and_then(Value::as_u64);
    ensure!(version == Some(VERSION.into()), "{}: a result of version {VERSION} has that in it", path.display());
    serde_json::from_value(value).with_context(|| format!("{} is no such result", path.display()))
}
