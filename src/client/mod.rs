//! The other end of the wire.
//!
//! - `address`: where a server is.
//! - [`Conn`]: tags, calls and matching replies, without any I/O; also for load generators.
//! - [`Transport`]: a plain blocking socket around it.
//! - [`Client`]: files, in whichever dialect was agreed on.
//!
//! Must not know: the server.

mod address;

pub use address::Address;
