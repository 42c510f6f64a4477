//! The completion loop: one thread, one ring.
//!
//! A turn: take what the tree asks for; enter; read the clocks once; drain all CQEs into a list, and let each change its peer.
//! Bytes in a shared buffer are served at their CQE, since the buffer goes back before the next
//! one. Then each listed peer has its turn: serve what else has arrived, queue one send for all its
//! replies, arm its receive.
//!
//! Only the enter waits, for one CQE. A quiet send has no CQE if it succeeds at once, so it does
//! not end the wait (docs/decisions/08-waiting.md). Registering memory for `--grow` can stall a
//! turn; the log says for how long.
//!
//! A turn enters once, with three exceptions, whose further enters do not wait: the submission
//! queue is full; the loop polls before it sleeps (`--busy-poll`); a peer's socket has more
//! requests, whose replies may leave together (`server/together.rs`). For the last one the turn
//! receives again between two handlers: it enters, drains and serves before the peer is answered.
//! No handler enters to wait, or drains.
//!
//! Must not know: memfs, messages. It sees sessions through their driver contract, and trees
//! through [`Service`](crate::fs::Service).
//!
//! While the loop runs, all system calls are made in `ring.rs`. Before it starts they are also made
//! in `listen.rs` and `probe.rs`.

#[expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]
mod ask;
#[expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]
mod buffers;
#[expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]
mod flight;
mod intake;
mod listen;
mod pace;
mod peer;
mod probe;
#[expect(unsafe_code, reason = "system calls: see the head of the file")]
mod ring;
mod server;
mod socket;
mod table;
#[cfg(test)]
mod testring;
mod token;

pub use ask::{ASK_BYTES, ASKS_MAX};
pub use buffers::{SHARED_BYTES, SHARED_COUNT, SINK_BYTES, SPARE_WINDOWS, WINDOW_BYTES};
pub use flight::{GATHER_BYTES, VIEWS_MAX};
pub use intake::{INTAKE_BYTES_MAX, WHOLE_BYTES_MAX};
pub use listen::{
    BACKLOG, Bound, KEEPALIVE, Remove, SOCKET_BUFFER_BYTES, Signals, USER_TIMEOUT_MS, cpus, listen_tcp, listen_unix,
    open_files, pin_to_cpu,
};
pub use probe::{Check, Finding, available_memory, check, explain_setup_error, memlock_advice};
pub use ring::{Features, Kernel, Ring, SQ_ENTRIES, entropy, monotonic_ns};
pub use server::{
    BACKLOG_BYTES_ALL, CLOSING_MAX, Grow, KEPT_BATCH_BYTES_ALL, KEPT_GATHERS, Listener, LogTo, Options, Server, Trust,
};
