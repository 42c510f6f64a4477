//! What one server measures: counters, histograms of service times, connections, and the last lines
//! of growing texts. Main owns them, the loop, the store and the logger write, `ctl` reads.
//!
//! Counters, histograms and connections belong to one thread. [`Lines`] is plain data; its owner
//! puts it behind a lock where other threads write.
//!
//! Must not know: sessions, trees, rings. `wire::Kind` is the one type shared with the protocol.

mod connection;
mod interval_log;
mod latency;
mod lines;
mod store;

pub use connection::Connection;
pub use interval_log::IntervalLog;
pub use latency::Latency;
pub use lines::Lines;
pub use store::{StoreFigures, StoreFixed, StoreNow};

use crate::wire::Kind;
use std::cell::{Cell, OnceCell, Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

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

    /// This many now: for what also becomes less.
    pub fn set(&self, n: u64) {
        self.0.set(n);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

macro_rules! counters {
    ($(#[$of:meta])* $counters:ident: $($(#[$doc:meta])* $name:ident,)*) => {
        $(#[$of])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl $counters {
            /// Names and values, in the order of the declaration.
            pub fn each(&self, mut see: impl FnMut(&'static str, u64)) {
                $(see(stringify!($name), self.$name.get());)*
            }
        }
    };
}

counters! {
    /// What the loop counts. Every field only grows, but those that say how much memory a holder has now.
    Counters:
    /// The most memory that this server may take in bytes, all holders at their bounds. Set once.
    memory_bound_bytes,
    /// Connections accepted.
    accepted,
    /// Connections that have ended.
    closed,
    /// Connections refused because there were too many.
    refused,
    /// Connections ended because others needed what they held: memory of replies, windows or grants, or their place.
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
    /// Receives of payload straight into blocks (RECVMSG with MSG_WAITALL).
    landings_plain,
    /// Receives of the last part of a payload straight into blocks, and of what follows it into a window (RECVMSG).
    landings_mixed,
    /// Receives while replies waited for those to what a socket had already.
    receives_again,
    /// Payload bytes received only to be thrown away.
    skipped_bytes,
    /// Sends of small replies only (SEND).
    sends_small,
    /// Sends gathered from blocks through the registered table (WRITEV_FIXED).
    sends_fixed,
    /// Sends gathered by address (SEND of a list; SENDMSG, where the kernel sends no lists and they span entries or nothing is registered).
    sends_plain,
    /// Sends that took fewer bytes than offered.
    sends_short,
    /// Bytes sent.
    sent_bytes,
    /// Replies whose last byte was sent.
    replies,
    /// Lines of the log that stderr did not take in time, or failed to take.
    log_lines_dropped,
    /// Lines of the log that were too many of their kind in a second.
    log_lines_left_out,
    /// Memory of replies that wait or are on their way in bytes, beside what they show of files, at the end of the last turn.
    reply_bytes,
    /// Memory that is kept for the next replies in bytes, at the end of the last turn.
    kept_bytes,
    /// Windows of all connections in bytes, at the end of the last turn.
    window_bytes,
    /// Memory of the fids of all connections in bytes, at the end of the last turn.
    fid_bytes,
}

counters! {
    /// What a store counts since its start. Every field only grows.
    StoreCounters:
    /// Batches of the log that have become durable.
    store_batches,
    /// Operations in them: calls that have changed anything.
    store_operations,
    /// Bytes of them, with what checkpoints tell.
    store_bytes,
    /// Syncs that have ended: of batches, segments, directories and superblocks.
    store_syncs,
    /// Checkpoints that have ended.
    store_checkpoints,
    /// Segments that checkpoints have taken out of the log.
    store_segments_freed,
}

/// Everything measured, lent to those who write and those who show.
#[derive(Debug)]
pub struct Stats {
    /// Counters of the loop.
    pub counters: Counters,
    /// Replies by the number of the T-message they answer.
    messages: [Counter; 256],
    latency: RefCell<Latency>,
    /// By the loop's number.
    connections: RefCell<BTreeMap<u32, Rc<Connection>>>,
    /// Bytes of the names of their listeners, in all.
    listener_bytes: Cell<usize>,
    /// Of the store, if there is one.
    store: OnceCell<Rc<StoreFigures>>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            counters: Counters::default(),
            messages: std::array::from_fn(|_| Counter::default()),
            latency: RefCell::default(),
            connections: RefCell::default(),
            listener_bytes: Cell::default(),
            store: OnceCell::default(),
        }
    }
}

impl Stats {
    /// There is a store, and this is measured of it. Told once, before anything is shown.
    pub fn keep(&self, store: Rc<StoreFigures>) {
        assert!(self.store.set(store).is_ok(), "a server has one store");
    }

    /// What is measured of the store, if there is one.
    pub fn store(&self) -> Option<&StoreFigures> {
        self.store.get().map(|store| &**store)
    }

    /// A reply to a message of this type left after `service_ns`.
    pub fn replied(&self, kind: Kind, service_ns: u64) {
        self.counters.replies.up();
        self.messages[usize::from(kind.0)].up();
        self.latency.borrow_mut().record(kind, service_ns);
    }

    /// Replies to messages of this type.
    pub fn messages(&self, kind: Kind) -> u64 {
        self.messages[usize::from(kind.0)].get()
    }

    /// Service times. Not to be held while replies leave.
    pub fn latency(&self) -> Ref<'_, Latency> {
        self.latency.borrow()
    }

    /// Service times, to be watched by interval. Not to be held while replies leave.
    pub fn latency_mut(&self) -> RefMut<'_, Latency> {
        self.latency.borrow_mut()
    }

    /// Peer `number` has come.
    pub fn connected(&self, number: u32, connection: Rc<Connection>) {
        self.listener_bytes.set(self.listener_bytes.get() + connection.listener.len());
        if let Some(old) = self.connections.borrow_mut().insert(number, connection) {
            self.listener_bytes.set(self.listener_bytes.get() - old.listener.len());
        }
    }

    /// Peer `number` is gone.
    pub fn disconnected(&self, number: u32) {
        if let Some(old) = self.connections.borrow_mut().remove(&number) {
            self.listener_bytes.set(self.listener_bytes.get() - old.listener.len());
        }
    }

    /// How many connections there are, and the bytes of the names of their listeners in all.
    pub fn connections(&self) -> (usize, usize) {
        (self.connections.borrow().len(), self.listener_bytes.get())
    }

    /// Shows the connections from a number on, in the order of their numbers, until `see` says false.
    pub fn each_connection_from(&self, from: u32, mut see: impl FnMut(u32, &Connection) -> bool) {
        let connections = self.connections.borrow();
        let _ = connections.range(from..).find(|(number, connection)| !see(**number, connection));
    }

    /// Shows every connection, in the order of their numbers.
    pub fn each_connection(&self, mut see: impl FnMut(u32, &Connection)) {
        self.connections.borrow().iter().for_each(|(&number, connection)| see(number, connection));
    }
}
