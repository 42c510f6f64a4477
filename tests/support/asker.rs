//! A tree without files that asks for what a test tells it to ask for, and keeps the answers. It may be silent: then every
//! operation waits, and none can be taken back.

use ring9::fs::{Ask, AskId, At, Call, Error, OpId, Outcome, Result, Service, Show};
use std::collections::VecDeque;

#[derive(Default)]
pub struct Asker {
    /// What it asks for next.
    pub wants: VecDeque<(AskId, Ask)>,
    pub answers: Vec<(AskId, Ask, Result<u32>)>,
    /// Asks that are in flight, and the most at a time.
    pub in_flight: usize,
    pub most: usize,
    /// What it asks for once serving has ended.
    pub last: Vec<(AskId, Ask)>,
    pub is_retired: bool,
    /// Operations wait, and end where the test says so; or once serving has ended.
    pub is_silent: bool,
    pub ends_retired: bool,
    pub waiting: Vec<OpId>,
    pub ready: VecDeque<OpId>,
}

impl Asker {
    pub fn want(&mut self, id: u64, ask: Ask) {
        self.wants.push_back((AskId(id), ask));
    }

    /// An operation that has waited fails.
    pub fn end(&mut self, op: OpId) {
        self.ready.push_back(op);
    }

    /// Every operation that waits fails.
    pub fn ends(&mut self) {
        self.ready.extend(self.waiting.drain(..));
    }
}

impl Service for Asker {
    const FILE_BYTES: usize = 0;
    const NEEDS_ASKS: bool = true;

    fn call(&mut self, op: OpId, _: Call<'_>, _: Show<'_>, _: At) -> Outcome {
        if self.is_silent {
            self.waiting.push(op);
            return Outcome::Pending;
        }
        Outcome::now(Err(Error::EIO))
    }

    fn ready(&mut self) -> Option<OpId> {
        self.ready.pop_front()
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        let next = self.wants.pop_front()?;
        self.in_flight += 1;
        self.most = self.most.max(self.in_flight);
        Some(next)
    }

    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, _: At) {
        self.in_flight -= 1;
        self.answers.push((id, ask, result));
    }

    fn has_asks(&self) -> bool {
        self.in_flight > 0 || !self.wants.is_empty()
    }

    fn retire(&mut self, _: At) {
        assert!(!self.is_retired, "once");
        self.is_retired = true;
        self.wants.extend(self.last.drain(..));
        if self.ends_retired {
            self.ends();
        }
    }
}
