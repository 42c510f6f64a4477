//! Listeners: how connections come, and how serving ends.

use super::{AcceptState, Accepting, DRAIN_NS, Server};
use crate::fs::Filesystem;
use crate::uring::flight;
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;
use std::rc::Rc;

/// Nanoseconds between two warnings of the same kind.
const WARNING_NS: u64 = 10_000_000_000;

impl<R: Ring, F: Filesystem> Server<R, F> {
    pub(super) fn arm_listeners(&mut self) -> io::Result<()> {
        for index in 0..self.listeners.len() {
            if self.listeners[index].state == AcceptState::Idle {
                let fd = self.listeners[index].fd;
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
            None if self.drain.is_some() || self.peers.len() >= self.options.peers_max => {
                self.options.stats.counters.refused.up();
                if !planted!("refused-connection-leaks") {
                    self.ring.close(res);
                }
            }
            None => {
                let Accepting { name, trust, tcp, .. } = &self.listeners[index];
                let (name, trust, tcp) = (Rc::clone(name), *trust, *tcp);
                self.connect_by(name, res, trust, tcp);
            }
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                let listener = &mut self.listeners[index];
                if listener.warned_ns.is_none_or(|last| self.at.mono_ns > last + WARNING_NS) {
                    listener.warned_ns = Some(self.at.mono_ns);
                    log::warn!("accept: {}: trying again every 50 ms", Errno::from_raw(-res));
                }
                if !planted!("accept-tries-at-once") {
                    let token = Token::new(Op::Backoff, 0, index as u32);
                    self.retry(|server| flight::wait(&mut server.ring, &flight::BACKOFF, token))?;
                    self.listeners[index].state = AcceptState::BackingOff;
                }
            }
            // The connection went before it was accepted, or the accept was cancelled.
            Some(error) => log::debug!("accept: {error}"),
        }
        if self.drain.is_some() && self.listeners[index].state == AcceptState::Idle {
            self.close_listener(index);
        }
        Ok(())
    }

    pub(super) fn close_listener(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        if listener.state != AcceptState::Closed {
            listener.state = AcceptState::Closed;
            self.ring.close(listener.fd);
        }
    }

    /// Stops accepting and lets replies leave, for a while. Asked twice, it waits for nobody.
    pub fn begin_drain(&mut self) -> io::Result<()> {
        if self.drain.is_some() {
            self.drain = Some(self.at.mono_ns);
            return self.sweep();
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
