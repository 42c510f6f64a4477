//! The rate limit: how many lines of one kind pass in a second.
//!
//! Each connection of a stranger can cause a line. Without a limit these lines push all others
//! out of `ctl/log`. A kind is the target of a record. The first line of a kind begins a second;
//! lines above the bound are counted until it ends. Kinds beyond [`KINDS_MAX`] share a count.
//!
//! Must not know: texts, descriptors. The time is an argument.

/// Kinds with a count of their own; ring9 has fewer.
const KINDS_MAX: usize = 32;
/// How long a count lasts, in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

struct Kind {
    name: Box<str>,
    /// When the first line of this second came, in monotonic nanoseconds.
    began_ns: u64,
    passed: u32,
    left_out: u64,
}

impl Kind {
    fn has_ended(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.began_ns) >= SECOND_NS
    }
}

/// The answer for one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) passes: bool,
    /// Lines of the kind that were left out in the second before. To be logged first.
    pub(super) left_out: u64,
}

pub(super) struct Limiter {
    kinds: Vec<Kind>,
    passed_max: u32,
    /// Of all kinds, since the start.
    left_out: u64,
}

impl Limiter {
    /// For so many lines of a kind in a second.
    pub(super) fn new(passed_max: u32) -> Limiter {
        Limiter { kinds: Vec::new(), passed_max, left_out: 0 }
    }

    /// Counts a line of this kind.
    pub(super) fn admit(&mut self, name: &str, now_ns: u64) -> Verdict {
        let passed_max = self.passed_max;
        let kind = self.kind(name, now_ns);
        let mut left_out = 0;
        if kind.has_ended(now_ns) {
            left_out = std::mem::take(&mut kind.left_out);
            (kind.began_ns, kind.passed) = (now_ns, 0);
        }
        let passes = kind.passed < passed_max;
        kind.passed += u32::from(passes);
        kind.left_out += u64::from(!passes);
        self.left_out += u64::from(!passes);
        Verdict { passes, left_out }
    }

    fn kind(&mut self, name: &str, now_ns: u64) -> &mut Kind {
        let at = match self.kinds.iter().position(|kind| *kind.name == *name) {
            Some(at) => at,
            None if self.kinds.len() == KINDS_MAX => KINDS_MAX - 1,
            None => {
                self.kinds.push(Kind { name: name.into(), began_ns: now_ns, passed: 0, left_out: 0 });
                self.kinds.len() - 1
            }
        };
        &mut self.kinds[at]
    }

    /// Lines were left out, and their number was not taken yet.
    pub(super) fn owes(&self) -> bool {
        self.kinds.iter().any(|kind| kind.left_out > 0)
    }

    /// Takes the number of lines left out from one kind whose second has ended. With `None` every
    /// second ends now.
    pub(super) fn ended(&mut self, now_ns: Option<u64>) -> Option<(&str, u64)> {
        let ends = |kind: &&mut Kind| kind.left_out > 0 && now_ns.is_none_or(|now| kind.has_ended(now));
        let kind = self.kinds.iter_mut().find(ends)?;
        Some((&kind.name, std::mem::take(&mut kind.left_out)))
    }

    /// Lines left out since the start.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_kind_has_so_many_lines_a_second_and_the_rest_is_counted() {
        let mut limiter = Limiter::new(3);
        let mut passed = 0;
        for ms in 0..1000 {
            let verdict = limiter.admit("stranger", 5000 * MS + ms * MS);
            assert_eq!(verdict.left_out, 0, "the second has not ended");
            passed += u32::from(verdict.passes);
        }
        assert_eq!((passed, limiter.left_out(), limiter.owes()), (3, 997, true));
        assert_eq!(limiter.ended(Some(5999 * MS)), None);
        // Another kind is not concerned.
        assert_eq!(limiter.admit("other", 5999 * MS), Verdict { passes: true, left_out: 0 });
        assert_eq!(limiter.admit("stranger", 6000 * MS), Verdict { passes: true, left_out: 997 });
        assert!(!limiter.owes());
        // The next second has as many.
        let passed = (1..1000).filter(|ms| limiter.admit("stranger", 6000 * MS + ms * MS).passes).count();
        assert_eq!((passed, limiter.left_out()), (2, 2 * 997));
        assert_eq!(limiter.admit("stranger", 7000 * MS), Verdict { passes: true, left_out: 997 });
    }

    #[test]
    fn what_was_left_out_is_said_once_without_another_line() {
        let mut limiter = Limiter::new(1);
        (0..5).for_each(|_| {
            limiter.admit("a", MS);
            limiter.admit("b", 500 * MS);
        });
        assert_eq!(limiter.ended(Some(1000 * MS)), None);
        assert_eq!(limiter.ended(Some(1001 * MS)), Some(("a", 4)));
        assert_eq!(limiter.ended(Some(1001 * MS)), None);
        assert_eq!(limiter.ended(None), Some(("b", 4)), "at the end nothing is owed");
        assert!(!limiter.owes());
        assert_eq!(limiter.admit("a", 1001 * MS), Verdict { passes: true, left_out: 0 });
    }

    #[test]
    fn kinds_are_bounded() {
        let mut limiter = Limiter::new(1);
        (0..1000).for_each(|n| {
            limiter.admit(&n.to_string(), 0);
        });
        assert_eq!((limiter.kinds.len(), limiter.left_out()), (KINDS_MAX, 1000 - KINDS_MAX as u64));
    }
}
