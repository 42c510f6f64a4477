//! Errors of a message that cannot be parsed.

use super::Kind;
use std::fmt;

/// A message that is none. Its frame may still be skipped by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A field ends beyond the message.
    Short,
    /// Bytes are left behind the last field.
    Trailing,
    /// The count of a payload is not the number of bytes behind it.
    Count,
    /// More than 16 names or qids.
    Names,
    /// A NUL in a string (intro(9P)).
    Nul,
    /// The size field is not the number of bytes.
    Size,
    /// No message of this dialect.
    Unknown(Kind),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Short => f.write_str("a field ends beyond the message"),
            Error::Trailing => f.write_str("bytes are left behind the last field"),
            Error::Count => f.write_str("the count is not the size of the payload"),
            Error::Names => f.write_str("more than 16 names"),
            Error::Nul => f.write_str("a NUL in a string"),
            Error::Size => f.write_str("the size field is not the size of the message"),
            Error::Unknown(kind) => write!(f, "no message of this dialect: {kind}"),
        }
    }
}

impl std::error::Error for Error {}
