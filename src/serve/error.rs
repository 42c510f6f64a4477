//! What keeps a server from starting, or ends it.

use super::Address;
use crate::uring;
use std::fmt;
use std::io;

/// Why a server does not start, or has ended. The text of each says what failed, and where it can
/// what to do about it.
///
/// `Debug` is the same text, so that a `main` which returns it prints a line for people.
#[non_exhaustive]
pub enum Error {
    /// What was given as an address is none; the text says why.
    Address(String),
    /// TCP does not tell which user connects, so a listener of TCP cannot have
    /// [`Trust::PeerUid`](super::Trust::PeerUid).
    Trust(Address),
    /// Neither an address nor a listener was given.
    NoListener,
    /// Nothing can listen on this address.
    Listen {
        /// The address that was asked for.
        address: Address,
        /// The error of the system call that failed.
        error: io::Error,
    },
    /// More connections than the limit of open files allows.
    Connections {
        /// How many were asked for.
        wanted: u64,
        /// How many descriptors the process may have, and how to allow more.
        why: String,
    },
    /// The server could take more memory than the machine, or its control group, has.
    Memory {
        /// What it could take, in bytes.
        wanted: u64,
        /// What there is, in bytes.
        available: u64,
    },
    /// This process cannot run on this cpu.
    Cpu {
        /// Its number.
        cpu: usize,
        /// The error of sched_setaffinity(2).
        error: io::Error,
    },
    /// io_uring is missing or forbidden. The text names the call, the live value and the fix.
    Ring(io::Error),
    /// Memory could not be registered, and [`require_registered`](super::Builder::require_registered)
    /// was asked for. The text says why.
    Register(String),
    /// Another logger is set in this process.
    Logger,
    /// Signals could not be blocked, or have no descriptor.
    Signals(io::Error),
    /// The thread of [`spawn`](super::spawn) could not be started, or has panicked.
    Thread(String),
    /// The loop has failed while it served, or the tree when it started or ended.
    Loop(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Address(why) => f.write_str(why),
            Error::Trust(address) => {
                write!(f, "peer-uid: {address} does not tell who connects, unix sockets do; use squash or all")
            }
            Error::NoListener => f.write_str("there is nothing to listen on: give the builder an address"),
            Error::Listen { address, error } => write!(f, "{address}: {error}{}", advice(address, error)),
            Error::Connections { wanted, why } => write!(f, "{wanted} connections at a time: {why}"),
            Error::Memory { wanted, available } => {
                let (wanted, available) = (wanted >> 20, available >> 20);
                write!(
                    f,
                    "this server could take {wanted} MiB, and there are {available}; a smaller arena or fewer connections"
                )
            }
            Error::Cpu { cpu, error } => {
                let cpus: Vec<_> = uring::cpus().unwrap_or_default().iter().map(usize::to_string).collect();
                let cpus = cpus.join(", ");
                write!(
                    f,
                    "cpu {cpu}: sched_setaffinity(2) refuses it; this process runs on {cpus} (see taskset(1)): {error}"
                )
            }
            Error::Ring(error) => f.write_str(&uring::explain_setup_error(error)),
            Error::Register(why) => write!(f, "memory is not registered: {why}"),
            Error::Logger => f.write_str("another logger is set in this process"),
            Error::Signals(error) => write!(f, "signals: {error}"),
            Error::Thread(why) => write!(f, "the thread of the server: {why}"),
            Error::Loop(error) => write!(f, "io_uring: {error}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// What to do about an address that cannot be listened on.
fn advice(address: &Address, error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match (error.kind(), address) {
        (ErrorKind::AddrInUse, Address::Unix(_)) => "; end that one, or name another path",
        (ErrorKind::AddrInUse, Address::Tcp { .. }) => "; end what listens there (ss -ltnp), or name another port",
        (ErrorKind::AddrNotAvailable, _) => "; no interface of this machine has this address (ip address)",
        (ErrorKind::PermissionDenied, Address::Tcp { .. }) => "; ports below 1024 want root, or CAP_NET_BIND_SERVICE",
        (ErrorKind::PermissionDenied, Address::Unix(_)) => "; name a path in a folder that this user may write to",
        (ErrorKind::NotFound, Address::Unix(_)) => "; make its folder first",
        _ => "",
    }
}
