//! A connection: two queues of bytes, and how each end has left.

use std::collections::VecDeque;

/// One connection, from the client's connect on.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) to_server: VecDeque<u8>,
    pub(crate) to_client: VecDeque<u8>,
    /// Most bytes in each queue.
    pub(crate) room_to_server: usize,
    pub(crate) room_to_client: usize,
    /// The descriptor of the server's end.
    pub(crate) fd: Option<i32>,
    /// The client will say nothing more.
    pub(crate) finished: bool,
    /// The client has gone; it hears nothing more.
    pub(crate) gone: bool,
    /// With a reset: what was under way is lost.
    pub(crate) reset: bool,
    /// The server has shut it down.
    pub(crate) shut: bool,
    /// The server has closed it.
    pub(crate) closed: bool,
    /// Who is at the other end of a unix socket.
    pub(crate) uid: Option<u32>,
    /// It could not take all of the last send.
    pub(crate) was_full: bool,
    /// Why the server may end it without being at fault.
    pub(crate) excuse: Option<&'static str>,
    /// What has named its operations so far.
    pub(crate) names: Vec<u64>,
}

impl Socket {
    pub(crate) fn new(room_to_server: usize, room_to_client: usize, uid: Option<u32>) -> Socket {
        Socket {
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            room_to_server,
            room_to_client,
            fd: None,
            finished: false,
            gone: false,
            reset: false,
            shut: false,
            closed: false,
            uid,
            was_full: false,
            excuse: None,
            names: Vec::new(),
        }
    }

    /// Takes the first `n` bytes that the client has said.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        let (front, back) = self.to_server.as_slices();
        let mut taken = Vec::with_capacity(n);
        taken.extend_from_slice(&front[..n.min(front.len())]);
        taken.extend_from_slice(&back[..n - taken.len()]);
        self.to_server.drain(..n);
        taken
    }

    pub(crate) fn remember(&mut self, user_data: u64) {
        if !self.names.contains(&user_data) {
            self.names.push(user_data);
        }
    }

    /// Whether a receive of the server would end now.
    pub(crate) fn is_readable(&self) -> bool {
        !self.to_server.is_empty() || self.finished || self.gone || self.reset || self.shut
    }

    /// Bytes that the server may send now.
    pub(crate) fn send_room(&self) -> usize {
        self.room_to_client - self.to_client.len()
    }

    /// Nobody hears what the server sends.
    pub(crate) fn is_deaf(&self) -> bool {
        self.gone || self.reset || self.shut
    }

    /// The client hears no more than what is in the queue.
    pub(crate) fn is_over_for_client(&self) -> bool {
        self.shut || self.closed || self.reset
    }

    /// Bytes that the client may say now.
    pub(crate) fn say_room(&self) -> usize {
        if self.is_over_for_client() { 0 } else { self.room_to_server - self.to_server.len() }
    }
}
