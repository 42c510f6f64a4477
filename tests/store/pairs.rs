//! All sequences of one and of two operations, with a crash behind each system call, on a store whose checkpoints are always
//! on their way.

use super::disk::Keeps;
use super::*;

type Does = fn(&mut Served);

fn file_of(served: &mut Served, name: &[u8], offset: u64, data: &[u8]) {
    let file = served.root();
    let new = New { flags: WRITE, mode: mode::IFREG | 0o644, or_open: true, ..New::default() };
    if served.call(Call::Create { dir: file, name, new }, Show::Nothing).is_ok() {
        let _ = served.call(Call::Write { file, offset, data }, Show::Nothing);
    }
    served.close(file);
}

fn make(served: &mut Served, name: &[u8], what: Make<'_>) {
    let dir = served.root();
    let _ = served.call(Call::Make { dir, name, what, mode: 0o755, gid: None, enter: false }, Show::Nothing);
    served.close(dir);
}

fn unlink(served: &mut Served, path: &[&[u8]], want_dir: bool) {
    let (name, dir) = path.split_last().expect("a name");
    let Some(dir) = served.walk(dir) else { return };
    let _ = served.call(Call::Unlink { dir, name, want_dir }, Show::Nothing);
    served.close(dir);
}

fn rename(served: &mut Served, from: &[&[u8]], to: &[&[u8]]) {
    let ((name, dir), (new_name, new_dir)) = (from.split_last().expect("a name"), to.split_last().expect("a name"));
    let (Some(from), Some(to)) = (served.walk(dir), served.walk(new_dir)) else { return };
    let _ = served.call(Call::Rename { from, name, to, new_name }, Show::Nothing);
    served.close(from);
    served.close(to);
}

fn resize(served: &mut Served, size: u64) {
    let Some(file) = served.walk(&[b"a"]) else { return };
    let change = Change { size: Some(size), ..Change::default() };
    let _ = served.call(Call::Wstat { file, change }, Show::Nothing);
    served.close(file);
}

fn chmod(served: &mut Served) {
    let Some(file) = served.walk(&[b"a"]) else { return };
    let change = Change { mode: Some(0o600), ..Change::default() };
    let _ = served.call(Call::Wstat { file, change }, Show::Nothing);
    served.close(file);
}

fn xattr(served: &mut Served, value: Option<&[u8]>) {
    let Some(file) = served.walk(&[b"a"]) else { return };
    let _ = served.call(Call::SetXattr { file, name: b"user.x", value, how: SetXattr::Any }, Show::Nothing);
    served.close(file);
}

fn link(served: &mut Served) {
    let (Some(file), Some(dir)) = (served.walk(&[b"a"]), served.walk(&[b"d"])) else { return };
    let _ = served.call(Call::Link { dir, name: b"linked", file, enter: false }, Show::Nothing);
    served.close(file);
    served.close(dir);
}

fn doomed(served: &mut Served) {
    let Some(file) = served.walk(&[b"a"]) else { return };
    let flags = Open { remove_on_close: true, ..WRITE };
    let _ = served.call(Call::Open { file, flags }, Show::Nothing);
    served.close(file);
}

/// What clients do, each in a small tree.
const OPERATIONS: [Does; 20] = [
    |served| file_of(served, b"new", 0, b"bytes"),
    |served| file_of(served, b"new", 4096, &[3; 5000]),
    |served| file_of(served, b"a", 0, &[4; 100]),
    |served| file_of(served, b"a", 5000, &[5; 4000]),
    |served| resize(served, 0),
    |served| resize(served, 50),
    |served| resize(served, 12_000),
    |served| make(served, b"dir", Make::Dir),
    |served| make(served, b"link", Make::Symlink(b"target")),
    |served| unlink(served, &[b"a"], false),
    |served| unlink(served, &[b"d", b"x"], false),
    |served| unlink(served, &[b"d", b"e"], true),
    |served| rename(served, &[b"a"], &[b"b"]),
    |served| rename(served, &[b"a"], &[b"d", b"x"]),
    |served| rename(served, &[b"d", b"e"], &[b"e"]),
    |served| rename(served, &[b"d", b"x"], &[b"a"]),
    |served| xattr(served, Some(b"other")),
    |served| xattr(served, None),
    link,
    |served| {
        chmod(served);
        doomed(served);
    },
];

fn opened_small(disk: &Disk) -> Stored {
    let how = How { segment_bytes: 64 << 10, margin_bytes: 0, ..how() };
    open(disk.path(), arena(), how, at(1)).expect("a store").0
}

/// A small tree, a sequence of operations, and a crash behind so many system calls. False if there are fewer of them.
fn crashes(operations: &[usize], calls: usize, is_apart: bool, keeps: Keeps) -> bool {
    let (mut random, mut disk) = (Random::new(calls as u64 + 1), Disk::new());
    disk.is_short = false;
    let mut served = Served::new(opened_small(&disk), 10);
    file_of(&mut served, b"a", 0, &[1; 6000]);
    make(&mut served, b"d", Make::Dir);
    file_of(&mut served, b"b", 0, b"other");
    rename(&mut served, &[b"b"], &[b"d", b"x"]);
    make(&mut served, b"e", Make::Dir);
    rename(&mut served, &[b"e"], &[b"d", b"e"]);
    xattr(&mut served, Some(b"value"));
    disk.pump(&mut served.store, &mut random, 3);
    served.clock += 1;
    let before = disk.done;
    for &number in operations {
        OPERATIONS[number](&mut served);
        served.clock += 1;
        if is_apart {
            disk.pump(&mut served.store, &mut random, calls / operations.len());
        }
        served.reply();
    }
    let left = calls.saturating_sub(disk.done - before);
    disk.pump(&mut served.store, &mut random, left);
    served.reply();
    let is_reached = disk.done - before >= calls;
    disk = disk.crash_keeping(keeps, &mut random);
    let what = format!("operations {operations:?}, {calls} calls, apart: {is_apart}, kept: {keeps:?}");
    let (store, _) = recovered(&served, &disk, &what);
    recycle(store);
    recycle(served.store);
    is_reached
}

/// `RING9_PAIRS=all`: all of them.
#[test]
fn one_and_two_operations_with_a_crash_behind_each_call() {
    let is_all = std::env::var("RING9_PAIRS").is_ok_and(|text| text == "all");
    let count = OPERATIONS.len();
    let single = (0..count).map(|one| vec![one]);
    let double = (0..count * count).map(|both| vec![both / count, both % count]);
    let (mut sequences, mut images) = (0, 0);
    for (number, operations) in single.chain(double).enumerate() {
        if !is_all && operations.len() == 2 && number % 41 != 0 {
            continue;
        }
        sequences += 1;
        for calls in 0..40 {
            let keeps = [Keeps::Nothing, Keeps::Any, Keeps::All];
            let kept = if is_all { &keeps[..] } else { &keeps[(number + calls) % 3..][..1] };
            let mut is_reached = false;
            for &keeps in kept {
                for is_apart in [false, true] {
                    is_reached |= crashes(&operations, calls, is_apart && operations.len() > 1, keeps);
                    images += 1;
                }
            }
            if !is_reached {
                break;
            }
        }
    }
    println!("{sequences} sequences, {images} crashes");
    assert!(images > 300);
}
