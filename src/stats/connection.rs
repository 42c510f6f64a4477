//! What one connection shows in `ctl/connections`. The loop stores plain numbers as it goes; text
//! is made only when that file is opened.

use super::Counter;
use std::cell::Cell;
use std::rc::Rc;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// The address that it came in by.
    pub listener: Rc<str>,
    /// For whom it may act.
    pub trust: Box<str>,
    /// When it came, in monotonic nanoseconds.
    pub since_ns: u64,
    /// Dialect as agreed on; `None` before.
    pub dialect: Cell<Option<&'static str>>,
    /// Largest message in bytes.
    pub msize: Cell<u32>,
    /// Fids in use.
    pub fids: Cell<usize>,
    /// Requests that wait for their tree, and flushes of those.
    pub pending: Cell<usize>,
    /// Memory in bytes of replies that wait to be sent, beside those that are being sent and what they show of files.
    pub queued_bytes: Cell<usize>,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Bytes sent.
    pub sent_bytes: Counter,
}

impl Connection {
    /// One that has said nothing yet.
    pub fn new(listener: Rc<str>, trust: Box<str>, since_ns: u64) -> Connection {
        Connection {
            listener,
            trust,
            since_ns,
            dialect: Cell::default(),
            msize: Cell::default(),
            fids: Cell::default(),
            pending: Cell::default(),
            queued_bytes: Cell::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
        }
    }
}
