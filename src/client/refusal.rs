//! What can go wrong with a call, and what an error reply of a server says: an errno behind a number or a text.
//!
//! Must not know: requests, tags.

use crate::fs::Error as Errno;
use crate::wire::Message;
use std::fmt;

/// What is shown of a server's text, in bytes.
const TEXT_BYTES_MAX: usize = 240;

/// What can go wrong with a call, beside I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server refused: an errno, and its text where it sent one.
    Refused(Errno, Option<Box<str>>),
    /// The server does not speak 9P as agreed.
    Protocol(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(_, Some(text)) => f.write_str(text),
            Error::Refused(errno, None) => write!(f, "{errno}"),
            Error::Protocol(what) => write!(f, "protocol error: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// The refusal that a reply says, if it is one.
pub(super) fn refusal(message: &Message<'_>) -> Option<Error> {
    match *message {
        Message::Rlerror { ecode } => Some(Error::Refused(number(ecode).unwrap_or(Errno::EIO), None)),
        Message::Rerror { ename, errno } => {
            let text = String::from_utf8_lossy(ename);
            let errno = number(errno.0).or_else(|| errno_of(&text)).unwrap_or(Errno::EIO);
            Some(Error::Refused(errno, Some(readable(ename).into())))
        }
        _ => None,
    }
}

/// A server's text as it may be shown to a person: not too long, and nothing in it that a terminal obeys.
pub(super) fn readable(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]);
    let mut line = String::with_capacity(shown.len());
    for c in shown.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    if text.len() > TEXT_BYTES_MAX {
        line.push_str(" ...");
    }
    line
}

/// An errno is 1 to 4095 (Linux: `net/9p/client.c`, safe_errno).
fn number(errno: u32) -> Option<Errno> {
    u16::try_from(errno).ok().filter(|errno| (1..4096).contains(errno)).map(Errno)
}

/// The errno behind a text of plain 9P2000: strerror's wording, or what Plan 9 and its ports say (Linux: `net/9p/error.c`; plan9port:
/// `src/lib9p/srv.c`). Plan 9 puts names in front or behind, so its texts are searched for.
fn errno_of(text: &str) -> Option<Errno> {
    const PLAN9: &[(&str, Errno)] = &[
        ("does not exist", Errno::ENOENT),
        ("not found", Errno::ENOENT),
        ("no such file", Errno::ENOENT),
        ("permission denied", Errno::EACCES),
        ("not owner", Errno::EPERM),
        ("wstat prohibited", Errno::EPERM),
        ("already exists", Errno::EEXIST),
        ("file exists", Errno::EEXIST),
        ("not a directory", Errno::ENOTDIR),
        ("is a directory", Errno::EISDIR),
        ("in a non-directory", Errno::ENOTDIR),
        ("not empty", Errno::ENOTEMPTY),
        ("unknown fid", Errno::EBADF),
        ("fid unknown", Errno::EBADF),
        ("fid already in use", Errno::EINVAL),
        ("duplicate fid", Errno::EINVAL),
        ("bad offset", Errno::EINVAL),
        ("bad use of fid", Errno::EBADF),
        ("illegal", Errno::EINVAL),
        ("file in use", Errno::EBUSY),
        ("exclusive use", Errno::EBUSY),
        ("read-only file", Errno::EROFS),
        ("read only file", Errno::EROFS),
        ("file too big", Errno::EFBIG),
        ("file system full", Errno::ENOSPC),
        ("disk full", Errno::ENOSPC),
        ("no space", Errno::ENOSPC),
        ("authentication failed", Errno::EACCES),
        ("not supported", Errno::EOPNOTSUPP),
        ("not implemented", Errno::EOPNOTSUPP),
        ("unknown message", Errno::EOPNOTSUPP),
        ("i/o error", Errno::EIO),
    ];
    let plan9 = || {
        let text = text.to_ascii_lowercase();
        PLAN9.iter().find(|(known, _)| text.contains(known)).map(|(_, errno)| *errno)
    };
    Errno::from_text(text.as_bytes()).or_else(plan9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::UOnly;

    #[test]
    fn texts_of_a_server_cannot_speak_to_a_terminal() {
        assert_eq!(readable(b"file '\x1b[2Jx' \xff\n \xc2\x9b"), "file '\\u{1b}[2Jx' \u{fffd}\\n \\u{9b}");
        let long = readable(&[b'x'; 65535]);
        assert!(long.len() < 250 && long.ends_with("xx ..."));
    }

    #[test]
    fn texts_become_errnos() {
        let errno = |ename: &[u8], errno| match refusal(&Message::Rerror { ename, errno: UOnly(errno) }) {
            Some(Error::Refused(errno, _)) => errno,
            other => panic!("{other:?}"),
        };
        assert_eq!(errno(b"whatever", 13), Errno::EACCES);
        assert_eq!(errno(b"No such file or directory", !0), Errno::ENOENT);
        assert_eq!(errno(b"'x' file does not exist", 0), Errno::ENOENT);
        assert_eq!(errno(b"file already exists", 0), Errno::EEXIST);
        assert_eq!(errno(b"create in a non-directory", 0), Errno::ENOTDIR);
        assert_eq!(errno(b"the moon is full", 0), Errno::EIO);
        for ecode in [0, 4096, !0] {
            assert_eq!(refusal(&Message::Rlerror { ecode }), Some(Error::Refused(Errno::EIO, None)));
        }
    }
}
