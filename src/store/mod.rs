//! Durable storage: the log of a tree on disk.
//!
//! - `format`: how the log is written down, byte by byte. Pure.
//!
//! Must not know: sessions, messages, sockets, rings.

pub mod format;
