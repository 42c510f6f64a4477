//! The types that fields of messages have, beyond plain numbers and lists.

use super::Error;

/// The three dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// 9P2000.
    P9,
    /// 9P2000.u.
    U,
    /// 9P2000.L.
    L,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 3] = [Dialect::P9, Dialect::U, Dialect::L];

    /// As Tversion names it.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::P9 => "9P2000",
            Dialect::U => "9P2000.u",
            Dialect::L => "9P2000.L",
        }
    }

    /// The dialect to answer to a client's version: an unknown suffix is stripped (version(9P)); `None` is "unknown".
    pub fn negotiate(version: &[u8]) -> Option<Dialect> {
        match version {
            b"9P2000.L" => Some(Dialect::L),
            b"9P2000.u" => Some(Dialect::U),
            b"9P2000" => Some(Dialect::P9),
            _ => version.starts_with(b"9P2000.").then_some(Dialect::P9),
        }
    }
}

/// A file's identity: 13 bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Qid {
    /// Bits of [`super::qt`].
    pub kind: u8,
    /// New at every change of content.
    pub version: u32,
    /// Unique among all files that ever were on this server.
    pub path: u64,
}

/// A field that .u and .L have and 9P2000 has not. Parsed without it: `!0`, the unset n_uname.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ext<T>(pub T);

/// A field that only .u has. Parsed without it: empty, errno 0, and `!0` ("don't touch") for the numbers of a [`super::Stat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UOnly<T>(pub T);

/// A field that may be missing at the end. Parsed without it: 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt<T>(pub T);

/// A payload: always the last field, its count is the rest of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// In the message.
    Here(&'a [u8]),
    /// This many bytes that travel outside of the buffer at hand.
    Away(u32),
}

impl<'a> Data<'a> {
    /// Bytes of payload.
    #[expect(clippy::len_without_is_empty, reason = "a count on the wire, no collection")]
    pub fn len(&self) -> usize {
        match self {
            Data::Here(bytes) => bytes.len(),
            Data::Away(count) => *count as usize,
        }
    }

    /// The bytes, where they are here.
    pub fn here(&self) -> Result<&'a [u8], Error> {
        match self {
            Data::Here(bytes) => Ok(bytes),
            Data::Away(_) => Err(Error::Short),
        }
    }
}
