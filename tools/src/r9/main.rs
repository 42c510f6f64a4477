//! `r9`: files of a 9P server from the command line.
//!
//! - `connect`: the way to the server.
//! - `batch`: one request for each of many files at a time.
//! - `put`, `sent`, `get`, `write`: copies, there and back; `here`: directories of this machine.
//! - `tally`, `signals`: what a copy has done, and what ends it early.
//! - `view`, `tail`: what is there.
//! - `pour`: reading to the end of a file.
//! - `change`: everything that changes single files.
//! - `attached`: extended attributes and locks.
//! - `say`: what is said on stderr; `closed`: standard input and output that are not there.
//!
//! Must not know: which server it is.

mod attached;
mod batch;
mod change;
mod closed;
mod connect;
mod flags;
mod get;
mod here;
mod pour;
mod put;
mod say;
mod sent;
mod signals;
mod tail;
mod tally;
mod view;
mod write;

use flags::{Command, Flags, How};
use ring9::client::{Attr, Client, Error};
use ring9::fs::Error as Errno;
use say::{StdoutError, Why, say, shown};
use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tally::Tally;

/// Directories in each other that are gone into. Nothing else ends a server's tree that contains itself.
const DEPTH_MAX: usize = 4096;
/// How long requests in flight have after a signal. Then the connection is given up, and what was made is removed over another one.
const GRACE: Duration = Duration::from_secs(3);
/// The exit code of a process whose reader has gone, as a shell tells it: 128 and SIGPIPE.
const READER_GONE: u8 = 141;

/// One run of the command: the connection, and whether anything has failed so far.
struct Run {
    client: Client,
    /// The server and its tree, in messages.
    place: String,
    failed: bool,
    tally: Tally,
    /// A directory of the server, and temporary names in it.
    aside: (Vec<u8>, Vec<Vec<u8>>),
    /// Whether the server renames files, once that was tried.
    renames: Option<bool>,
}

impl Run {
    /// Says what went wrong with which file of the server; the others go on.
    fn report(&mut self, path: impl Display, why: impl Why) {
        let line = format!("{}: {path}: {}", self.place, why.why());
        self.report_line(line);
    }

    /// The same of a file of this machine.
    fn report_here(&mut self, path: impl Display, why: impl Why) {
        self.report_line(format!("{path}: {}", why.why()));
    }

    fn report_line(&mut self, line: String) {
        self.failed = true;
        self.tally.failed += 1;
        self.tally.say(line);
    }

    /// A refusal is reported and passed over; a broken connection ends the run.
    fn go_on<T>(&mut self, path: impl Display, result: Result<T, Error>) -> anyhow::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_refusal() => {
                self.report(path, error);
                Ok(None)
            }
            Err(error) => Err(anyhow::Error::from(error).context(path.to_string())),
        }
    }

    /// Whether a directory is so far below the `top` that one may doubt whether there is an end; it says so.
    fn is_too_deep(&mut self, top: &[u8], depth: usize) -> bool {
        if depth > DEPTH_MAX {
            self.report(shown(top), format!("goes on below more than {DEPTH_MAX} directories"));
        }
        depth > DEPTH_MAX
    }

    /// The attributes of what a path names, `None` if it names nothing.
    fn stat_if_there(&mut self, path: &[u8]) -> anyhow::Result<Option<Attr>> {
        match self.client.with(path, Client::stat) {
            Ok(attr) => Ok(Some(attr)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(anyhow::Error::from(error).context(shown(path))),
        }
    }

    /// Signals end what is under way from here on, and not the process. The server may have `grace` to answer what it was asked.
    fn start_copy(&mut self, how: &How, grace: Duration) -> anyhow::Result<std::sync::Arc<ring9::client::Interrupt>> {
        let interrupt = signals::catch()?;
        self.client.transport().end_on(interrupt.clone(), grace);
        self.tally.start(how);
        Ok(interrupt)
    }

    /// Removes what is there under temporary names, over a new connection if this one has failed, and says what is left.
    fn remove_aside(&mut self, flags: &Flags, is_connected: bool) {
        let (path, names) = std::mem::take(&mut self.aside);
        if names.is_empty() {
            return;
        }
        let is_connected = is_connected || connect::connect(flags).map(|(client, _)| self.client = client).is_ok();
        let dir = if is_connected { self.client.walk(Client::ROOT, &path).ok() } else { None };
        for name in names {
            let removed = dir.map(|dir| self.client.remove(dir, &name, false));
            let is_gone = match &removed {
                Some(Err(error)) => error.errno() == Some(Errno::ENOENT),
                Some(Ok(())) => true,
                None => false,
            };
            if !is_gone {
                let line = format!("{}: {}: may be left, and can be removed", self.place, shown(&join(&path, &name)));
                self.tally.say(line);
            }
        }
    }

    /// Says why the run ends here.
    fn say_end(&self, error: &anyhow::Error) {
        match error.downcast_ref::<Error>() {
            Some(_) if signals::came().is_some() => {}
            // It may have the path as its context.
            Some(cause) if error.chain().count() > 1 => {
                self.tally.say(format!("{}: {error}: {}", self.place, cause.why()))
            }
            Some(cause) => self.tally.say(format!("{}: {}", self.place, cause.why())),
            None => self.tally.say(format!("{error:#}")),
        }
        if let Some(signal) = signals::came() {
            self.tally.say(format!("{signal}: ends here"));
        }
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

impl Run {
    fn command(&mut self, command: &Command) -> anyhow::Result<Option<ExitCode>> {
        match command {
            Command::Ls { long, paths } => self.ls(*long, paths)?,
            Command::Tree { path } => self.tree(path)?,
            Command::Cat { paths } => self.cat(paths)?,
            Command::Tail { lines, follow, interval, path } => self.tail(*lines, follow.then_some(*interval), path)?,
            Command::Put { recursive, skip_special, how, sources, dest } => {
                self.start_copy(how, GRACE)?;
                self.put(*recursive, (*skip_special, how.in_place), sources, dest)?;
            }
            Command::Get { recursive, how, sources, dest } => {
                // The server has nothing that would have to be removed.
                self.start_copy(how, Duration::ZERO)?;
                self.get(*recursive, how.in_place, sources, dest)?;
            }
            Command::Write { append, how, path } => {
                let interrupt = self.start_copy(how, GRACE)?;
                self.write(*append, how.in_place, path, &interrupt)?;
            }
            Command::Rm { recursive, paths } => self.rm(*recursive, paths)?,
            Command::Mkdir { parents, paths } => self.mkdir(*parents, paths)?,
            Command::Mv { from, to } => self.mv(from, to)?,
            Command::Ln { symbolic, target, path } => self.ln(*symbolic, target, path)?,
            Command::Mknod { mode, path, kind, major, minor } => {
                let permissions = mode.map(|mode| mode.0);
                self.mknod(path, kind.kind(), (major.unwrap_or(0), minor.unwrap_or(0)), permissions)?;
            }
            Command::Touch { time, paths } => self.touch(time.map(|stamp| stamp.0), paths)?,
            Command::Stat { paths } => self.stat(paths)?,
            Command::Chmod { mode, paths } => self.chmod(mode.0, paths)?,
            Command::Chown { owner, paths } => self.chown(owner, paths)?,
            Command::Fsync { paths } => self.fsync(paths)?,
            Command::Df => self.df()?,
            Command::Xattr { command } => self.xattr(command)?,
            Command::Lock { shared, nonblock, bytes, path, command } => {
                return Ok(Some(self.lock(*shared, *nonblock, bytes, path, command)?.into()));
            }
        }
        Ok(None)
    }
}

/// Standard input or output is not there, and the command wants it.
fn missing_stream(command: &Command) -> Option<&'static str> {
    match command {
        Command::Write { .. } if closed::stdin() => Some("standard input"),
        command if command.prints() && closed::stdout() => Some("standard output"),
        _ => None,
    }
}

fn run(flags: &Flags) -> ExitCode {
    if let Some(stream) = missing_stream(&flags.command) {
        say(format_args!("{stream}: {}", Errno::EBADF.why()));
        return ExitCode::FAILURE;
    }
    let (client, place) = match connect::connect(flags) {
        Ok(connected) => connected,
        Err(error) => {
            say(format_args!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let mut run =
        Run { client, place, failed: false, tally: Tally::hidden(), aside: Default::default(), renames: None };
    let done = run.command(&flags.command);
    match done {
        Ok(Some(code)) => code,
        Ok(None) => {
            run.tally.end(flags.command.name());
            if run.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        // As a program ends that knows nothing of SIGPIPE (`r9 cat big | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::from(READER_GONE),
        Err(error) => {
            run.say_end(&error);
            run.remove_aside(flags, matches!(error.downcast_ref::<Error>(), Some(Error::Interrupted)));
            if flags.command.is_copy() {
                run.tally.stop(flags.command.name());
            }
            signals::came().map_or(ExitCode::FAILURE, signals::die_of)
        }
    }
}

fn main() -> ExitCode {
    run(&Flags::of_process())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StdoutError>().is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
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
    }
}
