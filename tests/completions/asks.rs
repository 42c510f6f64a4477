//! Asks of a tree: each kind on the kernel's ring, with and without what newer kernels have; and one completion at a time, what
//! the loop makes of it.

use crate::support::asker::Asker;
use crate::support::hand_ring::HandRing;
use crate::support::sqe::{ASYNC_CANCEL, SEND, SENDMSG, Sqe, TIMEOUT};
use crate::{EAGAIN, ECANCELED, EINTR, ETIME};
use ring9::arena::{Arena, Block, Space};
use ring9::fs::{Ask, AskId, Descriptor, Error, Incoming, Iovec, OpenHow, Outgoing, Remote, Result};
use ring9::session::{Config, Session};
use ring9::uring::{ASKS_MAX, Features, Kernel, Options, Ring, Server};
use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const READV: u8 = 1;
const WRITEV: u8 = 2;
const FSYNC: u8 = 3;
const READ_FIXED: u8 = 4;
const WRITE_FIXED: u8 = 5;
const CONNECT: u8 = 16;
const READ: u8 = 22;
const WRITE: u8 = 23;
const SOCKET: u8 = 45;
const READV_FIXED: u8 = 60;
const WRITEV_FIXED: u8 = 61;
const EALREADY: i32 = 114;
const ENOENT: i32 = 2;
const ECONNREFUSED: i32 = 111;

/// A loop around a tree that asks. The arena outlives it.
struct Asking<R: Ring> {
    server: Server<R, Asker>,
    arena: Arena,
    next: u64,
}

const MEMORY: usize = 4 << 20;

impl<R: Ring> Asking<R> {
    fn on(ring: R) -> Asking<R> {
        let arena = Arena::new(MEMORY).expect("a small mapping");
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let mut server = Server::new(ring, Asker::default(), parts, Options::new(1 << 16, 4));
        server.start().expect("the ring works");
        Asking { server, arena, next: 0 }
    }

    fn want(&mut self, ask: Ask) -> AskId {
        self.next += 1;
        self.server.fs().want(self.next, ask);
        AskId(self.next)
    }

    fn turns(&mut self) {
        (0..3).for_each(|_| self.server.turn_now().expect("the ring works"));
    }

    /// The answer that has come to an ask.
    fn take(&mut self, id: AskId) -> Option<(Ask, Result<u32>)> {
        let answers = &mut self.server.fs().answers;
        let at = answers.iter().position(|(answered, ..)| *answered == id)?;
        let (_, ask, result) = answers.remove(at);
        Some((ask, result))
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, ask: Ask) -> (Ask, Result<u32>) {
        let id = self.want(ask);
        self.wait(id)
    }

    fn wait(&mut self, id: AskId) -> (Ask, Result<u32>) {
        loop {
            if let Some(answer) = self.take(id) {
                return answer;
            }
            self.server.turn().expect("the ring works");
        }
    }

    fn result(&mut self, ask: Ask) -> Result<u32> {
        self.ask(ask).1
    }

    fn descriptor(&mut self, ask: Ask) -> Descriptor {
        Descriptor(self.result(ask).expect("it opens") as i32)
    }

    fn block(&mut self, bytes: &[u8]) -> Block {
        let block = self.arena.alloc(bytes.len()).expect("a block");
        self.arena.write(&block, 0, bytes);
        block
    }

    /// Room for so many bytes of the arena.
    fn space(&mut self, sizes: &[usize]) -> Space {
        let pieces = sizes.iter().map(|&len| self.arena.land_fresh(len, 0..len).expect("a block")).collect();
        Space::new(pieces, 0)
    }
}

fn text(path: &Path) -> Box<CStr> {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero in it").into_boxed_c_str()
}

fn plain(bytes: &[u8]) -> Outgoing {
    let mut data = Iovec::default();
    data.put_copy(bytes);
    data.into()
}

const MAKE: OpenHow = OpenHow {
    read: true,
    write: true,
    create: true,
    exclusive: true,
    truncate: false,
    directory: false,
    direct: false,
};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ring9-asks-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder in the temporary directory");
    folder
}

/// The kernel's ring, with all that it has, and as on the oldest kernel; each without and with registered memory.
fn on_each_kernel(test: impl Fn(Asking<Kernel>, &str)) {
    let oldest = Features { vectored_fixed: false, defer_taskrun: false, multishot: false, vectored_send: false };
    for (name, features, registers) in
        [("all", Features::ALL, true), ("plain", Features::ALL, false), ("old", oldest, false)]
    {
        let mut asking = Asking::on(Kernel::with(4, features).expect("io_uring works here"));
        if registers && asking.server.ring().features().vectored_fixed {
            asking.server.register(MEMORY).expect("little memory");
        }
        test(asking, name);
    }
}

#[test]
fn files_are_made_written_read_renamed_and_removed() {
    on_each_kernel(|mut asking, name| {
        let path = folder(name);
        let how = OpenHow { read: true, directory: true, ..OpenHow::default() };
        let dir = asking.descriptor(Ask::Open { dir: Descriptor::WORKING_DIR, path: text(&path), how, mode: 0 });
        let open = |path: &CStr, how| Ask::Open { dir, path: path.into(), how, mode: 0o640 };
        assert_eq!(asking.result(open(c"file", OpenHow { read: true, ..OpenHow::default() })), Err(Error::ENOENT));
        let file = asking.descriptor(open(c"file", MAKE));
        assert_eq!(asking.result(open(c"file", MAKE)), Err(Error::EEXIST));
        assert_eq!(asking.result(Ask::Allocate { file, offset: 0, len: 100 }), Ok(0));
        assert_eq!(std::fs::metadata(path.join("file")).expect("it is there").len(), 100);

        let blocks = [asking.block(&[b'a'; 5000]), asking.block(&[b'b'; 100])];
        for (offset, slices, heads) in [(0, 1, false), (10_000, 2, false), (20_000, 2, true), (30_000, 0, true)] {
            let data = |asking: &mut Asking<Kernel>| {
                let mut data = Iovec::default();
                if heads {
                    data.put_copy(b"head");
                }
                for (block, len) in blocks.iter().zip([5000, 100]).take(slices) {
                    data.put_slice(asking.arena.slice(block, 0..len));
                }
                Outgoing::from(data)
            };
            let expected: Vec<u8> = data(&mut asking).views().flatten().copied().collect();
            let data = data(&mut asking);
            let n = expected.len() as u32;
            let (ask, result) = asking.ask(Ask::Write { file, offset, data });
            assert_eq!(result, Ok(n));
            let Ask::Write { mut data, .. } = ask else { panic!("the ask comes back") };
            data.advance(n as usize);
            drop(data.reuse());
            for (space, buffer) in [(vec![64], 0), (vec![64, 4096], 1500), (vec![], 6000)] {
                let space = asking.space(&space);
                let into = Incoming { space, buffer: vec![0; buffer], filled: 0 };
                let room = into.left();
                let (ask, result) = asking.ask(Ask::Read { file, offset, into });
                let Ask::Read { mut into, .. } = ask else { panic!("the ask comes back") };
                let n = result.expect("it is read") as usize;
                assert!(n >= room.min(expected.len()), "{n} of {room}");
                into.advance(n);
                let buffer = into.buffer[..into.filled].to_vec();
                let (pieces, _) = into.space.into_parts();
                let mut seen: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes()).copied().collect();
                seen.extend(buffer);
                let both = seen.len().min(expected.len()).min(n);
                assert!(seen[..both] == expected[..both] && both > 0);
                for piece in pieces {
                    let block = asking.arena.adopt(piece);
                    asking.arena.free(block);
                }
            }
        }
        assert_eq!(asking.arena.gauge().pins(), 0, "what was written is not pinned any more");
        let into = Incoming::buffer(vec![0; 10]);
        assert_eq!(asking.result(Ask::Read { file, offset: 1 << 30, into }), Ok(0), "behind the end");
        assert_eq!(asking.result(Ask::Write { file, offset: 0, data: plain(b"") }), Ok(0));
        for data_only in [false, true] {
            assert_eq!(asking.result(Ask::Sync { file, data_only }), Ok(0));
        }
        let rename = Ask::Rename { from: dir, path: c"file".into(), to: dir, new_path: c"other".into() };
        assert_eq!(asking.result(rename), Ok(0));
        assert!(path.join("other").exists() && !path.join("file").exists());
        let unlink = |path: &CStr, want_dir| Ask::Unlink { dir, path: path.into(), want_dir };
        std::fs::create_dir(path.join("folder")).expect("it is ours");
        assert_eq!(asking.result(unlink(c"other", true)), Err(Error::ENOTDIR));
        assert_eq!(asking.result(unlink(c"other", false)), Ok(0));
        assert_eq!(asking.result(unlink(c"folder", false)), Err(Error::EISDIR));
        assert_eq!(asking.result(unlink(c"folder", true)), Ok(0));
        assert_eq!(asking.result(Ask::Close { descriptor: file }), Ok(0));
        assert_eq!(asking.result(Ask::Close { descriptor: dir }), Ok(0));
        for block in blocks {
            asking.arena.free(block);
        }
        std::fs::remove_dir(&path).expect("nothing is left in it");
    });
}

/// What a test at the other end does: hears eleven bytes, says twelve in two parts, and hears the end.
fn plays(mut stream: impl Read + Write) {
    let mut heard = [0; 11];
    stream.read_exact(&mut heard).expect("it is said");
    assert_eq!(&heard, b"one two tre");
    stream.write_all(b"fours").expect("it is heard");
    std::thread::sleep(std::time::Duration::from_millis(20));
    stream.write_all(b"fivesix").expect("it is heard");
    assert_eq!(stream.read(&mut heard).expect("it ends"), 0);
}

#[test]
fn a_quiet_send_does_not_end_the_wait_and_waits_for_room() {
    on_each_kernel(|mut asking, _| {
        let (near, mut far) = UnixStream::pair().expect("two sockets");
        let socket = Descriptor(near.as_raw_fd());
        asking.turns();
        let send = |data| Ask::Send { socket, data, quiet: true };
        let (sent, timer) = (asking.want(send(plain(b"four"))), asking.want(Ask::Timer { ns: 20_000_000 }));
        asking.server.turn().expect("the ring works");
        assert_eq!(asking.take(timer).map(|(_, result)| result), Some(Ok(0)), "the first turn ends by the timer");
        assert_eq!(asking.take(sent).map(|(_, result)| result), Some(Ok(4)));
        // What does not fit is short, and the next one waits.
        let large = vec![b'x'; 4 << 20];
        let first = asking.result(send(plain(&large))).expect("some of it fits") as usize;
        assert!(first < large.len());
        let sent = asking.want(send(plain(b"last")));
        asking.turns();
        assert!(asking.take(sent).is_none());
        let mut heard = vec![0; 4 + first];
        far.read_exact(&mut heard).expect("it was sent");
        assert_eq!(asking.wait(sent).1, Ok(4));
        far.read_exact(&mut heard[..4]).expect("it was sent");
        assert_eq!(&heard[..4], b"last");
    });
}

#[test]
fn sockets_are_connected_sent_to_and_received_from() {
    on_each_kernel(|mut asking, name| {
        let path = folder(&format!("{name}-sockets")).join("sock");
        let unix = UnixListener::bind(&path).expect("the path is free");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("it has one");
        let players = [
            std::thread::spawn(move || plays(tcp.accept().expect("a client").0)),
            std::thread::spawn(move || plays(unix.accept().expect("a client").0)),
        ];
        let block = asking.block(b"two ");
        let unix = Remote::Unix(path.as_os_str().as_encoded_bytes().into());
        for to in [Remote::Tcp(address), unix.clone()] {
            let socket = asking.descriptor(Ask::Connect { to });
            let mut data = Iovec::default();
            data.put_copy(b"one ");
            data.put_slice(asking.arena.slice(&block, 0..4));
            data.put_copy(b"tr");
            assert_eq!(asking.result(Ask::Send { socket, data: data.into(), quiet: false }), Ok(10));
            assert_eq!(asking.result(Ask::Send { socket, data: plain(b"e"), quiet: false }), Ok(1));
            let receive = |into, whole| Ask::Receive { socket, into, whole };
            let (ask, result) = asking.ask(receive(Incoming::buffer(vec![0; 3]), false));
            let Ask::Receive { into, .. } = ask else { panic!("the ask comes back") };
            assert_eq!((result, &into.buffer[..]), (Ok(3), &b"fou"[..]));
            let into = Incoming { space: asking.space(&[3]), buffer: vec![0; 6], filled: 0 };
            let (ask, result) = asking.ask(receive(into, true));
            let Ask::Receive { mut into, .. } = ask else { panic!("the ask comes back") };
            assert_eq!(result, Ok(9), "all of it, however it comes");
            into.advance(9);
            let (pieces, _) = into.space.into_parts();
            assert_eq!((pieces[0].bytes(), &into.buffer[..]), (&b"rsf"[..], &b"ivesix"[..]));
            let other = asking.want(receive(Incoming::buffer(vec![0; 8]), false));
            let cancel = asking.want(Ask::Cancel { of: other });
            assert_eq!((asking.wait(cancel).1, asking.wait(other).1), (Ok(0), Ok(0)), "the socket is shut down");
            let more = Ask::Send { socket, data: plain(b"more"), quiet: false };
            assert!(asking.result(more).is_err(), "and no signal comes");
            assert_eq!(asking.result(Ask::Close { descriptor: socket }), Ok(0));
        }
        players.into_iter().for_each(|player| player.join().expect("it was played to the end"));
        assert_eq!(asking.result(Ask::Connect { to: Remote::Tcp(address) }), Err(Error(ECONNREFUSED as u16)));
        assert_eq!(asking.result(Ask::Connect { to: unix }), Err(Error(ECONNREFUSED as u16)));
        let long = Remote::Unix(vec![b'x'; 200].into());
        assert_eq!(asking.result(Ask::Connect { to: long }), Err(Error::ENAMETOOLONG));
        asking.arena.free(block);
    });
}

#[test]
fn timers_end_and_are_cancelled() {
    on_each_kernel(|mut asking, _| {
        let began = std::time::Instant::now();
        assert_eq!(asking.result(Ask::Timer { ns: 30_000_000 }), Ok(0));
        assert!(began.elapsed().as_millis() >= 30);
        let long = asking.want(Ask::Timer { ns: 3_600_000_000_000 });
        let cancel = asking.want(Ask::Cancel { of: long });
        let (ask, result) = asking.wait(cancel);
        assert!(matches!(ask, Ask::Cancel { of } if of == long) && result == Ok(0));
        assert_eq!(asking.wait(long).1, Err(Error::ECANCELED));
        assert_eq!(asking.result(Ask::Cancel { of: long }), Err(Error::ENOENT));
    });
}

#[test]
fn a_tree_is_asked_once_for_each_free_place() {
    on_each_kernel(|mut asking, _| {
        for _ in 0..3 * ASKS_MAX {
            asking.want(Ask::Sync { file: Descriptor(-1), data_only: true });
        }
        while asking.server.fs().answers.len() < 3 * ASKS_MAX {
            asking.server.turn().expect("the ring works");
            assert!(asking.server.asks() <= ASKS_MAX);
        }
        assert_eq!(asking.server.fs().most, ASKS_MAX);
    });
}

#[test]
fn a_drain_ends_once_the_tree_wants_nothing_more() {
    on_each_kernel(|mut asking, _| {
        let first = asking.want(Ask::Timer { ns: 20_000_000 });
        asking.turns();
        asking.server.fs().last.push((AskId(99), Ask::Timer { ns: 20_000_000 }));
        asking.server.begin_drain().expect("the ring works");
        asking.server.run(|tree| assert!(tree.is_retired && tree.wants.is_empty())).expect("it ends");
        assert!(asking.take(first).is_some() && asking.take(AskId(99)).is_some());
    });
}

fn by_hand() -> Asking<HandRing> {
    Asking::on(HandRing::default())
}

impl Asking<HandRing> {
    /// The only operation of an ask in flight.
    fn only(&mut self) -> Sqe {
        let asks: Vec<Sqe> =
            self.server.ring().in_flight.iter().filter(|sqe| sqe.user_data >> 56 == 10).copied().collect();
        assert_eq!(asks.len(), 1);
        asks[0]
    }

    fn ends(&mut self, user_data: u64, res: i32) {
        self.server.ring().ends(user_data, res, 0);
        self.turns();
    }
}

#[test]
fn what_was_interrupted_is_submitted_again() {
    for error in [EINTR, EAGAIN] {
        let mut asking = by_hand();
        let id = asking.want(Ask::Sync { file: Descriptor(7), data_only: true });
        asking.turns();
        let first = asking.only();
        asking.ends(first.user_data, -error);
        let second = asking.only();
        assert_eq!((second.opcode, second.fd), (FSYNC, 7));
        assert!(asking.take(id).is_none());
        asking.ends(second.user_data, 0);
        assert_eq!(asking.take(id).map(|(_, result)| result), Some(Ok(0)));
    }
}

/// A close has closed its descriptor, however it ends: by the next one it may be that of another file.
#[test]
fn a_close_that_was_interrupted_is_not_submitted_again() {
    let mut asking = by_hand();
    let id = asking.want(Ask::Close { descriptor: Descriptor(7) });
    let cancel = asking.want(Ask::Cancel { of: id });
    asking.turns();
    assert_eq!(asking.take(cancel).map(|(_, result)| result), Some(Ok(0)));
    let close = asking.only();
    asking.ends(close.user_data, -EINTR);
    assert_eq!(asking.take(id).map(|(_, result)| result), Some(Err(Error::EINTR)));
    assert_eq!(asking.server.asks(), 0);
}

/// A kernel that says the same for ever must not keep the loop busy for ever.
#[test]
fn what_is_interrupted_again_and_again_fails() {
    let mut asking = by_hand();
    let id = asking.want(Ask::Sync { file: Descriptor(7), data_only: true });
    asking.turns();
    for _ in 0..=1000 {
        let sync = asking.only();
        asking.ends(sync.user_data, -EAGAIN);
    }
    assert_eq!(asking.take(id).map(|(_, result)| result), Some(Err(Error::EAGAIN)));
}

#[test]
fn a_late_completion_is_not_taken_for_that_of_the_next_ask() {
    let mut asking = by_hand();
    asking.want(Ask::Timer { ns: 1 });
    asking.turns();
    let first = asking.only();
    asking.ends(first.user_data, -ETIME);
    let next = asking.want(Ask::Timer { ns: 1 });
    asking.turns();
    assert_eq!(asking.only().user_data as u32, first.user_data as u32, "the same slot");
    asking.ends(first.user_data, -ETIME);
    assert!(asking.take(next).is_none());
}

#[test]
fn the_socket_of_a_connect_that_fails_is_closed() {
    for (error, again) in [(ECONNREFUSED, false), (EINTR, true)] {
        let mut asking = by_hand();
        let id = asking.want(Ask::Connect { to: Remote::Unix(b"/there"[..].into()) });
        asking.turns();
        let socket = asking.only();
        assert_eq!(socket.opcode, SOCKET);
        asking.ends(socket.user_data, 50);
        let connect = asking.only();
        assert_eq!((connect.opcode, connect.fd), (CONNECT, 50));
        asking.ends(connect.user_data, -error);
        assert_eq!(asking.server.ring().closed, [50]);
        assert_eq!(asking.take(id).is_none(), again);
        if again {
            assert_eq!(asking.only().opcode, SOCKET, "from the start");
        }
    }
}

#[test]
fn a_connect_is_cancelled_whichever_operation_it_is_at() {
    let mut asking = by_hand();
    let id = asking.want(Ask::Connect { to: Remote::Unix(b"/there"[..].into()) });
    asking.turns();
    let cancel = asking.want(Ask::Cancel { of: id });
    asking.turns();
    assert_eq!(asking.take(cancel).map(|(_, result)| result), Some(Ok(0)));
    let socket = asking.only();
    asking.ends(socket.user_data, 50);
    assert_eq!(asking.server.ring().closed, [50]);
    assert_eq!(asking.take(id).map(|(_, result)| result), Some(Err(Error::ECANCELED)));

    let id = asking.want(Ask::Connect { to: Remote::Unix(b"/there"[..].into()) });
    asking.turns();
    let socket = asking.only();
    asking.ends(socket.user_data, 51);
    let connect = asking.only();
    let cancel = asking.want(Ask::Cancel { of: id });
    asking.turns();
    let cancellation = asking.server.ring().of(ASYNC_CANCEL)[0];
    asking.ends(cancellation.user_data, -EALREADY);
    assert_eq!(asking.take(cancel).map(|(_, result)| result), Some(Ok(0)));
    asking.ends(connect.user_data, -ECANCELED);
    assert_eq!(asking.server.ring().closed, [50, 51]);
    assert_eq!(asking.take(id).map(|(_, result)| result), Some(Err(Error::ECANCELED)));
}

/// Where the kernel runs an operation in another thread, its cancellation is a signal to that thread. Or the operation has been
/// interrupted just before.
#[test]
fn what_is_cancelled_and_interrupted_is_not_submitted_again() {
    let file = Descriptor(7);
    let read = || Ask::Read { file, offset: 0, into: Incoming::buffer(vec![0; 8]) };
    let receive = || Ask::Receive { socket: file, into: Incoming::buffer(vec![0; 8]), whole: false };
    for error in [EINTR, EAGAIN] {
        for (ask, is_shut) in [(read(), false), (receive(), true)] {
            let mut asking = by_hand();
            let id = asking.want(ask);
            asking.turns();
            let target = asking.only();
            let cancel = asking.want(Ask::Cancel { of: id });
            asking.turns();
            assert_eq!(asking.server.ring().shut, if is_shut { vec![7] } else { vec![] });
            if let Some(cancellation) = asking.server.ring().of(ASYNC_CANCEL).first().copied() {
                asking.server.ring().ends(cancellation.user_data, -EALREADY, 0);
            }
            asking.ends(target.user_data, -error);
            assert_eq!(asking.take(cancel).map(|(_, result)| result), Some(Ok(0)));
            assert_eq!(asking.take(id).map(|(_, result)| result), Some(Err(Error(ECANCELED as u16))));
            assert_eq!((asking.server.asks(), asking.server.patient()), (0, 0));
        }
    }
}

#[test]
fn a_cancellation_that_comes_too_late_says_so() {
    let mut asking = by_hand();
    let id = asking.want(Ask::Timer { ns: 1 });
    let cancel = asking.want(Ask::Cancel { of: id });
    asking.turns();
    let timers: Vec<Sqe> =
        asking.server.ring().of(TIMEOUT).into_iter().filter(|sqe| sqe.user_data >> 56 == 10).collect();
    let cancellation = asking.server.ring().of(ASYNC_CANCEL)[0];
    asking.server.ring().ends(timers[0].user_data, -ETIME, 0);
    asking.ends(cancellation.user_data, -ENOENT);
    assert_eq!(asking.take(id).map(|(_, result)| result), Some(Ok(0)));
    assert_eq!(asking.take(cancel).map(|(_, result)| result), Some(Err(Error::ENOENT)));
}

/// Memory is named by a slot of the table where one slot has all of it, and by its address otherwise.
#[test]
fn each_form_of_a_transfer_is_used_where_it_fits() {
    let mut asking = by_hand();
    asking.server.ring().vectored_fixed = true;
    asking.server.register(MEMORY / 2).expect("the ring works");
    let inside = asking.block(&[1; 100]);
    let file = Descriptor(7);
    let data = |slices: usize, heads: usize, asking: &mut Asking<HandRing>| {
        let mut data = Iovec::default();
        (0..slices).for_each(|_| data.put_slice(asking.arena.slice(&inside, 0..100)));
        (0..heads).for_each(|_| data.put_copy(b"head"));
        Outgoing::from(data)
    };
    for (slices, heads, opcode) in [(1, 0, WRITE_FIXED), (2, 0, WRITEV_FIXED), (0, 1, WRITE), (2, 1, WRITEV)] {
        let data = data(slices, heads, &mut asking);
        asking.want(Ask::Write { file, offset: 5, data });
        asking.turns();
        let sqe = asking.only();
        assert_eq!((sqe.opcode, sqe.fd), (opcode, 7));
        asking.ends(sqe.user_data, 1);
    }
    for (space, buffer, opcode) in
        [(vec![64], 0, READ_FIXED), (vec![64, 64], 0, READV_FIXED), (vec![], 9, READ), (vec![64], 9, READV)]
    {
        let into = Incoming { space: asking.space(&space), buffer: vec![0; buffer], filled: 0 };
        asking.want(Ask::Read { file, offset: 5, into });
        asking.turns();
        let sqe = asking.only();
        assert_eq!(sqe.opcode, opcode);
        asking.ends(sqe.user_data, 1);
    }
    for (vectored, slices, opcode) in [(true, 1, SEND), (true, 2, SEND), (false, 1, SEND), (false, 2, SENDMSG)] {
        asking.server.ring().vectored_send = vectored;
        let data = data(slices, 0, &mut asking);
        asking.want(Ask::Send { socket: file, data, quiet: false });
        asking.turns();
        let sqe = asking.only();
        assert_eq!(sqe.opcode, opcode);
        assert_eq!(asking.server.ring().offered(&sqe), vec![1; 100 * slices]);
        asking.ends(sqe.user_data, 1);
    }
}

#[test]
fn the_second_request_to_end_waits_for_no_ask() {
    let mut asking = by_hand();
    asking.want(Ask::Timer { ns: 1 });
    asking.turns();
    asking.server.begin_drain().expect("the ring works");
    asking.turns();
    assert!(!asking.server.is_over(), "the timer is in flight");
    asking.server.begin_drain().expect("the ring works");
    assert!(asking.server.is_over());
}

#[test]
#[should_panic(expected = "this tree asks for I/O, and this driver does none")]
fn a_driver_without_asks_refuses_a_tree_that_needs_them() {
    let _ = Session::<Asker>::new(Config::new(0, 1 << 20));
}

/// The kernel may still read what an ask names when its loop is gone.
#[test]
fn a_loop_that_ends_early_leaves_the_memory_of_its_asks() {
    let mut asking = by_hand();
    let block = asking.block(b"data");
    let mut data = Iovec::default();
    data.put_slice(asking.arena.slice(&block, 0..4));
    asking.want(Ask::Write { file: Descriptor(7), offset: 0, data: data.into() });
    asking.turns();
    let Asking { server, arena, .. } = asking;
    drop(server);
    assert_eq!(arena.gauge().pins(), 1);
}
