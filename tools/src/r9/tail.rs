//! The command tail: the last lines of a file, and with -f what is added to it.

use crate::Run;
use crate::pour::pour;
use crate::say::{of_stdout, shown};
use ring9::client::{Access, Client, Error};
use ring9::fs::catalog::ENDLESS;
use ring9::wire::Fid;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Bytes that are looked at together on the way back from the end.
const PART_BYTES: u64 = 64 << 10;

/// Where the last lines of a file start, on the way forward. A newline at the very end does not start one.
struct Lines {
    wanted: usize,
    /// Behind the last newlines: one more than wanted, since the last may turn out to be the end.
    starts: VecDeque<u64>,
}

impl Lines {
    fn new(wanted: u64) -> Lines {
        Lines { wanted: wanted as usize, starts: VecDeque::from([0]) }
    }

    fn see(&mut self, offset: u64, bytes: &[u8]) {
        for at in (0..bytes.len()).filter(|&at| bytes[at] == b'\n') {
            self.starts.push_back(offset + at as u64 + 1);
            if self.starts.len() > self.wanted + 1 {
                self.starts.pop_front();
            }
        }
    }

    fn start(mut self, end: u64) -> u64 {
        if self.starts.back() == Some(&end) {
            self.starts.pop_back();
        }
        let first = self.starts.len().saturating_sub(self.wanted);
        self.starts.get(first).copied().unwrap_or(end)
    }
}

impl Run {
    /// `interval`: how often to look for more; without one, the end is the end.
    pub(crate) fn tail(&mut self, lines: u64, interval: Option<Duration>, path: &OsStr) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let walked = self.client.walk(Client::ROOT, path);
        let Some(fid) = self.go_on(shown(path), walked)? else { return Ok(()) };
        let opened = self.client.open(fid, Access::Read).and_then(|()| self.client.stat(fid));
        let Some(attr) = self.go_on(shown(path), opened)? else { return Ok(()) };
        let found = match interval {
            _ if attr.size > 0 && attr.size < ENDLESS => start_from_end(&mut self.client, fid, attr.size, lines),
            _ => Ok(None),
        };
        let start = match self.go_on(shown(path), found)? {
            None => return Ok(()),
            Some(Some(start)) => start,
            // Not its true length.
            Some(None) => {
                let found = match interval {
                    Some(_) => start_of_stream(&mut self.client, fid, lines),
                    None => start_from_start(&mut self.client, fid, lines),
                };
                let Some(start) = self.go_on(shown(path), found)? else { return Ok(()) };
                start
            }
        };
        let mut out = io::stdout().lock();
        let mut at = start;
        let mut size = attr.size;
        loop {
            let poured = pour(&mut self.client, fid, at, 0, |_, bytes| out.write_all(bytes).and_then(|()| out.flush()));
            let Some(end) = self.go_on(shown(path), poured)? else { return Ok(()) };
            at = end.map_err(of_stdout)?;
            let Some(interval) = interval else { break };
            std::thread::sleep(interval);
            let now = self.client.stat(fid);
            let Some(now) = self.go_on(shown(path), now)? else { return Ok(()) };
            // A length that never was true does not shrink.
            if now.size < at && now.size < size {
                self.tally.say(format_args!("{}: {}: it became shorter", self.place, shown(path)));
                at = 0;
            }
            size = now.size;
        }
        self.client.clunk(fid)?;
        Ok(())
    }
}

/// Where the last lines start, read from the end. `None` if the file is shorter than it shows.
fn start_from_end(client: &mut Client, fid: Fid, size: u64, lines: u64) -> Result<Option<u64>, Error> {
    if lines == 0 {
        return Ok(Some(size));
    }
    let (mut end, mut found) = (size, 0);
    while end > 0 {
        let start = end.saturating_sub(PART_BYTES.min(client.chunk().into()));
        let mut part = vec![0; (end - start) as usize];
        let mut missing = vec![(start, (end - start) as u32)];
        while !missing.is_empty() {
            let mut came = 0;
            missing = client.read(fid, &missing, |offset, bytes| {
                came = bytes.len();
                part[(offset - start) as usize..][..came].copy_from_slice(bytes);
            })?;
            if came == 0 {
                return Ok(None);
            }
        }
        for at in (0..part.len()).rev().filter(|&at| part[at] == b'\n') {
            let behind = start + at as u64 + 1;
            if behind < size {
                found += 1;
                if found == lines {
                    return Ok(Some(behind));
                }
            }
        }
        end = start;
    }
    Ok(Some(0))
}

/// The same of a file that does not show its length.
fn start_from_start(client: &mut Client, fid: Fid, wanted: u64) -> Result<u64, Error> {
    let mut lines = Lines::new(wanted);
    let poured = pour(client, fid, 0, 0, |offset, bytes| {
        lines.see(offset, bytes);
        Ok(())
    })?;
    // Looking at bytes does not fail.
    Ok(poured.map_or(0, |end| lines.start(end)))
}

/// The same of a file that may wait at its end: to look for that is to wait. So of what a first request brings.
fn start_of_stream(client: &mut Client, fid: Fid, wanted: u64) -> Result<u64, Error> {
    let (mut lines, mut end) = (Lines::new(wanted), 0);
    let part = (0, client.chunk());
    client.read(fid, &[part], |offset, bytes| {
        lines.see(offset, bytes);
        end = offset + bytes.len() as u64;
    })?;
    Ok(lines.start(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_on_the_way_forward() {
        fn tail(text: &str, wanted: u64, step: usize) -> &str {
            let mut lines = Lines::new(wanted);
            for (n, part) in text.as_bytes().chunks(step).enumerate() {
                lines.see((n * step) as u64, part);
            }
            &text[lines.start(text.len() as u64) as usize..]
        }
        for step in 1..5 {
            assert_eq!(tail("a\nbb\nccc\n", 2, step), "bb\nccc\n");
            assert_eq!(tail("a\nbb\nccc", 2, step), "bb\nccc");
            assert_eq!(tail("a\nbb\nccc\n", 0, step), "");
            assert_eq!(tail("a\nbb\nccc\n", 9, step), "a\nbb\nccc\n");
            assert_eq!(tail("\n\n\n", 1, step), "\n");
            assert_eq!(tail("", 1, step), "");
        }
    }
}
