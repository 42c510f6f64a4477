//! The segments of a log, each read while the batches of the one before it are looked at.
//!
//! A start reads with O_DIRECT where the file system has it, so that neither copies nor the page cache take time. With many bytes to
//! read a thread reads the segments in order. It ends before [`with_segments`] does.
//!
//! Must not know: what is in a segment.

use super::dir::{Aligned, Dir};
use super::format::PAGE_BYTES;
use super::open::Opened;
use super::stock::segment_name;
use std::collections::VecDeque;
use std::mem;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

/// From so many bytes on a thread reads. Fewer are read before a thread has begun.
const THREAD_BYTES_MIN: u64 = 16 << 20;

/// The bytes of a segment, in memory that is used again for others.
#[derive(Default)]
pub(super) struct Bytes {
    memory: Aligned,
    len: usize,
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.memory.bytes(self.len)
    }
}

impl Bytes {
    /// Reads a segment. Whether it is there.
    fn read(&mut self, dir: &Dir<'_>, number: u64) -> Opened<bool> {
        let name = segment_name(number);
        let Some((file, len)) = dir.open_to_read(&name)? else { return Ok(false) };
        // The read that finds the end of the file has room of a page.
        let room = len.next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        if self.memory.len() < room {
            self.memory = Aligned::new(room);
        }
        self.len = dir.with(&name, file.read_all(self.memory.bytes_mut(room)))?;
        Ok(true)
    }
}

/// What the thread has read: a segment, and whether it was there.
type Read = (Bytes, Opened<bool>);

/// Segments in order, which a thread reads.
struct Ahead {
    numbers: VecDeque<u64>,
    read: Receiver<Read>,
    spare: Sender<Bytes>,
}

impl Ahead {
    /// The next segment, if it is this one.
    fn take(&mut self, number: u64, into: &mut Bytes) -> Option<Opened<bool>> {
        if self.numbers.front() != Some(&number) {
            return None;
        }
        self.numbers.pop_front();
        let (bytes, found) = self.read.recv().ok()?;
        // Without a receiver the thread has read all segments.
        let _ = self.spare.send(mem::replace(into, bytes));
        Some(found)
    }
}

/// Gives `use_them` a function that reads a segment by its number, and answers whether it is there. `present`: the numbers of the
/// segments that will be asked for, in order. Each of them has `segment_bytes` bytes, if it is not damaged.
pub(super) fn with_segments<T>(
    dir: &Dir<'_>,
    present: &[u64],
    segment_bytes: u64,
    use_them: impl FnOnce(&mut dyn FnMut(u64, &mut Bytes) -> Opened<bool>) -> T,
) -> T {
    if present.len() as u64 * segment_bytes < THREAD_BYTES_MIN {
        return use_them(&mut |number, into| into.read(dir, number));
    }
    thread::scope(|scope| {
        // Nothing is kept in the channel: the thread has the one segment that was read ahead.
        let ((send, read), (spare, spares)) = (sync_channel::<Read>(0), channel::<Bytes>());
        scope.spawn(move || {
            for &number in present {
                let mut bytes = spares.try_recv().unwrap_or_default();
                let found = bytes.read(dir, number);
                if send.send((bytes, found)).is_err() {
                    break;
                }
            }
        });
        let mut ahead = Ahead { numbers: present.iter().copied().collect(), read, spare };
        use_them(&mut |number, into| match ahead.take(number, into) {
            Some(found) => found,
            None => into.read(dir, number),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// Four segments, the third of which is missing; bytes of a segment say its number. The last one is not as long as the others.
    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ring9-ahead-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        for (number, len) in [(1, 8192), (2, 8192), (4, 8192), (5, 5000)] {
            fs::write(path.join(segment_name(number)), vec![number as u8; len]).expect("a segment");
        }
        path
    }

    /// `segment_bytes` only decides who reads.
    fn look(name: &str, segment_bytes: u64) {
        let path = folder(name);
        let dir = Dir::lock_to_look(&path).expect("nobody else has it");
        let read = |asked: &[u64]| {
            with_segments(&dir, &[1, 2, 4, 5], segment_bytes, |read| {
                let (mut here, mut seen) = (Bytes::default(), Vec::new());
                for &number in asked {
                    let found = read(number, &mut here).expect("it can be read");
                    let bytes = here.as_ref();
                    assert!(!found || bytes.iter().all(|&byte| u64::from(byte) == number));
                    seen.push(found.then_some(bytes.len()));
                }
                seen
            })
        };
        assert_eq!(read(&[1, 2, 3, 4, 5]), [Some(8192), Some(8192), None, Some(8192), Some(5000)]);
        assert_eq!(read(&[2, 1, 2, 5, 1]), [Some(8192), Some(8192), Some(8192), Some(5000), Some(8192)]);
        // Who stops asking does not wait for the others.
        assert_eq!(read(&[1]), [Some(8192)]);
        assert_eq!(read(&[]), []);
        fs::remove_file(path.join(segment_name(2))).expect("it was there");
        assert_eq!(read(&[1, 2, 4]), [Some(8192), None, Some(8192)]);
        fs::remove_dir_all(&path).expect("it was there");
    }

    #[test]
    fn segments_are_those_that_were_asked_for() {
        look("alone", 8192);
    }

    #[test]
    fn a_thread_reads_the_same() {
        look("thread", THREAD_BYTES_MIN);
    }
}
