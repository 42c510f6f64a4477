//! How many requests each peer has in flight at the far server, and whether it may have one more.
//!
//! Must not know: asks, messages.

use super::link::CALLS_MAX;
use std::collections::BTreeMap;

/// Reads of files in flight at most: nothing is certain to end them, and the other requests need tags, too.
const READS_MAX: usize = CALLS_MAX as usize / 2;

/// Requests in flight, and how many of them read a file.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    calls: usize,
    reads: usize,
}

/// The shares of all peers. Requests that were taken back count until they have a reply.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: BTreeMap<u32, Share>,
    reads: usize,
}

impl Shares {
    /// Whether a peer may have one more request in flight: it may while it has fewer in flight than tags are free. The same
    /// rule holds for reads of files, of which [`READS_MAX`] may be in flight.
    pub(super) fn has(&self, peer: u32, is_read: bool, in_flight: usize) -> bool {
        let Share { calls, reads } = self.of.get(&peer).copied().unwrap_or_default();
        let has_calls = calls + in_flight < CALLS_MAX.into();
        has_calls && (!is_read || reads + self.reads < READS_MAX)
    }

    /// One more request of this peer is in flight.
    pub(super) fn take(&mut self, peer: u32, is_read: bool) {
        let share = self.of.entry(peer).or_default();
        share.calls += 1;
        share.reads += usize::from(is_read);
        self.reads += usize::from(is_read);
    }

    /// A request of this peer has its reply.
    pub(super) fn give_back(&mut self, peer: u32, is_read: bool) {
        self.reads -= usize::from(is_read);
        if let Some(share) = self.of.get_mut(&peer) {
            share.calls -= 1;
            share.reads -= usize::from(is_read);
            if share.calls == 0 {
                self.of.remove(&peer);
            }
        }
    }
}
