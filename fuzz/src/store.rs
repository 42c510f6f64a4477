//! Any bytes as a superblock, and as the records of a batch that are then applied to a tree: what is accepted is written down to
//! the same bytes, and whatever is applied leaves a tree of which nothing is lost.
//!
//! Checksums are made to fit, or hardly an input would pass the first check.

use crate::memory::with_mem;
use crate::support::AT;
use ring9::fs::mem::{Options, Replay};
use ring9::fs::{Filesystem, Record};
use ring9::store::format::{
    Batch, HEAD_BYTES, Head, PAGE_BYTES, SUPERBLOCK_BYTES, Superblock, Writer, Wrong, checksum,
};

/// Of the first byte: the rest is a superblock.
const SUPERBLOCK: u8 = 1;
/// Of the first byte: checksums stay as they are.
const OWN_CHECKSUMS: u8 = 2;
/// Of the first byte: records may name files that are not there.
const PARTIAL: u8 = 4;
/// The kind of the record that names pages.
const PAGES: u8 = 6;
/// Pages that a batch of an input has at most.
const PAGES_MAX: usize = 64;

/// Tries one input.
pub fn check(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    if first & SUPERBLOCK != 0 {
        check_superblock(rest, first & OWN_CHECKSUMS == 0);
        return;
    }
    // The head alone, as it is.
    if let Ok((head, checksum)) = Head::parse(rest) {
        assert_eq!((&head.emit().0[..], head.emit().1), (&rest[..HEAD_BYTES], checksum), "{head:?}");
    }
    let bytes = batch(rest, first & OWN_CHECKSUMS == 0);
    let Ok(batch) = Batch::parse(&bytes) else { return };
    check_batch(&batch, &bytes);
    check_replay(&batch, first & PARTIAL != 0);
}

fn check_superblock(rest: &[u8], mends: bool) {
    let mut bytes = rest.to_vec();
    bytes.resize(SUPERBLOCK_BYTES, 0);
    if mends {
        bytes[12..16].fill(0);
        let right = checksum(&bytes);
        bytes[12..16].copy_from_slice(&right.to_le_bytes());
    }
    if let Ok(found) = Superblock::parse(&bytes) {
        assert_eq!(found.emit()[..], bytes, "there is one way to write {found:?}");
        assert_eq!(Superblock::choose([Ok(found), Superblock::parse(&[])]), Ok(found));
    }
}

/// A batch with these bytes as its records, and as many pages as they name.
fn batch(records: &[u8], mends: bool) -> Vec<u8> {
    let mut records = records.to_vec();
    let mut pages = Vec::new();
    let mut at = 0;
    while let Some(word) = records.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u32::from_le_bytes(*word);
        let fields = at + 4..at + 4 + (word >> 8) as usize;
        at = fields.end;
        let Some(sums) = records.get_mut(fields).and_then(|fields| fields.get_mut(16..)) else { continue };
        if word as u8 != PAGES {
            continue;
        }
        for sum in sums.chunks_exact_mut(4).take(PAGES_MAX - pages.len() / PAGE_BYTES) {
            let page = [sum[0]; PAGE_BYTES];
            if mends {
                sum.copy_from_slice(&checksum(&page).to_le_bytes());
            }
            pages.extend_from_slice(&page);
        }
    }
    let record_bytes = records.len() as u32;
    records.resize((HEAD_BYTES + records.len()).next_multiple_of(PAGE_BYTES) - HEAD_BYTES, 0);
    let head = Head {
        first_lsn: 1,
        last_lsn: 1,
        records_checksum: checksum(&records),
        record_bytes,
        pages: (pages.len() / PAGE_BYTES) as u32,
        ..Head::default()
    };
    [&head.emit().0[..], &records, &pages].concat()
}

/// What was read is written down to the same bytes.
fn check_batch(batch: &Batch<'_>, bytes: &[u8]) {
    let mut writer = Writer::default();
    let mut at = batch.head.front_bytes();
    for record in batch.records() {
        match record {
            Record::Data { path, offset, bytes: data } if is_within(bytes, at, data) => {
                writer.pages(path, offset, data);
                at += data.len();
            }
            record => writer.record(&record),
        }
    }
    let (front, checksum) = writer.seal(batch.head);
    assert_eq!((&front[..], checksum), (&bytes[..front.len()], batch.checksum), "there is one way to write a batch");
}

/// Whether `part` lies at this place of `bytes`, and is no copy of it.
fn is_within(bytes: &[u8], at: usize, part: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| std::ptr::eq(rest.as_ptr(), part.as_ptr()))
}

/// Whatever records say, they are refused or make a tree; and all that it has can be removed.
fn check_replay(batch: &Batch<'_>, is_partial: bool) {
    let options = Options { inodes_max: 100, root: (0, 0, 0o777), ..Options::default() };
    with_mem(None, options, |mem| {
        let mut replay = Replay::new(mem);
        replay.set_partial(is_partial);
        let applied = batch.records().try_for_each(|record| replay.apply(&record));
        let finished = applied.and_then(|()| replay.finish(AT).map(drop));
        let mut mem = replay.into_tree();
        if finished.is_err() {
            // Nobody serves it; files without names are lost with it.
            mem.cleanup().expect("memory is always released");
        }
        (mem, ())
    });
}

/// Inputs to start from, by name: superblocks, and batches that make a tree with some of everything.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use ring9::fs::{NodeRecord, mode};
    let node = |path, mode, size| {
        Record::Node(NodeRecord { path, version: 1, mode, size, kept: 0, mtime: AT.wall, ..NodeRecord::default() })
    };
    let entry = |dir, cookie, path, name| Record::Entry { dir, cookie, path, doomed: false, name };
    let root = node(1, mode::IFDIR | 0o755, 9);
    let (file, dir, link) = (node(2, mode::IFREG | 0o644, 9000), node(3, mode::IFDIR | 0o755, 6), mode::IFLNK | 0o777);
    let tree = [
        Record::Next { path: 20 },
        root,
        file,
        dir,
        node(4, link, 6),
        node(5, mode::IFIFO, 0),
        Record::Data { path: 2, offset: 8992, bytes: b"the end." },
        Record::Data { path: 4, offset: 0, bytes: b"target" },
        entry(1, 3, 2, b"file"),
        entry(1, 4, 3, b"dir"),
        entry(3, 3, 2, b"again"),
        entry(3, 4, 4, b"link"),
        entry(3, 5, 5, b"fifo"),
        Record::Xattr { path: 2, name: b"user.a", value: b"value" },
    ];
    let renamed = [
        Record::NoEntry { dir: 1, cookie: 3 },
        root,
        file,
        Record::Entry { dir: 1, cookie: 3, path: 2, doomed: true, name: b"doomed" },
        Record::NoXattr { path: 2, name: b"user.a" },
    ];
    let gone = [root, file, entry(1, 3, 2, b"file"), Record::NoEntry { dir: 1, cookie: 3 }, Record::Gone { path: 2 }];
    let circle = [dir, node(6, mode::IFDIR, 9), entry(3, 3, 6, b"in"), entry(6, 3, 3, b"out")];
    let twice = [root, file, entry(1, 3, 2, b"same"), entry(1, 4, 2, b"same")];
    let records = |records: &[Record<'_>]| {
        let mut writer = Writer::default();
        records.iter().for_each(|record| writer.record(record));
        input(0, writer)
    };
    let mut paged = Writer::default();
    [root, node(2, mode::IFREG, 1 << 20), entry(1, 3, 2, b"large")].iter().for_each(|record| paged.record(record));
    paged.pages(2, 4096, &[7; 3 * PAGE_BYTES]);
    paged.pages(2, 1 << 19, &[8; PAGE_BYTES]);
    let (head, _) = Head { first_lsn: 3, last_lsn: 9, previous: 5, ..Head::default() }.emit();
    let superblock = Superblock { generation: 4, epoch: 2, segment_bytes: 64 << 20, lsn: 1, ..Superblock::default() };
    let (superblock, flag) = (superblock.emit(), [SUPERBLOCK]);
    vec![
        ("tree", records(&tree)),
        ("renamed", records(&renamed)),
        ("gone", records(&gone)),
        ("circle", records(&circle)),
        ("name-twice", records(&twice)),
        ("pages", input(0, paged)),
        ("head", [&[OWN_CHECKSUMS], &head[..]].concat()),
        ("superblock", [&flag, &superblock[..96]].concat()),
        ("older-superblock", [&[SUPERBLOCK | OWN_CHECKSUMS], &superblock[..]].concat()),
    ]
}

/// The records of a batch as an input.
fn input(first: u8, writer: Writer) -> Vec<u8> {
    let (bytes, _) = writer.seal(Head { first_lsn: 1, last_lsn: 1, ..Head::default() });
    let (head, _) = Head::parse(&bytes).unwrap_or_else(|wrong: Wrong| panic!("{wrong}"));
    [&[first], &bytes[HEAD_BYTES..HEAD_BYTES + head.record_bytes as usize]].concat()
}
