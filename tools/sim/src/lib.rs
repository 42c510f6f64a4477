//! A simulated kernel behind ring9's loop, clients in front of it, and oracles that watch both: everything by a seed, so that what fails once fails again.
//!
//! ```text
//!   clients  <-- queues -->  kernel  <-- Ring -->  the server's loop and sessions  <-- Service -->  slow, watch --> memfs
//!      |                        |                                                                           |
//!      `------ ledger ----------'------------------ oracles (they panic) ----------------------------------'--> model
//! ```
//! - `kernel`: sockets, completions, registered and shared buffers, timers, faults.
//! - `client`: requests in all dialects, habits, and what must be true of replies.
//! - `watch`: the tree under test and a naive model, operation by operation.
//! - `slow`: what the server serves: the watched tree, which is late and whose replies have gates now and then.
//! - `far`: instead of the watched tree the server may have a relay; then the watched tree is that of the far server.
//! - `ledger`: what was asked to be written and what was shown, by connection.
//! - `relayed`: the same where a relay is in between.
//! - `world`: whether the kernel or a client acts next.
//! - `relaying`: the relay as what the server serves.
//! - `storing`: a store as what the server serves, over several lives. `shape`: all that a tree shows.
//! - `run`: one simulation, what is checked in each turn and at the end. `figures`: what has happened in it.
//! - `shrink`: the shortest plan that still fails.
//!
//! An oracle says its name in front of what it has found: submission, registration, descriptors, memory, "shared buffers", replies, flush, writes, model, bounds, leaks,
//! stall, trust, gates, log, asks, relay, store. A panic of the server without such a name is its own assertion.

mod asking;
mod client;
mod far;
mod figures;
mod kernel;
mod ledger;
#[path = "../../../tests/histories/model/mod.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared with a test of the file system, which uses all of it"
)]
mod model;
mod random;
mod relayed;
mod relaying;
mod run;
mod scribe;
#[path = "../../../tests/histories/shape.rs"]
mod shape;
mod shrink;
mod slow;
mod storing;
mod watch;
mod world;

pub use figures::Figures;
pub use kernel::faults::Fault;
pub use random::Random;
pub use run::{INPUT_STEPS, Plan, Serves, run};
pub use shrink::{oracle, shrink};
pub use watch::{FAR, File as WatchedFile, Watch};
pub use world::SimKernel;

/// So many requests of a seed, one behind the other, with a version in front: mostly ones that make sense.
pub fn script(seed: u64, dialect: ring9::wire::Dialect, count: usize) -> Vec<u8> {
    client::Client::monologue(seed, dialect, count)
}
