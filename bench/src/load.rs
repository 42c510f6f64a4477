//! Connections with a fixed number of reads in flight on each: a closed loop.

use anyhow::{Context, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ring9::client::{Address, Conn};
use ring9::wire::{Data, Dialect, Ext, Message, NOFID, Names};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The file that is read: as large as one block of ring9.
const FILE: &[u8] = b"bench";
const FILE_BYTES: usize = 64 << 10;

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(address: &Address) -> std::io::Result<Socket> {
        match address {
            Address::Tcp { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port))?;
                socket.set_nodelay(true)?;
                Ok(Socket::Tcp(socket))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    fn no_wait(&self) -> std::io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_nonblocking(true),
            Socket::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(bytes),
            Socket::Unix(socket) => socket.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

struct Line {
    socket: Socket,
    conn: Conn,
}

impl Line {
    fn flush(&mut self) -> anyhow::Result<()> {
        while !self.conn.outgoing().is_empty() {
            match self.socket.write(self.conn.outgoing()) {
                Ok(n) => self.conn.sent(n),
                // Requests are far smaller than a socket's buffer; the next reply leads here again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Before the load: one request, one reply.
    fn call(&mut self, message: Message<'_>) -> anyhow::Result<()> {
        self.conn.call(&message);
        let mut bytes = vec![0; 64 << 10];
        self.flush()?;
        loop {
            if let Some(reply) = self.conn.next_reply(|_, reply| reply.map(|_| ()))? {
                return reply.with_context(|| message.kind().to_string());
            }
            let n = self.socket.read(&mut bytes)?;
            if n == 0 {
                bail!("the server hung up");
            }
            self.conn.received(&bytes[..n]);
        }
    }
}

/// All connections to one server.
pub(crate) struct Load {
    lines: Vec<Line>,
    epoll: Epoll,
    depth: u16,
    size: u32,
    bytes: Vec<u8>,
}

impl Load {
    /// Connects; each connection has the file open as fid 1.
    pub(crate) fn connect(address: &Address, connections: usize, depth: u16, size: u32) -> anyhow::Result<Load> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut lines = Vec::new();
        for number in 0..connections {
            let mut line =
                Line { socket: Socket::connect(address)?, conn: Conn::new(Dialect::L, 1 << 20, depth.max(1)) };
            line.conn.version();
            line.flush()?;
            let mut bytes = [0; 64];
            while !line.conn.agree()? {
                let n = line.socket.read(&mut bytes)?;
                line.conn.received(&bytes[..n]);
            }
            line.call(Message::Tattach { fid: 0, afid: NOFID, uname: b"root", aname: b"", n_uname: Ext(0) })?;
            if number == 0 {
                line.call(Message::Twalk { fid: 0, newfid: 2, wnames: Names::list(&[]) })?;
                line.call(Message::Tlcreate { fid: 2, name: FILE, flags: 0o1102, mode: 0o100644, gid: 0 })?;
                let data = vec![7; FILE_BYTES];
                line.call(Message::Twrite { fid: 2, offset: 0, data: Data::Here(&data) })?;
            }
            line.call(Message::Twalk { fid: 0, newfid: 1, wnames: Names::list(&[FILE]) })?;
            line.call(Message::Tlopen { fid: 1, flags: 0 })?;
            line.socket.no_wait()?;
            epoll.add(line.socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            lines.push(line);
        }
        Ok(Load { lines, epoll, depth, size, bytes: vec![0; 256 << 10] })
    }

    /// Keeps `depth` reads in flight on every connection for this long, then lets them end; operations done and the time taken in all.
    pub(crate) fn run(&mut self, time: Duration) -> anyhow::Result<(u64, Duration)> {
        let (start, mut done) = (Instant::now(), 0);
        let read = Message::Tread { fid: 1, offset: 0, count: self.size };
        for line in &mut self.lines {
            (0..self.depth).for_each(|_| {
                line.conn.call(&read);
            });
            line.flush()?;
        }
        let mut events = vec![EpollEvent::empty(); self.lines.len()];
        let mut open = true;
        while self.lines.iter().any(|line| line.conn.in_flight() > 0) {
            open = open && start.elapsed() < time;
            let n = self.epoll.wait(&mut events, EpollTimeout::from(1000_u16))?;
            for event in &events[..n] {
                let line = &mut self.lines[event.data() as usize];
                match line.socket.read(&mut self.bytes) {
                    Ok(0) => bail!("the server hung up"),
                    Ok(n) => line.conn.received(&self.bytes[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                }
                let mut ended = 0;
                while let Some(reply) = line.conn.next_reply(|_, reply| reply.map(|_| ()))? {
                    reply?;
                    ended += 1;
                }
                done += ended;
                if open {
                    (0..ended).for_each(|_| {
                        line.conn.call(&read);
                    });
                }
                line.flush()?;
            }
        }
        Ok((done, start.elapsed()))
    }
}
