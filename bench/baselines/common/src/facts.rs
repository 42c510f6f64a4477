//! What a baseline says of itself with `--facts`: one line of JSON, for reports.

use crate::tier::Tier;
use serde::Serialize;

/// How a driver does its I/O.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Facts {
    /// What it is called in reports.
    pub name: &'static str,
    /// The crate whose I/O it uses, as in the lock file; none if it asks the kernel itself.
    pub runtime: Option<&'static str>,
    /// What the kernel is asked with.
    pub kernel: &'static str,
    /// Payloads of large writes are received where they stay.
    pub lands: bool,
    /// Replies of a turn leave with one call, from where they are.
    pub gathers: bool,
    /// Memory of files is registered with the kernel.
    pub registered: bool,
    /// Copies of a long payload's bytes in user space, from file to socket and from socket to file. With every
    /// driver, and with ring9, a payload is copied once from the receive buffer if its message has at most 16 KiB
    /// ([`ring9::session::BULK_BYTES_MIN`]) or is whole in that buffer. Of a payload that lands, the bytes that came
    /// together with the head are copied once.
    pub copies: [u32; 2],
}

impl Facts {
    /// The same driver with one buffer each way.
    pub fn of(self, tier: Tier) -> Facts {
        match tier {
            Tier::Tuned => self,
            Tier::Idiomatic => Facts { lands: false, gathers: false, copies: [1, 1], ..self },
        }
    }

    /// The version of the runtime, as in the lock file.
    pub fn version(&self) -> Option<&'static str> {
        self.runtime.map(locked_version)
    }

    /// When that version was released, as year-month-day: `bench/baselines/roster.json` has it. A
    /// test of `identity` holds it against the version of the lock file.
    pub fn released(&self) -> Option<&'static str> {
        self.runtime.map(release_day)
    }

    /// The line, with the version that the lock file has and the day of its release.
    pub fn line(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            facts: &'a Facts,
            version: Option<&'static str>,
            released: Option<&'static str>,
        }
        let (version, released) = (self.version(), self.released());
        serde_json::to_string(&Line { facts: self, version, released }).expect("plain fields")
    }
}

/// The version of a crate in the lock file that this was built with.
fn locked_version(name: &str) -> &'static str {
    quoted(include_str!("../../Cargo.lock"), &format!("name = \"{name}\"\nversion = \""))
}

/// The day in the roster's entry of a runtime. The text is searched, since a parser of JSON would
/// add code to the programs whose sizes are compared.
fn release_day(name: &str) -> &'static str {
    let roster = include_str!("../../roster.json");
    let entry = roster.split_once(&format!("\"name\": \"{name}\"")).expect("the roster has every baseline").1;
    quoted(entry, "\"released\": \"")
}

/// What stands between `start`, which ends with a quote, and the next quote.
fn quoted(text: &'static str, start: &str) -> &'static str {
    let rest = text.split_once(start).expect("the lock file and the roster have what is built").1;
    rest.split_once('"').expect("a closing quote").0
}
