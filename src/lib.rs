//! ring9: a 9P file server for Linux, and a library to serve trees of your own. One thread, one io_uring, one hand-written completion loop.
//!
//! A tree is anything that implements [`fs::Filesystem`], or [`fs::Service`] if its answers come later. [`serve::Builder`] does the rest: it listens, and speaks
//! 9P2000, 9P2000.u and 9P2000.L to the clients that connect. Linux mounts what is served.
//!
//! ```
//! use ring9::fs::catalog::{Catalog, Node, Source};
//! use ring9::fs::{At, Out, Result};
//! use ring9::serve::{self, Builder};
//!
//! /// A file that counts how often it was opened.
//! struct Counter(u64);
//!
//! impl Source for Counter {
//!     type Opened = String;
//!
//!     fn open(&mut self, _: usize, _: At) -> Result<String> {
//!         self.0 += 1;
//!         Ok(format!("{:9}\n", self.0))
//!     }
//!
//!     fn size(&self, _: usize, _: Option<&String>) -> u64 {
//!         10
//!     }
//!
//!     fn read(&mut self, _: usize, opened: &String, offset: u64, mut out: Out<'_>) -> Result<()> {
//!         out.bytes_from(opened.as_bytes(), offset);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), serve::Error> {
//! let server = serve::spawn(|| {
//!     let tree = Catalog::of(vec![Node::ROOT, Node::file("count", 0o444)], Counter(0));
//!     Builder::new().tree(tree).listen("tcp:127.0.0.1:0")
//! })?;
//! println!("r9 --addr {} cat /count", server.address());
//! server.stop()
//! # }
//! ```
//! `docs/writing-a-tree.md` goes on from there.
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
//! - [`serve`]: a server around any tree: listeners, options, its start and its end.
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
pub mod serve;
pub mod session;
pub mod stats;
pub mod store;
pub mod uring;
pub mod wire;

/// Runs the code of `docs/writing-a-tree.md` as tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../docs/writing-a-tree.md")]
pub struct WritingATree;
