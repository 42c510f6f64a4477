//! What r9 says on stderr: one line for each thing that went wrong, with the server, the tree, the
//! path, the reason and its errno.

use ring9::client::{CallError, Error};
use ring9::fs::Error as Errno;
use std::fmt::{self, Display};
use std::io::{self, Write};

/// A line on stderr. If that cannot be written nobody reads it, which is no reason to end in the middle of a copy.
pub(crate) fn say(line: impl Display) {
    let _ = io::stderr().write_all(format!("r9: {line}\n").as_bytes());
}

/// What goes to standard output at once. An error of that is an error of the command.
pub(crate) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(of_stdout)
}

/// Standard output took no more.
#[derive(Debug)]
pub(crate) struct StdoutError(pub(crate) io::Error);

impl Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output: {}", self.0.why())
    }
}

impl std::error::Error for StdoutError {}

pub(crate) fn of_stdout(error: io::Error) -> anyhow::Error {
    StdoutError(error).into()
}

/// Bytes of a name as a person can read them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// A reason with the name of its errno: "Permission denied (EACCES)".
pub(crate) trait Why {
    fn why(&self) -> String;
}

impl Why for Errno {
    fn why(&self) -> String {
        self.name().map_or_else(|| self.to_string(), |name| format!("{self} ({name})"))
    }
}

impl Why for CallError {
    fn why(&self) -> String {
        match self {
            CallError::Refused(errno, None) => errno.why(),
            // EIO also stands for a text that r9 does not know.
            CallError::Refused(Errno::EIO, Some(text)) if !text.eq_ignore_ascii_case(Errno::EIO.text()) => {
                text.to_string()
            }
            CallError::Refused(errno, Some(text)) => {
                errno.name().map_or_else(|| text.to_string(), |name| format!("{text} ({name})"))
            }
            CallError::Protocol(_) => self.to_string(),
        }
    }
}

impl Why for Error {
    fn why(&self) -> String {
        match self {
            Error::Call(error) => error.why(),
            Error::Io(error) => error.why(),
            Error::Interrupted => self.to_string(),
        }
    }
}

impl Why for io::Error {
    fn why(&self) -> String {
        let Some(number) = self.raw_os_error() else { return self.to_string() };
        let known = u16::try_from(number).map(Errno).ok().filter(|errno| errno.name().is_some());
        match (known, nix::errno::Errno::from_raw(number)) {
            (Some(errno), _) => errno.why(),
            (None, nix::errno::Errno::UnknownErrno) => self.to_string(),
            // This list is longer than that of what a server answers.
            (None, errno) => format!("{} ({errno:?})", errno.desc()),
        }
    }
}

impl Why for &str {
    fn why(&self) -> String {
        (*self).to_owned()
    }
}

impl Why for String {
    fn why(&self) -> String {
        self.clone()
    }
}

impl Why for fmt::Arguments<'_> {
    fn why(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_errno() {
        let refused = |errno, text: Option<&str>| CallError::Refused(errno, text.map(Into::into)).why();
        assert_eq!(refused(Errno::EACCES, None), "Permission denied (EACCES)");
        assert_eq!(refused(Errno::EACCES, Some("permission denied")), "permission denied (EACCES)");
        assert_eq!(refused(Errno::EIO, Some("the moon is full")), "the moon is full");
        assert_eq!(refused(Errno::EIO, Some("Input/output error")), "Input/output error (EIO)");
        assert_eq!(io::Error::from_raw_os_error(28).why(), "No space left on device (ENOSPC)");
        assert_eq!(io::Error::other("is no file").why(), "is no file");
    }

    #[test]
    fn names_are_readable() {
        assert_eq!((shown(b"a b"), shown(b"\xff\n")), ("a b".into(), "\\xff\\n".into()));
    }
}
