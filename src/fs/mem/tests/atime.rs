//! Access times by each of the three rules; the acceptance suite plays the usual one.

use super::*;

/// The access times of a file, a directory and a link, after each was read at these moments.
fn read_at(atime: Atime, moments: &[i64]) -> Vec<[i64; 3]> {
    let mut mem = tree_with(1 << 20, Options { root: (0, 0, 0o777), atime, ..Options::default() });
    let root = root(&mut mem, ROOT_USER);
    for (name, what) in [(&b"file"[..], Make::File), (b"dir", Make::Dir), (b"link", Make::Symlink(b"target"))] {
        mem.make(&root, name, what, 0o755, None, at(10)).expect("a new name");
    }
    let mut file = open(&mut mem, ROOT_USER, "file", READ).expect("there");
    let mut dir = open(&mut mem, ROOT_USER, "dir", READ).expect("there");
    let link = walk(&mut mem, ROOT_USER, "link").expect("there");
    let shown = moments.iter().map(|&sec| {
        let mut reply = Iovec::default();
        mem.read(&mut file, 0, reply.out(10), at(sec)).expect("readable");
        mem.list(&mut dir, 0, at(sec), &mut |_| true).expect("a directory");
        mem.target_read(&link, at(sec));
        [&file, &dir, &link].map(|of| mem.stat(of).expect("there").atime.sec)
    });
    let shown = shown.collect();
    for of in [root, file, dir, link] {
        mem.close(of, at(9)).expect("nothing to do");
    }
    shown
}

#[test]
fn always_never_and_relatime() {
    const DAY: i64 = 24 * 60 * 60;
    let moments = [10, 20, 30, 20 + DAY - 1, 20 + DAY, 21 + DAY];
    let of = |atime| read_at(atime, &moments);
    assert_eq!(of(Atime::Always), moments.map(|sec| [sec; 3]));
    assert_eq!(of(Atime::Never), [[10; 3]; 6]);
    // At 10 they were made, at 20 that is since the last read.
    assert_eq!(of(Atime::Relatime), [10, 20, 20, 20, 20 + DAY, 20 + DAY].map(|sec| [sec; 3]));
    assert_eq!(Options::default().atime, Atime::Relatime);
}
