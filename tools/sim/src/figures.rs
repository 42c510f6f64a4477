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
    /// As a line, for [`read`](Self::read).
    pub fn line(&self) -> String {
        let first =
            [self.digest, self.steps, self.events, self.submitted, self.requests, self.replies, self.operations];
        let then = [self.checked, self.asks, self.accepted, self.lasted_ns];
        let numbers: Vec<String> = first.iter().chain(&then).chain(&self.fired).map(u64::to_string).collect();
        numbers.join(" ")
    }

    /// From a line.
    pub fn read(line: &str) -> Option<Figures> {
        let numbers: Vec<u64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
        let [
            digest,
            steps,
            events,
            submitted,
            requests,
            replies,
            operations,
            checked,
            asks,
            accepted,
            lasted_ns,
            ref fired @ ..,
        ] = numbers[..]
        else {
            return None;
        };
        let fired = fired.to_vec();
        (fired.len() == Fault::ALL.len()).then_some(Figures {
            digest,
            steps,
            events,
            submitted,
            requests,
            replies,
            operations,
            checked,
            asks,
            accepted,
            lasted_ns,
            fired,
        })
    }

    /// Something has happened once.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.fired.resize(Fault::ALL.len(), 0);
        self.fired[fault as usize] += 1;
    }

    /// Adds those of another simulation.
    pub fn add(&mut self, one: &Figures) {
        self.digest = self.digest.wrapping_add(one.digest);
        self.steps += one.steps;
        self.events += one.events;
        self.submitted += one.submitted;
        self.requests += one.requests;
        self.replies += one.replies;
        self.operations += one.operations;
        self.checked += one.checked;
        self.asks += one.asks;
        self.accepted += one.accepted;
        self.lasted_ns = self.lasted_ns.saturating_add(one.lasted_ns);
        self.fired.resize(Fault::ALL.len(), 0);
        self.fired.iter_mut().zip(&one.fired).for_each(|(all, one)| *all += one);
    }
}
