//! A server on the real ring in this thread, clients at the other ends of socket pairs, and a clock that can be put forward.

use super::fixed::Fixed;
use super::script::Script;
use super::tree_in;
use ring9::arena::{Arena, Gauge};
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::session::Budget;
use ring9::stats::Stats;
use ring9::uring::{Kernel, Listener, Options, Server, Trust};
use ring9::wire::Dialect;
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::Arc;

pub struct Host {
    pub server: Server<Fixed<Kernel>, Simple<Mem>>,
    pub stats: Rc<Stats>,
    pub gauge: Gauge,
    pub budget: Arc<Budget>,
    ahead_ns: Rc<Cell<u64>>,
}

impl Host {
    pub fn new(memory_bytes: usize) -> Host {
        Host::with(memory_bytes, |_| ())
    }

    /// One whose options are others.
    pub fn with(memory_bytes: usize, change: impl FnOnce(&mut Options)) -> Host {
        let arena = Arena::new(memory_bytes).expect("a small mapping");
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let (gauge, stats) = (arena.gauge(), Rc::new(Stats::default()));
        let mut options = Options { stats: Rc::clone(&stats), ..Options::new(1 << 20, 200) };
        change(&mut options);
        let budget = Arc::clone(&options.budget);
        let ring = Fixed::new(Kernel::new(200).expect("io_uring works here"));
        let ahead_ns = Rc::clone(&ring.ahead_ns);
        let mut server = Server::new(ring, tree_in(arena), parts, options);
        // Where the limit does not allow it, everything else is the same.
        let _ = server.register(memory_bytes);
        Host { server, stats, gauge, budget, ahead_ns }
    }

    /// A socket at which clients can connect, as far as there is a place for them.
    pub fn listen(&mut self) -> SocketAddr {
        let name = format!("ring9-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("a name of this thread alone");
        self.server.listen(Listener { fd: listener.into_raw_fd(), name: "here".into(), trust: Trust::All, tcp: false });
        address
    }

    /// A client that has said nothing yet.
    pub fn connect(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        self.server.connect(ours.into_raw_fd(), Trust::All);
        theirs
    }

    /// A client with fid 1 open on a new file.
    pub fn client(&mut self, name: &[u8]) -> UnixStream {
        let mut client = self.connect();
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).create(1, name);
        client.write_all(&script.bytes).expect("room in the socket");
        self.until_heard(&mut client, 19 + 2 + 20 + 9 + 24);
        client
    }

    pub fn turn(&mut self) {
        self.server.turn_now().expect("the ring works");
    }

    /// Turns, and says how many it were, until this is so.
    pub fn until(&mut self, mut so: impl FnMut(&mut Host) -> bool) -> usize {
        for turns in 0.. {
            if so(self) {
                return turns;
            }
            assert!(turns < 5_000_000, "it never is");
            self.turn();
        }
        unreachable!("the numbers end")
    }

    /// Turns until the client has heard this many bytes, and no more.
    pub fn until_heard(&mut self, client: &mut UnixStream, bytes: usize) -> Vec<u8> {
        client.set_nonblocking(true).expect("a socket");
        let (mut heard, mut n) = (vec![0; bytes], 0);
        while n < bytes {
            match client.read(&mut heard[n..]) {
                Ok(0) => panic!("closed after {n} of {bytes} bytes"),
                Ok(more) => n += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                Err(error) => panic!("{error} after {n} of {bytes} bytes"),
            }
        }
        client.set_nonblocking(false).expect("a socket");
        heard
    }

    /// Turns until the client has said this.
    pub fn say(&mut self, client: &mut UnixStream, bytes: &[u8]) {
        client.set_nonblocking(true).expect("a socket");
        let mut said = 0;
        while said < bytes.len() {
            match client.write(&bytes[said..]) {
                Ok(n) => said += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                Err(error) => panic!("{error} after {said} of {} bytes", bytes.len()),
            }
        }
        client.set_nonblocking(false).expect("a socket");
    }

    /// Says this and turns until the reply is there: its bytes.
    pub fn ask(&mut self, client: &mut UnixStream, build: impl FnOnce(&mut Script) -> &mut Script) -> Vec<u8> {
        self.say(client, &request(build));
        let mut reply = self.until_heard(client, 7);
        let size = u32::from_le_bytes(reply[..4].try_into().expect("four bytes")) as usize;
        reply.extend(self.until_heard(client, size - 7));
        reply
    }

    /// Puts the monotonic clock forward while the server runs.
    pub fn later(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.jump(1);
            self.turn();
        }
    }

    /// Puts the monotonic clock forward, as if the server had been stopped.
    pub fn jump(&mut self, seconds: u64) {
        self.ahead_ns.set(self.ahead_ns.get() + seconds * 1_000_000_000);
    }
}

/// Requests without the version in front.
pub fn request(build: impl FnOnce(&mut Script) -> &mut Script) -> Vec<u8> {
    let mut script = Script::new(Dialect::L);
    script.bytes.clear();
    build(&mut script);
    script.bytes.to_vec()
}
