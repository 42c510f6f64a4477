//! Durable storage: the log of a tree on disk.
//!
//! - `format`: how the log is written down, byte by byte. Pure.
//! - `open`: lock, superblock and recovery, before serving begins. `dir`: the files of a store, as a start uses them.
//!   `ahead`: segments that are read before they are needed.
//! - `inspect`: looks at a store that is not served.
//! - `copy`: copies a store that is not served.
//! - `stored`: a tree in memory whose changes are kept. `log`: the end of the log, to which it adds. `stock`: segments that are
//!   made ahead of need.
//! - `checkpoint`: the log begins anew at a later place. `room`: when, and who waits or is refused for want of room.
//!
//! Must not know: sessions, messages, sockets, rings.

mod ahead;
mod checkpoint;
pub mod copy;
mod dir;
pub mod format;
pub mod inspect;
mod log;
mod open;
mod room;
mod stock;
mod stored;

pub use format::StoreId;
pub use open::{How, NotOpened, Report, open};
pub use room::{MARGIN_BYTES, MEMORY_BYTES_MAX, SEGMENTS_MIN};
pub use stock::segment_name;
pub use stored::{Stored, SyncMode};
