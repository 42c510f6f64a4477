//! The tree `dev`: `zero` and `null`, with which the article series began, `full` and `random`.
//!
//! `zero` and `full` read as zeros, `random` as random bytes, `null` as empty. `full` refuses
//! writes with ENOSPC; the others accept any bytes and keep none.

use super::catalog::{Catalog, ENDLESS, Member, Node, Source};
use super::join::AttachNames;
use super::{At, Error, Out, Result};
use crate::arena::{BLOCK_BYTES_MAX, Zeros};
use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// Attach names of the tree.
pub const ATTACH_NAMES: AttachNames = &[b"dev"];

/// The tree `dev`.
pub type Dev = Catalog<Devices>;
/// A file of it.
pub type DevFile = Member<()>;

/// Random bytes of one reply: unlike others they are made, at a byte in some ten instructions.
const RANDOM_BYTES_MAX: u32 = 64 << 10;
const RANDOM_BYTES_PER_UNIT: u32 = 128;

/// The devices.
pub struct Devices {
    zeros: Zeros,
    random: ChaCha12Rng,
    /// What [`Source::spent`] answers next.
    spent: u32,
}

impl Dev {
    /// Zeros come from the arena, so that they are sent as any other file's bytes are. Random bytes are the key stream of this seed, which
    /// the kernel should have made: nobody can tell what others have read or will read, and no read makes a system call.
    pub fn new(zeros: Zeros, seed: [u8; 32]) -> Dev {
        // Regular files, not devices: v9fs would open a device node as a device of its own machine.
        let files = ["full", "null", "random", "zero"].map(|name| Node::file(name, 0o666));
        let nodes = [Node::ROOT].into_iter().chain(files).collect();
        Catalog::of(nodes, Devices { zeros, random: ChaCha12Rng::from_seed(seed), spent: 0 })
    }
}

const FULL: usize = 1;
const NULL: usize = 2;
const RANDOM: usize = 3;

impl Source for Devices {
    type Opened = ();

    fn open(&mut self, _: usize, _: At) -> Result<()> {
        Ok(())
    }

    fn size(&self, node: usize, _: Option<&()>) -> u64 {
        if node == NULL { 0 } else { ENDLESS }
    }

    fn read(&mut self, node: usize, (): &(), _: u64, mut out: Out<'_>) -> Result<()> {
        match node {
            NULL => {}
            RANDOM => {
                out.limit(RANDOM_BYTES_MAX);
                self.spent += out.room() / RANDOM_BYTES_PER_UNIT;
                out.fill(|bytes| self.random.fill_bytes(bytes));
            }
            _ => {
                while out.room() > 0 {
                    out.slice(self.zeros.slice(BLOCK_BYTES_MAX.min(out.room() as usize)));
                }
            }
        }
        Ok(())
    }

    fn spent(&mut self) -> u32 {
        std::mem::take(&mut self.spent)
    }

    /// full(4)
    fn takes(&self, node: usize) -> Result<()> {
        if node == FULL { Err(Error::ENOSPC) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::fs::{Change, Entry, Filesystem, Iovec, Open, User, mode};

    const READ_WRITE: Open = Open { read: true, write: true, ..Open::NONE };

    fn dev() -> (Arena, Dev) {
        let arena = Arena::new(1 << 20).expect("a small mapping");
        let dev = Dev::new(arena.zeros(), [7; 32]);
        (arena, dev)
    }

    fn open(dev: &mut Dev, name: &str, flags: Open) -> Result<DevFile> {
        let root = dev.attach(User { uid: 5, gid: Some(5), vouched: true, peer: 0 }, b"dev")?;
        let mut file = dev.lookup(&root, name.as_bytes())?;
        dev.open(&mut file, flags, At::default())?;
        Ok(file)
    }

    fn read(dev: &mut Dev, file: &mut DevFile, offset: u64, room: u32) -> Vec<u8> {
        let mut iovec = Iovec::default();
        assert_eq!(dev.read(file, offset, iovec.out(room), At::default()), Ok(()));
        iovec.to_vec()
    }

    /// In as many reads as it takes.
    fn read_all(dev: &mut Dev, file: &mut DevFile, room: u32) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < room as usize {
            let part = read(dev, file, 0, room - all.len() as u32);
            assert!(!part.is_empty() && part.len() <= RANDOM_BYTES_MAX as usize, "{} bytes", part.len());
            assert_eq!(dev.spent(), part.len() as u32 / RANDOM_BYTES_PER_UNIT);
            all.extend(part);
        }
        all
    }

    #[test]
    fn zero_and_full_read_as_zeros_for_ever_and_null_as_nothing() {
        let (arena, mut dev) = dev();
        for (name, offset, room, len) in [
            ("zero", 0, 200_000, 200_000),
            ("zero", u64::MAX, 1, 1),
            ("full", 1 << 40, 70_000, 70_000),
            ("null", 0, 9, 0),
            ("null", 7, 9, 0),
        ] {
            let mut file = open(&mut dev, name, READ_WRITE).expect("anyone may");
            assert_eq!(read(&mut dev, &mut file, offset, room), vec![0; len], "{name}");
            let size = dev.stat(&file).expect("there").size;
            assert_eq!(size, if len == 0 { 0 } else { i64::MAX as u64 }, "{name}");
        }
        assert_eq!((arena.gauge().pins(), arena.gauge().used_bytes()), (0, 0));
    }

    /// Bytes as likely as each other, none repeated, and those of the seed: a server that reads as another one would give away what others read.
    #[test]
    fn random_fills_the_room_with_new_bytes() {
        let (arena, mut dev) = dev();
        let mut file = open(&mut dev, "random", READ_WRITE).expect("anyone may");
        let first = read_all(&mut dev, &mut file, 100_000);
        let second = read_all(&mut dev, &mut file, 100_000);
        let mut counts = [0u32; 256];
        first.iter().chain(&second).for_each(|&byte| counts[usize::from(byte)] += 1);
        // 781 of each are expected, give or take 28 (one sigma).
        assert!(counts.iter().all(|count| (580..980).contains(count)), "{counts:?}");
        let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        assert!((200..600).contains(&same), "{same} of 100,000 are the same; 391 would be by chance");
        assert_eq!(read(&mut dev, &mut file, 5, 0), b"");
        let mut other = Dev::new(arena.zeros(), [8; 32]);
        let mut file = open(&mut other, "random", READ_WRITE).expect("anyone may");
        assert_ne!(read(&mut other, &mut file, 0, 16), first[..16]);
    }

    #[test]
    fn all_but_full_take_anything_and_all_take_truncate_and_touch() {
        let (_arena, mut dev) = dev();
        for name in ["zero", "null", "random", "full"] {
            let flags = Open { truncate: true, ..READ_WRITE };
            let mut file = open(&mut dev, name, flags).expect("what a shell's > does");
            let takes = name != "full";
            assert_eq!(dev.discards(&file), takes, "{name}");
            let written = dev.write(&mut file, 9, b"gone", At::default());
            assert_eq!(written, if takes { Ok(4) } else { Err(Error::ENOSPC) }, "{name}");
            let granted = dev.grant(&mut file, 0, 1 << 20, At::default()).map(|grant| grant.is_some());
            assert_eq!(granted, if takes { Ok(false) } else { Err(Error::ENOSPC) }, "{name}");
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
        let mut root = dev.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 0 }, b"dev").expect("there");
        for (name, error) in [(&b"x"[..], Error::EPERM), (b"null", Error::EEXIST)] {
            let made = dev.create(&mut root, name, READ_WRITE, 0o666, 0, None, At::default());
            assert_eq!(made, Err(error));
        }
        assert_eq!(dev.open(&mut root, READ_WRITE, At::default()), Err(Error::EISDIR));
        assert_eq!(dev.lookup(&root, b"none").map(|_| ()), Err(Error::ENOENT));
        assert_eq!(dev.lookup(&root, b"/").map(|_| ()), Err(Error::ENOENT));
        let up = dev.lookup(&root, b"..").expect("it stays there");
        assert_eq!(dev.attr(&up), dev.attr(&root));
        for cookie in 0..7 {
            let mut names = Vec::new();
            let each = &mut |entry: &Entry<'_>| {
                assert_eq!(entry.stat.mode & mode::IFMT == mode::IFDIR, entry.cookie < 3);
                names.push(String::from_utf8_lossy(entry.stat.name).into_owned());
                true
            };
            dev.list(&mut root, cookie, At::default(), each).expect("a directory");
            assert_eq!(names, [".", "..", "full", "null", "random", "zero"][cookie as usize..]);
        }
    }
}
