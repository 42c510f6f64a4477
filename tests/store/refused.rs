//! What a store refuses, and what it leaves as it was.

use super::*;
use std::fs;

/// A store with some files, ended.
fn ended(seed: u64) -> Disk {
    let (mut random, mut disk) = (Random::new(seed), Disk::new());
    let (store, _) = opened(&disk, arena()).expect("a new store");
    let mut served = Served::new(store, 10);
    for _ in 0..40 {
        served.step(&mut random);
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    for name in [&b"x1"[..], b"x2", b"x3", b"x4", b"x5", b"x6", b"x7", b"x8"] {
        let file = served.root();
        let new = New { flags: WRITE, mode: mode::IFREG | 0o644, ..New::default() };
        served.call(Call::Create { dir: file, name, new }, Show::Nothing).expect("a new name");
        served.call(Call::Write { file, offset: 0, data: &[7; 30_000] }, Show::Nothing).expect("room");
        served.close(file);
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    served.store.retire(at(99));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    assert!(!served.store.has_asks());
    drop(served);
    disk.crash(&mut random)
}

/// All files of a directory.
fn files(disk: &Disk) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(disk.path()).expect("it is there").map(|entry| entry.expect("it is there"));
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file")))
        .collect()
}

fn why(disk: &Disk) -> String {
    let before = files(disk);
    let refused = opened(disk, arena()).err().map(|why| why.to_string()).expect("it is refused");
    assert_eq!(files(disk), before, "nothing was touched");
    assert!(!refused.contains('\n'), "one line: {refused}");
    refused.replace(&format!("{}", disk.path().display()), "DIR")
}

#[test]
fn what_is_no_store_is_refused_in_one_line_and_not_touched() {
    let disk = Disk::new();
    fs::create_dir(disk.path()).expect("room");
    fs::write(disk.path().join("letter"), b"dear").expect("room");
    assert_eq!(why(&disk), "DIR: not empty, and no store; name an empty directory");

    // A start that ended before it had made a store has left nothing.
    fs::remove_file(disk.path().join("letter")).expect("it is there");
    fs::write(disk.path().join("seg-0000000000000000"), [0; 5000]).expect("room");
    fs::write(disk.path().join("superblock"), b"").expect("room");
    assert!(opened(&disk, arena()).is_ok_and(|(_, report)| report.is_new));

    let disk = ended(3);
    let path = disk.path().join("superblock");
    let good = fs::read(&path).expect("it is there");
    fs::write(&path, [7; 8192]).expect("room");
    assert_eq!(why(&disk), "DIR: superblock: the magic number differs");
    fs::write(&path, &good[..100]).expect("room");
    assert_eq!(why(&disk), "DIR: superblock: the bytes end too early");
    fs::write(&path, &good).expect("room");

    let first = disk.path().join("seg-0000000000000000");
    let segment = fs::read(&first).expect("it is there");
    let mut damaged = segment.clone();
    damaged[200] ^= 1;
    fs::write(&first, &damaged).expect("room");
    let text = why(&disk);
    assert!(
        text.starts_with("DIR: damaged: seg-0000000000000000 at byte 0: the checksum of the records differs; "),
        "{text}"
    );
    fs::remove_file(&first).expect("it is there");
    assert_eq!(why(&disk), "DIR: seg-0000000000000000 is missing");
    fs::write(&first, &segment).expect("room");

    let tiny = Arena::new(0).expect("a small mapping");
    let refused = opened(&disk, tiny).err().map(|why| why.to_string()).expect("it has more bytes");
    assert!(refused.contains("not enough memory for the bytes of all files"), "{refused}");
    // And it is as good as before.
    let (store, report) = opened(&disk, arena()).expect("a good store");
    assert!(!report.is_new && report.lsn > 10 && report.torn.is_none());
    assert_eq!(opened(&disk, arena()).err().map(|why| why.to_string().contains("another process")), Some(true));
    drop(store);
}

/// Beyond 64 MiB that are not durable nothing more is asked of the tree; and it goes on once they are.
#[test]
fn a_store_is_behind_until_its_disk_has_caught_up() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    let how = How { segment_bytes: 16 << 20, margin_bytes: 1 << 30, ..how() };
    let large = Arena::new(96 << 20).expect("a mapping");
    let (mut store, _) = open(disk.path(), large, how, at(1)).expect("a new store");
    store.init(at(1)).expect("a tree starts");
    let say = |store: &mut Stored, call: Call<'_>| {
        let Outcome::Done(answer) = store.call(OpId { peer: 0, serial: 1 }, call, Show::Nothing, at(2)) else {
            panic!("a tree in memory answers at once");
        };
        answer
    };
    let Ok(Done::File { file, .. }) = say(&mut store, Call::Attach { user: ROOT, aname: b"" }).result else {
        panic!("the root is there");
    };
    let flags = Open { read: true, write: true, ..Open::NONE };
    let new = New { flags, mode: mode::IFREG | 0o644, ..New::default() };
    say(&mut store, Call::Create { dir: file, name: b"large", new }).result.expect("room");
    let data = vec![1; 1 << 20];
    let mut offset = 0;
    while !store.is_behind() {
        let answer = say(&mut store, Call::Write { file, offset, data: &data });
        answer.result.expect("room");
        assert!(!store.is_open(answer.gate));
        offset += data.len() as u64;
        assert!(offset < 80 << 20);
    }
    // Before that it waits for a further segment.
    assert!(offset > 20 << 20, "{offset}");
    disk.pump(&mut store, &mut random, usize::MAX);
    assert!(!store.is_behind());
    let (lsn, durable) = store.positions();
    assert_eq!(lsn, durable);
    drop(store);
    disk.crash(&mut random);
}
