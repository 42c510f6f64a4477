//! Errors of a tree: an errno first, its text derived.
//!
//! The number is what .L sends (Rlerror) and what .u sends beside the text; plain 9P2000 sends the text alone. Linux maps
//! such texts back through `net/9p/error.c`, which knows the wording of strerror(3); so that wording is used here.
//! Must not know: dialects, messages.

use std::fmt;

/// What a file operation answers.
pub type Result<T> = std::result::Result<T, Error>;

/// A Linux errno of the generic architecture, 1 to 4095 (Linux: `net/9p/client.c`, safe_errno).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(pub u16);

macro_rules! errors {
    ($($name:ident $number:literal $text:literal)*) => {
        impl Error {
            $(#[doc = $text] pub const $name: Error = Error($number);)*

            /// The wording of strerror(3), at most 120 bytes: the kernel keeps 128 for an Rerror (P9_ERRMAX).
            pub fn text(self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "Unknown error" }
            }

            /// The name of the constant, `None` for a number without one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }

            /// The error with this text (any case), for clients of plain 9P2000.
            pub fn from_text(text: &[u8]) -> Option<Error> {
                $(if text.eq_ignore_ascii_case($text.as_bytes()) { return Some(Error($number)); })*
                None
            }
        }
    };
}

errors! {
    EPERM 1 "Operation not permitted"
    ENOENT 2 "No such file or directory"
    EINTR 4 "Interrupted system call"
    EIO 5 "Input/output error"
    ENXIO 6 "No such device or address"
    E2BIG 7 "Argument list too long"
    EBADF 9 "Bad file descriptor"
    EAGAIN 11 "Resource temporarily unavailable"
    ENOMEM 12 "Cannot allocate memory"
    EACCES 13 "Permission denied"
    EBUSY 16 "Device or resource busy"
    EEXIST 17 "File exists"
    EXDEV 18 "Invalid cross-device link"
    ENODEV 19 "No such device"
    ENOTDIR 20 "Not a directory"
    EISDIR 21 "Is a directory"
    EINVAL 22 "Invalid argument"
    ENFILE 23 "Too many open files in system"
    EMFILE 24 "Too many open files"
    ETXTBSY 26 "Text file busy"
    EFBIG 27 "File too large"
    ENOSPC 28 "No space left on device"
    ESPIPE 29 "Illegal seek"
    EROFS 30 "Read-only file system"
    EMLINK 31 "Too many links"
    EPIPE 32 "Broken pipe"
    ERANGE 34 "Numerical result out of range"
    ENAMETOOLONG 36 "File name too long"
    ENOLCK 37 "No locks available"
    ENOSYS 38 "Function not implemented"
    ENOTEMPTY 39 "Directory not empty"
    ELOOP 40 "Too many levels of symbolic links"
    ENODATA 61 "No data available"
    EPROTO 71 "Protocol error"
    EMSGSIZE 90 "Message too long"
    EOPNOTSUPP 95 "Operation not supported"
    ESTALE 116 "Stale file handle"
    EDQUOT 122 "Disk quota exceeded"
    ECANCELED 125 "Operation canceled"
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            "Unknown error" => write!(f, "Unknown error {}", self.0),
            text => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_what_the_kernel_reserves_and_lead_back_to_their_number() {
        for number in 1..4096 {
            let error = Error(number);
            if error.name().is_some() {
                assert!(error.text().len() <= 120);
                assert_eq!(Error::from_text(error.text().to_uppercase().as_bytes()), Some(error));
            }
        }
        assert_eq!(Error::ENOTEMPTY.to_string(), "Directory not empty");
        assert_eq!(Error(4000).to_string(), "Unknown error 4000");
    }
}
