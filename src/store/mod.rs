//! Durable storage: the log of a tree on disk. The server does not use it yet: `tests/histories` and the fuzz target `store` do.
//!
//! - `format`: how the log is written down, byte by byte. Pure.
//!
//! Must not know: sessions, messages, sockets, rings.

pub mod format;
