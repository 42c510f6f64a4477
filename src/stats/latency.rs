//! Service times: nanoseconds from the turn that received a request to the submission that sent its reply at once, or else to the turn that saw the send end.
//!
//! One histogram for all and one for each type of request, in three significant digits up to 60 s: 216 KiB each, made when the first such request is
//! answered; so 7 MiB at most, 2 MiB in the usual case. While intervals are watched each type has a second one of 108 KiB. Recording allocates nothing
//! after the first of a type.

use crate::wire::Kind;
use hdrhistogram::{Counter, Histogram};

/// Slower ones count as this slow.
const SERVICE_NS_MAX: u64 = 60_000_000_000;

pub(super) fn histogram<C: Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, SERVICE_NS_MAX, 3).expect("constant bounds are valid")
}

/// Service times by the type of the request.
#[derive(Debug)]
pub struct Latency {
    all: Histogram<u64>,
    /// By half the type: requests are even.
    kinds: [Option<Box<OfKind>>; 128],
    watched: bool,
}

#[derive(Debug)]
struct OfKind {
    total: Histogram<u64>,
    /// Of this interval; there from the first record of the first interval that is watched.
    interval: Option<Histogram<u32>>,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { all: histogram(), kinds: [const { None }; 128], watched: false }
    }
}

impl Latency {
    /// A request was served in this time. What is no request has no histogram of its own, or a peer could have one made for every number.
    pub(super) fn record(&mut self, kind: Kind, service_ns: u64) {
        let service_ns = service_ns.max(1);
        self.all.saturating_record(service_ns);
        if !kind.is_request() {
            return;
        }
        let of_kind = self.kinds[usize::from(kind.0 / 2)]
            .get_or_insert_with(|| Box::new(OfKind { total: histogram(), interval: None }));
        of_kind.total.saturating_record(service_ns);
        if self.watched {
            of_kind.interval.get_or_insert_with(histogram).saturating_record(service_ns);
        }
    }

    /// Of all requests, whatever they were.
    pub fn all(&self) -> &Histogram<u64> {
        &self.all
    }

    /// Of requests of this type. `None` before the first.
    pub fn of(&self, kind: Kind) -> Option<&Histogram<u64>> {
        self.kinds[usize::from(kind.0 / 2)].as_ref().filter(|_| kind.is_request()).map(|of_kind| &of_kind.total)
    }

    /// Begins to record intervals, or stops and gives their memory back.
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
        if !watched {
            self.kinds.iter_mut().flatten().for_each(|of_kind| of_kind.interval = None);
        }
    }

    /// Ends the interval of the first type from `from` on that has any times: shows them, and begins the next
    /// interval of that type. The type to go on with; `None` if there was none.
    pub fn end_interval_of(&mut self, from: Kind, see: impl FnOnce(Kind, &Histogram<u32>)) -> Option<Kind> {
        for half in from.0 / 2..128 {
            let of_kind = self.kinds[usize::from(half)].as_mut();
            let interval = of_kind.and_then(|of_kind| of_kind.interval.as_mut());
            if let Some(interval) = interval.filter(|interval| !interval.is_empty()) {
                see(Kind(half * 2), interval);
                interval.reset();
                return (half < 127).then_some(Kind(half * 2 + 2));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_as_large_as_the_head_of_this_file_says() {
        let slots = histogram::<u64>().distinct_values();
        assert_eq!(((slots * size_of::<u64>()) >> 10, (slots * size_of::<u32>()) >> 10), (216, 108));
        let requests = (0..=255).map(Kind).filter(|kind| kind.is_request()).count();
        assert!((requests + 1) * 216 <= 7 << 10, "{requests} types of requests");
    }

    fn end_interval(latency: &mut Latency, mut see: impl FnMut(Kind, &Histogram<u32>)) {
        let mut next = Some(Kind(0));
        while let Some(from) = next {
            next = latency.end_interval_of(from, &mut see);
        }
    }

    #[test]
    fn times_are_kept_by_type_and_interval() {
        let mut latency = Latency::default();
        latency.record(Kind::TREAD, 5000);
        latency.watch(true);
        latency.record(Kind::TREAD, 7000);
        latency.record(Kind::TWALK, u64::MAX);
        // Replies, and numbers that no message has.
        latency.record(Kind(117), 1);
        latency.record(Kind(200), 1);
        let mut seen = Vec::new();
        end_interval(&mut latency, |kind, interval| seen.push((kind, interval.len(), interval.max())));
        assert_eq!(seen.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(Kind::TWALK, 1), (Kind::TREAD, 1)]);
        assert!(seen[1].2 >= 7000 && seen[1].2 < 7010, "{seen:?}");
        end_interval(&mut latency, |kind, _| panic!("{kind} was in the last interval"));
        latency.record(Kind::TREAD, 1);
        latency.watch(false);
        latency.watch(true);
        end_interval(&mut latency, |kind, _| panic!("{kind} was recorded while another watched"));
        assert_eq!((latency.all().len(), latency.of(Kind::TREAD).map(Histogram::len)), (6, Some(3)));
        assert!([117, 200].iter().all(|&kind| latency.of(Kind(kind)).is_none()), "no memory for what is no request");
    }
}
