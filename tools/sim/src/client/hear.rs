//! Replies, and what must be true of each: that it is one, that it answers something that was asked and has no reply yet, that its size is within what was agreed on
//! and asked for, and that it shows what was executed.

use super::{Ask, Client, Fid};
use crate::far::error_of;
use crate::kernel::socket::Socket;
use crate::ledger::{Answer, File as Shown, Ledger};
use ring9::fs::Error;
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

    /// Of what the server has sent, heard or not, the gates are open.
    pub(crate) fn check_gates(&self, socket: &Socket, ledger: &Ledger) {
        let (heard, sent) = (self.heard.len(), &socket.to_client);
        let byte = |at: usize| if at < heard { self.heard[at] } else { sent[at - heard] };
        let mut at = 0;
        // Each message begins with its size, its type and its tag.
        while !self.lenient && at + 7 <= heard + sent.len() {
            ledger.sends_tag(self.number, Tag::from_le_bytes([byte(at + 5), byte(at + 6)]));
            at += u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]).max(7) as usize;
        }
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
            if ledger.is_relayed() && !self.lenient {
                self.is_refused(&ask, error_of(&message), ledger);
            }
            return;
        }
        match message {
            Message::Rversion { msize, version } => {
                assert!(msize <= self.msize && version == self.dialect.name().as_bytes(), "replies: another version");
                self.msize = msize;
                ledger.begins(number);
                self.agreed = true;
                self.troubles[0] = self.troubles[1].take();
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
                if ledger.is_relayed() && !ask.of_attr && !self.lenient {
                    ledger.of_far(number).is_told(number, count);
                }
            }
            Message::Rread { data } => self.was_read(&ask, data.here().expect("in the message"), ledger),
            Message::Rreaddir { data } => {
                let data = data.here().expect("in the message");
                assert!(data.len() <= ask.count as usize, "replies: more than was asked for");
                self.listed(tag, data, ledger);
            }
            Message::Rattach { .. } => self.attached = true,
            // A stat record of the far server says less.
            Message::Rgetattr { qid, size, mtime_sec, .. } if ledger.far().is_some_and(|far| far != Dialect::L) => {
                let is_dir = qid.kind & qt::DIR != 0;
                let known = ledger.knows(number, qid.path, |shown| {
                    let [_, mtime, ..] = shown.times;
                    shown.qid == qid && (is_dir || shown.size == size) && mtime.sec as u64 == mtime_sec
                });
                assert!(known, "replies: connection {number} hears attributes that the far server has not shown it");
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
                // The attributes of the far server have no name, nor has a file that was removed; the relay adds the one that it knows.
                let far = ledger.far();
                let names_it = |shown: &Shown| far == Some(Dialect::L) || far.is_some() && shown.name.is_empty();
                ledger.hears(
                    number,
                    tag,
                    "the stat of a file",
                    |answer| matches!(answer, Answer::File(shown) if is_of(&stat, shown, names_it(shown))),
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

    /// A relay answers EIO where the connection to the far server has failed, and EPROTO where that says what it should not.
    fn is_refused(&mut self, ask: &Ask, error: Option<Error>, ledger: &Ledger) {
        if !matches!(error, Some(Error::EIO | Error::EPROTO)) {
            return;
        }
        self.has_lost = true;
        // A value may have changed while it was read, and two listings of one fid end each other.
        let may_fail = match ask.kind {
            Some(Kind::TXATTRWALK) => true,
            Some(Kind::TREAD | Kind::TREADDIR) => error == Some(Error::EIO) && ledger.far() != Some(Dialect::L),
            _ => false,
        };
        let [since, _] = self.troubles;
        assert!(
            may_fail || since.is_none() || since != ledger.troubles,
            "relay: connection {} hears {error:?} for {:?}, and nothing is wrong with the connection to the far server",
            self.number,
            ask.kind
        );
    }

    fn was_read(&mut self, ask: &Ask, data: &[u8], ledger: &mut Ledger) {
        let (number, tag) = (self.number, ask.tag);
        assert!(data.len() <= ask.count as usize, "replies: more than was asked for");
        let dialect = self.dialect;
        // With a tag that is used twice it may be either.
        let offset = Some(ask.offset).filter(|_| !self.lenient);
        if ledger.is_relayed() && ledger.hears_read(number, offset, data) {
            return;
        }
        // What is empty may be the end of a listing only where there was one.
        let may_list = ledger.is_relayed() && dialect != Dialect::L;
        let may_list = may_list && (!data.is_empty() || ledger.of_far(number).has_listed());
        if may_list && self.is_relayed_listing(data, ledger) {
            return self.go_on_listing(|cookie| if data.is_empty() { 0 } else { cookie + data.len() as u64 });
        }
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
        if let Some(far) = ledger.far() {
            let number = self.number;
            // Other dialects do not list the first two.
            let mut named =
                found.iter().filter(|(_, _, name)| far == Dialect::L || *name != &b"."[..] && *name != &b".."[..]);
            let all_known = named
                .all(|(_, qid, name)| ledger.knows(number, qid.path, |shown| shown.qid == *qid && shown.name == *name));
            assert!(all_known, "replies: connection {number} hears of entries that the far server has not shown it");
            return self.go_on_listing(|_| last);
        }
        ledger.hears(self.number, tag, "a listing", |answer| {
            matches!(answer, Answer::Entries(listed) if listed.len() == found.len()
                && listed.iter().zip(&found).all(|((cookie, shown), (at, qid, name))| cookie == at && shown.qid == *qid && shown.name == *name))
        });
        self.go_on_listing(|_| last);
    }

    /// Whether these bytes are a listing of files that the far server has shown, each by its name, or nothing.
    fn is_relayed_listing(&self, data: &[u8], ledger: &mut Ledger) -> bool {
        let mut rest = data;
        while !rest.is_empty() {
            let Ok((stat, behind)) = Stat::parse(rest, self.dialect) else { return false };
            let path = stat.qid.path;
            let named = ledger.knows(self.number, path, |shown| shown.name == stat.name);
            if !named || !ledger.knows(self.number, path, |shown| is_of(&stat, shown, true)) {
                return false;
            }
            rest = behind;
        }
        true
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

fn is_of(stat: &Stat<'_>, shown: &Shown, of_any_name: bool) -> bool {
    let length = if shown.qid.kind & qt::DIR != 0 { 0 } else { shown.size };
    stat.qid == shown.qid
        && (of_any_name || stat.name == shown.name)
        && stat.length == length
        && i64::from(stat.mtime) == shown.times[1].sec
}

fn is_listing(data: &[u8], dialect: Dialect, listed: &[(u64, Shown)]) -> bool {
    let mut rest = data;
    // The two that lead nowhere new are left out (read(9P)).
    let mut wanted = listed.iter().map(|(_, shown)| shown).filter(|shown| shown.name != b"." && shown.name != b"..");
    while !rest.is_empty() {
        let Ok((stat, behind)) = Stat::parse(rest, dialect) else { return false };
        if !wanted.next().is_some_and(|shown| is_of(&stat, shown, false)) {
            return false;
        }
        rest = behind;
    }
    wanted.next().is_none()
}
