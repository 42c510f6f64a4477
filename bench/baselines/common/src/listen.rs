//! Listening sockets with the options that the server's have, and the end.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::UnixAddr;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt,
};
use ring9::client::Address;
use ring9::uring::{BACKLOG, KEEPALIVE, SOCKET_BUFFER_BYTES, USER_TIMEOUT_MS};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens; blocking as it comes.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP address.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens at an address.
    pub fn bind(address: &Address) -> anyhow::Result<Listener> {
        match address {
            Address::Tcp { host, port } => {
                let mut found = (host.as_str(), *port).to_socket_addrs()?;
                Ok(Listener::Tcp(tcp(found.next().context("the name has no address")?)?))
            }
            Address::Unix(path) => Ok(Listener::Unix(unix(path)?, path.clone())),
        }
    }

    /// The address in fact.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => {
                let local = listener.local_addr()?;
                Ok(Address::Tcp { host: local.ip().to_string(), port: local.port() })
            }
            Listener::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// Makes accepting wait for nobody.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.set_nonblocking(true),
            Listener::Unix(listener, _) => listener.set_nonblocking(true),
        }
    }

    /// The next connection.
    pub fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => Ok(Socket::Tcp(listener.accept()?.0)),
            Listener::Unix(listener, _) => Ok(Socket::Unix(listener.accept()?.0)),
        }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        match listener {
            Listener::Tcp(listener) => listener.into(),
            Listener::Unix(listener, _) => listener.into(),
        }
    }
}

/// A connection; blocking as it comes.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a path.
    Unix(UnixStream),
}

impl Socket {
    /// Makes calls on it return at once, or wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Socket::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        match socket {
            Socket::Tcp(stream) => stream.into(),
            Socket::Unix(stream) => stream.into(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    let (idle, interval) = KEEPALIVE;
    setsockopt(&fd, sockopt::KeepAlive, &true)?;
    setsockopt(&fd, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(&fd, sockopt::TcpKeepInterval, &interval)?;
    setsockopt(&fd, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    match address {
        SocketAddr::V4(v4) => socket::bind(fd.as_raw_fd(), &SockaddrIn::from(v4))?,
        SocketAddr::V6(v6) => socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(v6))?,
    }
    Ok(TcpListener::from(listening(fd)?))
}

fn unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        // Nobody is behind it.
        std::fs::remove_file(path)?;
    }
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Before it listens, so nobody was let in.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(UnixListener::from(listening(fd)?))
}

fn listening(fd: OwnedFd) -> io::Result<OwnedFd> {
    setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER_BYTES)?;
    setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

/// From now on SIGTERM and SIGINT remove the paths of these listeners and end the process: a thread sleeps until one comes. To be called before any other
/// thread is started.
pub fn exit_on_signals(listeners: &[Listener]) -> io::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    let paths: Vec<PathBuf> = listeners
        .iter()
        .filter_map(|listener| match listener {
            Listener::Unix(_, path) => Some(path.clone()),
            Listener::Tcp(_) => None,
        })
        .collect();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let _ = set.wait();
        for path in paths {
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(0);
    })?;
    Ok(())
}
