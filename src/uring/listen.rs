//! What is set up before the loop starts: listening sockets, the signal descriptor, the limit of
//! open files, the cpu.
//!
//! A unix socket path on which a server listens is never taken over: it is connected to first, and
//! removed only if the connection is refused. Whoever takes a path over, or removes it, holds the
//! lock of that path (`PATH.lock`, flock(2)) from the look until the new socket listens. So of
//! several servers that start over one path exactly one gets it.

use super::ring::set_tcp_options;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sched::CpuSet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, setsockopt, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Socket buffers for large messages, in bytes each way; inherited by accepted sockets. The unix default of 208 KiB makes a 1 MiB message stall.
pub const SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// Keepalives, in seconds: the first after this time without traffic, and the next ones while none is answered.
pub const KEEPALIVE: (u32, u32) = (60, 15);
/// A machine that answers nothing loses its connection after this time, in ms: 12 h, with data under way or without. A
/// machine may be paused, or sleep for a night, and a Linux mount never reconnects. A connection that is needed for
/// another client is taken from a machine that is silent before (`server/reclaim.rs`).
pub const USER_TIMEOUT_MS: u32 = 12 * 3600 * 1000;
/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
pub const BACKLOG: i32 = 4096;
/// How long the lock of a path may be somebody else's.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to have it.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    fd: OwnedFd,
    /// The address in fact, for TCP (port 0 takes a free one).
    pub local: Option<SocketAddr>,
    path: Option<Own>,
    /// The path of a socket that others have bound.
    named: Option<PathBuf>,
}

impl From<std::net::TcpListener> for Bound {
    /// A socket that others have bound, with the options of those that are bound here as far as it takes them.
    fn from(listener: std::net::TcpListener) -> Bound {
        let _ = set_tcp_options(&listener);
        let local = listener.local_addr().ok();
        Bound { fd: blocking(listener.into()), local, path: None, named: None }
    }
}

impl From<UnixListener> for Bound {
    /// A socket that others have bound. Its path stays when the server ends.
    fn from(listener: UnixListener) -> Bound {
        let named = listener.local_addr().ok().and_then(|local| local.as_pathname().map(Path::to_owned));
        Bound { fd: blocking(listener.into()), local: None, path: None, named }
    }
}

/// The ring does not wait for connections of a socket that has O_NONBLOCK.
fn blocking(fd: OwnedFd) -> OwnedFd {
    let listener = std::net::TcpListener::from(fd);
    let _ = listener.set_nonblocking(false);
    listener.into()
}

impl Bound {
    /// The path of a unix socket.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(|own| own.path.as_path()).or(self.named.as_deref())
    }

    /// The descriptor.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Gives the descriptor away to who closes it; what is left removes the path of a unix socket when it is dropped.
    pub fn into_raw(self) -> (RawFd, Remove) {
        (self.fd.into_raw_fd(), Remove(self.path))
    }
}

/// The path of a unix socket, and the file that was bound there.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    /// Holds the inode, so that no later file gets its number.
    file: File,
}

impl Own {
    fn new(path: &Path) -> io::Result<Own> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        Ok(Own { path: path.to_owned(), file: OpenOptions::new().read(true).custom_flags(flags).open(path)? })
    }

    /// Whether the path still leads to that file.
    fn is_there(&self) -> bool {
        self.file.metadata().is_ok_and(|own| is_same(&own, &self.path))
    }
}

fn is_same(file: &Metadata, path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (file.dev(), file.ino()))
}

/// Removes the path of a unix socket on drop, if it is still the same file.
#[derive(Debug)]
pub struct Remove(Option<Own>);

impl Drop for Remove {
    fn drop(&mut self) {
        // Without the lock another server could take the path between the look and the removal.
        // Then it stays.
        if let Some(own) = &self.0
            && let Ok(_lock) = PathLock::take(&own.path)
            && own.is_there()
        {
            let _ = std::fs::remove_file(&own.path);
        }
    }
}

/// The right to take over or remove the path of a socket. Ends on drop; the file of the lock goes
/// with it.
#[derive(Debug)]
struct PathLock {
    path: PathBuf,
    _file: Flock<File>,
}

impl PathLock {
    /// Waits for whoever has it: that takes milliseconds.
    fn take(socket: &Path) -> io::Result<PathLock> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            // A lock file that is a link, or another user's, is not followed or opened: anyone may
            // make one in /tmp.
            let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
            if let Some(file) = try_lock(options.open(&path).map_err(named)?, &path).map_err(named)? {
                return Ok(PathLock { path, _file: file });
            }
            if Instant::now() > until {
                let text = format!("{} is locked by another process; end that one", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }
}

/// Locks an open lock file. `None`: another process has the lock, or the last one that had it has
/// removed the file from the path since it was opened.
fn try_lock(file: File, path: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(is_same(&file.metadata()?, path).then_some(file)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Before the lock is given up. Who waits for it sees that its file is gone, and makes a new
        // one.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens on a TCP address.
pub fn listen_tcp(address: SocketAddr) -> io::Result<Bound> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // Accepted sockets inherit them.
    set_tcp_options(&fd)?;
    match address {
        SocketAddr::V4(v4) => socket::bind(fd.as_raw_fd(), &SockaddrIn::from(v4))?,
        SocketAddr::V6(v6) => socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(v6))?,
    }
    start(&fd)?;
    let listener = std::net::TcpListener::from(fd);
    let local = Some(listener.local_addr()?);
    Ok(Bound { fd: listener.into(), local, path: None, named: None })
}

/// Listens on a unix socket of mode 0600.
pub fn listen_unix(path: &Path) -> io::Result<Bound> {
    let address = UnixAddr::new(path)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket has 107 bytes at most"))?;
    // Until the socket listens: before that, it looks like one that was left behind.
    let _lock = PathLock::take(path)?;
    match look(&address) {
        // EAGAIN: so many wait to be accepted that no more fit. A server is there, if it is stopped
        // or slow.
        Ok(()) | Err(Errno::EAGAIN) => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server is listening there"));
        }
        // Nobody is behind it: a server that was killed has left it.
        Err(Errno::ECONNREFUSED) => {
            if std::fs::symlink_metadata(path)?.file_type().is_socket() {
                std::fs::remove_file(path)?;
            }
        }
        Err(Errno::ENOENT) => {}
        Err(error) if std::fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) => {
            let error = io::Error::from(error);
            return Err(io::Error::new(error.kind(), "a file that is no socket is there"));
        }
        Err(error) => return Err(error.into()),
    }
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The mode must hold from the first moment. The process has one thread yet.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = socket::bind(fd.as_raw_fd(), &address);
    umask(before);
    bound?;
    let own = Own::new(path)?;
    start(&fd)?;
    Ok(Bound { fd, local: None, path: Some(own), named: None })
}

/// Whether a server answers there. Waits for the end of a socket whose process has ended: operations
/// of its ring hold the socket open until the kernel has cancelled them, some milliseconds later.
fn look(address: &UnixAddr) -> nix::Result<()> {
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        let listener = probe(address)?;
        if !is_gone(listener) || Instant::now() > until {
            return Ok(());
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Connects; the process that listens there (SO_PEERCRED, unix(7)).
fn probe(address: &UnixAddr) -> nix::Result<Pid> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(fd.as_raw_fd(), address)?;
    Ok(Pid::from_raw(socket::getsockopt(&fd, sockopt::PeerCredentials)?.pid()))
}

/// Whether a process has ended, also if its parent has not looked at it yet (proc_pid_stat(5)). One
/// of another pid namespace has the number 0, and counts as alive.
fn is_gone(process: Pid) -> bool {
    if process.as_raw() == 0 {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let is_zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
    is_zombie || nix::sys::signal::kill(process, None) == Err(Errno::ESRCH)
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

/// The cpus that this thread runs on: all that it may use, unless it was kept on some of them.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// Keeps the calling thread on one cpu, also if it was kept on others before (sched_setaffinity(2)).
/// EINVAL: the machine, or the control group, has no such cpu.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(Pid::from_raw(0), &set)?;
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
    use std::os::unix::net::UnixStream;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// For a test that closes a socket, or starts a process: between fork(2) and execve(2) a child has the descriptors of
    /// all threads, so that a socket which was closed is still open.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ring9-listen-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder in the temporary directory");
        folder
    }

    #[test]
    fn a_connection_of_tcp_ends_when_its_machine_is_gone_for_long() {
        let listener = listen_tcp(([127, 0, 0, 1], 0).into()).expect("a free port");
        let made = std::net::TcpStream::connect(listener.local.expect("of TCP")).expect("it listens");
        set_tcp_options(&made).expect("a connection of TCP");
        for fd in [&listener.fd, &OwnedFd::from(made)] {
            assert!(socket::getsockopt(fd, sockopt::TcpNoDelay).expect("an option of TCP"));
            assert!(socket::getsockopt(fd, sockopt::KeepAlive).expect("an option of sockets"));
            assert_eq!(socket::getsockopt(fd, sockopt::TcpUserTimeout), Ok(USER_TIMEOUT_MS));
        }
    }

    #[test]
    fn a_live_path_is_not_stolen_and_a_dead_one_is_taken() {
        let _alone = alone();
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

    /// Threads rather than processes: the lock is of the open file, and so keeps threads apart as
    /// well.
    #[test]
    fn of_several_that_start_over_a_dead_path_one_gets_it() {
        let _alone = alone();
        let path = folder("race").join("sock");
        for _ in 0..50 {
            drop(listen_unix(&path).expect("nobody listens there"));
            assert!(path.exists(), "it is left behind, as by a server that was killed");
            let line = std::sync::Barrier::new(4);
            let found: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    line.wait();
                    listen_unix(&path)
                };
                let all: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                all.into_iter().map(|one| one.join().expect("no panic")).collect()
            });
            let listening: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
            assert_eq!(listening.len(), 1);
            let there = std::fs::symlink_metadata(&path).expect("it has a path");
            let own = listening[0].path.as_ref().expect("the path").file.metadata().expect("an open file");
            assert_eq!((there.dev(), there.ino()), (own.dev(), own.ino()), "the path leads to who listens");
            UnixStream::connect(&path).expect("who has the path listens");
        }
        let left: Vec<_> = std::fs::read_dir(folder("race")).expect("the folder").collect();
        assert_eq!(left.len(), 1, "the lock leaves no file behind");
    }

    #[test]
    fn a_process_is_gone_before_its_parent_has_looked() {
        let _alone = alone();
        assert!(!is_gone(Pid::this()) && !is_gone(Pid::from_raw(0)));
        let mut child = std::process::Command::new("true").spawn().expect("true(1) is there");
        let process = Pid::from_raw(child.id() as i32);
        while !is_gone(process) {
            std::thread::sleep(LOCK_PAUSE);
        }
        child.wait().expect("it has ended");
        assert!(is_gone(process));
    }

    /// A ring holds the socket of its process for a while; here it is the parent. The child is this test, once more: whoever
    /// calls listen(2) is the process that a client sees (SO_PEERCRED, unix(7)).
    #[test]
    fn the_socket_of_a_process_that_has_ended_is_waited_for() {
        const CHILD: &str = "RING9_TEST_LISTENS";
        if std::env::var_os(CHILD).is_some() {
            return socket::listen(&io::stdin(), Backlog::new(BACKLOG).expect("a length")).expect("it is bound");
        }
        let _alone = alone();
        let path = folder("ended").join("sock");
        let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("the path is free");
        let status = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "uring::listen::tests::the_socket_of_a_process_that_has_ended_is_waited_for"])
            .env(CHILD, "")
            .stdin(fd.try_clone().expect("a descriptor"))
            .stdout(std::process::Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success());
        let listener = probe(&UnixAddr::new(&path).expect("a short path")).expect("the socket is open");
        assert!(is_gone(listener), "process {listener} has ended");
        let ends = std::thread::spawn(move || {
            std::thread::sleep(10 * LOCK_PAUSE);
            drop(fd);
        });
        listen_unix(&path).expect("nobody listens there in the end");
        ends.join().expect("no panic");
        std::fs::remove_file(&path).expect("it is left behind");
    }

    #[test]
    fn the_lock_of_a_removed_file_does_not_count() {
        let path = folder("lock").join("sock.lock");
        let open = || File::create(&path).expect("the folder is ours");
        let (first, second, late) = (open(), open(), open());
        let first = try_lock(first, &path).expect("flock works").expect("it is free");
        assert!(try_lock(second, &path).expect("flock works").is_none(), "it is taken");
        std::fs::remove_file(&path).expect("it is there");
        drop(first);
        let _next = try_lock(open(), &path).expect("flock works").expect("a new file");
        assert!(try_lock(late, &path).expect("flock works").is_none(), "its file is gone");
        std::fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn the_path_of_another_server_is_not_removed() {
        let _alone = alone();
        let path = folder("own").join("sock");
        let (fd, remove) = listen_unix(&path).expect("the path is free").into_raw();
        // The first one has stopped accepting and still has replies to send when the second one
        // starts.
        nix::unistd::close(fd).expect("it is ours");
        let second = listen_unix(&path).expect("nobody accepts there");
        drop(remove);
        UnixStream::connect(&path).expect("the second one has its path");
        drop(second.into_raw().1);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_that_accepts_no_more_is_not_taken_for_a_dead_one() {
        let path = folder("full").join("sock");
        let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("the path is free");
        socket::listen(&fd, Backlog::new(0).expect("a length")).expect("it is bound");
        let _waits = UnixStream::connect(&path).expect("one fits");
        assert_eq!(listen_unix(&path).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        std::fs::remove_file(&path).expect("it is ours");
    }

    /// H6: a connection has from its listener how long the kernel waits for its machine.
    #[test]
    fn the_kernel_waits_for_hours_for_a_machine_that_is_paused() {
        let bound = listen_tcp((std::net::Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let listener = std::net::TcpListener::from(bound.fd);
        let client = std::net::TcpStream::connect(bound.local.expect("of TCP")).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client is there");
        drop(client);
        assert_eq!(socket::getsockopt(&accepted, sockopt::TcpUserTimeout).expect("of TCP"), USER_TIMEOUT_MS);
        assert!(socket::getsockopt(&accepted, sockopt::KeepAlive).expect("a socket"));
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
