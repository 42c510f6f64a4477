//! A history is told, in batches, to a second tree: after each batch both are the same, byte for byte, with times, numbers of
//! files and cookies.
//!
//! A batch is put together one batch later, from the pages that were pinned when it was told: whatever the history changes
//! meanwhile must not show in it.
//!
//! Now and then the second tree is thrown away, and a new one is told everything once more, in parts, while the history goes on.

use super::history::{Checked, FILES_MAX, History, Met};
use super::ops::{Op, Random};
use super::shape::{Shape, same_shape, shape};
use ring9::arena::{Arena, Slice};
use ring9::fs::mem::{Found, Listener, Mem, Options, Replay, Sweep, Unwatched, Watched};
use ring9::fs::{At, Record, Time};
use ring9::store::format::{Batch, Next, StoreId, Superblock, Writer};

const STORE: StoreId = *b"sixteen bytes of";
const BYTES: usize = 1 << 20;

fn options(groups: Option<&[(u32, u32)]>) -> Options {
    let groups = groups.map(|pairs| pairs.iter().copied().collect());
    Options { inodes_max: FILES_MAX, hash_key: 7, root: (0, 0, 0o777), groups, ..Options::default() }
}

/// What was told, until it is put together.
#[derive(Default)]
struct Told {
    writer: Writer,
    pages: Vec<Slice>,
    records: usize,
}

impl Listener for Told {
    fn record(&mut self, record: Record<'_>) {
        self.writer.record(&record);
        self.records += 1;
    }

    fn pages(&mut self, path: u64, offset: u64, pages: Slice) {
        self.writer.pages(path, offset, &pages);
        self.pages.push(pages);
        self.records += 1;
    }
}

/// How many records and runs of pages were told, and how often everything was.
#[derive(Debug)]
pub struct Heard {
    pub records: usize,
    pub pages: usize,
    pub sweeps: usize,
}

/// The second tree, and the log that leads to it.
struct Twin {
    replay: Replay<Unwatched>,
    next: Next,
    /// A batch that is told and not put together.
    told: Option<Told>,
    /// What the first tree was when that was told.
    shape: Shape,
    /// Everything is told once more, and was not told as a whole yet.
    sweep: Option<Sweep>,
    /// The batch that is told belongs to that; and all was told by its end.
    is_partial: bool,
    is_whole: bool,
    /// Records of files that were not there are skipped where that is so.
    has_skipped: bool,
    /// How often everything was told once more.
    sweeps: usize,
    /// How often each batch is applied: to apply it again changes nothing.
    times: usize,
    records: usize,
    pages: usize,
}

impl Twin {
    fn new(times: usize) -> Twin {
        let start = Superblock { store: STORE, epoch: 1, lsn: 1, segment_bytes: 1 << 30, ..Superblock::default() };
        // It has the same bytes in other blocks, so it needs other memory.
        let mem = Mem::new(Arena::new(4 * BYTES).expect("a small mapping"), Options { hash_key: 8, ..options(None) });
        Twin {
            replay: Replay::new(mem),
            next: Next::from(&start),
            told: None,
            shape: Shape::new(),
            sweep: None,
            is_partial: false,
            is_whole: true,
            has_skipped: times > 1,
            sweeps: 0,
            times,
            records: 0,
            pages: 0,
        }
    }

    /// Begins with an empty tree, which is told everything once more.
    fn begin_anew(self) -> Checked<Twin> {
        let mut this = self;
        this.put_together()?;
        let arena = this.replay.into_tree().into_arena();
        let replay = Replay::new(Mem::new(arena, Options { hash_key: 8, ..options(None) }));
        let sweep = Some(Sweep::default());
        Ok(Twin { replay, sweep, sweeps: this.sweeps + 1, has_skipped: true, ..this })
    }

    /// Writes down what was told last, reads it, and applies it.
    fn put_together(&mut self) -> Checked {
        let Some(told) = self.told.take() else { return Ok(()) };
        self.records += told.records;
        self.pages += told.pages.len();
        let lsn = self.next.lsn;
        let (mut bytes, _) = told.writer.seal(self.next.head(lsn + 2));
        told.pages.iter().for_each(|page| bytes.extend_from_slice(page));
        let batch = Batch::parse(&bytes).map_err(|wrong| format!("batch {lsn}: {wrong}"))?;
        self.next.check(&batch.head).map_err(|wrong| format!("batch {lsn}: {wrong}"))?;
        self.next = self.next.behind(&batch);
        for time in 0..self.times {
            // What has gone is not there when it goes again.
            self.replay.set_partial(time > 0 || self.is_partial);
            for record in batch.records() {
                self.replay.apply(&record).map_err(|unfit| format!("batch {lsn}: {unfit}: {record:?}"))?;
            }
        }
        if self.is_whole { same_shape(&self.shape, &shape(self.replay.tree())) } else { Ok(()) }
    }

    /// `bytes`: how much is told once more with what has changed, if that goes on.
    fn hear(&mut self, tree: &mut Mem<Watched>, bytes: u64) -> Checked {
        self.put_together()?;
        let mut told = Told::default();
        self.is_partial = self.sweep.is_some();
        if let Some(sweep) = &mut self.sweep {
            let before = tree.changed_bytes();
            let is_whole = tree.sweep(sweep, bytes);
            let marked = tree.changed_bytes() - before;
            if marked > bytes + (70 << 10) {
                return Err(format!("{marked} bytes are marked, and {bytes} were asked for"));
            }
            self.sweep = self.sweep.take().filter(|_| !is_whole);
        }
        self.is_whole = self.sweep.is_none();
        tree.tell(&mut told);
        if tree.has_changes() {
            return Err("something is told twice".to_owned());
        }
        (self.told, self.shape) = (Some(told), shape(tree));
        Ok(())
    }

    fn end(mut self, tree: &mut Mem<Watched>) -> Checked<Heard> {
        self.hear(tree, 1000)?;
        while self.sweep.is_some() {
            self.hear(tree, 1000)?;
        }
        self.put_together()?;
        let found = self.replay.finish(moment(7)).map_err(|unfit| unfit.to_string())?;
        let skipped = if self.has_skipped { found.skipped } else { 0 };
        if found != (Found { skipped, ..Found::default() }) {
            return Err(format!("every file is closed, and {found:?}"));
        }
        same_shape(&self.shape, &shape(self.replay.tree()))?;
        let arena = self.replay.into_tree().into_arena();
        if arena.gauge().used_bytes() != 0 {
            return Err(format!("{} bytes of the second tree are nobody's", arena.gauge().used_bytes()));
        }
        Ok(Heard { records: self.records, pages: self.pages, sweeps: self.sweeps })
    }
}

fn moment(sec: i64) -> At {
    At { wall: Time { sec, nsec: 0 }, mono_ns: 0 }
}

/// Plays a history. Returns what it met, and what was told.
pub fn play(ops: &[Op], groups: Option<&[(u32, u32)]>, seed: u64) -> Checked<(Met, Heard)> {
    let arena = Arena::new(BYTES).expect("a small mapping");
    let mut history = History::new(Mem::watched(arena, options(groups)), groups);
    let (mut twin, mut random) = (Twin::new(1 + seed as usize % 2), Random::new(seed));
    for (step, op) in ops.iter().enumerate() {
        history.step(op)?;
        if random.below(6) == 0 {
            let bytes = 1 + random.below([100, 2000, 50_000][seed as usize % 3]) as u64;
            twin.hear(history.tree(), bytes).map_err(|why| format!("step {step}: {why}"))?;
        }
        if random.below(100) == 0 {
            twin = twin.begin_anew().map_err(|why| format!("step {step}: {why}"))?;
        }
    }
    history.close_all();
    let heard = twin.end(history.tree())?;
    Ok((history.end()?, heard))
}
