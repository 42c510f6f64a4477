//! Whether another peer was active a moment ago.
//!
//! Must not know: in which way.

/// The two peers that last did something, and when, in monotonic nanoseconds.
#[derive(Default)]
pub(super) struct Recent([Option<(u32, u64)>; 2]);

impl Recent {
    /// This peer does it now.
    pub(super) fn note(&mut self, slot: u32, now: u64) {
        let [last, before] = &mut self.0;
        if last.is_some_and(|(other, _)| other != slot) {
            *before = *last;
        }
        *last = Some((slot, now));
    }

    /// Whether another peer has done it less than so many nanoseconds ago.
    pub(super) fn has_another(&self, slot: u32, now: u64, ns: u64) -> bool {
        self.0.iter().flatten().any(|&(other, then)| other != slot && now < then + ns)
    }
}
