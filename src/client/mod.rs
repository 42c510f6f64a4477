//! The client side of 9P, for tools and load generators.
//!
//! - `address`: where a server is.
//! - `conn`: tags, calls and matching replies, without any I/O.
//! - `refusal`: what can go wrong with a call, and what an error reply says.
//! - `transport`: a socket around it.
//! - `attr`, `files`, `change`: files and their attributes, in the agreed dialect.
//! - `aside`: temporary names, and the step from one of them to the name of the file.
//! - `attached`: extended attributes and locks, which only 9P2000.L has.
//!
//! Must not know: the server.

mod address;
mod aside;
mod attached;
mod attr;
mod change;
mod conn;
mod files;
mod refusal;
mod transport;

pub use address::Address;
pub use aside::temporary_name;
pub use attr::Attr;
pub(crate) use attr::{device_numbers, dm_bits, posix_mode};
pub(crate) use change::{record_of, setattr_message};
pub use conn::Conn;
pub use files::{Access, Client, Named};
pub use refusal::Error as CallError;
pub use transport::{Error, Interrupt, Transport};
