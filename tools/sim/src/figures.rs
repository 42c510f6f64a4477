//! What has happened in a simulation, and in many.
//!
//! Must not know: servers, worlds.

use crate::kernel::faults::Fault;

/// What has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The same for the same plan.
    pub digest: u64,
    /// Choices of the scheduler.
    pub steps: u64,
    /// Completions that the server was handed, and submissions that it made.
    pub events: u64,
    /// Submissions.
    pub submitted: u64,
    /// Messages of clients, and replies that they heard.
    pub requests: u64,
    /// Replies.
    pub replies: u64,
    /// Operations of the tree that were held against the model.
    pub operations: u64,
    /// Writes and replies that were held against each other.
    pub checked: u64,
    /// Asks of the tree that were answered.
    pub asks: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Virtual nanoseconds.
    pub lasted_ns: u64,
    /// How often each kind of fault has happened.
    pub fired: Vec<u64>,
}

impl Figures {
    /// All numbers but those of faults, in the order of their declaration.
    fn numbers(&mut self) -> [&mut u64; 11] {
        let Figures { digest, steps, events, submitted, requests, replies, operations, .. } = self;
        let Figures { checked, asks, accepted, lasted_ns, .. } = self;
        [digest, steps, events, submitted, requests, replies, operations, checked, asks, accepted, lasted_ns]
    }

    /// As a line, for [`read`](Self::read).
    pub fn line(&self) -> String {
        let mut figures = self.clone();
        let first = figures.numbers().map(|number| number.to_string());
        let all: Vec<String> = first.into_iter().chain(self.fired.iter().map(u64::to_string)).collect();
        all.join(" ")
    }

    /// From a line.
    pub fn read(line: &str) -> Option<Figures> {
        let numbers: Vec<u64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
        let mut figures = Figures::default();
        let first = figures.numbers();
        let (given, fired) = numbers.split_at_checked(first.len())?;
        first.into_iter().zip(given).for_each(|(number, given)| *number = *given);
        figures.fired = fired.to_vec();
        (fired.len() == Fault::ALL.len()).then_some(figures)
    }

    /// Something has happened once.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.fired.resize(Fault::ALL.len(), 0);
        self.fired[fault as usize] += 1;
    }

    /// Adds those of another simulation.
    pub fn add(&mut self, one: &Figures) {
        let mut one = one.clone();
        // A digest may wrap.
        let digest = self.digest.wrapping_add(std::mem::take(&mut one.digest));
        self.numbers().into_iter().zip(one.numbers()).for_each(|(all, one)| *all = all.saturating_add(*one));
        self.digest = digest;
        self.fired.resize(Fault::ALL.len(), 0);
        self.fired.iter_mut().zip(&one.fired).for_each(|(all, one)| *all += one);
    }
}
