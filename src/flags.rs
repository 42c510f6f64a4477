//! The command line of the server, and what each flag accepts.

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ring9::client::Address;
use ring9::fs::mem::Atime;
use ring9::limits;
use ring9::store::SyncMode;
use ring9::uring::{Features, Trust};
use std::path::PathBuf;
use std::str::FromStr;

/// An in-memory 9P file server: one thread, one io_uring, zero-copy.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// What to do; without one: serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve files (the default)
    Serve(Serve),
    /// Print what this kernel and these limits offer to a server with these flags
    Check(Serve),
    /// Look at a store that is not served, or copy it; nothing of it is changed
    #[command(subcommand)]
    Store(Look),
}

/// How to look at a store.
#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// Verify every checksum and the whole tree
    Check {
        /// The directory of the store
        dir: PathBuf,
    },
    /// Copy a store into a new one that takes no more room than its files need: the same tree, without its history
    Copy {
        /// The directory of the store
        dir: PathBuf,
        /// The directory of the copy: missing, or empty
        dest: PathBuf,
        /// The --store-size that the copy is to be served with: segments are as large as in a new store of this size. Default: as large as in DIR
        #[arg(long, value_name = "SIZE", value_parser = store_size)]
        store_size: Option<Bytes>,
    },
    /// Print the superblock, the segments, and what is in them
    Show {
        /// The directory of the store
        dir: PathBuf,
    },
}

/// Flags of `serve` and of `check`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen: tcp:HOST:PORT or unix:PATH; repeatable. Port 0 takes a free one. Default: a unix socket ring9.sock in $XDG_RUNTIME_DIR
    #[arg(long, value_name = "ADDR")]
    listen: Vec<Address>,
    /// Who users are on the listeners after it: `all` believes what clients say, `peer-uid` (default of unix sockets) the uid at the other
    /// end, `squash` (default of TCP) makes everyone nobody
    #[arg(long, value_name = "TRUST", value_enum)]
    trust: Vec<TrustFlag>,
    /// Memory for files; populated and registered before the ready line
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = memory)]
    pub(crate) memory: Bytes,
    /// Keep the files in a store in this directory, which is made if it is missing: replies to changes leave once the changes are on disk
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Which replies wait for the disk: `always` those that report or show a change, `fsync` those of fsync(2) and of writes to files that were opened
    /// with O_SYNC or O_DSYNC. Default: always
    #[arg(long, value_name = "WHEN", requires = "store", value_enum)]
    sync: Option<SyncFlag>,
    /// Most that the store may take on disk, 192MiB or more. Default: four times --memory, and 512MiB
    #[arg(long, value_name = "SIZE", requires = "store", value_parser = store_size)]
    store_size: Option<Bytes>,
    /// Files and directories at a time; a further hard link counts as one. Default: one for each KiB of memory, or fewer where the machine is small
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 31))]
    pub(crate) max_inodes: Option<u64>,
    /// Who is in which group, in the form of group(5), beside the primary groups of /etc/passwd: group permissions then count for members alone. Without it everyone
    /// but the owner has those of group or others, since 9P carries no groups and clients have checked them
    #[arg(long, value_name = "FILE")]
    pub(crate) groups: Option<PathBuf>,
    /// Which reads of files, directories and links move access times: `always` all, `relatime` those of what was changed since or not read for a day, `never` none
    #[arg(long, value_name = "WHEN", value_enum, default_value = "relatime")]
    atime: AtimeFlag,
    /// Populate and register memory as it is needed, instead of all at start
    #[arg(long)]
    pub(crate) grow: bool,
    /// Largest message, 4KiB to 1MiB
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = msize)]
    pub(crate) msize: Bytes,
    /// Connections at a time; more are refused. Default: 10,000, or as many as the limit of open files allows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) max_connections: Option<u64>,
    /// Look for work this long before sleeping, in microseconds
    #[arg(long, value_name = "USEC", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub(crate) busy_poll: u64,
    /// Run on this cpu alone
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<usize>,
    /// Fail where memory cannot be registered with the kernel
    #[arg(long)]
    pub(crate) require_registered: bool,
    /// Print each message on one line to stderr
    #[arg(long)]
    pub(crate) trace: bool,
    /// Do without a feature of newer kernels, as on an older one
    #[arg(long, value_name = "FEATURE", value_enum, hide = true)]
    without: Vec<Feature>,
    /// The trust of each listener, from the order of the command line
    #[arg(skip)]
    trusts: Vec<Option<TrustFlag>>,
}

impl Flags {
    /// The flags of this process; a usage error ends it with exit code 2.
    pub(crate) fn of_process() -> Flags {
        let matches = Flags::command().get_matches();
        let mut flags = Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let placed = match (&mut flags.command, matches.subcommand()) {
            (Some(Command::Serve(serve) | Command::Check(serve)), Some((_, matches))) => serve.place_trusts(matches),
            _ => flags.serve.place_trusts(&matches),
        };
        if let Err(error) = placed {
            Flags::command().error(ErrorKind::ArgumentConflict, error).exit();
        }
        flags
    }
}

impl Serve {
    /// A `--trust` holds for the listeners behind it, up to the next, or for the default socket.
    /// The error names one that holds for none.
    fn place_trusts(&mut self, matches: &ArgMatches) -> Result<(), String> {
        let places = |name| matches.indices_of(name).into_iter().flatten();
        let trusts: Vec<_> = places("trust").zip(self.trust.iter().copied()).collect();
        let listens: Vec<_> = if self.listen.is_empty() { vec![usize::MAX] } else { places("listen").collect() };
        for (number, (at, trust)) in trusts.iter().enumerate() {
            let next = trusts.get(number + 1).map_or(usize::MAX, |(next, _)| *next);
            if !listens.iter().any(|place| *at < *place && *place <= next) {
                let name = trust.name();
                return Err(format!(
                    "--trust {name} has no effect: it holds for the --listen behind it, up to the next --trust; put it before one"
                ));
            }
        }
        let before = |place| trusts.iter().rev().find(|(at, _)| *at < place).map(|(_, trust)| *trust);
        self.trusts = listens.into_iter().map(before).collect();
        Ok(())
    }

    /// Whether it listens where it is told to, and not on the default socket.
    pub(crate) fn names_addresses(&self) -> bool {
        !self.listen.is_empty()
    }

    /// Most bytes that the store may take on disk.
    pub(crate) fn store_size(&self) -> u64 {
        self.store_size.map_or_else(|| limits::store_size_usual(self.memory.0), |size| size.0)
    }

    /// Which replies wait for the store.
    pub(crate) fn sync(&self) -> SyncMode {
        match self.sync {
            None | Some(SyncFlag::Always) => SyncMode::Always,
            Some(SyncFlag::Fsync) => SyncMode::Fsync,
        }
    }

    /// What the ring may use.
    pub(crate) fn allowed(&self) -> Features {
        let has = |feature| !self.without.contains(&feature);
        Features {
            vectored_fixed: has(Feature::Registered),
            defer_taskrun: has(Feature::Deferred),
            multishot: has(Feature::Shared),
            vectored_send: has(Feature::Lists),
        }
    }

    /// Which reads move access times.
    pub(crate) fn atime(&self) -> Atime {
        match self.atime {
            AtimeFlag::Always => Atime::Always,
            AtimeFlag::Relatime => Atime::Relatime,
            AtimeFlag::Never => Atime::Never,
        }
    }

    /// Where to listen, and whom to believe there. Makes the folder of the default socket.
    pub(crate) fn listeners(&self) -> anyhow::Result<Vec<(Address, Trust)>> {
        let mut addresses = self.listen.clone();
        if addresses.is_empty() {
            addresses
                .push(Address::default_socket_for_server().context("no place for the default socket; use --listen")?);
        }
        let trust_of = |address: &Address, flag: Option<TrustFlag>| match (flag, address) {
            (Some(TrustFlag::All), _) => Ok(Trust::All),
            (Some(TrustFlag::Squash), _) | (None, Address::Tcp { .. }) => Ok(Trust::Squash),
            (Some(TrustFlag::PeerUid), Address::Tcp { .. }) => {
                bail!(
                    "--trust peer-uid: {address} does not tell who connects, unix sockets do; put --trust squash or all before it"
                )
            }
            (Some(TrustFlag::PeerUid) | None, Address::Unix(_)) => Ok(Trust::PeerUid),
        };
        let pairs = addresses.into_iter().zip(&self.trusts);
        pairs.map(|(address, flag)| Ok((address.clone(), trust_of(&address, *flag)?))).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Feature {
    Registered,
    Deferred,
    Shared,
    Lists,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AtimeFlag {
    Always,
    Relatime,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SyncFlag {
    Always,
    Fsync,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TrustFlag {
    All,
    PeerUid,
    Squash,
}

impl TrustFlag {
    fn name(self) -> String {
        self.to_possible_value().expect("no value is skipped").get_name().to_owned()
    }
}

/// A number of bytes, as `512MiB`, `64k` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err(format!("unknown unit {unit:?}: use KiB, MiB or GiB")),
        };
        let number: u64 = number.parse().map_err(|_| "a number is missing, as in 512MiB".to_owned())?;
        number.checked_mul(1 << shift).map(Bytes).ok_or_else(|| "too large".to_owned())
    }
}

fn memory(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    // The arena counts in units of 64 bytes with 32 bits.
    if (limits::MEMORY_BYTES_MIN..=256 << 30).contains(&bytes.0) { Ok(bytes) } else { Err("8MiB to 256GiB".into()) }
}

fn store_size(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    if bytes.0 >= limits::STORE_SIZE_MIN { Ok(bytes) } else { Err("192MiB or more".into()) }
}

fn msize(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    let range = u64::from(limits::MSIZE_MIN)..=u64::from(limits::MSIZE_MAX);
    if range.contains(&bytes.0) { Ok(bytes) } else { Err("4KiB to 1MiB".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(args: &[&str]) -> Vec<(String, Trust)> {
        let matches = Flags::command().get_matches_from(args);
        let mut flags = Flags::from_arg_matches(&matches).expect("valid flags");
        flags.serve.place_trusts(&matches).expect("each --trust has a listener");
        let listeners = flags.serve.listeners().expect("valid listeners");
        listeners.into_iter().map(|(address, trust)| (address.to_string(), trust)).collect()
    }

    #[test]
    fn trust_holds_for_the_listeners_after_it() {
        let found = listeners(&[
            "ring9",
            "--listen",
            "tcp:127.0.0.1:1",
            "--listen",
            "unix:/a",
            "--trust",
            "all",
            "--listen",
            "unix:/b",
            "--listen",
            "tcp:127.0.0.1:2",
            "--trust",
            "squash",
            "--listen",
            "unix:/c",
        ]);
        let trusts: Vec<_> = found.iter().map(|(_, trust)| *trust).collect();
        assert_eq!(trusts, [Trust::Squash, Trust::PeerUid, Trust::All, Trust::All, Trust::Squash]);
        assert_eq!(found[2].0, "unix:/b");
    }

    #[test]
    fn access_times_follow_the_flag() {
        let atime = |args: &[&str]| Flags::try_parse_from(args).map(|flags| flags.serve.atime());
        assert_eq!(atime(&["ring9"]).ok(), Some(Atime::Relatime));
        for (word, wanted) in [("always", Atime::Always), ("relatime", Atime::Relatime), ("never", Atime::Never)] {
            assert_eq!(atime(&["ring9", "--atime", word]).ok(), Some(wanted));
        }
        assert!(atime(&["ring9", "--atime", "sometimes"]).is_err());
    }

    #[test]
    fn a_trust_without_a_listener_is_an_error() {
        let place = |args: &[&str]| {
            let matches = Flags::command().get_matches_from([&["ring9"], args].concat());
            let mut flags = Flags::from_arg_matches(&matches).expect("valid flags");
            flags.serve.place_trusts(&matches)
        };
        for args in [
            &["--listen", "unix:/a", "--trust", "all"][..],
            &["--trust", "all", "--trust", "squash", "--listen", "unix:/a"],
            &["--trust", "all", "--listen", "unix:/a", "--listen", "unix:/b", "--trust", "all"],
            &["--trust", "all", "--trust", "all"],
        ] {
            let error = place(args).expect_err("one of them has no effect");
            assert!(error.contains("--trust all has no effect"), "{error}");
        }
        for args in [&["--trust", "all"][..], &["--trust", "all", "--listen", "unix:/a"], &[]] {
            assert_eq!(place(args), Ok(()));
        }
    }

    #[test]
    fn the_flags_of_a_store_need_a_store() {
        let bytes = |args: &[&str]| Flags::try_parse_from(args).map(|flags| flags.serve.store_size());
        assert!(bytes(&["ring9", "--store-size", "1GiB"]).is_err() && bytes(&["ring9", "--sync", "fsync"]).is_err());
        assert_eq!(bytes(&["ring9", "--store", "/d", "--store-size", "1GiB"]).ok(), Some(1 << 30));
        assert_eq!(bytes(&["ring9", "--store", "/d", "--memory", "1GiB"]).ok(), Some((4 << 30) + (512 << 20)));
    }

    #[test]
    fn sizes_have_units_and_ends() {
        assert_eq!("512MiB".parse(), Ok(Bytes(512 << 20)));
        assert_eq!("2g".parse(), Ok(Bytes(2 << 30)));
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert!("MiB".parse::<Bytes>().is_err() && "1furlong".parse::<Bytes>().is_err());
        assert!("99999999999TiB".parse::<Bytes>().is_err());
        assert!(store_size("191MiB").is_err() && store_size("192MiB").is_ok());
        assert!(memory("1MiB").is_err() && msize("2MiB").is_err() && msize("1MiB").is_ok());
    }
}
