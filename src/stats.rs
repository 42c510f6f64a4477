//! Plain counters and histograms of one server. Main owns them, the loop writes, `ctl` reads; all on one thread.
//!
//! Must not know: sessions, trees, rings.

use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};

/// A counter of one thread.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// One more.
    pub fn up(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the loop counts. Every field only grows.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Names and values, in the order of the declaration.
            pub fn each(&self, mut see: impl FnMut(&'static str, u64)) {
                $(see(stringify!($name), self.$name.get());)*
            }
        }
    };
}

counters! {
    /// The most memory that this server may take in bytes, all holders at their bounds. Set once.
    memory_bound_bytes,
    /// Connections accepted.
    accepted,
    /// Connections that have ended.
    closed,
    /// Connections refused because there were too many.
    refused,
    /// Connections ended because their replies held memory that others needed.
    evicted,
    /// io_uring_enter calls.
    enters,
    /// Completions seen.
    cqes,
    /// Completions that named a peer which is gone.
    cqes_stale,
    /// Receives that ended with bytes.
    receives,
    /// Bytes received, payloads included.
    received_bytes,
    /// Receives of payload straight into blocks through the registered table (READV_FIXED).
    landings_fixed,
    /// The same by address, because they span entries or nothing is registered (RECVMSG).
    landings_plain,
    /// Payload bytes received only to be thrown away.
    skipped_bytes,
    /// Sends of small replies only (SEND).
    sends_small,
    /// Sends gathered from blocks through the registered table (WRITEV_FIXED).
    sends_fixed,
    /// Sends gathered by address, because they span entries or nothing is registered (SENDMSG).
    sends_plain,
    /// Sends that took fewer bytes than offered.
    sends_short,
    /// Bytes sent.
    sent_bytes,
    /// Replies whose last byte was sent.
    replies,
}

/// Everything measured, lent to those who write and those who show.
#[derive(Debug)]
pub struct Stats {
    /// Counters of the loop.
    pub counters: Counters,
    /// Replies by the number of the T-message they answer.
    messages: [Counter; 256],
    /// Nanoseconds from the turn that received a request to the submission that sent its reply at once, or else to the turn that saw the send end; in three
    /// significant digits.
    service_ns: RefCell<Histogram<u64>>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            counters: Counters::default(),
            messages: std::array::from_fn(|_| Counter::default()),
            service_ns: RefCell::new(
                Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid"),
            ),
        }
    }
}

impl Stats {
    /// A reply to a message of type `kind` left after `service_ns`.
    pub fn replied(&self, kind: u8, service_ns: u64) {
        self.counters.replies.up();
        self.messages[usize::from(kind)].up();
        self.service_ns.borrow_mut().saturating_record(service_ns.max(1));
    }

    /// Replies to messages of type `kind`.
    pub fn messages(&self, kind: u8) -> u64 {
        self.messages[usize::from(kind)].get()
    }

    /// Lets `see` look at the service times, in nanoseconds.
    pub fn service_ns<T>(&self, see: impl FnOnce(&Histogram<u64>) -> T) -> T {
        see(&self.service_ns.borrow())
    }
}
