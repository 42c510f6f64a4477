//! `user_data` of an SQE: what the operation is and whose.
//!
//! ```text
//! 63      56 55                       32 31                        0
//! |   op    |        generation         |           slot           |
//! ```
//! A slot is used again as soon as its peer is gone; the generation tells a late CQE from one of the next peer.

/// What was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// A multishot accept; slot = number of the listener.
    Accept = 1,
    /// A receive of a peer, into shared buffers, its window, blocks or the sink.
    Receive = 2,
    /// A send of a peer.
    Send = 3,
    /// A poll of the signal descriptor.
    Signal = 4,
    /// A cancellation; its own CQE means nothing.
    Cancel = 5,
    /// A wait before accepting again; slot = number of the listener.
    Backoff = 6,
    /// Populating more of the arena.
    Populate = 7,
    /// A wait before deadlines are looked at.
    Sweep = 8,
    /// A write of log lines.
    Log = 9,
    /// An operation of an ask of the tree; slot and generation are those of the ask.
    Ask = 10,
}

/// A decoded `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) op: Op,
    /// 24 bits.
    pub(crate) generation: u32,
    pub(crate) slot: u32,
}

impl Token {
    pub(crate) fn new(op: Op, generation: u32, slot: u32) -> Token {
        Token { op, generation: generation & 0xff_ffff, slot }
    }

    pub(crate) fn encode(self) -> u64 {
        (self.op as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// `None` for a number that no [`encode`](Self::encode) gives.
    pub(crate) fn decode(user_data: u64) -> Option<Token> {
        let op = match user_data >> 56 {
            1 => Op::Accept,
            2 => Op::Receive,
            3 => Op::Send,
            4 => Op::Signal,
            5 => Op::Cancel,
            6 => Op::Backoff,
            7 => Op::Populate,
            8 => Op::Sweep,
            9 => Op::Log,
            10 => Op::Ask,
            _ => return None,
        };
        Some(Token { op, generation: (user_data >> 32) as u32 & 0xff_ffff, slot: user_data as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_trip_through_the_kernel() {
        let ops = [
            Op::Accept,
            Op::Receive,
            Op::Send,
            Op::Signal,
            Op::Cancel,
            Op::Backoff,
            Op::Populate,
            Op::Sweep,
            Op::Log,
            Op::Ask,
        ];
        for op in ops {
            for (generation, slot) in [(0, 0), (0xff_ffff, u32::MAX), (1, 2)] {
                let token = Token::new(op, generation, slot);
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
        assert_eq!(Token::decode(0), None);
        assert_eq!(Token::new(Op::Send, 1 << 24, 0).generation, 0, "generations wrap");
    }
}
