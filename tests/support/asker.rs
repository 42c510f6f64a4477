//! A tree without files that asks for what a test tells it to ask for, and keeps the answers.

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
}

impl Asker {
    pub fn want(&mut self, id: u64, ask: Ask) {
        self.wants.push_back((AskId(id), ask));
    }
}

impl Service for Asker {
    const FILE_BYTES: usize = 0;
    const NEEDS_ASKS: bool = true;

    fn call(&mut self, _: OpId, _: Call<'_>, _: Show<'_>, _: At) -> Outcome {
        Outcome::now(Err(Error::EIO))
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
    }
}
