//! The texts of `ctl` that are made when a file is opened: version, stats, store, connections,
//! percentiles.

use crate::arena::Gauge;
use crate::fs::At;
use crate::stats::{Connection, Stats, StoreFigures, StoreFixed};
use crate::wire::Kind;
use hdrhistogram::Histogram;
use std::fmt::{Display, Write};

/// Writes to a String, which takes anything.
macro_rules! line {
    ($text:expr, $($words:tt)*) => { writeln!($text, $($words)*).expect("a String takes anything") };
}

pub(super) fn version() -> String {
    format!("ring9 {}\n", env!("CARGO_PKG_VERSION"))
}

/// A line of [`stats`]: a name, a space, a value and the end of the line.
const LINE_BYTES: usize = 28 + 1 + 20 + 1;
/// Lines of [`stats`] beside those of counters and messages.
const OTHER_LINES: usize = 20;

/// One `name value` per line. Numbers are padded, so that the length changes only when a kind of message is seen for the first time.
pub(super) fn stats(stats: &Stats, gauge: &Gauge) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: u64| line!(text, "{name:<28} {value:>20}");
    stats.counters.each(&mut line);
    if let Some(store) = stats.store() {
        store.counters.each(&mut line);
    }
    let (enters, cqes) = (stats.counters.enters.get(), stats.counters.cqes.get());
    line("cqes_per_100_enters", (cqes * 100).checked_div(enters).unwrap_or(0));
    for kind in (0..=255).map(Kind).filter(|&kind| stats.messages(kind) > 0) {
        // One word each, also for a number that no message has.
        let name = kind.name().map_or_else(|| format!("messages_type_{}", kind.0), |name| format!("messages_{name}"));
        line(&name, stats.messages(kind));
    }
    let latency = stats.latency();
    quantiles(latency.all(), |name, value| line(&format!("service_ns_{name}"), value));
    let figures = [
        ("arena_total_bytes", gauge.total_bytes()),
        ("arena_used_bytes", gauge.used_bytes()),
        ("arena_orphaned_bytes", gauge.orphaned_bytes()),
        ("arena_granted_bytes", gauge.granted_bytes()),
        ("pins", gauge.pins()),
        ("pins_taken", gauge.pins_taken()),
        ("gathered_bytes", gauge.gathered_bytes()),
        ("copied_bytes", gauge.written_bytes() + gauge.filled_bytes()),
        ("copied_small_bytes", gauge.written_bytes()),
        ("copied_window_bytes", gauge.filled_bytes()),
        ("landed_bytes", gauge.landed_bytes()),
        ("growth_copied_bytes", gauge.grown_bytes()),
        ("merge_copied_bytes", gauge.merged_bytes()),
        ("pinned_copied_bytes", gauge.pinned_bytes()),
    ];
    figures.into_iter().for_each(|(name, value)| line(name, value as u64));
    text
}

/// A line of [`store`]: a name, a space, a value that may be a number of 16 bytes, and the end of the line.
const STORE_LINE_BYTES: usize = 28 + 1 + 32 + 1;
/// Lines of [`store`].
const STORE_LINES: usize = 38;

/// What is known of a store, one `name value` per line. Values are padded, so that the length never changes.
pub(super) fn store(store: &StoreFigures) -> String {
    let mut text = String::with_capacity(store_len());
    let mut word = |name: &str, value: &dyn Display| line!(text, "{name:<28} {value:>32}");
    let StoreFixed { id, epoch, sync, segment_bytes, directory_bytes_max, live_bytes_max } = store.fixed;
    let now = store.now();
    word("id", &id.iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}")));
    word("epoch", &epoch);
    word("sync", &sync);
    word("position", &now.position);
    word("position_durable", &now.durable);
    word("not_durable_bytes", &now.behind_bytes);
    store.counters.each(|name, value| word(name.trim_start_matches("store_"), &value));
    {
        let operations = store.operations();
        let (batches, all) = (store.counters.store_batches.get(), store.counters.store_operations.get());
        word("batch_operations_mean", &format!("{:.2}", all as f64 / batches.max(1) as f64));
        quantiles(&operations, |name, value| word(&format!("batch_operations_{name}"), &value));
    }
    {
        let flush_ns = store.flush_ns();
        word("flushes", &flush_ns.len());
        quantiles(&flush_ns, |name, value| word(&format!("flush_ns_{name}"), &value));
    }
    word("checkpoint", &if now.is_checkpoint { "running" } else { "none" });
    word("checkpoint_bytes", &now.swept_bytes);
    let (first, last) = now.segments;
    word("segment_bytes", &segment_bytes);
    word("segment_first", &first);
    word("segment_last", &last);
    word("segments", &(last + 1 - first));
    word("segments_in_stock", &now.stock);
    word("segments_spare", &now.spares);
    word("log_bytes", &now.log_bytes);
    word("directory_bytes", &((last + 1 - first + now.spares) * segment_bytes));
    word("directory_bytes_max", &directory_bytes_max);
    word("live_bytes", &now.live_bytes);
    word("live_bytes_max", &live_bytes_max);
    word("disk_full", &u8::from(now.is_full));
    debug_assert_eq!(text.len(), store_len());
    text
}

/// The length of [`store`].
pub(super) const fn store_len() -> usize {
    STORE_LINES * STORE_LINE_BYTES
}

fn quantiles(of: &Histogram<u64>, mut see: impl FnMut(&str, u64)) {
    for (name, at) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        see(name, of.value_at_quantile(at));
    }
    see("max", of.max());
}

/// The names of the columns, each as wide as its figures can be.
const COLUMNS: &str = "number dialect     msize   fids pending queued_bytes       received_bytes           sent_bytes      age_s trust          ";

/// The line of names above the lines of connections.
pub(super) fn connections_head() -> String {
    format!("{COLUMNS}listener\n")
}

/// Appends the line of a connection, as it was at the end of its last turn.
pub(super) fn connection(text: &mut String, number: u32, connection: &Connection, at: At) {
    line!(
        text,
        "{number:>6} {:<8} {:>8} {:>6} {:>7} {:>12} {:>20} {:>20} {:>10} {:<14} {}",
        connection.dialect.get().unwrap_or("-"),
        connection.msize.get(),
        connection.fids.get(),
        connection.pending.get(),
        connection.queued_bytes.get(),
        connection.received_bytes.get(),
        connection.sent_bytes.get(),
        at.mono_ns.saturating_sub(connection.since_ns) / 1_000_000_000,
        connection.trust,
        connection.listener,
    );
}

/// The length of that text: the columns are padded, so the length does not depend on the figures.
pub(super) fn connections_len(stats: &Stats) -> usize {
    let (count, listeners) = stats.connections();
    (count + 1) * (COLUMNS.len() + 1) + "listener".len() + listeners
}

/// The length of [`stats`]: a line for each counter, figure and kind of message that was seen. Nothing is
/// formatted to find it.
pub(super) fn stats_len(stats: &Stats) -> usize {
    let mut lines = OTHER_LINES;
    stats.counters.each(|_, _| lines += 1);
    if let Some(store) = stats.store() {
        store.counters.each(|_, _| lines += 1);
    }
    lines += (0..=255).map(Kind).filter(|&kind| stats.messages(kind) > 0).count();
    lines * LINE_BYTES
}

/// The longest that a percentile table of so many values may be. Its length depends on the values, so a
/// file that is not open shows this bound: a client that reads no further than the length sees all of it.
pub(super) fn percentiles_len_max(count: u64) -> usize {
    // Each half of what is left has TICKS_PER_HALF lines, until less than one value is left.
    let halves = u64::BITS - count.leading_zeros() + 2;
    HEAD_BYTES + FOOTER_BYTES + (halves * TICKS_PER_HALF) as usize * STEP_BYTES_MAX
}

/// Ticks of a percentile table on the way to each half of what is left, as HdrHistogram has them by default.
const TICKS_PER_HALF: u32 = 5;
/// The line of names of a percentile table and the empty line behind it, the last three lines, and the
/// longest line between: a value below 60 s in microseconds, a quantile, and two counts below 2^64.
const HEAD_BYTES: usize = 12 + 1 + 14 + 1 + 10 + 1 + 16 + 2;
const FOOTER_BYTES: usize = 3 * 80;
const STEP_BYTES_MAX: usize = 12 + 1 + 14 + 1 + 20 + 1 + 24 + 1;

/// The percentile table of HdrHistogram (Java: outputPercentileDistribution; `.hgrm` files), in microseconds. `None`: nothing was recorded.
pub(super) fn percentiles(service_ns: Option<&Histogram<u64>>) -> String {
    let us = |ns: f64| ns / 1000.0;
    let mut text = String::new();
    line!(text, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let Some(service_ns) = service_ns else {
        footer(&mut text, [0.0; 3], [0; 3]);
        return text;
    };
    let mut count = 0;
    for step in service_ns.iter_quantiles(TICKS_PER_HALF) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (us(step.value_iterated_to() as f64), step.quantile_iterated_to());
        if quantile < 1.0 {
            line!(text, "{value:12.3} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile));
        } else {
            line!(text, "{value:12.3} {quantile:2.12} {count:10}");
        }
    }
    let times = [service_ns.mean(), service_ns.stdev(), service_ns.max() as f64].map(us);
    let sub_buckets = (2 * 10u64.pow(service_ns.sigfig().into())).next_power_of_two();
    footer(&mut text, times, [service_ns.len(), service_ns.buckets().into(), sub_buckets]);
    text
}

fn footer(text: &mut String, [mean, deviation, max]: [f64; 3], [count, buckets, sub_buckets]: [u64; 3]) {
    line!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    line!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    line!(text, "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]");
}
