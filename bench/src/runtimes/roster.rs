//! The servers: ring9 and what bench/baselines has, built from the tree that this program was built from.

use super::baselines::{Baseline, ROSTER};
use crate::result::Profile;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the servers on other I/O layers are, in the repository.
const BASELINES: &str = "bench/baselines";
/// Memory of each, for files.
const MEMORY: &str = "128MiB";

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) name: String,
    program: String,
    /// What it is called in cargo.
    package: String,
    /// Files and folders of its I/O layer.
    sources: Vec<PathBuf>,
    /// It is on a runtime, and also does what users of that write first.
    pub(crate) has_tiers: bool,
}

impl Built {
    /// Its command line, on one cpu.
    pub(crate) fn command(&self, address: &str, cpu: usize) -> String {
        let Built { program, .. } = self;
        format!("{program} --memory {MEMORY} --trust all --cpu {cpu} --listen {address}")
    }

    /// Whether it is ring9 itself.
    pub(crate) fn is_ring9(&self) -> bool {
        self.package == "ring9"
    }

    /// What its command line needs, to have so many connections: the others take what comes.
    pub(crate) fn for_connections(&self, count: u64) -> String {
        if self.is_ring9() { format!(" --max-connections {count}") } else { String::new() }
    }
}

/// All servers.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) repository: PathBuf,
    /// ring9 first, then the baselines in the order of their roster.
    pub(crate) servers: Vec<Built>,
    /// The program of the floor on io_uring, which wants an address and a cpu; none where it was not built.
    pub(crate) ring_floor: Option<String>,
}

impl Roster {
    /// Builds all of them; `repository` is where ring9's sources are.
    pub(crate) fn build(repository: &Path) -> anyhow::Result<Roster> {
        cargo(repository, &["build", "--release", "-p", "ring9-bench", "--example", "ring_floor"])?;
        let roster = Self::build_some(repository, |_| true, &["--workspace"])?;
        Ok(Roster { ring_floor: Some(path(repository, "examples/ring_floor")?), ..roster })
    }

    /// Builds ring9 and one of the baselines.
    pub(crate) fn build_one(repository: &Path, baseline: &str) -> anyhow::Result<Roster> {
        Self::build_some(repository, |one| one.name == baseline, &["-p", &format!("baseline-{baseline}")])
    }

    fn build_some(
        repository: &Path,
        is_wanted: impl Fn(&Baseline) -> bool,
        packages: &[&str],
    ) -> anyhow::Result<Roster> {
        let baselines = repository.join(BASELINES);
        ensure!(
            baselines.join("Cargo.toml").exists(),
            "{} has no {BASELINES}: --repository says where ring9's sources are",
            repository.display()
        );
        cargo(repository, &["build", "--release", "-p", "ring9", "--bin", "ring9"])?;
        cargo(&baselines, &[&["build", "--release"], packages].concat())?;
        let mut servers = vec![Built {
            name: "ring9".into(),
            program: path(repository, "ring9")?,
            package: "ring9".into(),
            sources: vec![repository.join("src/uring")],
            has_tiers: false,
        }];
        let common = baselines.join("common/src");
        for Baseline { name, tiers, shared, .. } in ROSTER.iter().filter(|one| is_wanted(one)) {
            let own = baselines.join(name).join("src");
            servers.push(Built {
                name: name.clone(),
                program: path(&baselines, &format!("baseline-{name}"))?,
                package: format!("baseline-{name}"),
                sources: shared.iter().map(|file| common.join(file)).chain([own]).collect(),
                has_tiers: !tiers.is_empty(),
            });
        }
        Ok(Roster { repository: repository.to_owned(), servers, ring_floor: None })
    }

    /// What is known of a server that does not run.
    pub(crate) fn profile(&self, server: &Built) -> anyhow::Result<Profile> {
        let facts = match server.package.as_str() {
            "ring9" => BTreeMap::from([
                ("version".to_owned(), env!("CARGO_PKG_VERSION").into()),
                ("kernel".to_owned(), "io_uring".into()),
                ("lands".to_owned(), true.into()),
                ("gathers".to_owned(), true.into()),
                ("copies".to_owned(), vec![0, 0].into()),
            ]),
            _ => {
                let said = Command::new(&server.program).arg("--facts").output().context("--facts")?;
                serde_json::from_slice(&said.stdout).with_context(|| format!("{} --facts", server.program))?
            }
        };
        let folder = if server.is_ring9() { self.repository.clone() } else { self.repository.join(BASELINES) };
        let tree = Command::new(cargo_program())
            .current_dir(folder)
            .args(["tree", "--quiet", "-e", "normal", "--prefix", "none", "--no-dedupe", "-p", &server.package])
            .output()
            .context("cargo tree")?;
        ensure!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr).trim());
        let tree = String::from_utf8(tree.stdout)?;
        let mut crates: Vec<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
        crates.sort_unstable();
        crates.dedup();
        let mut lines = 0;
        for source in &server.sources {
            lines += lines_of(source)?;
        }
        Ok(Profile {
            name: server.name.clone(),
            facts,
            lines,
            crates: crates.len().saturating_sub(1),
            binary_bytes: loaded_bytes(&server.program),
            ..Profile::default()
        })
    }
}

/// A program that was built in `folder`, from the current folder on if it is below: what a report shows is no place of this machine.
fn path(folder: &Path, name: &str) -> anyhow::Result<String> {
    let program = folder.join("target/release").join(name);
    ensure!(program.exists(), "{} is not there", program.display());
    let here = std::env::current_dir()?;
    let text = program.strip_prefix(&here).unwrap_or(&program).to_str().filter(|text| !text.contains(' '));
    Ok(text.context("a path without blanks to the servers")?.to_owned())
}

fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cargo(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    eprintln!("cargo {} in {}", arguments.join(" "), folder.display());
    let status = Command::new(cargo_program()).current_dir(folder).args(arguments).args(["--quiet"]).status();
    ensure!(status.context("cargo")?.success(), "the servers could not be built");
    Ok(())
}

/// Lines of code: neither blank, nor comments, nor tests at the end of a file.
fn lines_of(path: &Path) -> anyhow::Result<usize> {
    if path.is_dir() {
        let mut lines = 0;
        for entry in fs::read_dir(path)? {
            lines += lines_of(&entry?.path())?;
        }
        return Ok(lines);
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let code = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
    Ok(code.filter(|line| !line.is_empty() && !line.starts_with("//")).count())
}

/// Bytes of code and data in a program, without what is there for debuggers; as size(1) says, where there is one.
fn loaded_bytes(program: &str) -> Option<u64> {
    let said = Command::new("size").arg(program).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let mut columns = said.lines().nth(1)?.split_whitespace().map(str::parse::<u64>);
    Some(columns.next()?.ok()? + columns.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_code_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder in it");
        let text = "//! Said.\n\nuse std::io; // Used.\n\n/// Told.\nfn one() {\n    // Why.\n}\n\n#[cfg(test)]\nmod tests {}\n";
        fs::write(folder.path().join("a.rs"), text).expect("written");
        fs::write(inner.join("b.rs"), "fn two() {}\n").expect("written");
        assert_eq!(lines_of(folder.path()).expect("counted"), 4);
        assert!(lines_of(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_program_is_as_large_as_its_code_and_data() {
        let this = std::env::current_exe().expect("this program");
        let file_bytes = fs::metadata(&this).expect("it is there").len();
        // None without size(1). What is there for debuggers is not counted.
        if let Some(bytes) = loaded_bytes(this.to_str().expect("a path in UTF-8")) {
            assert!((1 << 16..file_bytes).contains(&bytes), "{bytes} of {file_bytes}");
        }
        assert_eq!(loaded_bytes("/nowhere/at/all"), None);
    }
}
