//! The size of a receive into the window of a peer that sends payloads of medium size
//! (docs/decisions/17-whole-payloads.md).
//!
//! A receive has room for a whole number of messages: about a third of the messages that the client
//! has in flight, and at most four. With more, the client would wait for its replies; with fewer, each
//! message would cost more receives and sends. One receive in 32 is wider, and its result shows how
//! many messages are in flight.
//!
//! A client that shares the cpu of the server is received from otherwise: `pace.rs` finds out, and then
//! a receive has room for everything that may be in flight (docs/decisions/19-one-cpu.md).
//!
//! Must not know: sockets, sessions, memory.

/// Limit, in bytes, on messages that are received whole: a payload of 48 KiB with its head. The payload of a
/// larger message lands in blocks, since a copy would cost more than a receive of its own.
pub const WHOLE_BYTES_MAX: usize = (48 << 10) + 23;
/// Limit on the messages that a receive has room for, except for a wider one.
const COUNT_MAX: u8 = 4;
/// A receive takes one message of this many in flight.
const SHARE: u8 = 3;
/// Receives between two wider ones.
const WIDER_EVERY: u8 = 32;
/// Limit, in bytes, on one receive into a window: a wider one.
pub const INTAKE_BYTES_MAX: usize = COUNT_MAX as usize * SHARE as usize * WHOLE_BYTES_MAX;
/// Limit, in bytes, on one receive where replies wait until the socket is empty. More would not stay in a cache.
const TOGETHER_BYTES_MAX: usize = INTAKE_BYTES_MAX / 2;

/// What is known of the large messages of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intake {
    /// Bytes of the last one; 0 while payloads land.
    message_bytes: u32,
    /// Messages that a receive is for.
    count: u8,
    /// Receives until the next wider one.
    left: u8,
}

impl Default for Intake {
    fn default() -> Intake {
        Intake { message_bytes: 0, count: 1, left: WIDER_EVERY }
    }
}

impl Intake {
    /// The peer has sent a large payload, in a message of so many bytes.
    pub(crate) fn saw(&mut self, bytes: u32) {
        if bytes as usize <= WHOLE_BYTES_MAX {
            self.message_bytes = bytes;
        } else {
            self.end();
        }
    }

    /// From now on payloads land.
    pub(crate) fn end(&mut self) {
        *self = Intake::default();
    }

    /// Whether messages up to [`WHOLE_BYTES_MAX`] are received whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.message_bytes > 0
    }

    /// Whether the next receive is a wider one. `more`: the last one has left something in the socket.
    fn is_wider(&self, more: bool) -> bool {
        self.left == 0 && (more || self.count > 1)
    }

    /// Bytes that the window is to have room for. `together`: replies wait until the socket is empty.
    pub(crate) fn bytes(&self, more: bool, together: bool) -> usize {
        if together && self.is_whole() {
            let each = self.message_bytes as usize;
            return TOGETHER_BYTES_MAX / each * each;
        }
        let count = if self.is_wider(more) { SHARE * (self.count + 1).min(COUNT_MAX) } else { self.count };
        usize::from(count) * self.message_bytes as usize
    }

    /// A receive for which the window had `room` bytes has filled `bytes` of them.
    pub(crate) fn received(&mut self, room: usize, bytes: usize) {
        if !self.is_whole() {
            return;
        }
        let each = self.message_bytes as usize;
        if self.left > 0 {
            self.left -= 1;
        } else if room > usize::from(self.count) * each {
            self.left = WIDER_EVERY;
            let share = bytes / each / usize::from(SHARE);
            let (least, most) = (self.count.max(2) - 1, (self.count + 1).min(COUNT_MAX));
            self.count = (share.min(usize::from(most)) as u8).max(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: usize = (32 << 10) + 23;

    /// Receives of a peer that has `depth` messages in its socket whenever there is a receive; the count in the end.
    fn plays(intake: &mut Intake, depth: usize, receives: usize) -> usize {
        for _ in 0..receives {
            let room = intake.bytes(depth > 1, false);
            assert!((EACH..=INTAKE_BYTES_MAX).contains(&room));
            intake.received(room, room.min(depth * EACH));
        }
        usize::from(intake.count)
    }

    #[test]
    fn a_third_of_what_is_in_flight_is_received_at_once() {
        for (depth, count) in [(1, 1), (4, 1), (5, 1), (6, 2), (8, 2), (9, 3), (12, 4), (100, 4)] {
            let mut intake = Intake::default();
            intake.saw(EACH as u32);
            assert_eq!(plays(&mut intake, depth, 200), count, "{depth} in flight");
        }
    }

    #[test]
    fn a_client_that_has_less_in_flight_gets_less_at_once() {
        let mut intake = Intake::default();
        intake.saw(EACH as u32);
        assert_eq!(plays(&mut intake, 16, 200), 4);
        assert_eq!(plays(&mut intake, 4, 40), 3, "one step for each wider receive");
        assert_eq!(plays(&mut intake, 4, 100), 1);
        assert_eq!(plays(&mut intake, 1, 100), 1);
        assert_eq!(intake.bytes(false, false), EACH, "there is no use in a wider receive where nothing was left");
    }

    #[test]
    fn where_replies_leave_together_a_receive_is_for_everything() {
        for payload in [16 << 10, 32 << 10, WHOLE_BYTES_MAX - 23] {
            let each = payload + 23;
            let mut intake = Intake::default();
            intake.saw(each as u32);
            for more in [false, true] {
                let room = intake.bytes(more, true);
                assert!(room % each == 0 && room <= TOGETHER_BYTES_MAX && room + each > TOGETHER_BYTES_MAX);
            }
        }
    }

    #[test]
    fn larger_payloads_land() {
        let mut intake = Intake::default();
        assert!(!intake.is_whole());
        intake.saw(WHOLE_BYTES_MAX as u32);
        assert!(intake.is_whole());
        intake.saw(WHOLE_BYTES_MAX as u32 + 1);
        assert_eq!((intake.is_whole(), intake.bytes(true, false)), (false, 0));
    }
}
