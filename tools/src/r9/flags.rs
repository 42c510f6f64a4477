//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use ring9::client::Address;
use ring9::wire::Dialect;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

/// Files of a 9P server from the command line.
#[derive(Debug, Parser)]
#[command(name = "r9", version)]
pub(crate) struct Flags {
    /// The server: tcp:HOST:PORT or unix:PATH; default: where ring9 of this user listens
    #[arg(long, value_name = "ADDR")]
    pub(crate) addr: Option<Address>,
    /// The tree to attach to
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) aname: String,
    /// The dialect to speak
    #[arg(long, value_enum, default_value = "9P2000.L", ignore_case = true)]
    pub(crate) dialect: DialectFlag,
    /// Attach as this user instead of the one who runs r9
    #[arg(long, value_name = "NAME")]
    pub(crate) uname: Option<String>,
    /// Largest message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(4096..=16 << 20))]
    pub(crate) msize: u32,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DialectFlag {
    #[value(name = "9P2000.L")]
    L,
    #[value(name = "9P2000.u")]
    U,
    #[value(name = "9P2000")]
    P9,
}

impl From<DialectFlag> for Dialect {
    fn from(flag: DialectFlag) -> Dialect {
        match flag {
            DialectFlag::L => Dialect::L,
            DialectFlag::U => Dialect::U,
            DialectFlag::P9 => Dialect::P9,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List directories, or show files
    Ls {
        /// Type, permissions, owner, size and time of each
        #[arg(short)]
        long: bool,
        #[arg(default_value = "/")]
        paths: Vec<OsString>,
    },
    /// List a directory and all below it
    Tree {
        #[arg(default_value = "/")]
        path: OsString,
    },
    /// Print files
    Cat {
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Copy local files to the server; owners are not kept
    Put {
        /// Whole directories: DEST becomes the copy of the source
        #[arg(short)]
        recursive: bool,
        /// Pass over links and special files without a word where the dialect has none
        #[arg(long)]
        skip_special: bool,
        #[arg(required = true)]
        sources: Vec<PathBuf>,
        dest: OsString,
    },
    /// Copy files of the server; owners are not kept
    Get {
        /// Whole directories: DEST becomes the copy of the source
        #[arg(short)]
        recursive: bool,
        #[arg(required = true)]
        sources: Vec<OsString>,
        dest: PathBuf,
    },
    /// Write standard input to a file
    Write {
        /// Behind what is there, instead of in its place
        #[arg(long)]
        append: bool,
        path: OsString,
    },
    /// Remove files
    Rm {
        /// Directories with all below them
        #[arg(short)]
        recursive: bool,
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Make directories
    Mkdir {
        /// And those above them; existing ones are no error
        #[arg(short)]
        parents: bool,
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Rename a file, or move it into a directory
    Mv { from: OsString, to: OsString },
    /// Make a symbolic link
    Ln {
        /// The only kind there is
        #[arg(short, required = true)]
        symbolic: bool,
        target: OsString,
        path: OsString,
    },
    /// Show everything known of files
    Stat {
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Change permissions
    Chmod {
        /// In octal, as 0644
        mode: Octal,
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Show how full the server is
    Df,
}

impl Command {
    /// As it is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Ls { .. } => "ls",
            Command::Tree { .. } => "tree",
            Command::Cat { .. } => "cat",
            Command::Put { .. } => "put",
            Command::Get { .. } => "get",
            Command::Write { .. } => "write",
            Command::Rm { .. } => "rm",
            Command::Mkdir { .. } => "mkdir",
            Command::Mv { .. } => "mv",
            Command::Ln { .. } => "ln",
            Command::Stat { .. } => "stat",
            Command::Chmod { .. } => "chmod",
            Command::Df => "df",
        }
    }
}

/// Permissions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Octal(pub(crate) u32);

impl FromStr for Octal {
    type Err = String;

    fn from_str(text: &str) -> Result<Octal, String> {
        let bits = u32::from_str_radix(text, 8).ok().filter(|&bits| bits <= 0o7777);
        bits.map(Octal).ok_or_else(|| "octal permissions, 0 to 7777".into())
    }
}
