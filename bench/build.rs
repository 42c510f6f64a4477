//! Which revision this was built from, for results; "unknown" outside of a git checkout.

use std::process::Command;

fn main() {
    let git = |words: &[&str]| {
        let done = Command::new("git").args(words).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let revision = git(&["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=RING9_REVISION={revision}");
    if let Some(folder) = git(&["rev-parse", "--absolute-git-dir"]) {
        println!("cargo::rerun-if-changed={folder}/HEAD");
        println!("cargo::rerun-if-changed={folder}/logs/HEAD");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=RING9_PROFILE={}", std::env::var("PROFILE").unwrap_or_default());
}
