//! A server that serves a store, on a simulated disk that loses what was not synced. A seed is several lives of one store. A life ends
//! with a power cut; the last life ends by SIGTERM. The next life starts on the disk that is left.
//!
//! - [`Kept`] is the tree of the server: the store with a judge. The judge records the whole tree at the end of each batch. For each
//!   reply it tells the ledger the last change that the reply may show. The ledger fails if the reply leaves before that
//!   change is durable.
//! - [`Past`] is the result of a life: the disk, and the trees that a start may find on it.
//!
//! A start is not simulated. It works on real files in a directory of its own. Afterwards the simulated disk gets their content, and
//! simulated descriptors replace the real ones. The content of replies is not compared with a model; the other worlds do that.

use crate::kernel::faults::Fault;
use crate::kernel::forget::Image;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::run::{Left, Parts, Served};
use crate::shape::{Shape, same_shape, shape};
use crate::watch::Watch;
use crate::world::World;
use ring9::arena::Arena;
use ring9::fs::mem::{Mem, Options};
use ring9::fs::{
    Ask, AskId, At, Call, Cancel, Descriptor, Error, FileId, Gate, Grant, OpId, Outcome, Payload, Result, Service,
    Show, Time,
};
use ring9::store::{How, NotOpened, Report, Stored, SyncMode, open};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Largest message. A segment takes four of them.
const MSIZE: u32 = 64 << 10;
const SEGMENT_BYTES: u64 = 4 * MSIZE as u64;
/// Shapes that are kept of what is durable. Between two batches there may be some at which no batch ends: a change that leaves all as it was.
const SHAPES_BEFORE: usize = 8;
/// Memory of the trees that are looked at beside the server's.
const ARENA_BYTES: usize = 16 << 20;

/// What a life leaves to the next one.
#[derive(Default)]
pub(crate) struct Past {
    pub(crate) image: Image,
    /// The tree at the end of each batch that a start may find, by its last change.
    shapes: BTreeMap<u64, Shape>,
    /// The last change that is durable, and the last one.
    durable: u64,
    last: u64,
}

impl Past {
    /// What a start has found is the tree as it was after some batch, at or behind all that is durable. `whole`: what a start finds
    /// without a flipped bit, if there is one, which may be in the last batch and cut that off.
    fn check(&self, report: &Report, found: &Shape, whole: Option<&Report>) {
        if self.last == 0 {
            return;
        }
        let is_cut = whole.is_some_and(|whole| report.torn.is_some() && report.batches + 1 == whole.batches);
        assert!(
            report.lsn <= self.last && (report.lsn >= self.durable || is_cut),
            "store: durable {} <= found {} <= changed {}",
            self.durable,
            report.lsn,
            self.last
        );
        let Some(expected) = self.shapes.get(&report.lsn) else {
            panic!("store: a start has found change {}, at which no batch ends", report.lsn)
        };
        // Names that were to be removed on close, and their directories with them, are not what they were.
        if report.found.doomed == 0 {
            same_shape(expected, found).unwrap_or_else(|why| panic!("store: after change {}: {why}", report.lsn));
        } else {
            let missing = expected.keys().filter(|path| !found.contains_key(*path)).count();
            let is_less =
                found.keys().all(|path| expected.contains_key(path)) && missing <= report.found.doomed as usize;
            assert!(is_less, "store: after change {}: {missing} names are missing", report.lsn);
        }
    }
}

/// What is known of the store that is served.
#[derive(Default)]
struct State {
    past: Past,
    /// The last change of the tree itself.
    changed: u64,
    asks: u64,
}

/// The store with its judge.
pub(crate) struct Kept {
    store: Stored,
    ledger: Rc<RefCell<Ledger>>,
    state: Rc<RefCell<State>>,
    /// Which connection is at this slot of the server.
    numbers: BTreeMap<u32, u32>,
    /// Descriptors of the start, as the simulated kernel has them.
    descriptors: BTreeMap<i32, i32>,
}

/// The store, seen from outside.
pub(crate) struct Storing {
    world: Rc<RefCell<World>>,
    state: Rc<RefCell<State>>,
    has_failed: Rc<Cell<bool>>,
}

/// A directory on the machine, for a start.
struct Folder(PathBuf);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Folder {
    fn of(image: &Image) -> Folder {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("ring9-sim-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        for (name, bytes) in image {
            fs::write(path.join(std::ffi::OsStr::from_bytes(name)), bytes).expect("room");
        }
        Folder(path)
    }

    fn image(&self) -> Image {
        let entries = fs::read_dir(&self.0).expect("it is there").map(|entry| entry.expect("it is there"));
        entries.map(|entry| (entry.file_name().into_vec(), fs::read(entry.path()).expect("it is there"))).collect()
    }

    /// What this process has open here, by name; closed now. The directory itself has no name.
    fn opened(&self) -> Vec<(Vec<u8>, i32)> {
        let mut opened = Vec::new();
        for entry in fs::read_dir("/proc/self/fd").expect("there is /proc").flatten() {
            let (Ok(link), Some(number)) = (fs::read_link(entry.path()), entry.file_name().to_str().map(str::to_owned))
            else {
                continue;
            };
            if let (Ok(below), Ok(number)) = (link.strip_prefix(&self.0), number.parse::<i32>()) {
                opened.push((below.as_os_str().as_bytes().to_vec(), number));
            }
        }
        opened.iter().for_each(|(_, number)| nix::unistd::close(*number).expect("it is open"));
        opened
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.opened();
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn how(inodes_max: usize, hash_key: u64, store_bytes: u64, margin_bytes: u64, fail: Box<dyn FnMut(Error)>) -> How {
    How {
        segment_bytes: SEGMENT_BYTES,
        store_bytes,
        margin_bytes,
        sync: SyncMode::Always,
        id: *b"a simulated disk",
        tree: Options { inodes_max, hash_key, root: (0, 0, 0o777), ..Options::default() },
        fail,
    }
}

/// Any moment: times of the store are those of the clock that its tree is given.
const START: At = At { wall: Time { sec: 1, nsec: 0 }, mono_ns: 0 };

/// Opens the store in an image as a start does, without a server, and checks the tree that is found. `whole`: see [`Past::check`].
fn look(past: &Past, image: &Image, whole: Option<&Report>) -> std::result::Result<Report, NotOpened> {
    let folder = Folder::of(image);
    let arena = Arena::new(ARENA_BYTES).expect("a small mapping");
    let (mut store, report) = open(&folder.0, arena, how(1 << 16, 7, 1 << 30, 1 << 20, Box::new(|_| ())), START)?;
    past.check(&report, &shape(store.tree()), whole);
    Ok(report)
}

/// Flips one bit of a copy of the disk and starts on it. The start must be refused, or cut the last batch off, or find what it would
/// find without the flip. Returns whether it was refused.
pub(crate) fn flip(past: &Past, random: &mut Random) -> bool {
    let mut image = past.image.clone();
    let whole = look(past, &image, None).unwrap_or_else(|why| panic!("store: a start: {why}"));
    let file = random.below(image.len());
    let bytes = image.values_mut().nth(file).expect("one of them");
    if bytes.is_empty() {
        return false;
    }
    // What is behind the log is zeros, or means nothing.
    let most = if random.one_in(2) { bytes.len() } else { bytes.len().min(64 << 10) };
    let at = random.below(most);
    bytes[at] ^= 1 << random.below(8);
    look(past, &image, Some(&whole)).is_err()
}

/// Starts on the disk of the last life, which has ended in order.
pub(crate) fn check_last(past: &Past) {
    look(past, &past.image, None).unwrap_or_else(|why| panic!("store: the last start: {why}"));
}

impl Storing {
    /// Starts on the disk of the life before.
    pub(crate) fn begin(parts: Parts<'_>, past: Past) -> impl FnOnce(&Rc<RefCell<World>>) -> (Kept, Storing) + use<> {
        let Parts { arena, files, random, ledger, .. } = parts;
        let store_bytes = random.of(&[12, 16, 64]) * SEGMENT_BYTES;
        let margin_bytes = random.of(&[0, SEGMENT_BYTES / 2, 2 * SEGMENT_BYTES]);
        let has_failed = Rc::new(Cell::new(false));
        let fails = Rc::clone(&has_failed);
        let hash_key = random.number();
        let how = how(files, hash_key, store_bytes, margin_bytes, Box::new(move |_| fails.set(true)));
        let folder = Folder::of(&past.image);
        let (mut store, report) =
            open(&folder.0, arena, how, START).unwrap_or_else(|why| panic!("store: a start: {why}"));
        let found = shape(store.tree());
        past.check(&report, &found, None);
        let (opened, image) = (folder.opened(), folder.image());
        drop(folder);
        // What is behind is cut off for good. What is before may be found again if the last batch is cut off.
        let Past { mut shapes, .. } = past;
        drop(shapes.split_off(&report.lsn));
        shapes.insert(report.lsn, found);
        let past = Past { shapes, durable: report.lsn, last: report.lsn, image: Image::new() };
        let state = Rc::new(RefCell::new(State { past, changed: report.lsn, asks: 0 }));
        let ledger = Rc::clone(ledger);
        move |world| {
            let mounted = world.borrow_mut().kernel.mount(image);
            let descriptors = opened.into_iter().map(|(name, number)| (number, mounted[&name])).collect();
            let kept = Kept { store, ledger, state: Rc::clone(&state), numbers: BTreeMap::new(), descriptors };
            (kept, Storing { world: Rc::clone(world), state, has_failed })
        }
    }

    /// The log cannot be written any more: the process would end.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// The power fails.
    pub(crate) fn power_cut(&self) -> Past {
        let image = self.world.borrow_mut().kernel.power_cut();
        Past { image, ..std::mem::take(&mut self.state.borrow_mut().past) }
    }
}

impl Kept {
    /// Records the tree if a batch has just been sealed: then the tree has nothing more to tell.
    fn note(&mut self) {
        let (last, durable) = self.store.positions();
        let mut state = self.state.borrow_mut();
        (state.past.last, state.past.durable) = (last, durable);
        if !self.store.tree().has_changes() && !state.past.shapes.contains_key(&last) {
            state.past.shapes.insert(last, shape(self.store.tree()));
            // A start finds none of those long before the one that is durable: a flipped bit may cut the last batch off.
            if let Some((&first, _)) = state.past.shapes.range(..=durable).rev().take(SHAPES_BEFORE).last() {
                state.past.shapes = state.past.shapes.split_off(&first);
            }
        }
        self.ledger.borrow_mut().opened = Gate(durable);
    }

    /// Tells the ledger which gate the reply to a call needs. `changes`: the count of changes before the call. `shows`: the reply may show
    /// any change.
    fn made(
        &mut self,
        changes: u64,
        whose: Option<(u32, crate::ledger::Which)>,
        shows: bool,
        outcome: Outcome,
    ) -> Outcome {
        let has_changed = self.store.tree().changes() != changes;
        self.note();
        let mut state = self.state.borrow_mut();
        if has_changed {
            state.changed = state.past.last;
        }
        if let (Some((number, which)), Outcome::Done(_)) = (whose, &outcome) {
            let gate = if shows || has_changed { Gate(state.changed) } else { Gate::OPEN };
            self.ledger.borrow_mut().tells(number, which, gate);
        }
        outcome
    }

    fn as_mounted(&self, descriptor: &mut Descriptor) {
        if let Some(&number) = self.descriptors.get(&descriptor.0) {
            descriptor.0 = number;
        }
    }
}

impl Service for Kept {
    const FILE_BYTES: usize = Stored::FILE_BYTES;
    const NEEDS_ASKS: bool = true;

    fn init(&mut self, at: At) -> Result<()> {
        self.store.init(at)?;
        self.note();
        let mut state = self.state.borrow_mut();
        state.changed = state.past.last;
        Ok(())
    }

    fn cleanup(&mut self) -> Result<()> {
        self.store.cleanup()
    }

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        let call = match call {
            Call::Attach { user, aname } => {
                let Some(number) = Watch::<Mem>::number(aname) else { return Outcome::now(Err(Error::ENOENT)) };
                self.numbers.insert(op.peer, number);
                self.ledger.borrow_mut().enters(number, user.uid);
                Call::Attach { user, aname: b"" }
            }
            other => other,
        };
        let number = self.numbers.get(&op.peer).copied();
        let whose = number.and_then(|number| Some((number, self.ledger.borrow_mut().asks(number, &call)?)));
        let shows = !matches!(call, Call::Close { .. } | Call::Lock { .. } | Call::Conflict { .. });
        self.ledger.borrow_mut().operations += 1;
        let changes = self.store.tree().changes();
        let outcome = self.store.call(op, call, show, at);
        self.made(changes, whose, shows, outcome)
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let changes = self.store.tree().changes();
        let outcome = self.store.finish(op, show, at);
        self.made(changes, None, true, outcome)
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        self.store.cancel(op)
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        self.store.grant(file, offset, count, at)
    }

    fn refused(&self, file: FileId) -> Gate {
        self.store.refused(file)
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        self.store.extend(file, grant)
    }

    fn ready(&mut self) -> Option<OpId> {
        self.store.ready()
    }

    fn has_work(&self) -> bool {
        self.store.has_work()
    }

    fn is_open(&self, gate: Gate) -> bool {
        self.store.is_open(gate)
    }

    fn is_behind(&self) -> bool {
        self.store.is_behind()
    }

    fn file_memory_bytes(&self) -> usize {
        self.store.file_memory_bytes()
    }

    fn tick(&mut self, at: At) {
        self.store.tick(at);
        self.note();
    }

    fn spent(&mut self) -> u32 {
        self.store.spent()
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        let (id, mut ask) = {
            let next = self.store.ask();
            self.note();
            next?
        };
        match &mut ask {
            Ask::Open { dir, .. } | Ask::Unlink { dir, .. } => self.as_mounted(dir),
            Ask::Rename { from, to, .. } => {
                self.as_mounted(from);
                self.as_mounted(to);
            }
            Ask::Close { descriptor } => self.as_mounted(descriptor),
            Ask::Write { file, .. } | Ask::Sync { file, .. } => self.as_mounted(file),
            other => panic!("asks: a store does not ask for {other:?}"),
        }
        Some((id, ask))
    }

    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, at: At) {
        self.state.borrow_mut().asks += 1;
        self.store.answered(id, ask, result, at);
        self.note();
    }

    fn retire(&mut self, at: At) {
        self.store.retire(at);
    }

    fn has_asks(&self) -> bool {
        self.store.has_asks()
    }
}

impl Served for Storing {
    type Tree = Kept;

    const MSIZE: u32 = MSIZE;

    fn check_given_back(&self, _: &mut Kept, _: Left) {}

    fn is_idle(&self, kept: &Kept) -> bool {
        !kept.has_asks()
    }

    fn check_turn(&self) {
        let world = self.world.borrow();
        let ledger = world.ledger.borrow();
        for client in world.clients.iter().filter(|client| !client.is_gone()) {
            client.check_gates(&world.kernel.sockets[client.number as usize], &ledger);
        }
    }

    fn files(&self) -> usize {
        self.world.borrow().kernel.mounted_files()
    }

    fn check_end(&self, kept: &mut Kept, _: At, left: Left) -> Vec<(Fault, u64)> {
        let (last, durable) = kept.store.positions();
        assert!(left.asks || last == durable, "store: {durable} of {last} changes are durable at the end");
        Vec::new()
    }

    fn asks(&self) -> u64 {
        self.state.borrow().asks
    }
}

/// Kinds of fault that the last life has not: it ends in order.
pub(crate) fn without_of_last(faults: &[Fault]) -> Vec<Fault> {
    faults.iter().copied().chain([Fault::AskFails]).collect()
}
