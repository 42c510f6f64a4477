//! ring9: an in-memory 9P file server. One thread, one io_uring, one hand-written completion loop.
//!
//! The rooms, in reading order. An arrow in `docs/architecture.md` says who may name whom; `tests/rooms.rs` checks it.
//!
//! - [`wire`]: bytes to messages of the three dialects and back. Pure.
//! - [`fs`]: the interfaces `Service` and `Filesystem`, and the trees behind them: `mem`, `dev`, `ctl`.
//! - [`arena`]: the registered memory that `mem` keeps its blocks in.
//! - [`session`]: the 9P state of one peer. Messages in, replies out.
//! - [`uring`]: the completion loop that moves bytes between sockets and sessions.
//! - [`client`]: the other end of the wire.
//! - [`relay`]: a tree that is another 9P server.
//! - [`store`]: the durable log of a tree on disk.
//! - [`logging`]: the path of a log line.
//! - [`limits`], [`stats`]: every bound, every counter.

#[expect(unsafe_code, reason = "the registered memory: see the head of the room")]
pub mod arena;
pub mod client;
pub mod fs;
pub mod limits;
pub mod logging;
pub mod relay;
pub mod session;
pub mod stats;
pub mod store;
pub mod uring;
pub mod wire;
