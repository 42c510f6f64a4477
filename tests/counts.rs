//! What can be counted exactly: enters, receives, sends and allocations. No times.

mod support;

use ring9::arena::Arena;
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::stats::Stats;
use ring9::uring::{Kernel, Options, Server, Trust};
use ring9::wire::Dialect;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use support::script::{Script, pattern};
use support::tree_in;

mod counting {
    //! Counts allocations, by thread.
    #![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) struct Counting;

    // SAFETY: passes everything on to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.with(|count| count.set(count.get() + 1));
            // SAFETY: the caller's promise is the one asked for.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { System.dealloc(at, layout) }
        }
        unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            ALLOCATIONS.with(|count| count.set(count.get() + 1));
            // SAFETY: as above.
            unsafe { System.realloc(at, layout, size) }
        }
    }

    /// Allocations of this thread so far.
    pub(crate) fn so_far() -> u64 {
        ALLOCATIONS.with(Cell::get)
    }
}

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

struct Fixture {
    server: Server<Kernel, Simple<Mem>>,
    stats: Rc<Stats>,
}

impl Fixture {
    fn new() -> Fixture {
        let arena = Arena::new(16 << 20).expect("a small mapping");
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let stats = Rc::new(Stats::default());
        let options = Options { stats: Rc::clone(&stats), ..Options::new(1 << 20, 100) };
        let mut server = Server::new(Kernel::new(100).expect("io_uring works here"), tree_in(arena), parts, options);
        // Where the limit does not allow it, the counts are the same.
        let _ = server.register(16 << 20);
        Fixture { server, stats }
    }

    fn connect(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        self.server.connect(ours.into_raw_fd(), Trust::All);
        theirs
    }

    /// Turns until the client has heard this many bytes.
    fn until_heard(&mut self, client: &mut UnixStream, bytes: usize) {
        client.set_nonblocking(true).expect("a socket");
        let mut heard = vec![0; bytes];
        let mut n = 0;
        while n < bytes {
            match client.read(&mut heard[n..]) {
                Ok(more) => n += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.server.turn_now().expect("the ring works"),
                Err(error) => panic!("{error}"),
            }
        }
        client.set_nonblocking(false).expect("a socket");
    }

    /// A connection with fid 1 open on a file of 64 KiB of its own, its receive armed.
    fn ready(&mut self, name: &[u8]) -> UnixStream {
        let mut client = self.connect();
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).create(1, name).write(1, 0, &pattern(4096, 1));
        client.write_all(&script.bytes).expect("room in the socket");
        self.until_heard(&mut client, 19 + 2 + 20 + 9 + 24 + 11);
        client
    }

    fn enters(&self) -> u64 {
        self.stats.counters.enters.get()
    }
}

fn read_request() -> Vec<u8> {
    let mut script = Script::new(Dialect::L);
    script.bytes.clear();
    script.read(1, 0, 4096);
    script.bytes.to_vec()
}

const READ_REPLY: usize = 11 + 4096;

#[test]
fn a_ping_pong_costs_one_enter() {
    const PINGS: u64 = 400;
    let mut fixture = Fixture::new();
    let client = fixture.ready(b"file");
    let best = (0..8).map(|_| {
        let before = fixture.enters();
        let mut socket = client.try_clone().expect("a second handle");
        // The client answers at once, on a cpu of its own if there is one: what is counted is the loop, not how long a client sleeps.
        let pinging = std::thread::spawn(move || {
            socket.set_nonblocking(true).expect("a socket");
            let mut reply = vec![0; READ_REPLY];
            for _ in 0..PINGS {
                socket.write_all(&read_request()).expect("room in the socket");
                let mut n = 0;
                while n < READ_REPLY {
                    match socket.read(&mut reply[n..]) {
                        Ok(more) => n += more,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        let replies = fixture.stats.counters.replies.get() + PINGS;
        while fixture.stats.counters.replies.get() < replies {
            fixture.server.turn().expect("the ring works");
        }
        pinging.join().expect("every ping was answered");
        fixture.enters() - before
    });
    let best = best.min().expect("eight rounds");
    client.set_nonblocking(false).expect("a socket");
    assert!(best * 100 <= PINGS * 105, "{best} enters for {PINGS} requests");
    println!("enters per ping-pong: {:.3}", best as f64 / PINGS as f64);
}

#[test]
fn sixty_four_requests_on_sixty_four_connections_cost_nine_enters_at_most() {
    let mut fixture = Fixture::new();
    let mut clients: Vec<_> = (0..64u8).map(|n| fixture.ready(&[b'a' + n / 26, b'a' + n % 26])).collect();
    let mut bell = fixture.ready(b"bell");
    // One more request, so that the turn ends in which the last receives are armed.
    bell.write_all(&read_request()).expect("room in the socket");
    fixture.until_heard(&mut bell, READ_REPLY);
    for client in &mut clients {
        client.write_all(&read_request()).expect("room in the socket");
    }
    let (before, sent) = (fixture.enters(), fixture.stats.counters.replies.get());
    while fixture.stats.counters.replies.get() < sent + 64 {
        fixture.server.turn_now().expect("the ring works");
    }
    let enters = fixture.enters() - before;
    assert!(enters <= 9, "{enters} enters");
    println!("enters for 64 requests on 64 connections: {enters}");
}

#[test]
fn sixteen_requests_at_once_are_one_receive_and_one_send() {
    let mut fixture = Fixture::new();
    let mut client = fixture.ready(b"file");
    let counters = |fixture: &Fixture| {
        let counters = &fixture.stats.counters;
        let sends = counters.sends_small.get() + counters.sends_fixed.get() + counters.sends_plain.get();
        (counters.receives.get(), sends)
    };
    // Let the send of the last reply complete.
    client.write_all(&read_request()).expect("room in the socket");
    fixture.until_heard(&mut client, READ_REPLY);
    let before = counters(&fixture);
    client.write_all(&read_request().repeat(16)).expect("room in the socket");
    fixture.until_heard(&mut client, 16 * READ_REPLY);
    let after = counters(&fixture);
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1), "receives and sends");
}

#[test]
fn a_steady_stream_of_requests_allocates_nothing() {
    let mut fixture = Fixture::new();
    let mut client = fixture.ready(b"file");
    let requests: Vec<(&str, usize, Vec<u8>)> = {
        let one = |make: &dyn Fn(&mut Script)| {
            let mut script = Script::new(Dialect::L);
            script.bytes.clear();
            make(&mut script);
            script.bytes.to_vec()
        };
        vec![
            ("Tread", READ_REPLY, read_request()),
            (
                "Tgetattr",
                160,
                one(&|script| {
                    script.stat(1);
                }),
            ),
            (
                "Twrite",
                11,
                one(&|script| {
                    script.write(1, 100, &pattern(3000, 2));
                }),
            ),
            (
                "Twrite of 64 KiB",
                11,
                one(&|script| {
                    script.write(1, 0, &pattern(64 << 10, 2));
                }),
            ),
            (
                "Twalk and Tclunk",
                9 + 13 + 7,
                one(&|script| {
                    script.walk(0, 2, &[b"file"]).clunk(2);
                }),
            ),
        ]
    };
    let mut found = Vec::new();
    for (name, reply, request) in &requests {
        let ask = |fixture: &mut Fixture, client: &mut UnixStream, heard: &mut [u8]| {
            client.write_all(request).expect("room in the socket");
            client.set_nonblocking(true).expect("a socket");
            let mut n = 0;
            while n < *reply {
                match client.read(&mut heard[n..*reply]) {
                    Ok(more) => n += more,
                    Err(_) => fixture.server.turn_now().expect("the ring works"),
                }
            }
            client.set_nonblocking(false).expect("a socket");
        };
        let mut heard = vec![0; READ_REPLY];
        (0..100).for_each(|_| ask(&mut fixture, &mut client, &mut heard));
        let before = counting::so_far();
        (0..1000).for_each(|_| ask(&mut fixture, &mut client, &mut heard));
        found.push((*name, counting::so_far() - before));
    }
    assert!(found.iter().all(|(_, count)| *count == 0), "allocations in 1,000 requests each: {found:?}");
}
