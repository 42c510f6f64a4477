//! Types of messages. Unknown numbers are kept and printed, never mapped.

use std::fmt;

/// The type byte of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// T-messages are even; 6 and 106 would be errors that clients never send.
    pub fn is_request(self) -> bool {
        !self.is_reply() && self.name().is_some()
    }

    /// R-messages are odd, and so are numbers that no message has.
    pub fn is_reply(self) -> bool {
        !self.0.is_multiple_of(2)
    }

    /// The type of the reply to a request.
    pub fn reply(self) -> Kind {
        Kind(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}
