//! Idle connections beside those that are busy: attached, and without requests.

use super::line::{Line, Socket};
use super::side_by_side;
use crate::target::Target;
use anyhow::Context;
use std::io::ErrorKind;

/// They stand as long as the value.
pub(crate) struct Crowd {
    sockets: Vec<Socket>,
}

impl Crowd {
    /// Makes so many connections, with two fids each.
    pub(crate) fn connect(target: &Target, count: u64) -> anyhow::Result<Crowd> {
        let one = |number| Line::idle(target).with_context(|| format!("idle connection {} of {count}", number + 1));
        Ok(Crowd { sockets: side_by_side(count as usize, one)? })
    }

    /// Whether the server has kept all of them.
    pub(crate) fn stands(&mut self) -> bool {
        let stands = |socket: &mut Socket| match socket.read(&mut [0]) {
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.sockets.iter_mut().all(stands)
    }
}
