//! The completion loop: one thread, one ring, one `io_uring_enter` per turn.
//!
//! A turn: enter; drain all CQEs into a list; read the clocks once; let each CQE change its peer; serve what the touched peers have received, queue
//! one send each for all their replies, arm their receives; enter again. Handlers never recurse, and nothing in here blocks but the enter.
//!
//! Must not know: memfs, messages. It sees sessions through their driver contract and trees through [`Filesystem`](crate::fs::Filesystem).
//! System calls are made in `ring.rs` (the loop's) and `listen.rs` (before the loop starts), nowhere else.

#[expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]
mod buffers;
#[expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]
mod flight;
mod listen;
mod peer;
mod probe;
#[expect(unsafe_code, reason = "system calls: see the head of the file")]
mod ring;
mod server;
mod socket;
mod table;
mod token;

pub use buffers::{SHARED_BYTES, SHARED_COUNT, SINK_BYTES, SPARE_WINDOWS, WINDOW_BYTES};
pub use flight::VIEWS_MAX;
pub use listen::{
    BACKLOG, Bound, KEEPALIVE, SOCKET_BUFFER_BYTES, Signals, listen_tcp, listen_unix, open_files, pin_to_cpu,
};
pub use probe::{Check, Finding, available_memory, check, explain_setup_error, memlock_advice};
pub use ring::{Features, Kernel, Ring, SQ_ENTRIES};
pub use server::{BACKLOG_BYTES_ALL, Grow, Listener, Options, Server, Trust};
