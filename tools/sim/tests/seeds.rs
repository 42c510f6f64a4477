//! What has failed once does not fail again; some seeds of every day; and every submission of small runs fails once.

use std::process::Command;

fn sim(flags: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ring9-sim")).args(flags).output().expect("the simulator can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{flags:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn plans_that_have_failed_once() {
    let lines = include_str!("../seeds.txt").lines().filter(|line| line.starts_with("--"));
    for line in lines {
        sim(&line.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn some_seeds() {
    let text = sim(&["--seeds", "1..40", "--steps", "1500"]);
    assert!(text.contains("39 seeds, each twice, 0 failed"), "{text}");
}

#[test]
fn some_seeds_with_a_relay() {
    let text = sim(&["--relay", "--seeds", "1..40", "--steps", "1500"]);
    assert!(text.contains("39 seeds, each twice, 0 failed"), "{text}");
}

#[test]
fn every_submission_fails_once() {
    let text = sim(&["--sweep", "1..4", "--steps", "200"]);
    assert!(text.contains(", 0 failed"), "{text}");
}

#[test]
fn the_same_seed_says_the_same() {
    let flags = ["--seed", "7", "--steps", "800", "--trace"];
    let text = sim(&flags);
    assert!(text.lines().count() > 500 && text == sim(&flags));
}

#[test]
fn flags_that_are_none_are_refused() {
    for flags in
        [&["--seeds", "5"][..], &["--seed", "1", "--without", "rain"], &["--sweep", "1..2", "--seed", "3"], &[]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_ring9-sim")).args(flags).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }
}
