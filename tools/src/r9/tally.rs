//! What a copy has done so far: the progress line of a terminal, the summary at the end, and what is
//! said when it stops before that.

use crate::flags::How;
use crate::say::say;
use indicatif::{BinaryBytes, HumanCount, ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// How often the progress line is drawn anew while nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// Unfinished files that are named when a copy stops.
const NAMED_MAX: usize = 3;

/// Counts of one run.
pub(crate) struct Tally {
    start: Instant,
    bar: ProgressBar,
    files: u64,
    bytes: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Files that have been begun and are not complete.
    under_way: Vec<String>,
    /// Directories that still lack their permissions and times.
    pub(crate) dirs_open: usize,
    says_each: bool,
    sums_up: bool,
}

impl Tally {
    /// Of a command that copies nothing.
    pub(crate) fn hidden() -> Tally {
        Tally {
            start: Instant::now(),
            bar: ProgressBar::hidden(),
            files: 0,
            bytes: 0,
            failed: 0,
            skipped: 0,
            under_way: Vec::new(),
            dirs_open: 0,
            says_each: false,
            sums_up: false,
        }
    }

    /// Of a copy: with progress and a summary on a terminal, and with a line for each file if that is asked for.
    pub(crate) fn start(&mut self, how: &How) {
        let is_terminal = io::stderr().is_terminal() && !how.quiet;
        self.sums_up = is_terminal || how.verbose;
        self.says_each = how.verbose;
        if is_terminal {
            let style = ProgressStyle::with_template(
                "{spinner} {binary_bytes} ({binary_bytes_per_sec})  {elapsed}  {wide_msg}",
            );
            self.bar = ProgressBar::new_spinner().with_style(style.expect("a constant template"));
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// Whether there is a progress line.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// How much there will be, once that is known.
    pub(crate) fn expect(&mut self, bytes: u64) {
        if bytes == 0 || !self.is_shown() {
            return;
        }
        let template = "{percent:>3}% of {binary_total_bytes} ({binary_bytes_per_sec}, {eta} left)  {wide_msg}";
        self.bar.set_style(ProgressStyle::with_template(template).expect("a constant template"));
        self.bar.set_length(bytes);
    }

    /// These are begun.
    pub(crate) fn begin(&mut self, files: Vec<String>) {
        self.under_way = files;
    }

    /// The one that takes long.
    pub(crate) fn name(&self, name: String) {
        self.bar.set_message(name);
    }

    /// Bytes of data were copied.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.bar.inc(bytes);
    }

    /// A file is complete.
    pub(crate) fn finish(&mut self, file: &str) {
        self.files += 1;
        self.under_way.retain(|other| other != file);
        if self.says_each {
            self.say(file);
        }
    }

    /// A line that does not get into the progress line.
    pub(crate) fn say(&self, line: impl Display) {
        self.bar.suspend(|| say(line));
    }

    /// The progress line goes, and the summary comes.
    pub(crate) fn end(&mut self, command: &str) {
        self.bar.finish_and_clear();
        if self.sums_up {
            say(self.summary(command, self.start.elapsed()));
        }
    }

    /// The progress line goes; which files are there, and which are not.
    pub(crate) fn stop(&mut self, command: &str) {
        self.bar.finish_and_clear();
        let (done, names) = (counted(self.files, "file"), &self.under_way);
        let mut line = format!("{command}: stopped: {done} complete");
        if !names.is_empty() {
            line += &format!(", not complete: {}", names[..names.len().min(NAMED_MAX)].join(", "));
            if names.len() > NAMED_MAX {
                line += &format!(" and {} more", names.len() - NAMED_MAX);
            }
        }
        if self.dirs_open > 0 {
            let dirs = counted(self.dirs_open as u64, if self.dirs_open == 1 { "directory" } else { "directorie" });
            line += &format!("; {dirs} without final permissions and times");
        }
        say(line);
    }

    fn summary(&self, command: &str, time: Duration) -> String {
        let seconds = time.as_secs_f64();
        let rate = BinaryBytes((self.bytes as f64 / seconds.max(1e-6)) as u64);
        let mut line = format!(
            "{command}: {}, {} in {seconds:.1} s ({rate}/s)",
            counted(self.files, "file"),
            BinaryBytes(self.bytes)
        );
        for (count, what) in [(self.skipped, "skipped"), (self.failed, "failed")] {
            if count > 0 {
                line += &format!(", {} {what}", HumanCount(count));
            }
        }
        line
    }
}

/// "1 file", "1,000 files".
fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_was_done() {
        let mut tally = Tally::hidden();
        tally.begin(vec!["a".into(), "b".into()]);
        tally.moved(3 << 20);
        tally.finish("a");
        assert_eq!(tally.summary("put", Duration::from_secs(2)), "put: 1 file, 3.00 MiB in 2.0 s (1.50 MiB/s)");
        (tally.files, tally.skipped, tally.failed) = (5003, 1, 2);
        let text = tally.summary("get", Duration::from_secs(1));
        assert_eq!(text, "get: 5,003 files, 3.00 MiB in 1.0 s (3.00 MiB/s), 1 skipped, 2 failed");
        assert_eq!(tally.under_way, ["b"]);
    }
}
