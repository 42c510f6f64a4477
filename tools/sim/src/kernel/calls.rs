//! What the loop does with descriptors by calls of its own: the table of files, shutdown, close, and what a socket says of itself.
//!
//! Must not know: operations, but that they are in flight.

use super::{Fd, Kernel, trace};

impl Kernel {
    pub(crate) fn adopt(&mut self, place: u32, fd: i32) -> bool {
        self.socket(fd);
        let Some(there) = self.places.get_mut(place as usize) else { return false };
        assert!(there.is_none(), "registration: place {place} of the table of files is not empty");
        *there = Some(fd);
        true
    }

    pub(crate) fn let_go(&mut self, place: u32) {
        let there = self.places.get_mut(place as usize).and_then(Option::take);
        assert!(there.is_some(), "registration: place {place} of the table of files is empty");
    }

    pub(crate) fn shutdown(&mut self, fd: i32) {
        if self.shutdown_remote(fd) {
            return;
        }
        let number = self.socket(fd);
        trace!(self, "connection {number}: shut down");
        self.sockets[number].shut = true;
    }

    /// The client says nothing more.
    pub(crate) fn has_hung_up(&self, fd: i32) -> bool {
        let socket = &self.sockets[self.socket(fd)];
        socket.finished || socket.gone || socket.reset
    }

    /// It could not take all of the last send.
    pub(crate) fn was_full(&self, fd: i32) -> bool {
        self.sockets[self.socket(fd)].was_full
    }

    /// The server has a reason to end this connection.
    pub(crate) fn excuse(&mut self, fd: i32, why: &'static str) {
        let number = self.socket(fd);
        self.sockets[number].excuse = Some(why);
    }

    pub(crate) fn close(&mut self, fd: i32) {
        let Some(was) = self.fds.remove(&fd) else { panic!("descriptors: {fd} is closed and is not open") };
        let under_way = self.in_flight.iter().any(|op| op.sqe.fd == fd)
            || self.late.iter().chain(self.deferred.iter().flatten()).any(|cqe| cqe.fd == fd);
        assert!(!under_way, "descriptors: {fd} is closed with operations in flight");
        assert!(!self.places.contains(&Some(fd)), "descriptors: {fd} is closed and keeps its place in the table");
        if let Fd::Socket(number) = was {
            trace!(self, "connection {number}: closed");
            let socket = &mut self.sockets[number];
            (socket.closed, socket.fd) = (true, None);
            if !socket.shut {
                self.refused += 1;
                socket.excuse = Some("it was refused");
            }
            // What named its operations is never used again.
            let names = std::mem::take(&mut self.sockets[number].names);
            self.past.extend(names);
            let excess = self.past.len().saturating_sub(64);
            self.past.drain(..excess);
        }
    }

    pub(crate) fn peer_identity(&self, fd: i32) -> Option<(u32, u32)> {
        self.sockets[self.socket(fd)].uid.map(|uid| (uid, uid))
    }
}
