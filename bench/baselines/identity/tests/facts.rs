//! Days of releases are written by hand, versions are the lock file's: each day is of its version.

mod roster;

use serde::Deserialize;

/// An entry of `bench/baselines/roster.json`, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    name: String,
    tiers: Vec<String>,
    version: Option<String>,
    released: Option<String>,
}

fn entries() -> Vec<Entry> {
    serde_json::from_str(include_str!("../../roster.json")).expect("bench/baselines/roster.json has this form")
}

macro_rules! facts {
    ($($name:ident)*) => { [$((stringify!($name), $name::FACTS)),*] };
}

#[test]
fn every_runtime_of_the_roster_is_tested() {
    let tested: Vec<&str> = roster::runtimes!(facts).map(|(name, _)| name).to_vec();
    let entries = entries();
    let runtimes = entries.iter().filter(|entry| !entry.tiers.is_empty());
    let listed: Vec<String> = runtimes.map(|entry| format!("baseline_{}", entry.name.replace('-', "_"))).collect();
    assert_eq!(
        tested, listed,
        "left: identity/tests/roster/mod.rs; right: the entries of bench/baselines/roster.json that have tiers"
    );
}

#[test]
fn a_date_is_of_its_version() {
    let entries = entries();
    for (_, facts) in roster::runtimes!(facts) {
        let name = facts.name;
        let entry = entries.iter().find(|entry| entry.name == name);
        let entry = entry.unwrap_or_else(|| panic!("bench/baselines/roster.json has no entry {name:?}"));
        assert_eq!(facts.runtime, Some(name));
        assert_eq!(
            facts.version(),
            entry.version.as_deref(),
            "left: the lock file; right: bench/baselines/roster.json. Look up when this version of {name} was released (https://crates.io/crates/{name}/versions), and write version and day into the roster"
        );
        let released = facts.released();
        assert!(released.is_some_and(is_day), "bench/baselines/roster.json: {name} was released on {released:?}");
        assert_eq!(released, entry.released.as_deref(), "{name}: --facts says another day than the roster");
    }
}

/// Whether this is year-month-day.
fn is_day(text: &str) -> bool {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

#[test]
fn who_asks_the_kernel_itself_has_no_date() {
    for facts in [baseline_epoll::FACTS, baseline_threads::FACTS] {
        assert_eq!((facts.runtime, facts.released()), (None, None), "{}", facts.name);
    }
    for entry in entries().iter().filter(|entry| entry.tiers.is_empty()) {
        assert_eq!((&entry.version, &entry.released), (&None, &None), "{}", entry.name);
    }
}
