//! What replies wait for.

use super::*;

fn served(disk: &Disk, sync: SyncMode) -> Served {
    Served::new(open(disk.path(), arena(), How { sync, ..how() }, at(1)).expect("a store").0, 10)
}

fn create(served: &mut Served, name: &[u8], flags: Open) -> (FileId, Gate) {
    let file = served.root();
    let new = New { flags, mode: mode::IFREG | 0o644, or_open: true, ..New::default() };
    let (made, gate) = served.answer(Call::Create { dir: file, name, new }, Show::Nothing);
    made.expect("room");
    (file, gate)
}

#[test]
fn all_replies_wait_for_what_they_show_and_reads_of_durable_files_for_nothing() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    let mut served = served(&disk, SyncMode::Always);
    let (file, gate) = create(&mut served, b"f", WRITE);
    assert_ne!(gate, Gate::OPEN);
    let (_, gate) = served.answer(Call::Write { file, offset: 0, data: b"bytes" }, Show::Nothing);
    assert!(!served.store.is_open(gate));
    // An attach shows the version of the root, and an error shows something as well.
    let (attached, gate) = served.answer(Call::Attach { user: ROOT, aname: b"" }, Show::Nothing);
    assert!(!served.store.is_open(gate));
    let Ok(Done::File { file: dir, .. }) = attached else { panic!("the root is there") };
    let make = Call::Make { dir, name: b"f", what: Make::Dir, mode: 0o755, gid: None, enter: false };
    let (made, gate) = served.answer(make, Show::Nothing);
    assert!(made.is_err() && !served.store.is_open(gate));
    // Where a payload would land is asked apart from the write, and so is the gate of an error.
    let beyond = |served: &mut Served| {
        let granted = served.store.grant(file, u64::MAX - 5, 100, at(10));
        assert!(matches!(granted, Err(ring9::fs::Error::EFBIG)));
        served.store.refused(file)
    };
    let refused = beyond(&mut served);
    assert!(refused != Gate::OPEN && !served.store.is_open(refused));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    assert!(served.store.is_open(gate) && served.store.is_open(refused));
    assert_eq!(beyond(&mut served), Gate::OPEN);
    // A read moves the access time, which is told with the next change: it waits for nothing, and nothing is written.
    let asks = disk.done;
    served.clock += 100;
    let mut bytes = ring9::fs::Iovec::default();
    let (read, gate) = served.answer(Call::Read { file, offset: 0 }, Show::Data(bytes.out(10)));
    assert_eq!((read, gate, bytes.to_vec()), (Ok(Done::Nothing), Gate::OPEN, b"bytes".to_vec()));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    assert_eq!(disk.done, asks);
}

#[test]
fn where_clients_ask_for_it_only_these_replies_wait() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    let mut served = served(&disk, SyncMode::Fsync);
    let (file, gate) = create(&mut served, b"f", WRITE);
    assert_eq!(gate, Gate::OPEN);
    let (_, gate) = served.answer(Call::Write { file, offset: 0, data: b"bytes" }, Show::Nothing);
    assert_eq!((gate, served.store.refused(file)), (Gate::OPEN, Gate::OPEN));
    let (_, gate) = served.answer(Call::Fsync { file, data_only: true }, Show::Nothing);
    assert!(gate != Gate::OPEN && !served.store.is_open(gate));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    assert!(served.store.is_open(gate));
    // All is durable, so there is nothing to wait for.
    assert_eq!(served.answer(Call::Fsync { file, data_only: false }, Show::Nothing).1, Gate::OPEN);
    served.close(file);
    // Writes to a file that was opened so wait; and no longer once it is closed.
    for again in 0..2 {
        let (file, _) = create(&mut served, b"g", Open { sync: again == 0, ..WRITE });
        let (_, gate) = served.answer(Call::Write { file, offset: 0, data: b"bytes" }, Show::Nothing);
        assert_eq!(gate == Gate::OPEN, again == 1);
        served.close(file);
        let opened = served.walk(&[b"g"]).expect("it is there");
        let flags = Open { sync: again == 0, ..WRITE };
        served.call(Call::Open { file: opened, flags }, Show::Nothing).expect("root may");
        let (_, gate) = served.answer(Call::Write { file: opened, offset: 0, data: b"bytes" }, Show::Nothing);
        assert_eq!(gate == Gate::OPEN, again == 1);
        served.close(opened);
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    // What was not waited for is durable soon all the same.
    let (lsn, durable) = served.store.positions();
    assert_eq!(lsn, durable);
}

/// Numbers that a crash has taken back were shown, so they are not given again; and no time goes back with the clock.
#[test]
fn a_start_gives_new_numbers_and_no_earlier_times() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    let mut first = served(&disk, SyncMode::Fsync);
    disk.pump(&mut first.store, &mut random, usize::MAX);
    first.clock = 1000;
    let (file, _) = create(&mut first, b"kept", WRITE);
    first.close(file);
    disk.pump(&mut first.store, &mut random, usize::MAX);
    let (file, _) = create(&mut first, b"lost", WRITE);
    let about = |served: &mut Served, file| {
        let mut seen = (0, Time::default(), Time::default());
        let mut show = |stat: &ring9::fs::Stat<'_>| seen = (stat.qid.path, stat.ctime, stat.mtime);
        served.call(Call::Stat { file, target: false }, Show::Stat(&mut show)).expect("it is there");
        seen
    };
    let (lost, ..) = about(&mut first, file);
    disk = disk.crash_keeping(disk::Keeps::Nothing, &mut random);
    let mut second = served(&disk, SyncMode::Fsync);
    second.clock = 20;
    assert!(second.walk(&[b"lost"]).is_none());
    let (file, _) = create(&mut second, b"new", WRITE);
    let (new, ctime, mtime) = about(&mut second, file);
    assert!(new > lost, "{new} {lost}");
    let kept = second.walk(&[b"kept"]).expect("it was durable");
    let (_, stored, _) = about(&mut second, kept);
    assert!(stored.sec == 1000 && ctime >= stored && mtime >= stored);
    second.clock = 2000;
    let (file, _) = create(&mut second, b"newer", WRITE);
    assert_eq!(about(&mut second, file).1.sec, 2000);
}
