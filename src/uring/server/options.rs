//! What a loop is given beside its ring and tree.
//!
//! Must not know: the loop.

use super::{Grow, LogTo};
use crate::session::{self, Users};
use crate::stats::Stats;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// What a loop is given beside its ring and tree.
pub struct Options {
    /// Largest message in bytes that a client may negotiate.
    pub msize_max: u32,
    /// Connections at a time; more are accepted and closed.
    pub peers_max: usize,
    /// The user that this server runs as. Where that user or root is at the other end of a unix
    /// socket, they may see the server itself.
    pub owner: u32,
    /// Users and groups by name.
    pub users: Arc<Users>,
    /// What all sessions may have together.
    pub budget: Arc<session::Budget>,
    /// Nanoseconds to look for completions before sleeping; 0 sleeps at once.
    pub busy_poll_ns: u64,
    /// A signalfd: SIGTERM and SIGINT end the loop, others are logged.
    pub signals: Option<RawFd>,
    /// Where to count.
    pub stats: Rc<Stats>,
    /// Populate and register more when three quarters are used.
    pub grow: Option<Grow>,
    /// The log whose lines the loop writes.
    pub log: Option<LogTo>,
}

impl Options {
    /// The usual ones, for messages and connections up to these bounds.
    pub fn new(msize_max: u32, peers_max: usize) -> Options {
        Options {
            msize_max,
            peers_max,
            owner: 0,
            users: Arc::default(),
            budget: Arc::default(),
            busy_poll_ns: 0,
            signals: None,
            stats: Rc::default(),
            grow: None,
            log: None,
        }
    }
}
