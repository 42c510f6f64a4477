//! `r9`: files of a 9P server from the command line.
//!
//! - `batch`: one request for each of many files at a time.
//! - `put`, `get`: copies, there and back.
//! - `view`, `tail`: what is there.
//! - `pour`: reading to the end of a file.
//! - `change`: everything that changes single files.
//! - `attached`: extended attributes and locks.
//!
//! Must not know: which server it is.

mod attached;
mod batch;
mod change;
mod flags;
mod get;
mod pour;
mod put;
mod tail;
mod view;

use anyhow::{Context, anyhow, bail};
use flags::{Command, Flags};
use indicatif::{ProgressBar, ProgressStyle};
use ring9::client::{Address, Attr, Client, Error, Transport};
use ring9::fs::Error as Errno;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

/// Directories in each other that are gone into. Nothing else ends a server's tree that contains itself.
const DEPTH_MAX: usize = 1000;

/// One run of the command: the connection, and whether anything has failed so far.
struct Run {
    client: Client,
    command: &'static str,
    failed: bool,
    progress: ProgressBar,
}

impl Run {
    /// Says what went wrong with which file; the others go on.
    fn report(&mut self, path: impl Display, error: impl Display) {
        self.failed = true;
        let line = format!("r9: {}: {path}: {error}", self.command);
        self.progress.suspend(|| eprintln!("{line}"));
    }

    /// A refusal is reported and passed over; a broken connection ends the run.
    fn go_on<T>(&mut self, path: impl Display, result: Result<T, Error>) -> anyhow::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_refusal() => {
                self.report(path, error);
                Ok(None)
            }
            Err(error) => bail!("{path}: {error}"),
        }
    }

    /// Whether a directory is so far below `top` that one may doubt whether there is an end; it says so.
    fn is_too_deep(&mut self, top: &[u8], path: &[u8]) -> bool {
        let names = |path: &[u8]| path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).count();
        let is_too_deep = names(path) > names(top) + DEPTH_MAX;
        if is_too_deep {
            self.report(shown(top), format_args!("goes on below more than {DEPTH_MAX} directories"));
        }
        is_too_deep
    }

    /// The attributes of what a path names, `None` if it names nothing.
    fn stat_if_there(&mut self, path: &[u8]) -> anyhow::Result<Option<Attr>> {
        match self.client.with(path, Client::stat) {
            Ok(attr) => Ok(Some(attr)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => bail!("{}: {error}", shown(path)),
        }
    }

    /// A line on stderr, if that is a terminal: bytes of data copied so far.
    fn show_progress(&mut self) {
        let template = "{spinner} {binary_bytes} ({binary_bytes_per_sec})  {msg}  {elapsed}";
        let style = ProgressStyle::with_template(template).expect("a constant template");
        self.progress = ProgressBar::new_spinner().with_style(style);
        self.progress.enable_steady_tick(Duration::from_millis(200));
    }
}

/// Bytes of a name as a person can read them.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// A path of the server, its parent and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let path = &path[..end];
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// `name` in the directory `path`.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    [&path[..end], b"/", name].concat()
}

/// What went wrong, and where.
fn unreached(address: &Address, error: Error) -> anyhow::Error {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            anyhow!("cannot reach {address}: {error}; this user may not use that socket, or not enter its folder")
        }
        Error::Io(error) => anyhow!(
            "cannot reach {address} (is the server running? `ring9` prints its address; --addr takes it): {error}"
        ),
        error => anyhow!("{address}: {error}"),
    }
}

fn connect(flags: &Flags) -> anyhow::Result<Client> {
    let uid = nix::unistd::geteuid().as_raw();
    let name = match &flags.uname {
        Some(name) => name.clone(),
        None => match nix::unistd::User::from_uid(uid.into()) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        },
    };
    // A name that is given goes without a number, so that the server looks it up.
    let uid = if flags.uname.is_some() { !0 } else { uid };
    let (dialect, msize, aname) = (flags.dialect.into(), flags.msize, flags.aname.as_str());
    let (address, transport) = match &flags.addr {
        Some(address) => (address.clone(), Transport::connect(address, dialect, msize)),
        None => {
            let address = Address::default_socket().context("no place for the default socket; use --addr")?;
            let transport = Transport::connect_own(&address, dialect, msize);
            (address, transport)
        }
    };
    let transport = transport.map_err(|error| unreached(&address, error))?;
    let mut client = Client::attach(transport, (&name, uid), aname).map_err(|error| match error.errno() {
        Some(_) => anyhow!("{address}: attach to the tree {aname:?} as {name}: {error}{}", advice(aname, &error)),
        None => unreached(&address, error),
    })?;
    if flags.uname.is_none() {
        client.set_group(nix::unistd::getegid().as_raw());
    }
    Ok(client)
}

/// What to do about a refused attach.
fn advice(aname: &str, error: &Error) -> &'static str {
    match error.errno() {
        Some(Errno::ENOENT) => "; ring9 has the trees \"\", \"dev\" and \"ctl\" (--aname)",
        Some(Errno::EPERM) if aname == "ctl" => "; ctl is for root and the server's own user, over a unix socket",
        Some(Errno::EPERM) => "; a unix socket takes nobody but the user at its other end (--uname)",
        _ => "",
    }
}

fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    let client = connect(&flags)?;
    let mut run = Run { client, command: flags.command.name(), failed: false, progress: ProgressBar::hidden() };
    match flags.command {
        Command::Ls { long, paths } => run.ls(long, &paths)?,
        Command::Tree { path } => run.tree(&path)?,
        Command::Cat { paths } => run.cat(&paths)?,
        Command::Tail { lines, follow, interval, path } => run.tail(lines, follow.then_some(interval), &path)?,
        Command::Put { recursive, skip_special, sources, dest } => run.put(recursive, skip_special, &sources, &dest)?,
        Command::Get { recursive, sources, dest } => run.get(recursive, &sources, &dest)?,
        Command::Write { append, path } => run.write(append, &path)?,
        Command::Rm { recursive, paths } => run.rm(recursive, &paths)?,
        Command::Mkdir { parents, paths } => run.mkdir(parents, &paths)?,
        Command::Mv { from, to } => run.mv(&from, &to)?,
        Command::Ln { symbolic, target, path } => run.ln(symbolic, &target, &path)?,
        Command::Mknod { mode, path, kind, major, minor } => {
            run.mknod(&path, kind.kind(), (major.unwrap_or(0), minor.unwrap_or(0)), mode.map(|mode| mode.0))?;
        }
        Command::Touch { time, paths } => run.touch(time.map(|stamp| stamp.0), &paths)?,
        Command::Stat { paths } => run.stat(&paths)?,
        Command::Chmod { mode, paths } => run.chmod(mode.0, &paths)?,
        Command::Chown { owner, paths } => run.chown(&owner, &paths)?,
        Command::Fsync { paths } => run.fsync(&paths)?,
        Command::Df => run.df()?,
        Command::Xattr { command } => run.xattr(command)?,
        Command::Lock { shared, nonblock, bytes, path, command } => {
            return Ok(run.lock(shared, nonblock, &bytes, &path, &command)?.into());
        }
    }
    run.progress.finish_and_clear();
    Ok(if run.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn main() -> ExitCode {
    match run(Flags::of_process()) {
        Ok(code) => code,
        // Whoever reads has had enough (`r9 cat big | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("r9: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_and_joined() {
        assert_eq!(split(b"/a/b/c"), (&b"/a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c//"), (&b""[..], &b"c"[..]));
        assert_eq!(split(b"/"), (&b""[..], &b""[..]));
        assert_eq!((join(b"/", b"a"), join(b"x/", b"a"), join(b"", b"a")), (b"/a".into(), b"x/a".into(), b"/a".into()));
        assert_eq!((shown(b"a b"), shown(b"\xff\n")), ("a b".into(), "\\xff\\n".into()));
    }
}
