//! The last lines of a growing text, within a bound in bytes. The oldest lines go first, whole.

use std::collections::VecDeque;

/// The last lines of a text. Bytes are named by their place in the whole text, so that who reads along knows what it has missed.
#[derive(Debug)]
pub struct Lines {
    bytes: VecDeque<u8>,
    /// Place of the first byte that is kept.
    start: u64,
    bytes_max: usize,
}

impl Lines {
    /// An empty text, of which this many bytes will be kept. Memory is taken as lines come.
    pub const fn new(bytes_max: usize) -> Lines {
        Lines { bytes: VecDeque::new(), start: 0, bytes_max }
    }

    /// Appends a line, which must not end with a newline. What does not fit at all is cut.
    pub fn push(&mut self, line: &[u8]) {
        let line = &line[..line.len().min(self.bytes_max.saturating_sub(1))];
        while self.bytes.len() + line.len() + 1 > self.bytes_max {
            let first = self.bytes.iter().position(|&byte| byte == b'\n').map_or(self.bytes.len(), |at| at + 1);
            if first == 0 {
                return;
            }
            self.bytes.drain(..first);
            self.start += first as u64;
        }
        self.bytes.extend(line);
        self.bytes.push_back(b'\n');
    }

    /// Forgets all lines and gives their memory back.
    pub fn clear(&mut self) {
        self.start = self.end();
        self.bytes = VecDeque::new();
    }

    /// Place of the first byte that is kept: where a line begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where the next line will begin.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is kept from a place on, in two parts; nothing for places before [`start`](Self::start) and beyond the end.
    pub fn from(&self, place: u64) -> [&[u8]; 2] {
        let (front, back) = self.bytes.as_slices();
        let Some(skip) = place.checked_sub(self.start).filter(|&skip| skip <= self.bytes.len() as u64) else {
            return [b"", b""];
        };
        let skip = skip as usize;
        [front.get(skip..).unwrap_or_default(), &back[skip.saturating_sub(front.len()).min(back.len())..]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_whole() {
        let mut lines = Lines::new(10);
        let mut all = Vec::new();
        for line in ["one", "two", "three", "", "far too long a line", "4", "five"] {
            lines.push(line.as_bytes());
            let kept = &line.as_bytes()[..line.len().min(9)];
            all.extend_from_slice(kept);
            all.push(b'\n');
            assert_eq!(lines.end(), all.len() as u64);
            assert!(lines.end() - lines.start() <= 10);
            for place in 0..=lines.end() + 1 {
                let expected =
                    if place < lines.start() { &b""[..] } else { all.get(place as usize..).unwrap_or_default() };
                assert_eq!(lines.from(place).concat(), expected, "{line:?} from {place}");
            }
            assert!(lines.start() == 0 || all[lines.start() as usize - 1] == b'\n', "starts with a line");
        }
        lines.clear();
        assert_eq!((lines.start(), lines.end(), lines.from(lines.end()).concat()), (32, 32, Vec::new()));
        Lines::new(0).push(b"x");
    }
}
