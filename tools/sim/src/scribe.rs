//! The source of log lines, and the oracle that compares the bytes on stderr with them.
//!
//! Half of the lines are messages, which the rate limit does not concern; these are numbered. A
//! line that is whole ends with a full stop, or is one of the two notes.
//!
//! Must not know: how the loop writes.

use crate::random::Random;
use ring9::logging::{Level, Log, Options};
use ring9::stats::Lines;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Lines of one kind in a second.
const LINES_PER_SECOND: u32 = 3;
/// Bytes of the lines that are no messages: more than a simulation logs.
const KEPT_BYTES_MAX: usize = 8 << 20;

pub(crate) struct Scribe {
    log: Arc<Log>,
    kept: Arc<Mutex<Lines>>,
    bytes_max: usize,
    messages: u64,
}

impl Scribe {
    pub(crate) fn new(seed: u64) -> Scribe {
        let bytes_max = [400, 4096, 64 << 10][(seed / 3 % 3) as usize];
        let kept = Arc::new(Mutex::new(Lines::new(KEPT_BYTES_MAX)));
        let log = Log::new(Arc::clone(&kept), Options { bytes_max, lines_per_second: LINES_PER_SECOND });
        Scribe { log: Arc::new(log), kept, bytes_max, messages: 0 }
    }

    pub(crate) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// Logs some lines.
    pub(crate) fn say(&mut self, random: &mut Random, now_ns: u64) {
        let most = random.of(&[2, 5, 200]);
        for _ in 0..1 + random.below(most) {
            if random.one_in(2) {
                self.messages += 1;
                let pad = "x".repeat(random.below(60));
                self.log.say(Level::Trace, "message", format_args!("message {} {pad}.", self.messages), now_ns);
            } else {
                let kind = random.of(&["stranger", "other"]);
                self.log.say(Level::Info, kind, format_args!("one of {kind}."), now_ns);
            }
        }
    }

    pub(crate) fn check_bound(&self) {
        let bytes = self.log.capacity();
        assert!(bytes <= self.bytes_max / 2, "bounds: {bytes} bytes of log lines wait");
    }

    /// Lines on stderr were logged, are in order, and are there once. If nothing is left to write,
    /// each missing line was counted, and the notes tell the same number.
    pub(crate) fn judge(&self, stderr: &VecDeque<u8>, nothing_under_way: bool) {
        let bytes: Vec<u8> = stderr.iter().copied().collect();
        let text = String::from_utf8(bytes).expect("log lines are text");
        let (mut last, mut shown, mut noted) = (0, 0, 0);
        for line in text.split_terminator('\n') {
            let dropped = line.strip_prefix("ring9: warn: ").and_then(|line| line.strip_suffix(" lines were dropped"));
            if let Some(count) = dropped {
                noted += count.parse::<u64>().expect("a number of lines");
            } else if line.ends_with('.') || line.ends_with(" were left out") {
                shown += 1;
                if let Some(rest) = line.strip_prefix("message ") {
                    let number = rest.split(' ').next().and_then(|number| number.parse::<u64>().ok());
                    let number = number.expect("log: a message without its number");
                    assert!(last < number && number <= self.messages, "log: message {number} behind {last}");
                    last = number;
                }
            }
        }
        let dropped = self.log.look().dropped;
        let [front, back] = self.kept.lock().expect("nobody panicked").from(0).map(<[u8]>::to_vec);
        let kept = front.iter().chain(&back).filter(|&&byte| byte == b'\n').count() as u64;
        let said = self.messages + kept;
        assert!(shown + dropped <= said, "log: {shown} lines written and {dropped} dropped of {said}");
        assert!(noted <= dropped, "log: {noted} lines are said to be dropped, and {dropped} were");
        if nothing_under_way && !self.log.is_waiting() {
            assert_eq!((shown + dropped, noted), (said, dropped), "log: lines written and dropped, and what was said");
        }
    }
}
