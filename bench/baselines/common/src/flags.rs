//! The command line of a baseline: a part of the server's own.

use crate::facts::Facts;
use crate::tier::Tier;
use clap::{Parser, ValueEnum};
use ring9::client::Address;
use ring9::limits;
use ring9::session::Trust;
use std::str::FromStr;

/// Serves an empty tree of files in memory over 9P, to be compared with ring9.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Flags {
    /// Where to listen: tcp:HOST:PORT or unix:PATH; repeatable. Port 0 takes a free one
    #[arg(long, value_name = "ADDR", required_unless_present = "facts")]
    pub listen: Vec<Address>,
    /// Who users are: `all` believes what clients say, `squash` makes everyone nobody
    #[arg(long, value_name = "TRUST", value_enum, default_value = "squash")]
    pub trust: TrustFlag,
    /// Memory for files; populated before the ready line
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = memory)]
    pub memory: Bytes,
    /// Largest message, 4KiB to 1MiB
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = msize)]
    pub msize: Bytes,
    /// Run on this cpu alone
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// Say how this baseline does its I/O, as one line of JSON, and end
    #[arg(long)]
    facts: bool,
}

impl Flags {
    /// The flags of this process; a usage error ends it with exit code 2, and being asked for facts with them.
    pub fn of_process(facts: Facts) -> Flags {
        let flags = Flags::parse();
        flags.tell(facts);
        flags
    }

    fn tell(&self, facts: Facts) {
        if self.facts {
            println!("{}", facts.line());
            std::process::exit(0);
        }
    }
}

/// The command line of a baseline on a runtime.
#[derive(Debug, Parser)]
#[command(version, about = "Serves an empty tree of files in memory over 9P, to be compared with ring9.")]
pub struct RuntimeFlags {
    /// What every baseline has.
    #[command(flatten)]
    pub flags: Flags,
    /// How much of the runtime is used
    #[arg(long, value_enum, default_value = "tuned")]
    pub tier: Tier,
}

impl RuntimeFlags {
    /// The flags of this process, as [`Flags::of_process`].
    pub fn of_process(facts: Facts) -> RuntimeFlags {
        let all = RuntimeFlags::parse();
        all.flags.tell(facts.of(all.tier));
        all
    }
}

/// Who users are.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TrustFlag {
    /// Who they say.
    All,
    /// Nobody.
    Squash,
}

impl From<TrustFlag> for Trust {
    fn from(flag: TrustFlag) -> Trust {
        match flag {
            TrustFlag::All => Trust::All,
            TrustFlag::Squash => Trust::Squash,
        }
    }
}

/// A number of bytes, as `512MiB`, `64k` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            _ => return Err(format!("unknown unit {unit:?}: use KiB, MiB or GiB")),
        };
        let number: u64 = number.parse().map_err(|_| "a number is missing, as in 512MiB".to_owned())?;
        number.checked_mul(1 << shift).map(Bytes).ok_or_else(|| "too large".to_owned())
    }
}

fn memory(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    if (limits::MEMORY_BYTES_MIN..=256 << 30).contains(&bytes.0) { Ok(bytes) } else { Err("8MiB to 256GiB".into()) }
}

fn msize(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    let range = u64::from(limits::MSIZE_MIN)..=u64::from(limits::MSIZE_MAX);
    if range.contains(&bytes.0) { Ok(bytes) } else { Err("4KiB to 1MiB".into()) }
}
