//! Writes the interval log of HdrHistogram (V2): a line for each type of request that was answered in an interval, with its whole histogram.

use super::{Latency, Lines};
use crate::wire::Kind;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fmt;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Interval_Max is in milliseconds, as the tools that read such logs have it.
const MAX_VALUE_DIVISOR: f64 = 1_000_000.0;

/// A writer, with the memory that it works in.
#[derive(Default)]
pub struct IntervalLog {
    serializer: V2DeflateSerializer,
    text: Vec<u8>,
}

impl IntervalLog {
    /// What a log starts with: when (since the epoch, as all times of its lines), in which unit, and what the columns are.
    pub fn head(&mut self, now: Duration) -> Vec<u8> {
        let mut head = Vec::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(UNIX_EPOCH + now)
            .with_max_value_divisor(MAX_VALUE_DIVISOR)
            .begin_log_with(&mut head, &mut self.serializer)
            .map(|_| ())
            .expect("a Vec takes anything");
        let columns = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";
        writeln!(head, "{columns}").expect("a Vec takes anything");
        head
    }

    /// Ends an interval for the first type of request from `from` on that has any values. The interval began at this time since the epoch and has lasted so long. A
    /// line is appended to `lines`. The type to go on with; `None` at the end.
    pub fn end_interval_of(
        &mut self,
        latency: &mut Latency,
        from: Kind,
        begun: Duration,
        lasted: Duration,
        lines: &mut Lines,
    ) -> Option<Kind> {
        latency.end_interval_of(from, |kind, interval| {
            self.text.clear();
            let mut writer = IntervalLogWriterBuilder::new()
                .with_max_value_divisor(MAX_VALUE_DIVISOR)
                .begin_log_with(&mut self.text, &mut self.serializer)
                .expect("a Vec takes anything");
            let tag = kind.name().and_then(Tag::new);
            writer.write_histogram(interval, begun, lasted, tag).expect("a Vec takes anything");
            // Above it stands the unit once more.
            let line = self.text.trim_ascii_end().rsplit(|&byte| byte == b'\n').next();
            lines.push(line.unwrap_or_default());
        })
    }
}

impl fmt::Debug for IntervalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalLog").finish_non_exhaustive()
    }
}
