//! Replies of 9P2000.L with the right lengths and next to no content.

/// Bytes before the body: size, type, tag.
pub(super) const HEAD: usize = 7;
const QID: usize = 13;
/// Body of Rgetattr.
const ATTRIBUTES: usize = 153;
const RLERROR: u8 = 7;
const EOPNOTSUPP: u32 = 95;

/// Replies in the order of their requests. Its memory is used again and again, and what a reply says of a file is what was there before: only sizes matter.
#[derive(Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    len: usize,
}

impl Replies {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// So many bytes more, as they are.
    fn room(&mut self, count: usize) -> &mut [u8] {
        let start = self.len;
        self.len += count;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }
}

/// Answers all whole requests at the start of `requests`, and says how many bytes those were.
pub(super) fn answer(requests: &[u8], replies: &mut Replies) -> usize {
    let mut taken = 0;
    while let Some(head) = requests[taken..].first_chunk::<HEAD>() {
        let [a, b, c, d, kind, tag @ ..] = *head;
        let size = (u32::from_le_bytes([a, b, c, d]) as usize).max(HEAD);
        let Some(request) = requests.get(taken..taken + size) else { break };
        one(kind, tag, &request[HEAD..], replies);
        taken += size;
    }
    taken
}

/// Answers one request.
pub(super) fn one(kind: u8, tag: [u8; 2], body: &[u8], replies: &mut Replies) {
    let number = |at: usize| body.get(at..at + 4).and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
    let start = replies.len;
    replies.put(&[0, 0, 0, 0, kind + 1, tag[0], tag[1]]);
    match kind {
        // Tversion: as the client wants it.
        100 => replies.put(body),
        // Tattach, Tmkdir.
        104 | 72 => replies.put(&[0; QID]),
        // Twalk: every name is there.
        110 => {
            let names = body.get(8..10).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
            replies.put(&names.to_le_bytes());
            replies.room(QID * usize::from(names));
        }
        // Tlopen, Tlcreate.
        12 | 14 => replies.put(&[0; QID + 4]),
        // Tread: as many bytes as were asked for.
        116 => {
            let count = number(12).unwrap_or(0);
            replies.put(&count.to_le_bytes());
            replies.room(count as usize);
        }
        // Twrite: all of it.
        118 => replies.put(&number(12).unwrap_or(0).to_le_bytes()),
        24 => {
            replies.room(ATTRIBUTES);
        }
        // Treaddir: nothing there.
        40 => replies.put(&[0; 4]),
        // Tlock: granted.
        52 => replies.put(&[0]),
        // Tclunk, Tremove, Tunlinkat, Trenameat.
        120 | 122 | 76 | 74 => {}
        _ => {
            replies.bytes[start + 4] = RLERROR;
            replies.put(&EOPNOTSUPP.to_le_bytes());
        }
    }
    let size = (replies.len - start) as u32;
    replies.bytes[start..start + 4].copy_from_slice(&size.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring9::wire::{Dialect, Message};

    /// What it says is what a client of ours can read.
    #[test]
    fn replies_are_as_long_as_they_should_be() {
        let requests: [(u8, Vec<u8>, usize); 6] = [
            (116, [vec![0; 12], 4096_u32.to_le_bytes().to_vec()].concat(), 4107),
            (118, [vec![0; 12], 5_u32.to_le_bytes().to_vec(), vec![1; 5]].concat(), 11),
            (24, vec![0; 12], 160),
            (110, [vec![0; 8], vec![2, 0], vec![1, 0, b'a', 1, 0, b'b']].concat(), 35),
            (120, vec![0; 4], 7),
            (99, vec![], 11),
        ];
        let mut all = Vec::new();
        for (kind, body, _) in &requests {
            all.extend(((HEAD + body.len()) as u32).to_le_bytes());
            all.extend([*kind, 7, 0]);
            all.extend(body);
        }
        let mut replies = Replies::default();
        // What is not whole stays.
        assert_eq!(answer(&all[..all.len() - 1], &mut replies), all.len() - 7);
        replies.clear();
        assert_eq!(answer(&all, &mut replies), all.len());
        let mut replies = replies.bytes().to_vec();
        for (kind, _, size) in requests {
            let (reply, rest) = replies.split_at(size);
            let (tag, _) = Message::parse(reply, Dialect::L).unwrap_or_else(|error| panic!("{kind}: {error:?}"));
            assert_eq!(tag, 7);
            replies = rest.to_vec();
        }
        assert!(replies.is_empty());
    }
}
