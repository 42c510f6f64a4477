//! Scripts of the target `session`: what two clients say, and when their driver does what. Made from any bytes.
//!
//! ```text
//! world[3]  step...       step: op[1] operand[1]*n
//! ```

use crate::say::{SAYS, Say, tag_of};
use arbitrary::{Arbitrary, Unstructured};
use ring9::wire::{Dialect, Message};
use std::fmt;

/// Most steps of a script.
const STEPS_MAX: usize = 250;

/// A script.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// What the world is like.
    pub world: World,
    /// What happens in it.
    pub steps: Vec<Step>,
}

/// Bounds and ways of a world; each picks one of a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// Bounds of a session.
    pub session: u8,
    /// Bounds of all together, and of the tree.
    pub tree: u8,
    /// How the driver uses the contract, and whom it trusts.
    pub driver: u8,
}

/// What happens next.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// A client says something.
    Say {
        /// Which one, and what its driver does then.
        how: How,
        /// Names the tag.
        tag: u8,
        /// What it says.
        say: Say,
    },
    /// So many bytes of what was said and held back arrive.
    Deliver(How, u8),
    /// Replies are taken.
    Take(How),
    /// The oldest replies that were taken have been sent.
    Sent,
    /// A client goes, whatever it was doing; another one comes.
    Vanish(How),
    /// Seconds pass.
    Wait(u8),
}

/// Which of two peers, and what its driver leaves for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How(pub u8);

impl How {
    /// Which of two peers.
    pub fn peer(self) -> usize {
        usize::from(self.0 & 1)
    }
    /// What is said does not arrive yet.
    pub fn holds_back(self) -> bool {
        self.0 & 2 != 0
    }
    /// Replies are not taken.
    pub fn leaves_replies(self) -> bool {
        self.0 & 4 != 0
    }
    /// Replies that are taken are not sent at once.
    pub fn keeps_replies(self) -> bool {
        self.0 & 8 != 0
    }
}

/// Steps that are not [`Step::Say`]. They come first, so that kept inputs stay what they are when there is more to say.
const OTHERS: usize = 5;

impl<'a> Arbitrary<'a> for Script {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Script> {
        let world = World { session: u.arbitrary()?, tree: u.arbitrary()?, driver: u.arbitrary()? };
        let mut steps = Vec::new();
        while !u.is_empty() && steps.len() < STEPS_MAX {
            steps.push(u.arbitrary()?);
        }
        Ok(Script { world, steps })
    }
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Step> {
        let op = usize::from(u.arbitrary::<u8>()?) % (SAYS + OTHERS);
        Ok(match op {
            0 => Step::Deliver(How(u.arbitrary()?), u.arbitrary()?),
            1 => Step::Take(How(u.arbitrary()?)),
            2 => Step::Sent,
            3 => Step::Vanish(How(u.arbitrary()?)),
            4 => Step::Wait(u.arbitrary()?),
            _ => {
                let (how, tag) = (How(u.arbitrary()?), u.arbitrary()?);
                Step::Say { how, tag, say: Say::decode(op - OTHERS, u)? }
            }
        })
    }
}

impl Script {
    /// The bytes that this script is made from.
    pub fn bytes(&self) -> Vec<u8> {
        let World { session, tree, driver } = self.world;
        let mut bytes = vec![session, tree, driver];
        for step in &self.steps {
            match step {
                Step::Say { how, tag, say } => {
                    bytes.extend([(OTHERS + say.place()) as u8, how.0, *tag]);
                    bytes.extend(say.operands());
                }
                Step::Deliver(how, amount) => bytes.extend([0, how.0, *amount]),
                Step::Take(how) => bytes.extend([1, how.0]),
                Step::Sent => bytes.push(2),
                Step::Vanish(how) => bytes.extend([3, how.0]),
                Step::Wait(seconds) => bytes.extend([4, *seconds]),
            }
        }
        bytes
    }
}

impl fmt::Debug for Script {
    /// A step on each line, requests as they would be sent in 9P2000.L.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.world)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step:?}"))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Say { how, tag, say } => {
                let mut frame = say.frame(tag_of(*tag), Dialect::L, u32::MAX);
                // Messages that only the older dialects have are printed in one of those.
                if Message::parse(&frame, Dialect::L).is_err() {
                    frame = say.frame(tag_of(*tag), Dialect::U, u32::MAX);
                }
                let parsed = [Dialect::L, Dialect::U]
                    .into_iter()
                    .find_map(|dialect| Some((dialect, Message::parse(&frame, dialect).ok()?)));
                match parsed {
                    Some((dialect, (tag, message))) => write!(f, "{:#04x} {}", how.0, message.line(tag, dialect)),
                    None => write!(f, "{:#04x} {say:?} tag={}", how.0, tag_of(*tag)),
                }
            }
            Step::Deliver(how, amount) => write!(f, "{:#04x} deliver {amount}", how.0),
            Step::Take(how) => write!(f, "{:#04x} take", how.0),
            Step::Sent => f.write_str("sent"),
            Step::Vanish(how) => write!(f, "{:#04x} vanish", how.0),
            Step::Wait(seconds) => write!(f, "wait {seconds}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every say, with operands that differ.
    fn script() -> Script {
        let operands: Vec<u8> = (1..100).collect();
        let say = |at| Say::decode(at, &mut Unstructured::new(&operands)).expect("enough operands");
        let mut steps: Vec<_> =
            (0..SAYS).map(|at| Step::Say { how: How(at as u8), tag: at as u8 + 1, say: say(at) }).collect();
        steps.extend([Step::Deliver(How(1), 77), Step::Take(How(0)), Step::Sent, Step::Vanish(How(1)), Step::Wait(3)]);
        Script { world: World { session: 1, tree: 2, driver: 3 }, steps }
    }

    #[test]
    fn a_script_comes_back_from_its_bytes() {
        let script = script();
        let bytes = script.bytes();
        assert!(Script::arbitrary_take_rest(Unstructured::new(&bytes)).expect("whole steps") == script);
    }
}
