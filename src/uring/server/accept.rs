//! Listeners: accepting connections, and the drain that ends serving.

use super::Server;
use crate::fs::Service;
use crate::uring::flight;
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// How long a drain waits for replies to leave, in nanoseconds.
const DRAIN_NS: u64 = 5_000_000_000;
/// Nanoseconds between two warnings of the same kind.
const WARNING_NS: u64 = 10_000_000_000;

/// Who may act for whom on the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// n_uname is believed.
    All,
    /// The user at the other end of the unix socket is who it must be; root may act for anyone.
    PeerUid,
    /// Everyone is nobody.
    Squash,
}

/// A listening socket. The loop closes it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The socket.
    pub fd: RawFd,
    /// Its address, as it is shown.
    pub name: Rc<str>,
    /// For its connections.
    pub trust: Trust,
    /// They are of TCP, where a send is dear.
    pub tcp: bool,
}

/// A listener, and how it stands.
pub(super) struct Accepting {
    pub(super) listener: Listener,
    pub(super) state: AcceptState,
    /// When it was last said that accepting fails, in monotonic nanoseconds.
    pub(super) warned_ns: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptState {
    Idle,
    Armed,
    BackingOff,
    Closed,
}

impl<R: Ring, S: Service> Server<R, S> {
    pub(super) fn arm_listeners(&mut self) -> io::Result<()> {
        for index in 0..self.listeners.len() {
            if self.listeners[index].state == AcceptState::Idle {
                let fd = self.listeners[index].listener.fd;
                self.retry(|server| flight::accept(&mut server.ring, fd, Token::new(Op::Accept, 0, index as u32)))?;
                self.listeners[index].state = AcceptState::Armed;
            }
        }
        Ok(())
    }

    pub(super) fn accepted(&mut self, index: usize, res: i32, flags: u32) -> io::Result<()> {
        // IORING_CQE_F_MORE (io_uring_prep_multishot_accept(3)): the accept stays armed.
        if !io_uring::cqueue::more(flags) {
            self.listeners[index].state = AcceptState::Idle;
        }
        match errno(res) {
            None if self.drain.is_some() || !self.has_place() => {
                self.options.stats.counters.refused.up();
                self.ring.close(res);
            }
            None => {
                let Listener { name, trust, tcp, .. } = self.listeners[index].listener.clone();
                self.connect_by(name, res, trust, tcp);
            }
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                self.gives_place();
                let listener = &mut self.listeners[index];
                if listener.warned_ns.is_none_or(|last| self.at.mono_ns > last + WARNING_NS) {
                    listener.warned_ns = Some(self.at.mono_ns);
                    log::warn!(target: "failed-accept", "accept: {}: trying again every 50 ms", Errno::from_raw(-res));
                }
                let token = Token::new(Op::Backoff, 0, index as u32);
                self.retry(|server| flight::wait(&mut server.ring, &flight::BACKOFF, token))?;
                self.listeners[index].state = AcceptState::BackingOff;
            }
            // The connection went before it was accepted, or the accept was cancelled.
            Some(error) => log::debug!(target: "failed-accept", "accept: {error}"),
        }
        if self.drain.is_some() && self.listeners[index].state == AcceptState::Idle {
            self.close_listener(index);
        }
        Ok(())
    }

    pub(super) fn close_listener(&mut self, index: usize) {
        let accepting = &mut self.listeners[index];
        if accepting.state != AcceptState::Closed {
            accepting.state = AcceptState::Closed;
            self.ring.close(accepting.listener.fd);
        }
    }

    /// Reads the signals that have come: none, if it was the poll of the descriptor that failed.
    /// SIGTERM and SIGINT end the server, the second one without waiting; the others are logged.
    pub(super) fn signalled(&mut self) -> io::Result<()> {
        let Some(fd) = self.options.signals else { return Ok(()) };
        let mut ends = None;
        self.ring.take_signals(fd, |signal| match signal {
            libc::SIGTERM | libc::SIGINT => ends = Some(signal),
            // Each signal is a kind of line of its own, but for the real-time ones.
            _ => log::info!(
                target: Signal::try_from(signal).map_or("real-time signal", Signal::as_str),
                "{} has no meaning here and is ignored; SIGTERM ends the server", name_of(signal)
            ),
        });
        if let Some(signal) = ends {
            let waits =
                if self.drain.is_none() { "; replies have 5 s to leave" } else { " again; nothing is waited for" };
            log::info!(target: "end", "{}: the server ends{waits}", name_of(signal));
            self.begin_drain()?;
        }
        self.watch_signals()
    }

    /// Stops accepting and lets replies leave, for a while. Asked twice, it waits for nobody.
    pub fn begin_drain(&mut self) -> io::Result<()> {
        if self.drain.is_some() {
            self.drain = Some(self.at.mono_ns);
            self.sweep()?;
            return self.sweep_lines();
        }
        self.drain = Some(self.at.mono_ns + DRAIN_NS);
        for index in 0..self.listeners.len() {
            match self.listeners[index].state {
                AcceptState::Armed => {
                    let target = Token::new(Op::Accept, 0, index as u32);
                    self.retry(|server| flight::cancel(&mut server.ring, target, Token::new(Op::Cancel, 0, 0)))?;
                }
                AcceptState::Idle => self.close_listener(index),
                AcceptState::BackingOff | AcceptState::Closed => {}
            }
        }
        let slots: Vec<u32> = self.peers.iter().map(|(slot, _)| slot as u32).collect();
        slots.into_iter().for_each(|slot| self.list(slot));
        Ok(())
    }
}

fn name_of(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}
