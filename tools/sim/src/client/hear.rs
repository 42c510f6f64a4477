//! Replies, and what must be true of each: that it is one, that it answers something that was asked and has no reply yet, that its size is within what was agreed on
//! and asked for, and that it shows what was executed.

use super::{Ask, Client, Fid};
use crate::ledger::{Answer, File as Shown, Ledger};
use ring9::wire::{self, Dialect, DirEntry, Kind, Message, Stat, Tag, qt};

impl Client {
    /// Takes the whole messages off what was heard.
    pub(super) fn replies(&mut self, ledger: &mut Ledger) {
        let heard = std::mem::take(&mut self.heard);
        let mut at = 0;
        while let Some(head) = wire::head(&heard[at..]) {
            let size = head.size as usize;
            assert!((7..=self.msize.max(8192) as usize).contains(&size), "replies: a message of {size} bytes");
            let Some(frame) = heard.get(at..at + size) else { break };
            at += size;
            self.replies += 1;
            self.reply(frame, ledger);
        }
        self.heard = heard[at..].to_vec();
    }

    fn reply(&mut self, frame: &[u8], ledger: &mut Ledger) {
        let number = self.number;
        let (tag, message) = match Message::parse(frame, self.dialect) {
            Ok(parsed) => parsed,
            // Before a version is agreed on there is only 9P2000.
            Err(error) => match Message::parse(frame, Dialect::P9) {
                Ok(parsed) if !self.agreed || self.lenient => parsed,
                _ => panic!("replies: connection {number} hears no message: {error:?}"),
            },
        };
        if let Some(trace) = &mut self.trace {
            trace.push(format!("connection {number} < {}", message.line(tag, self.dialect)));
        }
        let failed = matches!(message, Message::Rlerror { .. } | Message::Rerror { .. });
        let answers =
            |ask: &Ask| ask.tag == tag && (failed || ask.kind.is_some_and(|kind| kind.reply() == message.kind()));
        let Some(at) = self.asks.iter().position(answers) else {
            assert!(
                self.lenient,
                "replies: connection {number} hears {} and has not asked",
                message.line(tag, self.dialect)
            );
            return;
        };
        let ask = self.asks.remove(at);
        if !self.lenient {
            ledger.hears_tag(number, tag);
        }
        if failed {
            assert!(
                self.lenient
                    || ask.kind != Some(Kind::TFLUSH) && (ask.kind != Some(Kind::TVERSION) || ask.count < 4096),
                "flush: connection {number} hears {} for {ask:?}",
                message.line(tag, self.dialect)
            );
            if let Some((fid, before)) = ask.changes {
                self.fids[fid] = before;
            }
            return;
        }
        match message {
            Message::Rversion { msize, version } => {
                assert!(msize <= self.msize && version == self.dialect.name().as_bytes(), "replies: another version");
                self.msize = msize;
                ledger.begins(number);
                self.agreed = true;
                // Nothing of the old session is answered any more.
                let of_old = at.min(self.asks.len());
                self.asks.drain(..of_old);
            }
            // What it names has its reply, or never has one.
            Message::Rflush {} => {
                if let Some(old) = self.asks[..at].iter().position(|old| old.tag == ask.oldtag) {
                    self.asks.remove(old);
                    if !self.lenient {
                        ledger.hears_flushed(number, ask.oldtag);
                    }
                }
            }
            Message::Rwalk { wqids } => {
                assert!(wqids.len() <= ask.names && (ask.names == 0 || !wqids.is_empty()), "replies: names of a walk");
                if let Some((fid, before)) = ask.changes.filter(|_| wqids.len() < ask.names) {
                    self.fids[fid] = before;
                }
            }
            // Less only where a payload was written in parts, of which the first that finds no memory ends it.
            Message::Rwrite { count } => {
                let whole = count == ask.count || ledger.in_parts && count < ask.count;
                assert!(whole, "replies: {count} bytes written of {}", ask.count);
            }
            Message::Rread { data } => self.was_read(tag, ask.count, data.here().expect("in the message"), ledger),
            Message::Rreaddir { data } => {
                let data = data.here().expect("in the message");
                assert!(data.len() <= ask.count as usize, "replies: more than was asked for");
                self.listed(tag, data, ledger);
            }
            Message::Rgetattr { qid, mode, uid, gid, nlink, size, blocks, mtime_sec, mtime_nsec, .. } => {
                ledger.hears(number, tag, "the attributes of a file", |answer| match answer {
                    Answer::File(shown) => {
                        let [_, mtime, ..] = shown.times;
                        (shown.qid, shown.mode, shown.uid, shown.gid) == (qid, mode, uid, gid)
                            && (shown.nlink, shown.size, shown.blocks) == (nlink, size, blocks)
                            && (mtime.sec as u64, u64::from(mtime.nsec)) == (mtime_sec, mtime_nsec)
                    }
                    _ => false,
                });
            }
            Message::Rstat { stat } => {
                ledger.hears(
                    number,
                    tag,
                    "the stat of a file",
                    |answer| matches!(answer, Answer::File(shown) if is_of(&stat, shown)),
                );
            }
            Message::Rreadlink { target } => {
                ledger.hears(
                    number,
                    tag,
                    "the target of a link",
                    |answer| matches!(answer, Answer::File(shown) if shown.target == target),
                );
            }
            Message::Ropen { qid, .. } | Message::Rlopen { qid, .. } if qid.kind & qt::DIR != 0 => {
                if let Some((fid, _)) = ask.changes {
                    self.fids[fid] = Fid::Dir { cookie: 0 };
                }
            }
            _ => {}
        }
    }

    fn was_read(&mut self, tag: Tag, count: u32, data: &[u8], ledger: &mut Ledger) {
        let number = self.number;
        assert!(data.len() <= count as usize, "replies: more than was asked for");
        let dialect = self.dialect;
        let heard = ledger.hears(number, tag, "bytes of a file", |answer| match answer {
            Answer::Bytes(bytes) => bytes == data,
            Answer::Attr(value) => value.starts_with(data) && data.is_empty() == value.is_empty(),
            // Of a directory: the entries, whole.
            Answer::Entries(listed) => dialect != Dialect::L && is_listing(data, dialect, listed),
            Answer::File(_) => false,
        });
        if let Answer::Entries(_) = heard {
            self.go_on_listing(|cookie| if data.is_empty() { 0 } else { cookie + data.len() as u64 });
        }
    }

    fn listed(&mut self, tag: Tag, data: &[u8], ledger: &mut Ledger) {
        let mut rest = data;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (entry, behind) = DirEntry::parse(rest).expect("replies: whole entries");
            found.push((entry.offset, entry.qid, entry.name));
            rest = behind;
        }
        let last = found.last().map_or(0, |&(cookie, ..)| cookie);
        ledger.hears(self.number, tag, "a listing", |answer| {
            matches!(answer, Answer::Entries(listed) if listed.len() == found.len()
                && listed.iter().zip(&found).all(|((cookie, shown), (at, qid, name))| cookie == at && shown.qid == *qid && shown.name == *name))
        });
        self.go_on_listing(|_| last);
    }

    /// Where the next listing goes on. With several directories open it may be another one's: then it is refused.
    fn go_on_listing(&mut self, next: impl Fn(u64) -> u64) {
        for fid in &mut self.fids {
            if let Fid::Dir { cookie } = fid {
                *cookie = next(*cookie);
            }
        }
    }
}

fn is_of(stat: &Stat<'_>, shown: &Shown) -> bool {
    let length = if shown.qid.kind & qt::DIR != 0 { 0 } else { shown.size };
    stat.qid == shown.qid
        && stat.name == shown.name
        && stat.length == length
        && i64::from(stat.mtime) == shown.times[1].sec
}

fn is_listing(data: &[u8], dialect: Dialect, listed: &[(u64, Shown)]) -> bool {
    let mut rest = data;
    // The two that lead nowhere new are left out (read(9P)).
    let mut wanted = listed.iter().map(|(_, shown)| shown).filter(|shown| shown.name != b"." && shown.name != b"..");
    while !rest.is_empty() {
        let Ok((stat, behind)) = Stat::parse(rest, dialect) else { return false };
        if !wanted.next().is_some_and(|shown| is_of(&stat, shown)) {
            return false;
        }
        rest = behind;
    }
    wanted.next().is_none()
}
