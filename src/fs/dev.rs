//! The files that the article series began with: `zero` reads as zeros for ever and `null` as nothing; both take anything and keep nothing.

use super::flat::{Flat, Named, Source};
use super::{Out, mode};
use crate::arena::{BLOCK_BYTES_MAX, Zeros};

/// The tree `dev`.
pub type Dev = Flat<Devices>;

/// The devices.
pub struct Devices {
    zeros: Zeros,
}

impl Dev {
    /// Zeros come from the arena, so that they are sent from registered memory like any other file's.
    pub fn new(zeros: Zeros) -> Dev {
        Flat::of(Devices { zeros })
    }
}

const ZERO: usize = 0;

impl Source for Devices {
    // Regular files, not devices: v9fs would open a device node as a device of its own machine.
    const FILES: &'static [Named] = &[
        Named { name: "zero", mode: mode::IFREG | 0o666, rdev: (0, 0) },
        Named { name: "null", mode: mode::IFREG | 0o666, rdev: (0, 0) },
    ];

    /// Linux reads nothing from a regular file of length 0 in its caches, so `zero` shows the largest length.
    fn size(&self, index: usize) -> u64 {
        if index == ZERO { i64::MAX as u64 } else { 0 }
    }

    fn read(&mut self, index: usize, _: &[u8], _: u64, mut out: Out<'_>) {
        while index == ZERO && out.room() > 0 {
            out.slice(self.zeros.slice(BLOCK_BYTES_MAX.min(out.room() as usize)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::fs::flat::FlatFile;
    use crate::fs::{At, Change, Entry, Error, Filesystem, Iovec, Open, Outcome, Result, User};

    const READ_WRITE: Open =
        Open { read: true, write: true, exec: false, truncate: false, append: false, remove_on_close: false };

    fn dev() -> (Arena, Dev) {
        let arena = Arena::new(1 << 20).expect("a small mapping");
        let dev = Dev::new(arena.zeros());
        (arena, dev)
    }

    fn open(dev: &mut Dev, name: &str, flags: Open) -> Result<FlatFile> {
        let root = dev.attach(User { uid: 5, gid: 5, peer: 0 }, b"dev")?;
        let mut file = dev.lookup(&root, name.as_bytes())?;
        dev.open(&mut file, flags, At::default())?;
        Ok(file)
    }

    #[test]
    fn zero_reads_as_zeros_for_ever_and_null_as_nothing() {
        let (arena, mut dev) = dev();
        for (name, offset, room, len) in
            [("zero", 0, 200_000, 200_000), ("zero", u64::MAX, 1, 1), ("null", 0, 9, 0), ("null", 7, 9, 0)]
        {
            let mut file = open(&mut dev, name, READ_WRITE).expect("anyone may");
            let mut iovec = Iovec::default();
            let outcome = dev.read(&mut file, offset, iovec.out(room), At::default());
            assert_eq!(outcome, Ok(Outcome::Done(())));
            assert_eq!(iovec.to_vec(), vec![0; len], "{name}");
        }
        assert_eq!((arena.gauge().pins(), arena.gauge().used_bytes()), (0, 0));
    }

    #[test]
    fn both_take_anything_truncate_and_touch_included() {
        let (_arena, mut dev) = dev();
        for name in ["zero", "null"] {
            let flags = Open { truncate: true, ..READ_WRITE };
            let mut file = open(&mut dev, name, flags).expect("what a shell's > does");
            assert!(dev.discards(&file));
            assert_eq!(dev.write(&mut file, 9, b"gone", At::default()), Ok(Outcome::Done(4)));
            let resize = Change { size: Some(0), ..Change::default() };
            assert_eq!(dev.wstat(&mut file, &resize, At::default()), Ok(()));
            let chmod = Change { mode: Some(0), ..Change::default() };
            assert_eq!(dev.wstat(&mut file, &chmod, At::default()), Err(Error::EPERM));
            assert_eq!(dev.remove(&mut file, At::default()), Err(Error::EPERM));
        }
    }

    #[test]
    fn the_directory_cannot_be_changed() {
        let (_arena, mut dev) = dev();
        let mut root = dev.attach(User { uid: 0, gid: 0, peer: 0 }, b"dev").expect("there");
        let made = dev.create(&mut root, b"x", READ_WRITE, 0o666, 0, None, At::default());
        assert_eq!(made, Err(Error::EPERM));
        assert_eq!(dev.open(&mut root, READ_WRITE, At::default()), Err(Error::EISDIR));
        assert_eq!(dev.lookup(&root, b"none").map(|_| ()), Err(Error::ENOENT));
        let up = dev.lookup(&root, b"..").expect("it stays there");
        assert_eq!(dev.attr(&up), dev.attr(&root));
        for cookie in 0..5 {
            let mut names = Vec::new();
            let each = &mut |entry: &Entry<'_>| {
                names.push(String::from_utf8_lossy(entry.stat.name).into_owned());
                true
            };
            dev.list(&root, cookie, At::default(), each).expect("a directory");
            assert_eq!(names, [".", "..", "zero", "null"][cookie as usize..]);
        }
    }
}
