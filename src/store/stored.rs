//! A tree in memory whose changes are kept on disk: what a client is told has happened is durable.
//!
//! Each call goes to the tree. What it has changed is marked there, and has a number (LSN). Before an enter of the loop all
//! marks become a batch, if none is on its way. Replies wait at a gate until the changes that they may show are durable.
//!
//! A checkpoint is marks as well: of everything, in bounded parts, which the batches carry. `room` says when it begins, how
//! much of it a batch carries, and who waits or is refused meanwhile.
//!
//! A store measures what it does ([`Stored::figures`]). Its clock is the moment of the last call that has one. An ask has none, so
//! a flush begins at the moment of the call before its first write.
//!
//! Must not know: messages, sockets, rings.

use super::checkpoint::Checkpoint;
use super::format::Writer;
use super::log::{Flushed, Log, OTHERS};
use super::room::{BEHIND_BYTES_MAX, HEAD_BYTES, Room, batch_bytes, live_bytes_max};
use crate::arena::Slice;
use crate::fs::mem::{Listener, Mem, Watched};
use crate::fs::{
    Answer, Ask, AskId, At, Call, Cancel, Done, Error, FileId, Gate, Grant, OpId, Outcome, Payload, Record, Result,
    Service, Show, Simple, Time,
};
use crate::stats::{StoreFigures, StoreFixed, StoreNow};
use std::collections::BTreeSet;
use std::rc::Rc;

/// One part in so many of the memory stays free.
const RESERVE: usize = 16;

/// What a reply waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// All that it reports or shows is durable.
    #[default]
    Always,
    /// The same where the client asks for it: Tfsync, a Twstat that changes nothing, and writes to files that were opened with O_SYNC or
    /// O_DSYNC. Other replies wait for nothing.
    Fsync,
}

/// How a tree is kept.
pub(super) struct Keeping {
    pub(super) segment_bytes: u64,
    pub(super) store_bytes: u64,
    pub(super) margin: u64,
    pub(super) sync: SyncMode,
    /// When anything was changed last, as it was stored.
    pub(super) last_change: Time,
    /// Told once: the log cannot be written any more. It does not return, or the store stays as it is for good.
    pub(super) fail: Box<dyn FnMut(Error)>,
}

/// A tree in memory with its log on disk.
pub struct Stored {
    tree: Simple<Mem<Watched>>,
    log: Log,
    checkpoint: Checkpoint,
    how: Keeping,
    /// Number of the last change, or of the last batch that carries a part of a checkpoint alone.
    lsn: u64,
    /// Number of the last change.
    changed_lsn: u64,
    /// Bytes of the log since its start when the last checkpoint had ended.
    base: u64,
    /// Operations that have changed anything and are not sealed.
    operations: u64,
    /// The last moment that the tree was given, in nanoseconds.
    now_ns: u64,
    figures: Rc<StoreFigures>,
    /// Files that were opened with O_SYNC or O_DSYNC, where only these wait.
    sync_files: BTreeSet<FileId>,
    has_failed: bool,
    /// Serving ends: no checkpoint begins.
    is_ending: bool,
}

/// What the tree tells, written down.
#[derive(Default)]
pub(super) struct Told {
    pub(super) writer: Writer,
    /// The pages that it names, in order.
    pub(super) pages: Vec<Slice>,
}

impl Listener for Told {
    fn record(&mut self, record: Record<'_>) {
        self.writer.record(&record);
    }

    fn pages(&mut self, path: u64, offset: u64, pages: Slice) {
        self.writer.pages(path, offset, &pages);
        self.pages.push(pages);
    }
}

/// What a call does to the room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// It takes room, and leaves less to live in.
    Room,
    /// It takes room until the next checkpoint.
    Removal,
}

fn needs(call: &Call<'_>) -> Needs {
    match call {
        Call::Create { .. }
        | Call::Write { .. }
        | Call::Commit { .. }
        | Call::Make { .. }
        | Call::Link { .. }
        | Call::Rename { .. }
        | Call::RenameFile { .. }
        | Call::SetXattr { value: Some(_), .. } => Needs::Room,
        Call::Wstat { change, .. } if change.size.is_some_and(|size| size > 0) => Needs::Room,
        Call::Wstat { .. } => Needs::Removal,
        Call::Open { flags, .. } if flags.truncate || flags.remove_on_close => Needs::Removal,
        Call::Unlink { .. } | Call::Remove { .. } | Call::SetXattr { .. } => Needs::Removal,
        _ => Needs::Nothing,
    }
}

impl Stored {
    pub(super) fn new(tree: Mem<Watched>, log: Log, checkpoint: Checkpoint, how: Keeping) -> Stored {
        let lsn = log.durable();
        let superblock = checkpoint.superblock();
        let figures = StoreFigures::new(StoreFixed {
            id: superblock.store,
            epoch: superblock.epoch,
            sync: match how.sync {
                SyncMode::Always => "always",
                SyncMode::Fsync => "fsync",
            },
            segment_bytes: how.segment_bytes,
            directory_bytes_max: how.store_bytes,
            live_bytes_max: live_bytes_max(how.store_bytes, how.segment_bytes),
        });
        Stored {
            tree: tree.into(),
            log,
            checkpoint,
            how,
            lsn,
            changed_lsn: lsn,
            base: 0,
            operations: 0,
            now_ns: 0,
            figures: Rc::new(figures),
            sync_files: BTreeSet::new(),
            has_failed: false,
            is_ending: false,
        }
    }

    /// The tree, for who looks at it beside the calls.
    pub fn tree(&mut self) -> &mut Mem<Watched> {
        &mut self.tree
    }

    /// The tree without its log. What is not durable is lost at the next start.
    pub fn into_tree(self) -> Mem<Watched> {
        self.tree.into_inner()
    }

    /// Number of the last change, and of the last one that is durable.
    pub fn positions(&self) -> (u64, u64) {
        (self.lsn, self.log.durable())
    }

    /// The figures of this store. They change while it is served.
    pub fn figures(&self) -> Rc<StoreFigures> {
        Rc::clone(&self.figures)
    }

    /// Publishes the state at the end of a turn.
    fn publish(&self) {
        let Room { live, swept, is_checkpoint, log, .. } = self.room();
        self.figures.set(StoreNow {
            position: self.lsn,
            durable: self.log.durable(),
            behind_bytes: self.behind_bytes(),
            log_bytes: log,
            live_bytes: live,
            is_checkpoint,
            swept_bytes: swept.unwrap_or(0),
            segments: (self.checkpoint.first(), self.log.last_segment()),
            stock: self.log.stock(),
            spares: self.log.spares(),
            is_full: self.log.is_full(),
        });
    }

    /// Checkpoints that have ended since the start.
    pub fn checkpoints(&self) -> u64 {
        self.checkpoint.done()
    }

    /// Whether a checkpoint is on its way.
    pub fn is_in_checkpoint(&self) -> bool {
        !self.checkpoint.is_resting()
    }

    /// Bytes of changes that are not durable.
    fn behind_bytes(&self) -> u64 {
        self.log.bytes() + self.tree.changed_bytes()
    }

    fn live_bytes_max(&self) -> u64 {
        live_bytes_max(self.how.store_bytes, self.how.segment_bytes)
    }

    fn room(&self) -> Room {
        let (segment, offset) = self.checkpoint.start();
        Room {
            segment: self.how.segment_bytes,
            live: self.tree.live_bytes(),
            live_max: self.live_bytes_max(),
            swept: self.checkpoint.swept(),
            is_checkpoint: !self.checkpoint.is_resting(),
            log: self.log.bytes_since(segment, offset),
            base: self.base,
            changed: self.tree.changed_bytes(),
            free: self.log.free_bytes(),
            ready: self.log.ready_bytes(),
            is_making: self.log.is_making(),
            margin: self.how.margin,
        }
    }

    /// A moment for the tree. A clock that is behind what is stored does not make times go back.
    fn moment(&mut self, at: At) -> At {
        self.now_ns = at.mono_ns;
        At { wall: at.wall.max(self.how.last_change), ..at }
    }

    /// Marks the part of a checkpoint that the next batch carries. Whether all of it is marked by now.
    fn sweep(&mut self) -> bool {
        let share = self.room().share(self.log.left_in_segment());
        let Some((sweep, swept)) = self.checkpoint.sweeping() else { return false };
        let before = self.tree.changed_bytes();
        let is_whole = share > 0 && self.tree.sweep(sweep, share);
        *swept += self.tree.changed_bytes() - before;
        is_whole
    }

    /// Seals all changes, with a part of the checkpoint that is on its way.
    fn seal(&mut self) {
        let is_whole = self.sweep();
        if self.tree.has_changes() {
            // A batch of a checkpoint alone has a number as well.
            self.lsn = self.lsn.max(self.log.next().lsn);
            let changed = self.tree.changed_bytes();
            let mut told = Told::default();
            self.tree.tell(&mut told);
            debug_assert!(
                told.writer.len() as u64 <= changed + HEAD_BYTES,
                "what is told is not more than was counted"
            );
            let operations = std::mem::take(&mut self.operations);
            self.log.seal(told.writer, told.pages, self.lsn, operations);
        }
        if is_whole {
            self.checkpoint.sealed(self.lsn);
        }
    }

    /// Whether there is room in the log for a call of this kind. Checked before anything changes.
    fn check_room(&self, needs: Needs) -> Result<()> {
        let has_room = match needs {
            Needs::Nothing => true,
            Needs::Room => self.tree.free_bytes() > self.memory_reserve() && self.room().takes(),
            Needs::Removal => self.room().removes(),
        };
        if has_room { Ok(()) } else { Err(Error::ENOSPC) }
    }

    /// Bytes of memory that stay free: after a start the same files lie in other blocks, which may need more.
    fn memory_reserve(&self) -> usize {
        self.tree.arena().usable_bytes() / RESERVE
    }

    /// The gate of a reply that was made just now: everything that it may show is durable behind it.
    fn gate(&self) -> Gate {
        if self.changed_lsn > self.log.durable() { Gate(self.changed_lsn) } else { Gate::OPEN }
    }

    /// Gives an outcome its gate, and what was changed its number. `waits`: the reply may show or report changes.
    fn gated(&mut self, before: u64, waits: bool, outcome: Outcome) -> Outcome {
        let has_changed = self.tree.changes() != before;
        if has_changed {
            self.operations += 1;
            self.lsn += 1;
            self.changed_lsn = self.lsn;
        }
        if self.tree.changed_bytes() >= batch_bytes(self.how.segment_bytes) {
            self.seal();
        }
        match outcome {
            Outcome::Done(Answer { result, .. }) if waits || has_changed && self.how.sync == SyncMode::Always => {
                Outcome::Done(Answer { result, gate: self.gate() })
            }
            other => other,
        }
    }

    /// Whether a reply to this call waits for all changes so far, whatever it has changed itself.
    fn waits(&self, call: &Call<'_>) -> bool {
        match self.how.sync {
            // Locks do not survive a restart in any case, and a close shows nothing.
            SyncMode::Always => !matches!(call, Call::Close { .. } | Call::Lock { .. } | Call::Conflict { .. }),
            SyncMode::Fsync => match call {
                Call::Fsync { .. } => true,
                Call::Write { file, .. } | Call::Commit { file, .. } => self.sync_files.contains(file),
                _ => false,
            },
        }
    }

    /// The numbers of statfs: those of the memory, or of what the store may have to live in, if that is less.
    fn shrink(&self, shown: &mut crate::fs::StatFs) {
        let unit = u64::from(shown.bsize.max(1));
        let (most, live) = (self.live_bytes_max(), self.tree.live_bytes());
        let free = (shown.bfree * unit).saturating_sub(self.memory_reserve() as u64);
        shown.blocks = shown.blocks.min(most / unit);
        shown.bfree = free.min(most.saturating_sub(live)) / unit;
    }
}

impl Service for Stored {
    const FILE_BYTES: usize = Simple::<Mem<Watched>>::FILE_BYTES;
    const NEEDS_ASKS: bool = true;

    fn init(&mut self, at: At) -> Result<()> {
        // Nothing was ever kept: the root gets its times.
        if self.lsn == 0 {
            let at = self.moment(at);
            self.tree.init(at)?;
        }
        // What recovery has changed is a change like any other.
        self.lsn += u64::from(self.tree.has_changes());
        self.changed_lsn = self.lsn;
        Ok(())
    }

    fn cleanup(&mut self) -> Result<()> {
        self.tree.cleanup()
    }

    fn is_private(&self, aname: &[u8]) -> bool {
        Service::is_private(&self.tree, aname)
    }

    fn call(&mut self, op: OpId, call: Call<'_>, mut show: Show<'_>, at: At) -> Outcome {
        let at = self.moment(at);
        let (before, waits) = (self.tree.changes(), self.waits(&call));
        if let Err(error) = self.check_room(needs(&call)) {
            // That there is no room is due to changes that may not be durable yet.
            return self.gated(before, waits, Outcome::now(Err(error)));
        }
        let is_statfs = matches!(call, Call::StatFs { .. });
        let (file, opens, closes) = match &call {
            Call::Open { file, flags } => (Some(*file), flags.sync, false),
            Call::Create { dir, new, .. } => (Some(*dir), new.flags.sync, false),
            Call::Close { file } => (Some(*file), false, true),
            _ => (None, false, false),
        };
        if closes && let Some(file) = file {
            self.sync_files.remove(&file);
        }
        if is_statfs && let Show::StatFs(shown) = &mut show {
            let outcome = self.tree.call(op, call, Show::StatFs(shown), at);
            self.shrink(shown);
            return self.gated(before, waits, outcome);
        }
        let outcome = self.tree.call(op, call, show, at);
        if opens
            && self.how.sync == SyncMode::Fsync
            && let (Some(file), Outcome::Done(Answer { result: Ok(Done::Opened { .. }), .. })) = (file, &outcome)
        {
            self.sync_files.insert(file);
        }
        self.gated(before, waits, outcome)
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let (before, at) = (self.tree.changes(), self.moment(at));
        let outcome = self.tree.finish(op, show, at);
        self.gated(before, self.how.sync == SyncMode::Always, outcome)
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        self.tree.cancel(op)
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        self.check_room(Needs::Room)?;
        Service::grant(&mut self.tree, file, offset, count, at)
    }

    fn refused(&self, _: FileId) -> Gate {
        if self.how.sync == SyncMode::Always { self.gate() } else { Gate::OPEN }
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        Service::extend(&mut self.tree, file, grant)
    }

    fn ready(&mut self) -> Option<OpId> {
        self.tree.ready()
    }

    fn has_work(&self) -> bool {
        // A part of a checkpoint may find nothing to mark, and then no completion brings the next turn.
        let is_sweeping = !self.has_failed && self.checkpoint.swept().is_some() && self.log.is_idle();
        Service::has_work(&self.tree) || is_sweeping && self.room().share(self.log.left_in_segment()) > 0
    }

    fn is_open(&self, gate: Gate) -> bool {
        gate.0 <= self.log.durable()
    }

    fn is_behind(&self) -> bool {
        self.behind_bytes() > BEHIND_BYTES_MAX || !self.has_failed && self.room().is_short()
    }

    fn file_memory_bytes(&self) -> usize {
        self.tree.file_memory_bytes()
    }

    fn tick(&mut self, at: At) {
        self.now_ns = at.mono_ns;
        self.log.tick();
        Service::tick(&mut self.tree, at);
    }

    fn spent(&mut self) -> u32 {
        Service::spent(&mut self.tree)
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        if self.has_failed {
            return None;
        }
        if !self.is_ending && self.room().is_due() {
            self.checkpoint.begin(self.log.next());
        }
        if self.log.is_idle() {
            self.seal();
        }
        let log = &mut self.log;
        let next = log.ask(self.now_ns);
        let next = next.or_else(|| self.checkpoint.ask(log.durable()).map(|ask| (AskId(OTHERS), ask)));
        if next.is_none() {
            self.publish();
        }
        next
    }

    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, at: At) {
        self.now_ns = at.mono_ns;
        let counters = &self.figures.counters;
        if matches!(ask, Ask::Sync { .. }) && result.is_ok() {
            counters.store_syncs.up();
        }
        let first = self.checkpoint.first();
        let answered = if id.0 & 0xff == OTHERS {
            let answered = self.checkpoint.answered(ask, result);
            if self.checkpoint.is_resting() {
                let (segment, offset) = self.checkpoint.start();
                self.base = self.log.bytes_since(segment, offset);
            }
            answered
        } else {
            self.log.answered(id, ask, result).map(|flushed| {
                if let Some(Flushed { operations, bytes, begun_ns }) = flushed {
                    self.figures.flushed(operations, bytes, at.mono_ns.saturating_sub(begun_ns));
                }
            })
        };
        counters.store_checkpoints.set(self.checkpoint.done());
        let freed = first..self.checkpoint.first();
        if !freed.is_empty() {
            counters.store_segments_freed.add(freed.end - freed.start);
            self.log.freed(freed.end, self.room().spares());
        }
        if let Err(error) = answered
            && !self.has_failed
        {
            self.has_failed = true;
            (self.how.fail)(error);
        }
    }

    fn retire(&mut self, at: At) {
        self.log.retire();
        self.checkpoint.retire();
        self.is_ending = true;
        self.tree.retire(at);
    }

    fn has_asks(&self) -> bool {
        let has_rest = !self.has_failed && (!self.log.is_idle() || self.tree.has_changes());
        self.log.has_asks() || self.checkpoint.has_asks() || has_rest
    }
}
