//! Requests that wait behind an operation that changes their fid: a Tlopen right behind the Twalk that makes its fid.
//!
//! Such a request is kept as its message. It is served once nothing in front of it is about to change a fid that it
//! names, in the order of arrival for each fid. Tflush and Tversion never wait here.

use super::{Request, Session, WORK_MAX};
use crate::fs::{At, Gate, Service};
use crate::wire::{Dialect, Fid, Message, Tag};
use std::collections::{BTreeSet, VecDeque};

/// Requests that are looked at for a unit of work.
const QUEUED_PER_UNIT: usize = 16;

/// Requests in order, and the bytes of their messages.
#[derive(Debug, Default)]
pub(super) struct Queue {
    requests: VecDeque<(Request, Box<[u8]>)>,
    bytes: usize,
    /// A bound was reached while it was served: some of it could go on.
    cut: bool,
}

impl Queue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Some of it is to be served again, once replies have left or in the next turn.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes of their messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has(&self, tag: Tag) -> bool {
        self.requests.iter().any(|(request, _)| request.tag == tag)
    }

    fn push(&mut self, request: Request, frame: &[u8]) {
        self.bytes += frame.len();
        self.requests.push_back((request, frame.into()));
    }

    /// Forgets a request. Whether there was one with this tag.
    pub(super) fn remove(&mut self, tag: Tag) -> bool {
        let Some(found) = self.requests.iter().position(|(request, _)| request.tag == tag) else { return false };
        if let Some((_, frame)) = self.requests.remove(found) {
            self.bytes -= frame.len();
        }
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }
}

impl<S: Service> Session<S> {
    /// Fids that requests have to wait for.
    fn blocked(&self) -> BTreeSet<Fid> {
        let queued = self.queue.requests.iter().flat_map(|(_, frame)| self.fids_in(frame));
        self.pending.changing().chain(queued).collect()
    }

    fn fids_in(&self, frame: &[u8]) -> impl Iterator<Item = Fid> + use<S> {
        let message = Message::parse(frame, self.dialect.unwrap_or(Dialect::P9));
        message.map_or([None; 2], |(_, message)| fids_of(&message)).into_iter().flatten()
    }

    /// Queues a request if it has to wait. Most sessions have nothing that it could wait for.
    #[cold]
    pub(super) fn queues(&mut self, request: Request, message: &Message<'_>, frame: &[u8]) -> bool {
        let fids = fids_of(message);
        if fids == [None; 2] {
            return false;
        }
        // All that waits is looked at.
        self.charge((self.queue.len() / QUEUED_PER_UNIT) as u32);
        let blocked = self.blocked();
        let waits = fids.iter().flatten().any(|fid| blocked.contains(fid));
        if waits {
            self.queue.push(request, frame);
        }
        waits
    }

    /// Whether a payload for this fid has to wait, and its message with it.
    pub(super) fn is_blocked(&self, fid: Fid) -> bool {
        !(self.pending.is_empty() && self.queue.is_empty()) && self.blocked().contains(&fid)
    }

    /// Serves what need not wait any more.
    #[cold]
    pub(super) fn serve_queue(&mut self, fs: &mut S, at: At) {
        if self.serves_queue {
            // A request from the queue has ended something. The loop below sees that.
            return;
        }
        self.serves_queue = true;
        self.queue.cut = false;
        let mut place = 0;
        let mut passed = BTreeSet::new();
        while let Some((_, frame)) = self.queue.requests.get(place) {
            let fids: Vec<Fid> = self.fids_in(frame).collect();
            self.charge(1);
            if fids.iter().any(|fid| passed.contains(fid)) || self.pending.changing().any(|fid| fids.contains(&fid)) {
                passed.extend(fids);
                place += 1;
                continue;
            }
            if self.work >= WORK_MAX || self.has_too_many_replies() || fs.is_behind() {
                self.queue.cut = true;
                break;
            }
            let Some((request, frame)) = self.queue.requests.remove(place) else { break };
            self.queue.bytes -= frame.len();
            self.serve_parsed(fs, request, &frame, at);
            self.charge(fs.spent());
        }
        self.serves_queue = false;
    }

    /// Serves a message that was parsed when it came.
    fn serve_parsed(&mut self, fs: &mut S, request: Request, frame: &[u8], at: At) {
        let Ok((_, message)) = Message::parse(frame, self.dialect.unwrap_or(Dialect::P9)) else { return };
        if let Err(error) = self.dispatch(fs, request, &message, frame, at) {
            self.reply_error(Gate::OPEN, request, error);
        }
    }
}

/// The fids that a request names, but for those of messages that never wait.
fn fids_of(message: &Message<'_>) -> [Option<Fid>; 2] {
    match *message {
        Message::Tattach { fid, .. } => [Some(fid), None],
        Message::Twalk { fid, newfid, .. } | Message::Txattrwalk { fid, newfid, .. } => [Some(fid), Some(newfid)],
        Message::Topen { fid, .. }
        | Message::Tcreate { fid, .. }
        | Message::Tread { fid, .. }
        | Message::Twrite { fid, .. }
        | Message::Tclunk { fid }
        | Message::Tremove { fid }
        | Message::Tstat { fid }
        | Message::Twstat { fid, .. }
        | Message::Tstatfs { fid }
        | Message::Tlopen { fid, .. }
        | Message::Tlcreate { fid, .. }
        | Message::Tsymlink { fid, .. }
        | Message::Treadlink { fid }
        | Message::Tgetattr { fid, .. }
        | Message::Tsetattr { fid, .. }
        | Message::Txattrcreate { fid, .. }
        | Message::Treaddir { fid, .. }
        | Message::Tfsync { fid, .. }
        | Message::Tlock { fid, .. }
        | Message::Tgetlock { fid, .. } => [Some(fid), None],
        Message::Tmknod { dfid, .. } | Message::Tmkdir { dfid, .. } | Message::Tunlinkat { dfid, .. } => {
            [Some(dfid), None]
        }
        Message::Tlink { dfid, fid, .. } | Message::Trename { fid, dfid, .. } => [Some(dfid), Some(fid)],
        Message::Trenameat { olddirfid, newdirfid, .. } => [Some(olddirfid), Some(newdirfid)],
        _ => [None; 2],
    }
}
