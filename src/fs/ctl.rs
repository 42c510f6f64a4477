//! The server's own figures as files: `version` and `stats`.
//!
//! A file's text is made when it is opened, so that what is read never mixes two moments. Must not know: sessions, rings. It reads what main lends it.

use super::flat::{Flat, Named, Source};
use super::mode;
use crate::arena::Gauge;
use crate::stats::Stats;
use crate::wire::Kind;
use std::fmt::Write;
use std::rc::Rc;

/// The tree `ctl`.
pub type Ctl = Flat<Figures>;

/// Where the texts come from.
pub struct Figures {
    stats: Rc<Stats>,
    gauge: Gauge,
}

impl Ctl {
    /// Shows these figures.
    pub fn new(stats: Rc<Stats>, gauge: Gauge) -> Ctl {
        Flat::of(Figures { stats, gauge })
    }
}

const VERSION: usize = 0;

impl Source for Figures {
    const FILES: &'static [Named] = &[
        Named { name: "version", mode: mode::IFREG | 0o444, rdev: (0, 0) },
        Named { name: "stats", mode: mode::IFREG | 0o444, rdev: (0, 0) },
    ];

    fn snapshot(&self, index: usize) -> Box<[u8]> {
        self.text(index).into_bytes().into()
    }

    /// Of the text at this moment; Linux reads no further than the length that it was shown.
    fn size(&self, index: usize) -> u64 {
        self.text(index).len() as u64
    }
}

impl Figures {
    fn text(&self, index: usize) -> String {
        if index == VERSION { format!("ring9 {}\n", env!("CARGO_PKG_VERSION")) } else { self.stats_text() }
    }

    /// One `name value` per line. Numbers are padded, so that the length changes only when a kind of message is seen for the first time.
    fn stats_text(&self) -> String {
        let mut text = String::new();
        let mut line =
            |name: &str, value: u64| writeln!(text, "{name:<28} {value:>20}").expect("a String takes anything");
        self.stats.counters.each(&mut line);
        let (enters, cqes) = (self.stats.counters.enters.get(), self.stats.counters.cqes.get());
        line("cqes_per_100_enters", (cqes * 100).checked_div(enters).unwrap_or(0));
        for kind in (0..=255).map(Kind).filter(|kind| self.stats.messages(kind.0) > 0) {
            // One word each, also for a number that no message has.
            let name =
                kind.name().map_or_else(|| format!("messages_type_{}", kind.0), |name| format!("messages_{name}"));
            line(&name, self.stats.messages(kind.0));
        }
        self.stats.service_ns(|service| {
            for (name, at) in [("50", 0.5), ("90", 0.9), ("99", 0.99), ("99.9", 0.999)] {
                line(&format!("service_ns_p{name}"), service.value_at_quantile(at));
            }
            line("service_ns_max", service.max());
        });
        let figures = [
            ("arena_total_bytes", self.gauge.total_bytes()),
            ("arena_used_bytes", self.gauge.used_bytes()),
            ("arena_orphaned_bytes", self.gauge.orphaned_bytes()),
            ("arena_granted_bytes", self.gauge.granted_bytes()),
            ("pins", self.gauge.pins()),
            ("pins_taken", self.gauge.pins_taken()),
            ("gathered_bytes", self.gauge.gathered_bytes()),
            ("copied_bytes", self.gauge.written_bytes() + self.gauge.filled_bytes()),
            ("copied_small_bytes", self.gauge.written_bytes()),
            ("copied_window_bytes", self.gauge.filled_bytes()),
            ("landed_bytes", self.gauge.landed_bytes()),
            ("growth_copied_bytes", self.gauge.grown_bytes()),
            ("rewrite_copied_bytes", self.gauge.rewritten_bytes()),
        ];
        figures.into_iter().for_each(|(name, value)| line(name, value as u64));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn every_line_is_a_word_and_a_number() {
        let stats = Rc::new(Stats::default());
        (0..=255).for_each(|kind| stats.replied(kind, 1000));
        let gauge = Arena::new(1 << 20).expect("a small mapping").gauge();
        let text = Figures { stats, gauge }.text(1);
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            assert!(words.len() == 2 && words[1].parse::<u64>().is_ok(), "{line}");
        }
        assert!(text.contains("messages_Tread ") && text.contains("messages_type_200 "));
        assert_eq!(text.lines().filter(|line| line.starts_with("messages_")).count(), 256);
    }
}
