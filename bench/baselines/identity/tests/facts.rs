//! Dates of releases are written by hand, versions are the lock file's: each date is of its version.

use common::Facts;

/// A runtime, a version of it, and its day.
const RELEASES: [[&str; 3]; 6] = [
    ["tokio", "1.54.1", "2026-10-21"],
    ["smol", "2.0.2", "2024-09-07"],
    ["monoio", "0.2.4", "2024-08-20"],
    ["compio", "0.19.2", "2026-08-18"],
    ["glommio", "0.9.0", "2024-03-25"],
    ["tokio-uring", "0.5.0", "2024-05-27"],
];

const RUNTIMES: [Facts; 6] = [
    baseline_tokio::FACTS,
    baseline_smol::FACTS,
    baseline_monoio::FACTS,
    baseline_compio::FACTS,
    baseline_glommio::FACTS,
    baseline_tokio_uring::FACTS,
];

#[test]
fn a_date_is_of_its_version() {
    for (facts, [name, version, released]) in RUNTIMES.iter().zip(RELEASES) {
        assert_eq!(facts.runtime, Some(name));
        assert_eq!(
            facts.version(),
            Some(version),
            "the lock file has another {name}: look up when it was released (https://crates.io/crates/{name}/versions), and write that into {name}/src/lib.rs and here"
        );
        assert_eq!(facts.released, Some(released), "{name} {version}: {name}/src/lib.rs says another day");
    }
}

#[test]
fn who_asks_the_kernel_itself_has_no_date() {
    for facts in [baseline_epoll::FACTS, baseline_threads::FACTS] {
        assert_eq!((facts.runtime, facts.released), (None, None), "{}", facts.name);
    }
}
