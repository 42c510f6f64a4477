//! What is written down is read as it was; whatever else the bytes are, reading ends with an error.

mod scan;

use super::cut::Cut;
use super::record::{self, Found};
use super::*;
use crate::fs::{NodeRecord, Record, Time, mode};
use crate::wire::qt;

const STORE: StoreId = *b"sixteen bytes of";

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Small and large ones alike.
    fn number(&mut self) -> u64 {
        let shift = self.below(62) + 2;
        (self.next() >> shift).max(3)
    }

    fn time(&mut self) -> Time {
        Time { sec: self.next() as i64, nsec: self.below(1_000_000_000) as u32 }
    }

    fn node(&mut self) -> NodeRecord {
        let kinds = [mode::IFREG, mode::IFDIR, mode::IFLNK, mode::IFBLK, mode::IFCHR, mode::IFIFO, mode::IFSOCK];
        let kind = kinds[self.below(kinds.len())];
        let size = match kind {
            mode::IFREG | mode::IFDIR => self.number(),
            mode::IFLNK => 1 + self.below(4095) as u64,
            _ => 0,
        };
        let has_bytes = [mode::IFREG, mode::IFLNK].contains(&kind);
        let is_device = [mode::IFBLK, mode::IFCHR].contains(&kind);
        NodeRecord {
            path: self.number(),
            version: self.next() as u32 | 1,
            mode: kind | self.next() as u32 & mode::PERM,
            bits: [0, qt::APPEND, qt::EXCL | qt::TMP][self.below(3)],
            uid: self.next() as u32,
            gid: self.next() as u32,
            muid: self.next() as u32,
            rdev: if is_device { (self.next() as u32, self.next() as u32) } else { (0, 0) },
            size,
            kept: if has_bytes { size / 2 } else { 0 },
            atime: self.time(),
            mtime: self.time(),
            ctime: self.time(),
            btime: self.time(),
        }
    }
}

/// A record that owns its bytes: a kind, numbers, a name, other bytes.
struct Owned {
    kind: usize,
    numbers: [u64; 3],
    name: Vec<u8>,
    bytes: Vec<u8>,
    node: NodeRecord,
}

impl Owned {
    fn new(random: &mut Random) -> Owned {
        let len = 1 + random.below(255);
        let name = (0..len).map(|_| b'a' + random.below(26) as u8).collect();
        let len =
            1 + [random.below(50), random.below(5000), random.below(65536)][[0, 0, 0, 0, 0, 0, 1, 2][random.below(8)]];
        let numbers = [random.number(), random.number(), random.number()];
        Owned { kind: random.below(8), numbers, name, bytes: random.bytes(len), node: random.node() }
    }

    fn record(&self) -> Record<'_> {
        let ([path, offset, other], name, bytes) = (self.numbers, &self.name[..], &self.bytes[..]);
        match self.kind {
            0 => Record::Next { path },
            1 => Record::NoEntry { dir: path, cookie: offset },
            2 => Record::Gone { path },
            3 => Record::Node(self.node),
            4 => Record::Data { path, offset, bytes },
            5 => Record::Entry { dir: path, cookie: offset, path: other, doomed: other % 2 == 0, name },
            6 => Record::Xattr { path, name, value: bytes },
            _ => Record::NoXattr { path, name },
        }
    }
}

/// A batch of random records and pages: its bytes, and what it says.
fn random_batch(random: &mut Random, count: usize, head: Head) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut writer, mut pages, mut said) = (Writer::default(), Vec::new(), Vec::new());
    for _ in 0..count {
        if random.below(4) == 0 {
            let count = 1 + random.below(5);
            let data = random.bytes(count * PAGE_BYTES);
            let (path, offset) = (random.number(), random.number() / PAGE_BYTES as u64 * PAGE_BYTES as u64);
            writer.pages(path, offset, &data);
            said.push(text(&Record::Data { path, offset, bytes: &data }));
            pages.extend(data);
        } else {
            let one = Owned::new(random);
            writer.record(&one.record());
            said.push(text(&one.record()));
        }
    }
    let len = writer.len();
    let (mut bytes, checksum) = writer.seal(head);
    bytes.extend(pages);
    assert_eq!(bytes.len(), len);
    assert_eq!(Head::parse(&bytes).map(|(_, checksum)| checksum), Ok(checksum));
    (bytes, said)
}

/// All of a record, to be compared.
fn text(record: &Record<'_>) -> Vec<u8> {
    format!("{record:?}").into_bytes()
}

fn head() -> Head {
    Head {
        store: STORE,
        epoch: 3,
        segment: 5,
        offset: 8192,
        first_lsn: 10,
        last_lsn: 12,
        previous: 77,
        ..Head::default()
    }
}

#[test]
fn the_checksum_is_crc32c() {
    // RFC 3720, B.4: 32 bytes of zeros, of ones, and growing ones.
    assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
    assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(checksum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    let mut bytes: Vec<u8> = (0..64).collect();
    let around = front::own_checksum(&bytes);
    bytes[12..16].fill(0);
    assert_eq!(around, checksum(&bytes));
}

#[test]
fn batches_are_read_as_they_were_written() {
    let mut random = Random(0x5eed);
    for count in (0..200).map(|n| n % 12) {
        let (bytes, said) = random_batch(&mut random, count, head());
        let batch = Batch::parse(&bytes).expect("a batch");
        let Head { record_bytes, records_checksum, pages, .. } = batch.head;
        assert_eq!(batch.head, Head { record_bytes, records_checksum, pages, ..head() });
        assert_eq!(batch.head.len(), bytes.len() as u64);
        assert_eq!(batch.records().map(|record| text(&record)).collect::<Vec<_>>(), said);
        // There is one way to write it.
        let mut again = Writer::default();
        let mut at = batch.head.front_bytes();
        for record in batch.records() {
            match record {
                Record::Data { path, offset, bytes: data }
                    if bytes[at..].starts_with(data) && data.len() % PAGE_BYTES == 0 =>
                {
                    again.pages(path, offset, data);
                    at += data.len();
                }
                record => again.record(&record),
            }
        }
        let (front, checksum) = again.seal(head());
        assert_eq!((&front[..], checksum), (&bytes[..front.len()], batch.checksum));
        // And a part of it is no batch.
        for len in [0, HEAD_BYTES - 1, HEAD_BYTES, bytes.len() - 1] {
            assert_eq!(Batch::parse(&bytes[..len]).err(), Some(Wrong::Short), "{len} bytes of {}", bytes.len());
        }
    }
}

/// Every bit of small batches, flipped: found, wherever it is.
#[test]
fn every_flipped_bit_is_found() {
    let mut random = Random(0xf11b);
    for count in [1, 3, 5] {
        let (mut bytes, _) = random_batch(&mut random, count, head());
        // Each bit of the front, and one of each byte of the pages: a checksum of a page is like any other.
        let front = Batch::parse(&bytes).expect("a batch").head.front_bytes();
        for byte in 0..bytes.len() {
            for bit in (0..8).filter(|bit| byte < front.min(2048) || *bit == byte % 8) {
                bytes[byte] ^= 1 << bit;
                assert!(Batch::parse(&bytes).is_err(), "bit {bit} of byte {byte}");
                bytes[byte] ^= 1 << bit;
            }
        }
        assert!(Batch::parse(&bytes).is_ok());
    }
}

/// Checksums say nothing about what a program with an error has written. Records of changed bytes are either an error
/// or come out as they went in.
#[test]
fn records_of_any_bytes_are_an_error_or_come_out_as_they_went_in() {
    let mut random = Random(0xa17);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        record::emit(&Owned::new(&mut random).record(), &mut bytes);
        let len = bytes.len();
        for _ in 0..random.below(3) {
            // Mostly the fields; the bytes of a payload are all the same to the decoder.
            let at = random.below(len.min(40));
            bytes[at] = [random.next() as u8, 0, 0xff, bytes[at] ^ 1][random.below(4)];
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(len));
        }
        let mut cut = Cut(&bytes);
        match record::parse(&mut cut) {
            Ok(Found::Record(record)) => {
                let mut again = Vec::new();
                record::emit(&record, &mut again);
                assert_eq!(again, bytes[..bytes.len() - cut.0.len()], "{record:?}");
                read += 1;
            }
            Ok(Found::Pages { checksums, .. }) => assert!(checksums.len() > 0),
            Err(_) => refused += 1,
        }
    }
    assert!(read > 2000 && refused > 2000, "{read} were read, {refused} refused");
}

#[test]
fn what_no_tree_says_is_refused() {
    let node =
        NodeRecord { path: 9, version: 1, mode: mode::IFREG | 0o644, size: 10, kept: 4, ..NodeRecord::default() };
    let long = [b'n'; 256];
    let value = [7; (64 << 10) + 1];
    let wrong: [(Record<'_>, &str); 22] = [
        (Record::Next { path: 0 }, "number of a file"),
        (Record::Gone { path: 1 << 63 }, "number of a file"),
        (Record::NoEntry { dir: 1, cookie: 2 }, "cookie"),
        (Record::NoEntry { dir: 1, cookie: 1 << 63 }, "cookie"),
        (Record::Node(NodeRecord { mode: 0o644, ..node }), "mode"),
        (Record::Node(NodeRecord { mode: mode::IFREG | 0x1_0000, ..node }), "mode"),
        (Record::Node(NodeRecord { bits: qt::DIR, ..node }), "bits"),
        (Record::Node(NodeRecord { version: 0, ..node }), "version"),
        (Record::Node(NodeRecord { rdev: (1, 2), ..node }), "device"),
        (Record::Node(NodeRecord { kept: 11, ..node }), "size"),
        (Record::Node(NodeRecord { size: 1 << 63, ..node }), "size"),
        (Record::Node(NodeRecord { mode: mode::IFIFO, kept: 0, ..node }), "size"),
        (Record::Node(NodeRecord { mode: mode::IFDIR, size: 2, kept: 0, ..node }), "size"),
        (Record::Node(NodeRecord { mode: mode::IFLNK, size: 4096, ..node }), "size"),
        (Record::Node(NodeRecord { atime: Time { sec: 0, nsec: 1_000_000_000 }, ..node }), "nanoseconds"),
        (Record::Data { path: 1, offset: (1 << 63) - 1, bytes: b"x" }, "range of data"),
        (Record::Entry { dir: 1, cookie: 3, path: 2, doomed: false, name: b".." }, "name"),
        (Record::Entry { dir: 1, cookie: 3, path: 2, doomed: false, name: b"a/b" }, "name"),
        (Record::Entry { dir: 1, cookie: 3, path: 2, doomed: false, name: &long }, "name"),
        (Record::NoXattr { path: 1, name: &long }, "name of an extended attribute"),
        (Record::Xattr { path: 1, name: b"", value: b"v" }, "name of an extended attribute"),
        (Record::Xattr { path: 1, name: b"user.a", value: &value }, "value of an extended attribute"),
    ];
    for (record, what) in wrong {
        let mut bytes = Vec::new();
        record::emit(&record, &mut bytes);
        assert_eq!(record::parse(&mut Cut(&bytes)).err(), Some(Wrong::Field(what)), "{record:?}");
    }
    let mut bytes = Vec::new();
    record::emit(&Record::Entry { dir: 1, cookie: 3, path: 2, doomed: true, name: b"a" }, &mut bytes);
    bytes[28] = 2;
    assert_eq!(record::parse(&mut Cut(&bytes)).err(), Some(Wrong::Field("flag of an entry")));
    assert_eq!(record::parse(&mut Cut(&[10, 0, 0, 0])).err(), Some(Wrong::Kind(10)));
    assert_eq!(
        record::parse(&mut Cut(&[1, 9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])).err(),
        Some(Wrong::Field("length of a record"))
    );
}

#[test]
fn heads_that_no_store_writes_are_refused() {
    let wrong = [
        (Head { first_lsn: 0, ..head() }, "numbers of changes"),
        (Head { first_lsn: 13, ..head() }, "numbers of changes"),
        (Head { last_lsn: 1 << 56, ..head() }, "numbers of changes"),
        (Head { offset: 100, ..head() }, "offset"),
        (Head { pages: u32::MAX, ..head() }, "length"),
        (Head { record_bytes: u32::MAX, ..head() }, "length"),
    ];
    for (head, what) in wrong {
        let (bytes, _) = head.emit();
        assert_eq!(Head::parse(&bytes).err(), Some(Wrong::Field(what)));
    }
    let (mut bytes, _) = head().emit();
    bytes[8] = 2;
    let checksum = front::own_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Head::parse(&bytes).err(), Some(Wrong::Version(2)));
    assert_eq!(Head::parse(&[0; HEAD_BYTES]).err(), Some(Wrong::Magic));
}

#[test]
fn a_batch_follows_only_the_one_that_it_names() {
    let start = Superblock {
        store: STORE,
        epoch: 4,
        segment_bytes: 1 << 20,
        segment: 5,
        offset: 8192,
        lsn: 10,
        previous: 77,
        ..Superblock::default()
    };
    let next = Next::from(&start);
    assert_eq!(next.head(12), Head { epoch: 4, ..head() });
    let (bytes, _) = random_batch(&mut Random(1), 3, head());
    let batch = Batch::parse(&bytes).expect("a batch");
    assert_eq!(next.check(&batch.head), Ok(()));
    let behind = next.behind(&batch);
    let want = Next { epoch: 3, offset: 8192 + bytes.len() as u64, lsn: 13, previous: batch.checksum, ..next };
    assert_eq!((behind, behind.in_next_segment()), (want, Next { segment: 6, offset: 0, ..want }));
    let of = |change: fn(&mut Head)| {
        let mut head = head();
        change(&mut head);
        next.check(&head).err()
    };
    assert_eq!(of(|head| head.store[3] ^= 1), Some(Wrong::Field("store of a batch")));
    assert_eq!(of(|head| head.segment += 1), Some(Wrong::Field("place of a batch")));
    assert_eq!(of(|head| head.offset += 4096), Some(Wrong::Field("place of a batch")));
    assert_eq!(of(|head| head.epoch = 5), Some(Wrong::Field("epoch of a batch")));
    assert_eq!(of(|head| head.first_lsn = 9), Some(Wrong::Field("first change of a batch")));
    assert_eq!(of(|head| head.previous = 78), Some(Wrong::Field("checksum of the batch before")));
    assert_eq!(behind.check(&Head { epoch: 2, ..behind.head(20) }), Err(Wrong::Field("epoch of a batch")));
}

fn choose(copies: [&[u8]; 2]) -> Result<Superblock, Wrong> {
    Superblock::choose(copies.map(Superblock::parse))
}

#[test]
fn the_newer_valid_superblock_counts() {
    let old =
        Superblock { store: STORE, generation: 6, segment_bytes: 1 << 20, epoch: 2, lsn: 1, ..Superblock::default() };
    let new = Superblock { generation: 7, epoch: 3, segment: 9, offset: 4096, lsn: 55, previous: 3, ..old };
    assert_eq!((old.copy(), new.copy()), (0, 1));
    let (old_bytes, new_bytes) = (old.emit(), new.emit());
    assert_eq!(choose([&old_bytes, &new_bytes]), Ok(new));
    assert_eq!(choose([&new_bytes, &old_bytes]), Ok(new));
    // A torn write of either, at any 512 bytes, leaves the other one; and so does any flipped bit.
    for torn in (512..SUPERBLOCK_BYTES).step_by(512) {
        let mut bytes = new_bytes;
        bytes[..torn].copy_from_slice(&old_bytes[..torn]);
        let chosen = choose([&bytes, &new_bytes]);
        assert_eq!(chosen, Ok(new), "torn at {torn}");
    }
    let mut bytes = new_bytes;
    for bit in 0..SUPERBLOCK_BYTES * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(choose([&old_bytes, &bytes]), Ok(old), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(choose([&[0; SUPERBLOCK_BYTES], &[]]), Err(Wrong::Magic));
    assert_eq!(Superblock::parse(&new_bytes[..SUPERBLOCK_BYTES - 1]), Err(Wrong::Short));
    // A newer program has been here: nothing is read, although the other copy is valid.
    let mut newer = new_bytes;
    newer[8] = 2;
    let checksum = front::own_checksum(&newer);
    newer[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(choose([&old_bytes, &newer]), Err(Wrong::Version(2)));
    let wrong = [Superblock { segment_bytes: 0, ..new }, Superblock { segment_bytes: 5000, ..new }];
    assert!(wrong.iter().all(|wrong| Superblock::parse(&wrong.emit()) == Err(Wrong::Field("segment size"))));
    let wrong = [Superblock { offset: 5, ..new }, Superblock { offset: 2 << 20, ..new }];
    assert!(wrong.iter().all(|wrong| Superblock::parse(&wrong.emit()) == Err(Wrong::Field("offset"))));
}
