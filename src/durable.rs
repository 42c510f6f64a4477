//! `--store DIR` and the commands `ring9 store`: how a store is opened or looked at, what is said of it, and the exit codes.
//!
//! Must not know: rings, listeners.

use crate::PATIENCE;
use crate::flags::Look;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, faccessat};
use ring9::arena::Arena;
use ring9::fs::mem::{self, Unfit};
use ring9::fs::{At, Error, Time};
use ring9::limits;
use ring9::logging::Log;
use ring9::store::copy::{self, Copied, NotCopied, To};
use ring9::store::format::{Damage, StoreId, Superblock, VERSION, Wrong};
use ring9::store::inspect::{self, Checked, Overview, Segment};
use ring9::store::{self, How, MARGIN_BYTES, NotOpened, Report, SEGMENTS_MIN, Stored, SyncMode, segment_name};
use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// EX_DATAERR of sysexits(3): the store is damaged, of another format, or none.
const EXIT_DATA: u8 = 65;
/// EX_CANTCREAT: the directory cannot be used, or files in it cannot be made.
const EXIT_CANNOT_CREATE: u8 = 73;
/// EX_IOERR: the disk has failed, at the start or later.
const EXIT_IO: u8 = 74;
/// EX_TEMPFAIL: another process has the store.
const EXIT_IN_USE: u8 = 75;

/// Why a store is not opened, in one line, and the exit code for it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) exit: u8,
    text: String,
}

impl Refused {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }

    fn new(exit: u8, text: impl fmt::Display) -> Refused {
        Refused { exit, text: text.to_string() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

impl From<NotOpened> for Refused {
    /// The cause, and what to do about it.
    fn from(why: NotOpened) -> Refused {
        let (exit, advice) = advice(&why);
        Refused::new(exit, if advice.is_empty() { why.to_string() } else { format!("{why}; {advice}") })
    }
}

fn advice(why: &NotOpened) -> (u8, &'static str) {
    const DAMAGED: &str = "nothing of it was changed; docs/durability.md says what can be done";
    match why {
        NotOpened::Damaged(_, Damage::Refused(_, inner)) => advice(inner),
        NotOpened::Damaged(..) | NotOpened::Unfit(Unfit::Contradiction(_)) => (EXIT_DATA, DAMAGED),
        NotOpened::Superblock(_, Wrong::Version(_)) => (EXIT_DATA, "use the version of ring9 that has written it"),
        NotOpened::Superblock(..) => (EXIT_DATA, DAMAGED),
        NotOpened::NoStore(_) | NotOpened::Unfinished(_) => (EXIT_DATA, ""),
        NotOpened::InUse(_) => (EXIT_IN_USE, "end that process, or name another directory"),
        NotOpened::Unfit(Unfit::Memory) => (1, "more --memory is needed"),
        NotOpened::Io(_, error) => match error.kind() {
            ErrorKind::PermissionDenied => {
                (EXIT_CANNOT_CREATE, "the directory must belong to the user of the server, who reads and writes there")
            }
            ErrorKind::NotFound => (EXIT_CANNOT_CREATE, "make the directory above it first"),
            ErrorKind::NotADirectory => (EXIT_CANNOT_CREATE, "name a directory"),
            ErrorKind::ReadOnlyFilesystem => (EXIT_CANNOT_CREATE, "mount it writable, or name another directory"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                (EXIT_CANNOT_CREATE, "make room: a start writes three segments")
            }
            _ => (EXIT_IO, ""),
        },
    }
}

/// What is asked of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a Path,
    pub(crate) store_bytes: u64,
    pub(crate) sync: SyncMode,
}

/// Opens the store in a directory, and says what was found there. `fail` is called once its log cannot be written any more.
pub(crate) fn open(
    asked: Asked<'_>,
    arena: Arena,
    tree: mem::Options,
    (id, at): (StoreId, At),
    fail: Box<dyn FnMut(Error)>,
) -> Result<Stored, Refused> {
    let Asked { path, store_bytes, sync } = asked;
    has_segments(path, store_bytes)?;
    let (inodes_max, start) = (tree.inodes_max, Instant::now());
    let segment_bytes = limits::segment_bytes(store_bytes);
    let how = How { segment_bytes, store_bytes, margin_bytes: MARGIN_BYTES, sync, id, tree, fail };
    let (mut stored, report) = store::open(path, arena, how, at)?;
    let seconds = start.elapsed().as_secs_f64();
    let (files, bytes) = stored.tree().count();
    let shown = path.display();
    log::info!("store {shown}: {}, {seconds:.2} s", found(&report, files, bytes));
    for (kind, line) in remarks(&report) {
        log::warn!(target: kind, "store {shown}: {line}");
    }
    if report.is_buffered {
        log::warn!(
            target: "buffered store",
            "store {shown}: the file system has no O_DIRECT: the log is written through the page cache"
        );
    }
    if let Some(line) = too_many(stored.tree().inodes(), inodes_max) {
        log::warn!(target: "inodes of the store", "store {shown}: {line}");
    }
    if let Some(line) = scarce(path, store_bytes) {
        log::warn!(target: "room for the store", "store {shown}: {line}");
    }
    Ok(stored)
}

/// Whether the store may have as many of its segments as it needs.
fn has_segments(path: &Path, store_bytes: u64) -> Result<(), Refused> {
    let Ok(Some(segment_bytes)) = inspect::segment_bytes(path) else { return Ok(()) };
    let needed = segment_bytes * SEGMENTS_MIN;
    if store_bytes >= needed {
        return Ok(());
    }
    let [needed, segment, asked] = [needed, segment_bytes, store_bytes].map(|bytes| bytes >> 20);
    let text = format!("has segments of {segment} MiB, and needs a --store-size of {needed} MiB; it is {asked} MiB");
    Err(Refused::new(1, format!("{}: {text}", path.display())))
}

/// Says so if more inodes are stored than there may be.
fn too_many(inodes: usize, inodes_max: usize) -> Option<String> {
    let text =
        || format!("{inodes} inodes are stored, --max-inodes is {inodes_max}: nothing is made until there are fewer");
    (inodes > inodes_max).then(text)
}

/// What recovery has found, on one line.
fn found(report: &Report, files: usize, bytes: u64) -> String {
    if report.is_new {
        return "made just now".into();
    }
    let Report { batches, bytes: log_bytes, lsn, .. } = report;
    format!("{files} files, {bytes} bytes; log position {lsn}, {batches} batches of {log_bytes} bytes")
}

/// What else is to be known, each with its kind.
fn remarks(report: &Report) -> Vec<(&'static str, String)> {
    let Report { torn, found, .. } = report;
    let mut remarks = Vec::new();
    if let Some(torn) = torn {
        let (name, offset) = (segment_name(torn.at.segment), torn.at.offset);
        remarks.push((
            "torn tail",
            format!("{name} at byte {offset}: {}; cut off: it was not acknowledged, or was damaged later", torn.why),
        ));
    }
    if found.doomed > 0 {
        remarks.push((
            "doomed names",
            format!("{} names are removed: they were to be when their files are closed", found.doomed),
        ));
    }
    remarks
}

/// Says so if the disk has less room than the store may take.
fn scarce(path: &Path, store_bytes: u64) -> Option<String> {
    let disk = statvfs(path).ok()?;
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    let has = inspect::bytes(path).ok()?;
    let text = || {
        let [free, most, has] = [free, store_bytes, has].map(|bytes| bytes >> 20);
        format!("the disk has {free} MiB free; the store may take {most} MiB and has {has}: ENOSPC comes earlier")
    };
    (free.saturating_add(has) < store_bytes).then(text)
}

/// What happens once the log cannot be written any more: the process ends, and no reply that waits for the log leaves.
pub(crate) fn failure(path: &Path, log: Arc<Log>) -> Box<dyn FnMut(Error)> {
    let shown = path.display().to_string();
    Box::new(move |error| {
        // The loop will not write it.
        log.write_directly();
        log::error!(
            "store {shown}: the log cannot be written: {error}; ends at once: what was not acknowledged may be lost"
        );
        log.finish(PATIENCE);
        std::process::exit(EXIT_IO.into());
    })
}

/// The last line of a server: its files are in the store.
pub(crate) fn say_what_is_kept(stored: &mut Stored) {
    let (lsn, durable) = stored.positions();
    let (files, bytes) = stored.tree().count();
    if durable < lsn {
        let rest = lsn - durable;
        log::warn!(
            "ended; changes up to log position {durable} are in the store; {rest} later ones were not acknowledged"
        );
    } else {
        log::info!("ended; nothing is lost: {files} files, {bytes} bytes are in the store, log position {lsn}");
    }
}

/// What a start with this store would find, and the exit code that it would end with. Changes nothing.
pub(crate) fn check(asked: Asked<'_>, memory: u64, tree: mem::Options) -> Result<String, Refused> {
    let Asked { path, store_bytes, .. } = asked;
    let shown = path.display();
    if !path.exists() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        may_write(parent)?;
        return Ok(format!("{shown}: is to be made"));
    }
    has_segments(path, store_bytes)?;
    let inodes_max = tree.inodes_max;
    let checked = verified(path, memory, tree)?;
    may_write(path)?;
    let Checked { report, files, file_bytes, inodes } = checked;
    if report.is_new {
        return Ok(format!("{shown}: a store is to be made there"));
    }
    let mut text = format!("{shown}: {}", found(&report, files, file_bytes));
    let lines = remarks(&report).into_iter().map(|(_, line)| line);
    for line in lines.chain(too_many(inodes, inodes_max)).chain(scarce(path, store_bytes)) {
        write!(text, "; {line}").expect("a String takes anything");
    }
    Ok(text)
}

/// Whether this process may make files there.
fn may_write(path: &Path) -> Result<(), Refused> {
    let access = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let allowed = faccessat(AT_FDCWD, path, access, AtFlags::AT_EACCESS);
    allowed.map_err(|error| NotOpened::Io(path.to_owned(), error.into()).into())
}

fn verified(path: &Path, memory: u64, tree: mem::Options) -> Result<Checked, Refused> {
    let io = |error| NotOpened::Io(path.to_owned(), error);
    let bytes = usize::try_from(memory).map_err(|error| io(io::Error::other(error)))?;
    // No page of it is taken before it is used.
    let arena = Arena::new(bytes).map_err(io)?;
    Ok(inspect::check(path, arena, tree, now())?)
}

fn now() -> At {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    At { wall: Time { sec: since.as_secs() as i64, nsec: since.subsec_nanos() }, mono_ns: 0 }
}

/// Does `ring9 store`.
pub(crate) fn look(look: &Look) -> ExitCode {
    let looked = match look {
        Look::Check { dir } => check_offline(dir),
        Look::Copy { dir, dest, store_size } => copy_offline(dir, dest, store_size.map(|size| size.0)),
        Look::Show { dir } => show(dir),
    };
    match looked {
        Ok(text) => {
            // Nobody may be left who reads it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err((text, refused)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            let _ = writeln!(io::stderr(), "ring9: error: {refused}");
            refused.code()
        }
    }
}

/// What can be said of a store, and why not more.
type Looked = Result<String, (String, Refused)>;

fn refused(why: impl Into<Refused>) -> (String, Refused) {
    (String::new(), why.into())
}

fn no_store(path: &Path) -> (String, Refused) {
    refused(Refused::new(EXIT_DATA, format!("{}: there is no store", path.display())))
}

/// Writes to a String, which takes anything.
macro_rules! line {
    ($text:expr, $($words:tt)*) => { writeln!($text, $($words)*).expect("a String takes anything") };
}

/// Memory in bytes for whatever the store may have, of which no more is taken than is needed; and how its tree is made.
fn enough(path: &Path) -> Result<(u64, mem::Options), Refused> {
    // A small file may take twice its bytes. The arena counts in units of 64 bytes with 32 bits.
    let log_bytes = inspect::bytes(path).map_err(|error| NotOpened::Io(path.to_owned(), error))?;
    let memory = (2 * log_bytes + (64 << 20)).min(256 << 30);
    Ok((memory, mem::Options { inodes_max: u32::MAX as usize, ..mem::Options::default() }))
}

fn check_offline(path: &Path) -> Looked {
    let (memory, tree) = enough(path).map_err(refused)?;
    let Checked { report, files, file_bytes, inodes } = verified(path, memory, tree).map_err(refused)?;
    if report.is_new {
        return Err(no_store(path));
    }
    let mut text = String::new();
    line!(text, "log      {} batches, {} bytes, changes up to {}", report.batches, report.bytes, report.lsn);
    line!(text, "tree     {files} files, {file_bytes} bytes; {inodes} inodes");
    remarks(&report).iter().for_each(|(_, line)| line!(text, "at start {line}"));
    line!(text, "{}: good: every checksum of the log and the whole tree", path.display());
    Ok(text)
}

/// The cause, and what to do about it.
fn not_copied(why: NotCopied) -> Refused {
    let exit = |why: &NotOpened| advice(why).0;
    match why {
        NotCopied::Source(why) | NotCopied::Unusable(why) => why.into(),
        NotCopied::NotEmpty(_) | NotCopied::Inside(_) => {
            Refused::new(EXIT_CANNOT_CREATE, format!("{why}; name a directory that is missing or empty"))
        }
        NotCopied::To(ref inner) => Refused::new(exit(inner), why),
        NotCopied::Left(ref inner, _) => Refused::new(exit(inner), format!("{why}; remove that directory")),
    }
}

/// Copies a store, and says what the copy has.
fn copy_offline(path: &Path, dest: &Path, store_size: Option<u64>) -> Looked {
    let (memory, tree) = enough(path).map_err(refused)?;
    let bytes = usize::try_from(memory).map_err(|error| refused(Refused::new(1, error)))?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| refused(NotOpened::Io(path, error))
    };
    let arena = Arena::new(bytes).map_err(io(path))?;
    let to = To { path: dest, id: new_id(), segment_bytes: store_size.map(limits::segment_bytes) };
    let copied = copy::copy(path, to, arena, tree, now()).map_err(|why| refused(not_copied(why)))?;
    let Some(copied) = copied else { return Err(no_store(path)) };
    let Copied { report, files, file_bytes, inodes, live_bytes, segment_bytes, log_bytes } = copied;
    let mut text = String::new();
    let [from, into] = [path, dest].map(|path| path.display());
    let (had, has) = (inspect::bytes(path).map_err(io(path))?, inspect::bytes(dest).map_err(io(dest))?);
    line!(text, "tree     {files} files, {file_bytes} bytes; {inodes} inodes");
    remarks(&report).iter().for_each(|(_, line)| line!(text, "left out {line}"));
    line!(text, "{from}: segments of {had} bytes in all, changes up to {}", report.lsn);
    line!(text, "{into}: segments of {has} bytes in all, {} MiB each; {log_bytes} bytes are used", segment_bytes >> 20);
    if let Some(store_size) = store_size
        && live_bytes >= copied.live_bytes_max(store_size)
    {
        let [live, most] = [live_bytes, copied.live_bytes_max(store_size)].map(|bytes| bytes >> 20);
        line!(text, "with this --store-size: {live} MiB live in the tree, {most} MiB may: there is no room for more");
    }
    line!(text, "{into}: a store of its own, with the same tree");
    Ok(text)
}

/// Bytes that tell a new store from others.
pub(crate) fn new_id() -> StoreId {
    *ring9::serve::seed().first_chunk().expect("a seed is longer")
}

fn show(path: &Path) -> Looked {
    let Overview { superblock, copies, segments, end } =
        inspect::show(path).map_err(refused)?.ok_or_else(|| no_store(path))?;
    let mut text = String::new();
    let Superblock { store, generation, epoch, segment_bytes, .. } = superblock;
    let id: String = store.iter().map(|byte| format!("{byte:02x}")).collect();
    line!(text, "store       {id}");
    line!(text, "format      {VERSION}");
    for (copy, which) in copies.iter().zip(["first", "second"]) {
        match copy {
            Ok(copy) if copy.generation == generation => {
                line!(text, "superblock  {which} copy: generation {generation}, counts")
            }
            Ok(copy) => line!(text, "superblock  {which} copy: generation {}", copy.generation),
            // The first start has ended between them.
            Err(_) if generation == 1 => line!(text, "superblock  {which} copy: not written yet"),
            Err(wrong) => line!(text, "superblock  {which} copy: {wrong}"),
        }
    }
    line!(text, "epoch       {epoch}");
    let from = (segment_name(superblock.segment), superblock.offset, superblock.lsn);
    line!(text, "log begins  {} at byte {}, change {}", from.0, from.1, from.2);
    line!(text, "segments    {} of {} MiB", segments.len(), segment_bytes >> 20);
    line!(
        text,
        "{:<20} {:>12} {:>12} {:>8} {:>12} {:>12}  epochs",
        "",
        "bytes",
        "used",
        "batches",
        "first change",
        "last change"
    );
    for Segment { number, bytes, batches, batch_bytes, changes, epochs } in &segments {
        let [first, last] =
            changes.map_or(["-".into(), "-".into()], |(first, last)| [first, last].map(|n| n.to_string()));
        let epochs = epochs.map_or("-".into(), |(first, last)| format!("{first} to {last}"));
        line!(
            text,
            "{:<20} {bytes:>12} {batch_bytes:>12} {batches:>8} {first:>12} {last:>12}  {epochs}",
            segment_name(*number)
        );
    }
    match end {
        Ok(end) => {
            let next = end.next;
            line!(text, "log ends    {} at byte {}, change {}", segment_name(next.segment), next.offset, next.lsn - 1);
            if let Some(torn) = end.torn {
                line!(text, "behind it   {}; the next start cuts it off", torn.why);
            }
            Ok(text)
        }
        Err(why) => Err((text, why.into())),
    }
}
