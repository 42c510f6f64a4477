//! A server around a tree: everything that a program needs beside the tree itself.
//!
//! [`Builder`] takes listeners, options and trees. [`Builder::run`] serves until SIGTERM or SIGINT;
//! [`Builder::bind`] gives a [`Server`], which knows its addresses and has a [`Handle`] to stop it;
//! [`spawn`] does all that in a thread of its own, for tests and for programs that do more than
//! serve.
//!
//! ```no_run
//! use ring9::arena::Arena;
//! use ring9::fs::mem::{Mem, Options};
//! use ring9::serve::{Builder, Error};
//!
//! fn main() -> Result<(), Error> {
//!     let arena = Arena::new(64 << 20).expect("64 MiB of address space");
//!     Builder::new()
//!         .arena(&arena)
//!         .tree(Mem::new(arena, Options::default()))
//!         .listen("unix:/tmp/files.sock")
//!         .on_ready(|listening| println!("ready {}", listening[0].address))
//!         .run()
//! }
//! ```
//!
//! Must not know: memfs, messages, flags of a program.

mod builder;
mod error;
mod handle;
mod listening;
mod logs;
mod server;

pub use crate::client::Address;
pub use crate::uring::Trust;
pub use builder::{Builder, connections, pin, seed, users_of_this_machine};
pub use error::Error;
pub use handle::{Handle, Running, spawn};
pub use listening::Listening;
pub use logs::Logs;
pub use server::Server;
