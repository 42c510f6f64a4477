//! Requests that wait behind an operation that changes their fid: a Tlopen right behind the Twalk that makes its fid.
//!
//! Such a request is kept as its message. It is served once nothing in front of it is about to change a fid that it
//! names, in the order of arrival for each fid. Tflush and Tversion never wait here.

use super::budget::LateBytes;
use super::classic::linked;
use super::{Request, Session, WORK_MAX};
use crate::fs::{At, Gate, Service};
use crate::wire::{Dialect, Fid, Message, Tag};
use std::collections::{BTreeSet, VecDeque};

/// Requests that are looked at for a unit of work.
const QUEUED_PER_UNIT: usize = 16;

/// Requests that wait, in order. Most sessions never have any.
#[derive(Debug, Default)]
pub(super) struct Queue(Option<Box<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    all: VecDeque<Queued>,
    /// Bytes of their messages.
    bytes: usize,
    /// A bound was reached while they were served: some of them could go on.
    cut: bool,
}

#[derive(Debug)]
struct Queued {
    request: Request,
    /// Its message.
    frame: Box<[u8]>,
    taken: LateBytes,
}

impl Queue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|requests| requests.all.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.iter().len()
    }

    fn iter(&self) -> std::collections::vec_deque::Iter<'_, Queued> {
        static NONE: VecDeque<Queued> = VecDeque::new();
        self.0.as_ref().map_or(&NONE, |requests| &requests.all).iter()
    }

    /// Some of it is to be served again, once replies have left or in the next turn.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.0.as_ref().is_some_and(|requests| requests.cut)
    }

    fn set_cut(&mut self, cut: bool) {
        if let Some(requests) = &mut self.0 {
            requests.cut = cut;
        }
    }

    /// Bytes of their messages.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |requests| requests.bytes)
    }

    pub(super) fn has(&self, tag: Tag) -> bool {
        self.iter().any(|queued| queued.request.tag == tag)
    }

    fn push(&mut self, request: Request, frame: &[u8], taken: LateBytes) {
        let requests = self.0.get_or_insert_default();
        requests.bytes += frame.len();
        requests.all.push_back(Queued { request, frame: frame.into(), taken });
    }

    /// Takes the request at this place. The last one leaves no memory.
    fn take(&mut self, place: usize) -> Option<Queued> {
        let requests = self.0.as_mut()?;
        let taken = requests.all.remove(place)?;
        requests.bytes -= taken.frame.len();
        if requests.all.is_empty() {
            self.0 = None;
        }
        Some(taken)
    }

    /// Forgets a request. Whether there was one with this tag.
    pub(super) fn remove(&mut self, tag: Tag) -> bool {
        let found = self.iter().position(|queued| queued.request.tag == tag);
        found.is_some_and(|place| self.take(place).is_some())
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl<S: Service> Session<S> {
    /// Fids that requests have to wait for.
    fn blocked(&self) -> BTreeSet<Fid> {
        let queued = self.queue.iter().flat_map(|queued| self.fids_in(&queued.frame));
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
            let taken = LateBytes::new(&self.config.budget, size_of::<Queued>() + frame.len());
            self.queue.push(request, frame, taken);
        }
        waits
    }

    /// Whether a payload for this fid has to wait, and its message with it.
    pub(super) fn is_blocked(&self, fid: Fid) -> bool {
        !(self.pending.is_empty() && self.queue.is_empty()) && self.blocked().contains(&fid)
    }

    /// Serves requests that waited behind others, as [`is_held`](Self::is_held) says, and nothing else: for a driver whose receive is
    /// still in flight. Whether some are left that wait for nothing but another turn.
    pub fn serve_held(&mut self, fs: &mut S, at: At) -> bool {
        if self.queue.is_cut() {
            self.serve_queue(fs, at);
        }
        self.queue.is_cut() && !self.has_too_many_replies() && !fs.is_behind()
    }

    /// Serves what need not wait any more.
    #[cold]
    pub(super) fn serve_queue(&mut self, fs: &mut S, at: At) {
        if self.serves_queue {
            // A request from the queue has ended something. The loop below sees that.
            return;
        }
        self.serves_queue = true;
        self.queue.set_cut(false);
        let (mut place, mut looked) = (0, 0);
        let mut passed = BTreeSet::new();
        while let Some(Queued { frame, .. }) = self.queue.iter().nth(place) {
            let fids: Vec<Fid> = self.fids_in(frame).collect();
            // Less than a turn's work for all of them: behind the ones that wait longer, others have to be reached.
            looked += 1;
            self.charge(u32::from(looked % QUEUED_PER_UNIT == 0));
            if fids.iter().any(|fid| passed.contains(fid)) || self.pending.changing().any(|fid| fids.contains(&fid)) {
                passed.extend(fids);
                place += 1;
                continue;
            }
            if self.work >= WORK_MAX || self.has_too_many_replies() || fs.is_behind() {
                self.queue.set_cut(true);
                break;
            }
            let Some(Queued { request, frame, taken }) = self.queue.take(place) else { break };
            drop(taken);
            self.charge(1);
            self.serve_parsed(fs, request, &frame, at);
            self.charge(fs.spent());
        }
        self.serves_queue = false;
    }

    /// Serves a message that was parsed when it came.
    fn serve_parsed(&mut self, fs: &mut S, request: Request, frame: &[u8], at: At) {
        let Ok((_, message)) = Message::parse(frame, self.dialect.unwrap_or(Dialect::P9)) else { return };
        self.message_bytes = frame.len() as u32;
        if let Err(error) = self.dispatch(fs, request, &message, frame, at) {
            self.reply_error(Gate::OPEN, request, error);
        }
    }
}

/// The fids that a request names, but for those of messages that never wait.
fn fids_of(message: &Message<'_>) -> [Option<Fid>; 2] {
    match *message {
        Message::Tattach { fid, .. } => [Some(fid), None],
        Message::Tcreate { fid, perm, extension, .. } => [Some(fid), linked(perm, extension.0)],
        Message::Twalk { fid, newfid, .. } | Message::Txattrwalk { fid, newfid, .. } => [Some(fid), Some(newfid)],
        Message::Topen { fid, .. }
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
