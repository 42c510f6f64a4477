//! The other end of the wire.
//!
//! - `address`: where a server is.
//! - `conn`: tags, calls and matching replies, without any I/O; also for load generators.
//! - `transport`: a plain socket around it.
//! - `attr`, `files`, `change`: files, in whichever dialect was agreed on.
//! - `attached`: extended attributes and locks, which 9P2000.L alone has.
//!
//! Must not know: the server.

mod address;
mod attached;
mod attr;
mod change;
mod conn;
mod files;
mod transport;

pub use address::Address;
pub use attr::Attr;
pub use conn::{Conn, Error as CallError};
pub use files::{Access, Client, Named};
pub use transport::{Error, Transport};
