//! One connection: its session, its state, and exactly what is in flight.
//!
//! ```text
//! Open --EOF--> Finishing --all served and sent--> Closing --nothing in flight--> gone
//!   `-----------error, broken message, drain over------^
//! ```
//! A closing peer has left once nothing is in flight: its socket is closed. It is gone once the tree has ended its last
//! operation, too.
//!
//! "In flight" means that the kernel may still touch the memory of that operation. It ends with the
//! terminal CQE, or for a quiet send once that is known to have ended.

use super::buffers::{WINDOW_BYTES, Window};
use super::flight::{Outbound, PayloadReceive};
use super::intake::{Intake, WHOLE_BYTES_MAX};
use super::pace::Pace;
use super::socket::Socket;
use crate::fs::Service;
use crate::session::{Need, Received, Session};
use crate::stats::Connection;
use std::rc::Rc;

/// How long after a large payload a peer has a window of its own, in nanoseconds.
const BULK_NS: u64 = 1_000_000_000;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Requests are served.
    Open,
    /// Nothing more will arrive; what has arrived is served, and replies leave.
    Finishing,
    /// Shut down; waits until nothing is in flight, and until the tree has ended its last operation.
    Closing,
}

/// What is being received.
pub(crate) enum Receiving {
    /// Nothing is in flight.
    Nothing,
    /// Whatever comes, into shared buffers; in flight, until its terminal CQE.
    Shared {
        /// Its cancellation was submitted.
        ends: bool,
    },
    /// Into the window; in flight.
    Window,
    /// A payload into blocks; in flight.
    Blocks(PayloadReceive),
    /// The same, cut short: to be submitted again.
    MoreBlocks(PayloadReceive),
    /// Into the sink; in flight.
    Sink,
}

/// What is being sent.
pub(crate) enum Sending {
    /// Nothing.
    Nothing,
    /// In flight.
    Replies(Outbound),
    /// Cut short: to be submitted again.
    MoreReplies(Outbound),
}

/// A connection.
pub(crate) struct Peer<S: Service> {
    pub(crate) socket: Socket,
    pub(crate) generation: u32,
    pub(crate) life: Life,
    pub(crate) session: Session<S>,
    pub(crate) window: Window,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    /// What the session waits for.
    pub(crate) need: Need,
    /// The turn in which its session was served last.
    turn: u64,
    /// All fids of a peer that is closing are closed.
    pub(crate) closed: bool,
    /// Its socket is closed.
    pub(crate) has_left: bool,
    /// The window has bytes that the session has not seen.
    pub(crate) fresh: bool,
    /// Until when it receives into a window of its own, where payloads can land, in monotonic nanoseconds: for a while after a large payload has begun.
    bulk_until_ns: u64,
    /// How much is received into the window at once.
    pub(crate) intake: Intake,
    /// Whether its replies wait for one another.
    pub(crate) pace: Pace,
    /// It is a connection of TCP.
    pub(crate) tcp: bool,
    /// Its last receive has left bytes in the socket.
    pub(crate) readable: bool,
    /// It was not received from, and its socket said meanwhile that nothing comes behind what is there.
    pub(crate) hung_up: bool,
    /// How often deadlines were looked at since something happened.
    pub(crate) idle_sweeps: u8,
    /// Is on the loop's list for this turn.
    pub(crate) listed: bool,
    /// What others may see of it.
    pub(crate) shown: Rc<Connection>,
}

impl<S: Service> Peer<S> {
    pub(crate) fn new(
        socket: Socket,
        generation: u32,
        session: Session<S>,
        shown: Rc<Connection>,
        tcp: bool,
    ) -> Peer<S> {
        Peer {
            socket,
            generation,
            life: Life::Open,
            session,
            window: Window::new(),
            receiving: Receiving::Nothing,
            sending: Sending::Nothing,
            need: Need::default(),
            turn: 0,
            closed: false,
            has_left: false,
            fresh: false,
            bulk_until_ns: 0,
            intake: Intake::default(),
            pace: Pace::default(),
            tcp,
            readable: false,
            hung_up: false,
            idle_sweeps: 0,
            listed: false,
            shown,
        }
    }

    /// The session is to be served in this turn, maybe not for the first time.
    pub(crate) fn begin_turn(&mut self, turn: u64) {
        if std::mem::replace(&mut self.turn, turn) != turn {
            self.session.begin_turn();
        }
    }

    /// The replies on their way out.
    pub(crate) fn outbound(&self) -> Option<&Outbound> {
        match &self.sending {
            Sending::Replies(out) | Sending::MoreReplies(out) => Some(out),
            Sending::Nothing => None,
        }
    }

    /// Since when a message, or a reply, takes longer than it may, in monotonic nanoseconds. `None` if none does.
    pub(crate) fn overdue_since(&self, now: u64) -> Option<u64> {
        let replies = self.outbound().map(|out| out.due_ns);
        [self.session.deadline(), replies].into_iter().flatten().filter(|&by| by < now).min()
    }

    /// Whether it has memory of the arena for a payload that has not arrived.
    pub(crate) fn has_grant(&self) -> bool {
        matches!(self.receiving, Receiving::Blocks(_) | Receiving::MoreBlocks(_))
            || self.session.next_landing().is_some()
    }

    /// Whether it sends large payloads.
    pub(crate) fn is_bulk(&self, now: u64) -> bool {
        now < self.bulk_until_ns
    }

    /// Notes the large payloads of a call of `receive`.
    pub(crate) fn note_large(&mut self, received: &Received, now: u64) {
        if received.whole > 0 && self.intake.is_whole() {
            self.intake.saw(received.whole);
            self.pace.saw(received.whole);
        }
        if received.bulk > 0 {
            self.bulk_until_ns = now + BULK_NS;
            self.intake.saw(received.bulk);
            self.pace.saw(received.bulk);
        }
        self.session.set_whole_bytes(if self.intake.is_whole() { WHOLE_BYTES_MAX } else { 0 });
    }

    /// It has not sent any for a while.
    pub(crate) fn ends_bulk(&mut self) {
        self.bulk_until_ns = 0;
        self.lands();
    }

    /// From now on a payload that is not whole lands, whatever its size.
    pub(crate) fn lands(&mut self) {
        self.intake.end();
        self.session.set_whole_bytes(0);
    }

    /// Size of the window, in bytes, for the next receive. A message that has begun fits.
    pub(crate) fn window_bytes(&self) -> usize {
        let unread = self.window.unread().len();
        // While a payload lands the window is empty.
        let begun = if unread > 0 { unread + self.need.more } else { 0 };
        self.intake_bytes().max(begun).max(WINDOW_BYTES)
    }

    /// Bytes of whole messages for which the next receive has room.
    pub(crate) fn intake_bytes(&self) -> usize {
        self.intake.bytes(self.readable, self.pace.is_together())
    }

    /// Notes how it stands, at the end of its turn.
    pub(crate) fn show(&self) {
        self.shown.dialect.set(self.session.dialect());
        self.shown.msize.set(self.session.msize());
        self.shown.fids.set(self.session.fids());
        self.shown.pending.set(self.session.pending());
        self.shown.queued_bytes.set(self.session.queued_memory_bytes());
    }

    /// Whether a receive is in flight that brings whatever comes next.
    pub(crate) fn listens(&self) -> bool {
        matches!(
            self.receiving,
            Receiving::Shared { ends: false } | Receiving::Window | Receiving::Blocks(_) | Receiving::Sink
        )
    }

    /// Whether everything that has arrived is served, and every reply has left.
    pub(crate) fn is_at_rest(&self) -> bool {
        let has_sent = matches!(self.sending, Sending::Nothing) && self.session.queued_bytes() == 0;
        has_sent && !self.need.again && !self.need.held && self.session.pending() == 0
    }

    /// Whether its requests wait behind ones that wait for news, so that it is not received from: no receive tells when
    /// it has gone.
    pub(crate) fn is_stuck(&self) -> bool {
        self.life == Life::Open && self.need.held && !self.hung_up && matches!(self.receiving, Receiving::Nothing)
    }

    /// Whether the kernel may still touch memory of this peer.
    pub(crate) fn in_flight(&self) -> bool {
        matches!(self.sending, Sending::Replies(_))
            || matches!(
                self.receiving,
                Receiving::Shared { .. } | Receiving::Window | Receiving::Blocks(_) | Receiving::Sink
            )
    }
}
