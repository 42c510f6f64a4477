//! The command line of `r9`.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use nix::unistd::{Group, User};
use ring9::client::Address;
use ring9::fs::{Time, mode};
use ring9::wire::Dialect;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Files of a 9P server from the command line.
#[derive(Debug, Parser)]
#[command(
    name = "r9",
    version,
    after_help = "`r9 help COMMAND` says more. Exit codes: 0; 1 if anything has failed; 2 for a wrong command line; 141 if the reader of the output has gone."
)]
pub(crate) struct Flags {
    /// The server: tcp:HOST:PORT or unix:PATH [env: RING9_ADDR] [default: where ring9 of this user listens]
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
    /// Print files to their ends, whatever length they show
    Cat {
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Print the last lines of a file
    ///
    /// A file that does not show its length is printed from its start if it is followed.
    Tail {
        /// How many
        #[arg(short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
        lines: u64,
        /// And go on with what is added, until Ctrl-C. Files that wait at their end are waited for, others are looked at again
        #[arg(short)]
        follow: bool,
        /// How often to look, in seconds
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval, requires = "follow")]
        interval: Duration,
        path: OsString,
    },
    /// Copy local files to the server
    ///
    /// Each file is written aside, as `.NAME.r9-XXXXXX` in its directory, and takes its name when it is complete, with the permissions and the time of the source. A
    /// copy that is interrupted leaves the old file or the new one, and removes what it wrote aside; one that is killed (SIGKILL) may leave that.
    ///
    /// The new file belongs to the user of r9, or in 9P2000.L to the owner and group of the file that it replaces, if the server permits that. Other hard links keep
    /// the old file. A read-only file is replaced, and so is a symbolic link itself; a directory, a pipe, a socket or a device is not. In 9P2000, and with servers of
    /// 9P2000.u that do not replace names, the old file is removed just before.
    Put {
        /// Whole directories: DEST becomes the copy of the source
        #[arg(short)]
        recursive: bool,
        /// Pass over links and special files without a word where the dialect has none
        #[arg(long)]
        skip_special: bool,
        #[command(flatten)]
        how: How,
        #[arg(required = true)]
        sources: Vec<PathBuf>,
        dest: OsString,
    },
    /// Copy files of the server, to their ends, whatever length they show
    ///
    /// Each file is written aside, as `.NAME.r9-XXXXXX` in its directory, and takes its name when it is complete, with the permissions and the time of the source. A
    /// copy that is interrupted leaves the old file or the new one, and removes what it wrote aside; one that is killed (SIGKILL) may leave that. The copy is not
    /// synced to disk (sync(1) does that).
    ///
    /// Owners are not kept. Permissions are, and special files: take those of a server that you do not trust as an ordinary user. Other hard links keep the old
    /// file. A link that DEST names is followed, links in a tree are replaced.
    Get {
        /// Whole directories: DEST becomes the copy of the source
        #[arg(short)]
        recursive: bool,
        #[command(flatten)]
        how: How,
        #[arg(required = true)]
        sources: Vec<OsString>,
        dest: PathBuf,
    },
    /// Write standard input to a file
    ///
    /// It is written aside, as `.NAME.r9-XXXXXX` in the directory, and takes the name at the end of the input, with the permissions of the file that it replaces, or
    /// else 0644; owner and hard links are as in `put`. It goes straight into the file with --append or --in-place, and where the directory takes no new file
    /// or the file is not an ordinary one (control files, append-only files).
    Write {
        /// Behind what is there, instead of in its place
        ///
        /// In 9P2000.L and 9P2000.u the server puts each message behind what is there at that moment, whoever else writes: up to --msize less 24 bytes stay
        /// together. Plain 9P2000 can say that of a file (append-only, DMAPPEND) and not of an open: two who append to another file may overwrite each other.
        #[arg(long)]
        append: bool,
        #[command(flatten)]
        how: How,
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
    /// Give a file a further name, or make a symbolic link; in a directory it gets the name of the target
    ///
    /// Plain 9P2000 has no links.
    Ln {
        /// A symbolic link
        #[arg(short)]
        symbolic: bool,
        target: OsString,
        path: OsString,
    },
    /// Make a pipe, a device or a socket
    ///
    /// Plain 9P2000 has none of them.
    Mknod {
        /// Permissions in octal, else 0644 as far as those of the directory allow
        #[arg(short, value_name = "MODE")]
        mode: Option<Octal>,
        path: OsString,
        /// p: pipe, b: block device, c or u: character device, s: socket
        #[arg(value_enum)]
        kind: Special,
        #[arg(value_parser = clap::value_parser!(u32).range(..=0xfff))]
        major: Option<u32>,
        #[arg(value_parser = clap::value_parser!(u32).range(..=0xf_ffff))]
        minor: Option<u32>,
    },
    /// Make files that are not there, and give all of them a new time
    ///
    /// The time is the server's in 9P2000.L. The older dialects have none to ask for, so there it is this machine's; they carry whole seconds.
    Touch {
        /// This time, in seconds since 1970
        #[arg(short, long, value_name = "SECONDS[.FRACTION]", allow_hyphen_values = true)]
        time: Option<Stamp>,
        #[arg(required = true)]
        paths: Vec<OsString>,
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
    /// Change owners; only groups in plain 9P2000
    Chown {
        /// USER, USER:GROUP, :GROUP, or USER: for the group that USER logs in with. Numbers, or names of this machine; plain 9P2000 sends the group as it stands here
        owner: Owner,
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Wait until files are as safe as the server makes them
    Fsync {
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Show how full the server is
    Df,
    /// Extended attributes; 9P2000.L only
    Xattr {
        #[command(subcommand)]
        command: XattrCommand,
    },
    /// Run a command while a file, or a part of it, is locked; 9P2000.L only
    ///
    /// The exit code is that of the command, or 128 and the number of the signal that ended it.
    Lock {
        /// With others who lock it so
        #[arg(short, long)]
        shared: bool,
        /// Fail at once where somebody else has locked it
        #[arg(short, long)]
        nonblock: bool,
        /// FIRST..END, without the last one; FIRST.. for all behind it
        #[arg(long, value_name = "RANGE", default_value = "0..")]
        bytes: Bytes,
        path: OsString,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// How files are copied, and what is said of it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct How {
    /// Write into the file that is there: it keeps its owner and its hard links, and others see it change
    #[arg(long)]
    pub(crate) in_place: bool,
    /// No progress and no summary, which a terminal gets otherwise
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// A line on stderr for each file once it is complete, and a summary at the end
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// What to do with extended attributes. Names begin with `user.`, `trusted.` or `security.`
#[derive(Debug, Subcommand)]
pub(crate) enum XattrCommand {
    /// List names
    Ls {
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Print a value, as it is
    Get { path: OsString, name: OsString },
    /// Set a value: the last argument, or standard input
    Set {
        path: OsString,
        name: OsString,
        #[arg(allow_hyphen_values = true)]
        value: Option<OsString>,
    },
    /// Remove one
    Rm { path: OsString, name: OsString },
}

/// A range of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) std::ops::Range<u64>);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let parts = text.split_once("..").and_then(|(first, end)| {
            let end = if end.is_empty() { u64::MAX } else { end.parse().ok()? };
            Some(first.parse().ok()?..end)
        });
        let range = parts.filter(|range| !range.is_empty());
        range.map(Bytes).ok_or_else(|| "FIRST..END or FIRST.., in bytes".into())
    }
}

impl Command {
    /// It makes files as complete ones, or not at all.
    pub(crate) fn is_copy(&self) -> bool {
        matches!(self, Command::Put { .. } | Command::Get { .. } | Command::Write { .. })
    }

    /// It shows something of the server on standard output.
    pub(crate) fn prints(&self) -> bool {
        match self {
            Command::Ls { .. } | Command::Tree { .. } | Command::Cat { .. } | Command::Tail { .. } => true,
            Command::Stat { .. } | Command::Df => true,
            Command::Xattr { command } => matches!(command, XattrCommand::Ls { .. } | XattrCommand::Get { .. }),
            _ => false,
        }
    }

    /// As it is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Ls { .. } => "ls",
            Command::Tree { .. } => "tree",
            Command::Cat { .. } => "cat",
            Command::Tail { .. } => "tail",
            Command::Put { .. } => "put",
            Command::Get { .. } => "get",
            Command::Write { .. } => "write",
            Command::Rm { .. } => "rm",
            Command::Mkdir { .. } => "mkdir",
            Command::Mv { .. } => "mv",
            Command::Ln { .. } => "ln",
            Command::Mknod { .. } => "mknod",
            Command::Touch { .. } => "touch",
            Command::Stat { .. } => "stat",
            Command::Chmod { .. } => "chmod",
            Command::Chown { .. } => "chown",
            Command::Fsync { .. } => "fsync",
            Command::Df => "df",
            Command::Xattr { .. } => "xattr",
            Command::Lock { .. } => "lock",
        }
    }
}

impl Flags {
    /// The flags of this process; a usage error ends it with exit code 2.
    pub(crate) fn of_process() -> Flags {
        let flags = Flags::parse();
        if let Command::Mknod { kind, major, minor, .. } = &flags.command
            && kind.is_device() != minor.is_some()
        {
            let text =
                if kind.is_device() { "a device has two numbers, MAJOR MINOR" } else { "only devices have numbers" };
            debug_assert!(major.is_some() || minor.is_none(), "they come in this order");
            Flags::command().error(ErrorKind::WrongNumberOfValues, text).exit();
        }
        flags
    }
}

/// What mknod(1) makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Special {
    P,
    B,
    C,
    U,
    S,
}

impl Special {
    fn is_device(self) -> bool {
        matches!(self, Special::B | Special::C | Special::U)
    }

    /// Its type bits.
    pub(crate) fn kind(self) -> u32 {
        match self {
            Special::P => mode::IFIFO,
            Special::B => mode::IFBLK,
            Special::C | Special::U => mode::IFCHR,
            Special::S => mode::IFSOCK,
        }
    }
}

/// A time since 1970, in seconds with up to nine digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) Time);

impl FromStr for Stamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Stamp, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_fraction = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let nsec = format!("{fraction:0<9}").parse().ok().filter(|_| is_fraction);
        let time = match (whole.parse::<i64>(), nsec) {
            (Ok(sec), Some(nsec)) if !whole.starts_with('-') || nsec == 0 => Some(Time { sec, nsec }),
            // Before 1970 the fraction counts on from the second below.
            (Ok(sec), Some(nsec)) => sec.checked_sub(1).map(|sec| Time { sec, nsec: 1_000_000_000 - nsec }),
            _ => None,
        };
        time.map(Stamp).ok_or_else(|| "seconds since 1970, as 1700000000 or 1700000000.25".into())
    }
}

/// Who gets a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    /// By number, and as it was given.
    pub(crate) group: Option<(u32, String)>,
}

impl FromStr for Owner {
    type Err = String;

    /// As chown(1) reads it: names before numbers.
    fn from_str(text: &str) -> Result<Owner, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() && group.is_none_or(str::is_empty) {
            return Err("USER, USER:GROUP or :GROUP".into());
        }
        let known = User::from_name(user).ok().flatten();
        let uid = match (&known, number(user)) {
            (Some(user), _) => Some(user.uid.as_raw()),
            (None, uid @ Some(_)) => uid,
            (None, None) if user.is_empty() => None,
            _ => return Err(format!("there is no user {user:?} here; a number will do")),
        };
        let group = match (group, known) {
            (None, _) => None,
            (Some(""), Some(user)) => {
                let name =
                    Group::from_gid(user.gid).ok().flatten().map_or_else(|| user.gid.to_string(), |group| group.name);
                Some((user.gid.as_raw(), name))
            }
            (Some(""), None) => return Err(format!("the login group of {user} is not known here")),
            (Some(name), _) => {
                let gid = Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
                let gid = gid.or_else(|| number(name));
                Some((
                    gid.ok_or_else(|| format!("there is no group {name:?} here; a number will do"))?,
                    name.to_owned(),
                ))
            }
        };
        Ok(Owner { uid, group })
    }
}

/// A uid or gid in decimal; !0 is none.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != !0 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "0.01 to 3600 seconds".into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn ranges_have_a_first_byte_and_maybe_an_end() {
        let range = |text: &str| text.parse::<Bytes>().ok().map(|Bytes(range)| range);
        assert_eq!((range("0.."), range("5..7")), (Some(0..u64::MAX), Some(5..7)));
        for text in ["", "..", "5", "7..5", "5..5", "..5", "a..b", "-1..2"] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn times_have_a_fraction_and_may_be_before_1970() {
        let time = |text: &str| text.parse::<Stamp>().ok().map(|Stamp(time)| (time.sec, time.nsec));
        assert_eq!(time("1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time("5.25"), Some((5, 250_000_000)));
        assert_eq!(time("5.000000001"), Some((5, 1)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-0.5"), Some((-1, 500_000_000)));
        for text in
            ["", "x", "1.", ".5", "1.0000000001", "1.-5", "1e3", "99999999999999999999", "-9223372036854775808.5"]
        {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn owners_are_numbers_and_local_names() {
        let owner = |text: &str| text.parse::<Owner>().map(|owner| (owner.uid, owner.group.map(|(gid, _)| gid)));
        assert_eq!(owner("4000000000"), Ok((Some(4_000_000_000), None)));
        assert_eq!(owner("12:13"), Ok((Some(12), Some(13))));
        assert_eq!(owner(":13"), Ok((None, Some(13))));
        assert_eq!(owner("root"), Ok((Some(0), None)));
        assert_eq!(owner("root:"), Ok((Some(0), Some(0))));
        for text in ["", ":", "no such user", "0:no such group", "-1", "+5", "4294967295", "4000000000:"] {
            assert!(owner(text).is_err(), "{text}");
        }
    }
}
