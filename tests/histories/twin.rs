//! A history is told, in batches, to a second tree: after each batch both are the same, byte for byte, with times, numbers of
//! files and cookies.
//!
//! A batch is put together one batch later, from the pages that were pinned when it was told: whatever the history changes
//! meanwhile must not show in it.

use super::history::{Checked, FILES_MAX, History, Met};
use super::ops::{Op, Random};
use ring9::arena::{Arena, Slice};
use ring9::fs::mem::{Found, Listener, Mem, Options, Replay, Unwatched, Watch, Watched};
use ring9::fs::{At, Filesystem, Iovec, Open, Record, Stat, Time, User, mode};
use ring9::store::format::{Batch, Next, StoreId, Superblock, Writer};
use std::collections::BTreeMap;

const STORE: StoreId = *b"sixteen bytes of";
const ROOT: User = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };
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

/// The second tree, and the log that leads to it.
struct Twin {
    replay: Replay<Unwatched>,
    next: Next,
    /// A batch that is told and not put together.
    told: Option<Told>,
    /// What the first tree was when that was told.
    shape: Shape,
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
            times,
            records: 0,
            pages: 0,
        }
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
        for _ in 0..self.times {
            for record in batch.records() {
                self.replay.apply(&record).map_err(|unfit| format!("batch {lsn}: {unfit}: {record:?}"))?;
            }
        }
        same_shape(&self.shape, &shape(self.replay.tree()))
    }

    fn hear(&mut self, tree: &mut Mem<Watched>) -> Checked {
        self.put_together()?;
        let mut told = Told::default();
        tree.tell(&mut told);
        if tree.has_changes() {
            return Err("something is told twice".to_owned());
        }
        (self.told, self.shape) = (Some(told), shape(tree));
        Ok(())
    }

    fn end(mut self, tree: &mut Mem<Watched>) -> Checked<(usize, usize)> {
        self.hear(tree)?;
        self.put_together()?;
        let found = self.replay.finish(moment(7)).map_err(|unfit| unfit.to_string())?;
        // What has gone is not there when it goes again.
        let skipped = if self.times > 1 { found.skipped } else { 0 };
        if found != (Found { skipped, ..Found::default() }) {
            return Err(format!("every file is closed, and {found:?}"));
        }
        same_shape(&self.shape, &shape(self.replay.tree()))?;
        let arena = self.replay.into_tree().into_arena();
        if arena.gauge().used_bytes() != 0 {
            return Err(format!("{} bytes of the second tree are nobody's", arena.gauge().used_bytes()));
        }
        Ok((self.records, self.pages))
    }
}

/// All that a tree shows of a file, and its bytes.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    cookie: u64,
    text: String,
    bytes: Option<Vec<u8>>,
}

/// By path.
type Shape = BTreeMap<Vec<u8>, Shown>;

/// Access times are not told by themselves, and blocks may differ.
fn text(stat: &Stat<'_>) -> String {
    format!("{:?}", Stat { atime: Time::default(), blocks: 0, name: b"", ..*stat })
}

fn moment(sec: i64) -> At {
    At { wall: Time { sec, nsec: 0 }, mono_ns: 0 }
}

/// A moment at which to look at a file that has this access time does not move it.
fn same_moment(stat: &Stat<'_>) -> At {
    At { wall: stat.atime, mono_ns: 0 }
}

/// The whole tree, without a change of it.
fn shape<W: Watch>(tree: &mut Mem<W>) -> Shape {
    let mut shape = Shape::new();
    let root = tree.attach(ROOT, b"").expect("the root is there");
    let stat = tree.stat(&root).expect("the root is there");
    shape.insert(Vec::new(), Shown { cookie: 0, text: text(&stat), bytes: None });
    let mut waiting = vec![(Vec::new(), root)];
    while let Some((path, mut dir)) = waiting.pop() {
        let at = same_moment(&tree.stat(&dir).expect("it is there"));
        let mut entries = Vec::new();
        let listed = tree.list(&mut dir, 0, at, &mut |entry| {
            entries.push((entry.cookie, entry.stat.name.to_vec(), text(&entry.stat), entry.stat.mode & mode::IFMT));
            true
        });
        listed.expect("a directory");
        for (cookie, name, text, kind) in entries.into_iter().skip(2) {
            let mut file = tree.lookup(&dir, &name).expect("just listed");
            let at = same_moment(&tree.stat(&file).expect("it is there"));
            let mut bytes = None;
            // One that is open for exclusive use cannot be read.
            if kind == mode::IFREG && tree.open(&mut file, Open { read: true, ..Open::NONE }, at).is_ok() {
                let mut all = Iovec::default();
                tree.read(&mut file, 0, all.out(u32::MAX), at).expect("it is open");
                bytes = Some(all.to_vec());
            }
            let below = [&path[..], b"/", &name].concat();
            shape.insert(below.clone(), Shown { cookie, text, bytes });
            if kind == mode::IFDIR {
                waiting.push((below, file));
            } else {
                tree.close(file, at).expect("it was only looked at");
            }
        }
        tree.close(dir, at).expect("it was only looked at");
    }
    shape
}

fn same_shape(ours: &Shape, other: &Shape) -> Checked {
    if !ours.keys().eq(other.keys()) {
        let names =
            |shape: &Shape| shape.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>();
        return Err(format!("files: {:?}, of the second tree: {:?}", names(ours), names(other)));
    }
    for ((path, ours), other) in ours.iter().zip(other.values()) {
        let path = String::from_utf8_lossy(path);
        if (&ours.text, ours.cookie) != (&other.text, other.cookie) {
            return Err(format!(
                "{path}: {} {}, of the second tree: {} {}",
                ours.cookie, ours.text, other.cookie, other.text
            ));
        }
        if let (Some(ours), Some(other)) = (&ours.bytes, &other.bytes)
            && ours != other
        {
            let at = ours.iter().zip(other).position(|(ours, other)| ours != other);
            return Err(format!("{path}: {} bytes, of the second tree {}; first at {at:?}", ours.len(), other.len()));
        }
    }
    Ok(())
}

/// Plays a history. Returns what it met, and how many records and runs of pages were told.
pub fn play(ops: &[Op], groups: Option<&[(u32, u32)]>, seed: u64) -> Checked<(Met, usize, usize)> {
    let arena = Arena::new(BYTES).expect("a small mapping");
    let mut history = History::new(Mem::watched(arena, options(groups)), groups);
    let (mut twin, mut random) = (Twin::new(1 + seed as usize % 2), Random::new(seed));
    for (step, op) in ops.iter().enumerate() {
        history.step(op)?;
        if random.below(6) == 0 {
            twin.hear(history.tree()).map_err(|why| format!("step {step}: {why}"))?;
        }
    }
    history.close_all();
    let (records, pages) = twin.end(history.tree())?;
    Ok((history.end()?, records, pages))
}
