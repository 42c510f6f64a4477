//! The servers on other I/O layers, as `bench/baselines/roster.json` lists them.
//!
//! The file is the only list of their names. The tests of `bench/baselines/identity` and
//! `tests/e2e/roster.py` read it too. Its order is the order of servers in every report.

use serde::Deserialize;
use std::sync::LazyLock;

/// One baseline.
#[derive(Debug, Deserialize)]
pub(crate) struct Baseline {
    /// Its folder in bench/baselines. The package and the program are called `baseline-NAME`.
    pub(crate) name: String,
    /// The values of its `--tier`; empty for a server that has no such flag.
    pub(crate) tiers: Vec<String>,
    /// Files of `bench/baselines/common/src` that count as lines of its I/O layer.
    pub(crate) shared: Vec<String>,
    /// Goals of ring9 against it, in the loads with `runtimes: true` (`throughput >= 1.3`).
    goals: Vec<String>,
}

/// All baselines, in the order of reports.
pub(crate) static ROSTER: LazyLock<Vec<Baseline>> = LazyLock::new(|| {
    let mut all: Vec<Baseline> = serde_json::from_str(include_str!("../../baselines/roster.json"))
        .expect("a test of this file parses bench/baselines/roster.json");
    for one in &mut all {
        for goal in &mut one.goals {
            *goal = format!("{goal} against {}", one.name);
        }
    }
    all
});

/// The goals against baselines, as `--goal` takes them.
pub(super) fn goals() -> impl Iterator<Item = &'static str> {
    ROSTER.iter().flat_map(|one| one.goals.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Goal;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Packages of bench/baselines that are no servers.
    const NO_SERVERS: [&str; 2] = ["common", "identity"];

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines")
    }

    #[test]
    fn every_package_is_in_the_roster_and_every_entry_has_a_package() {
        let listed: BTreeSet<&str> = ROSTER.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(listed.len(), ROSTER.len(), "a name is twice in bench/baselines/roster.json");
        let mut packages = BTreeSet::new();
        for entry in fs::read_dir(folder()).expect("bench/baselines can be listed") {
            let entry = entry.expect("bench/baselines can be listed");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            let Ok(manifest) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
            let package = format!("name = \"baseline-{name}\"");
            assert!(manifest.lines().any(|line| line == package), "bench/baselines/{name}/Cargo.toml has no {package}");
            packages.insert(name);
        }
        for name in packages.iter().filter(|name| !NO_SERVERS.contains(&name.as_str())) {
            assert!(
                listed.contains(name.as_str()),
                "bench/baselines/{name} is a package, but bench/baselines/roster.json has no entry {name:?}"
            );
        }
        for name in listed {
            assert!(
                packages.contains(name),
                "bench/baselines/roster.json has an entry {name:?}, but there is no bench/baselines/{name}/Cargo.toml"
            );
        }
    }

    #[test]
    fn every_shared_file_of_the_roster_is_there() {
        for one in ROSTER.iter() {
            for file in &one.shared {
                let path = folder().join("common/src").join(file);
                assert!(path.is_file(), "{} shares {}, which is not there", one.name, path.display());
            }
        }
    }

    #[test]
    fn every_goal_of_the_roster_is_a_goal() {
        let all: Vec<&str> = goals().collect();
        assert!(all.contains(&"throughput >= 1.3 against tokio"), "{all:?}");
        for text in all {
            let goal: anyhow::Result<Goal> = text.parse();
            assert!(goal.is_ok(), "bench/baselines/roster.json: {text:?}: {:?}", goal.err());
        }
    }
}
