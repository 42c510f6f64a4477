//! What is set up before the loop starts: listening sockets, the signal descriptor, the limit of
//! open files, the cpu.
//!
//! A unix socket path on which a server listens is never taken over: it is connected to first, and
//! removed only if the connection is refused.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, setsockopt, sockopt,
};
use nix::sys::stat::{Mode, umask};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Socket buffers for large messages, in bytes each way; inherited by accepted sockets. The unix default of 208 KiB makes a 1 MiB message stall.
pub const SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// Seconds of silence before the first probe of a TCP peer, seconds between probes, and probes: a peer whose machine has gone is noticed after 60 + 8 * 15 s, since a laptop may sleep for a minute, and a Linux mount never reconnects.
pub const KEEPALIVE: (u32, u32, u32) = (60, 15, 8);
/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
pub const BACKLOG: i32 = 4096;

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    fd: OwnedFd,
    /// The address in fact, for TCP (port 0 takes a free one).
    pub local: Option<SocketAddr>,
    /// The path of a unix socket, with device and inode to know it again.
    path: Option<(PathBuf, u64, u64)>,
}

impl Bound {
    /// The descriptor.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Gives the descriptor away to who closes it; what is left removes the path of a unix socket when it is dropped.
    pub fn into_raw(self) -> (RawFd, Remove) {
        (self.fd.into_raw_fd(), Remove(self.path))
    }
}

/// Removes the path of a unix socket on drop, if it is still the same file.
#[derive(Debug)]
pub struct Remove(Option<(PathBuf, u64, u64)>);

impl Drop for Remove {
    fn drop(&mut self) {
        if let Some((path, dev, ino)) = &self.0
            && std::fs::symlink_metadata(path).is_ok_and(|now| now.dev() == *dev && now.ino() == *ino)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens on a TCP address.
pub fn listen_tcp(address: SocketAddr) -> io::Result<Bound> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // A reply must not wait for the acknowledgement of the one before it.
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    let (idle, interval, count) = KEEPALIVE;
    setsockopt(&fd, sockopt::KeepAlive, &true)?;
    setsockopt(&fd, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(&fd, sockopt::TcpKeepInterval, &interval)?;
    setsockopt(&fd, sockopt::TcpKeepCount, &count)?;
    match address {
        SocketAddr::V4(v4) => socket::bind(fd.as_raw_fd(), &SockaddrIn::from(v4))?,
        SocketAddr::V6(v6) => socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(v6))?,
    }
    start(&fd)?;
    let listener = std::net::TcpListener::from(fd);
    let local = Some(listener.local_addr()?);
    Ok(Bound { fd: listener.into(), local, path: None })
}

/// Listens on a unix socket of mode 0600.
pub fn listen_unix(path: &Path) -> io::Result<Bound> {
    match UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server is listening there")),
        // Nobody is behind it: a server that was killed has left it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if std::fs::symlink_metadata(path)?.file_type().is_socket() {
                std::fs::remove_file(path)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if std::fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) => {
            return Err(io::Error::new(error.kind(), "a file that is no socket is there"));
        }
        Err(error) => return Err(error),
    }
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let address = UnixAddr::new(path)?;
    // The mode must hold from the first moment. The process has one thread yet.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = socket::bind(fd.as_raw_fd(), &address);
    umask(before);
    bound?;
    let there = std::fs::symlink_metadata(path)?;
    start(&fd)?;
    Ok(Bound { fd, local: None, path: Some((path.to_owned(), there.dev(), there.ino())) })
}

fn start(fd: &OwnedFd) -> io::Result<()> {
    setsockopt(fd, sockopt::SndBuf, &SOCKET_BUFFER_BYTES)?;
    setsockopt(fd, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
    socket::listen(fd, Backlog::new(BACKLOG)?)?;
    Ok(())
}

/// Lets this process have `wanted` descriptors, as far as the hard limit allows; how many it may have now (RLIMIT_NOFILE, getrlimit(2)).
pub fn open_files(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
    }
    Ok(soft.max(wanted.min(hard)))
}

/// Keeps the calling thread on one cpu.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
    Ok(())
}

/// Signals whose default action is right for a server: faults of the process itself, those of job
/// control (a stop takes nothing away, and SIGCONT ends it), and those that are ignored by default.
const LEFT_ALONE: [Signal; 14] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGSYS,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCONT,
    Signal::SIGCHLD,
    Signal::SIGURG,
    Signal::SIGWINCH,
];
/// Signals that end the server.
const ENDS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Signals as a descriptor that becomes readable: SIGTERM and SIGINT, which end the server, and all
/// that would kill it although they have no meaning here.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks these signals for the calling thread and for threads that it starts later, and makes
    /// the descriptor. A signal that is blocked has no default action. Real-time signals are among
    /// them, but for the two (32 and 33) that the C library keeps for itself.
    pub fn new() -> io::Result<Signals> {
        let mut set = SigSet::all();
        LEFT_ALONE.into_iter().for_each(|signal| set.remove(signal));
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Blocks those that have no meaning, for the time before there is a loop: SIGTERM and SIGINT
    /// still end the process. Call it before the first thread is started.
    pub fn block_meaningless() -> io::Result<()> {
        let mut set = SigSet::all();
        LEFT_ALONE.into_iter().chain(ENDS).for_each(|signal| set.remove(signal));
        Ok(set.thread_block()?)
    }

    /// The descriptor.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ring9-listen-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder in the temporary directory");
        folder
    }

    #[test]
    fn a_live_path_is_not_stolen_and_a_dead_one_is_taken() {
        let path = folder("steal").join("sock");
        let first = listen_unix(&path).expect("the path is free");
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(listen_unix(&path).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let (fd, remove) = listen_unix(&path).expect("nobody listens any more").into_raw();
        nix::unistd::close(fd).expect("it is ours");
        drop(remove);
        assert!(!path.exists(), "an orderly end removes the path");
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let path = folder("file").join("file");
        std::fs::write(&path, "precious").expect("the folder is ours");
        assert!(listen_unix(&path).is_err());
        assert_eq!(std::fs::read(&path).expect("it is still there"), b"precious");
    }

    #[test]
    fn port_0_takes_a_free_port() {
        let bound = listen_tcp("127.0.0.1:0".parse().expect("an address")).expect("loopback is there");
        assert_ne!(bound.local.expect("TCP has an address").port(), 0);
    }
}
