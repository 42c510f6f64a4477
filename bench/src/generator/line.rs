//! A connection of the load: its socket, and a slot for each operation that may be in flight on it.

use super::operation::{DIR, FILES, LIST, Op, Own, Task, World};
use crate::target::Target;
use anyhow::{Context, anyhow, bail, ensure};
use ring9::client::{Address, Conn};
use ring9::wire::{Dialect, Ext, Message, NOFID, Names};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a server may take for an answer before the load begins.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection reads so often before others get their turn.
const READS_MAX: usize = 4;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(address: &Address) -> io::Result<Socket> {
        match address {
            Address::Tcp { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port))?;
                socket.set_nodelay(true)?;
                Ok(Socket::Tcp(socket))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    fn set_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_read_timeout(time),
            Socket::Unix(socket) => socket.set_read_timeout(time),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_nonblocking(true),
            Socket::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(bytes),
            Socket::Unix(socket) => socket.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }
}

/// An operation in flight. Times are nanoseconds from the start of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) task: Task,
    pub(crate) scheduled_ns: u64,
    pub(crate) sent_ns: u64,
}

struct Slot {
    own: Own,
    flight: Option<Flight>,
}

/// One connection.
pub(crate) struct Line {
    socket: Socket,
    conn: Conn,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// By tag: the slot that asked.
    asked: Vec<u16>,
    /// Slots whose first request has not been handed to the socket, in order.
    unsent: Vec<u16>,
    /// The socket took less than there was.
    pub(crate) is_full: bool,
}

impl Line {
    /// Connects, attaches, and opens the files of the run.
    pub(crate) fn connect(
        target: &Target,
        world: &World,
        number: usize,
        depth: u16,
        ops: &[Op],
    ) -> anyhow::Result<Line> {
        let mut line = Line::attach(target, number, depth)?;
        line.open_all(target, world, ops)?;
        line.settle()?;
        Ok(line)
    }

    /// The socket of a connection that has attached and walked, and asks for no more.
    pub(super) fn idle(target: &Target) -> anyhow::Result<Socket> {
        let mut line = Line::attach(target, 0, 1)?;
        line.walk(0, DIR, &[])?;
        line.settle()?;
        Ok(line.socket)
    }

    fn attach(target: &Target, number: usize, depth: u16) -> anyhow::Result<Line> {
        let socket = Socket::connect(&target.address).with_context(|| target.address.to_string())?;
        socket.set_timeout(Some(GREETING_TIMEOUT))?;
        let slots = (0..depth).map(|slot| Slot { own: Own::new(number, slot), flight: None }).collect();
        let mut line = Line {
            socket,
            conn: Conn::new(target.dialect, target.msize, depth),
            slots,
            free: (0..depth).rev().collect(),
            asked: vec![0; depth.into()],
            unsent: Vec::new(),
            is_full: false,
        };
        line.greet(target)?;
        Ok(line)
    }

    /// From here on nobody waits for it alone.
    fn settle(&mut self) -> io::Result<()> {
        self.socket.set_timeout(None)?;
        self.socket.set_nonblocking()
    }

    fn greet(&mut self, target: &Target) -> anyhow::Result<()> {
        self.conn.version();
        self.flush_all()?;
        while !self.conn.agree().map_err(|error| anyhow!("{}: {error}", target.address))? {
            self.wait()?;
        }
        ensure!(
            self.conn.msize() >= target.msize,
            "the server wants messages of at most {} bytes, not {}",
            self.conn.msize(),
            target.msize
        );
        self.call(&Message::Tattach {
            fid: 0,
            afid: NOFID,
            uname: target.uname.as_bytes(),
            aname: target.aname.as_bytes(),
            n_uname: Ext(target.uid),
        })
    }

    fn open_all(&mut self, target: &Target, world: &World, ops: &[Op]) -> anyhow::Result<()> {
        let linux = target.dialect == Dialect::L;
        let opened = |fid, linux_flags, mode| match linux {
            true => Message::Tlopen { fid, flags: linux_flags },
            false => Message::Topen { fid, mode },
        };
        self.walk(0, DIR, &target.folder())?;
        if ops.contains(&Op::Readdir) {
            self.walk(DIR, LIST, &[])?;
            self.call(&opened(LIST, 0o200_000, 0))?;
        }
        for (fid, name) in (FILES..).zip(&world.names) {
            self.walk(DIR, fid, &[name])?;
            self.call(&opened(fid, 2, 2))?;
        }
        if ops.contains(&Op::Rename) && !world.has_at {
            for slot in 0..self.slots.len() {
                let own = &self.slots[slot].own;
                let (fid, name) = (own.renamed_fid(), own.first_name().to_vec());
                self.walk(DIR, fid, &[&name])?;
            }
        }
        Ok(())
    }

    fn walk(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> anyhow::Result<()> {
        self.call(&Message::Twalk { fid, newfid, wnames: Names::list(names) })
    }

    /// Before the load: one request, one reply.
    fn call(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        self.conn.call(message);
        self.flush_all()?;
        loop {
            let asked = match message {
                Message::Twalk { wnames, .. } => wnames.len(),
                _ => 0,
            };
            let whole = |reply: &Message<'_>| !matches!(reply, Message::Rwalk { wqids } if wqids.len() < asked);
            if let Some(reply) = self.conn.next_reply(|_, reply| reply.map(|reply| whole(&reply)))? {
                let kind = message.kind();
                ensure!(reply.with_context(|| format!("{kind} was refused"))?, "{kind}: a name is missing");
                return Ok(());
            }
            self.wait()?;
        }
    }

    fn flush_all(&mut self) -> anyhow::Result<()> {
        while !self.conn.outgoing().is_empty() {
            let sent = self.socket.write(self.conn.outgoing()).context("the connection")?;
            self.conn.sent(sent);
        }
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        match self.socket.read(self.conn.space()) {
            Ok(0) => bail!("the server hung up"),
            Ok(read) => self.conn.filled(read),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("no answer within {} s", GREETING_TIMEOUT.as_secs())
            }
            Err(error) => return Err(error).context("the connection"),
        }
        Ok(())
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Queues the first message of an operation. There is room.
    pub(crate) fn start(&mut self, world: &World, task: Task, scheduled_ns: u64) {
        let number = self.free.pop().expect("the caller has asked for room");
        let slot = &mut self.slots[usize::from(number)];
        let tag = world.ask(&mut self.conn, &task, &slot.own).expect("every operation has a first message");
        slot.flight = Some(Flight { task, scheduled_ns, sent_ns: 0 });
        self.asked[usize::from(tag)] = number;
        self.unsent.push(number);
    }

    /// Hands the socket what is queued. What begins with this has been sent at `now_ns`.
    pub(crate) fn flush(&mut self, now_ns: u64) -> io::Result<()> {
        for number in self.unsent.drain(..) {
            if let Some(flight) = &mut self.slots[usize::from(number)].flight {
                flight.sent_ns = now_ns;
            }
        }
        self.is_full = false;
        while !self.conn.outgoing().is_empty() {
            match self.socket.write(self.conn.outgoing()) {
                Ok(sent) => self.conn.sent(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_full = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in what has come. `done` gets each operation that has ended, with the time at which its last bytes were here; what has more to ask is queued.
    pub(crate) fn receive(
        &mut self,
        world: &World,
        now: impl Fn() -> u64,
        mut done: impl FnMut(&Flight, u64),
    ) -> anyhow::Result<()> {
        for _ in 0..READS_MAX {
            let space = self.conn.space();
            let room = space.len();
            let read = match self.socket.read(space) {
                Ok(0) => bail!("the server hung up with {} operations in flight", self.in_flight()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the connection"),
            };
            let received_ns = now();
            self.conn.filled(read);
            self.answers(world, |flight| done(flight, received_ns))?;
            // What did not fill the space was all there is.
            if read < room {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answers(&mut self, world: &World, mut done: impl FnMut(&Flight)) -> anyhow::Result<()> {
        let Line { conn, slots, free, asked, .. } = self;
        while let Some(answered) = conn.next_reply(|tag, reply| {
            let number = asked[usize::from(tag)];
            let Slot { own, flight } = &mut slots[usize::from(number)];
            let task = &mut flight.as_mut().context("a reply to no operation")?.task;
            let reply = reply.map_err(|error| anyhow!("{}: {error}", task.op))?;
            world.answered(task, own, &reply).map_err(|wrong| anyhow!("{}: {wrong}", task.op))?;
            anyhow::Ok(number)
        })? {
            let number = answered?;
            let Slot { own, flight } = &mut slots[usize::from(number)];
            let Some(current) = flight else { continue };
            if let Some(tag) = world.ask(conn, &current.task, own) {
                asked[usize::from(tag)] = number;
            } else {
                done(current);
                *flight = None;
                free.push(number);
            }
        }
        Ok(())
    }

    /// Whether there is something to be sent.
    pub(crate) fn has_more(&self) -> bool {
        !self.conn.outgoing().is_empty()
    }
}
