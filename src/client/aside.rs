//! Copies are made aside: under a temporary name in the directory that they are for, which they
//! leave for their own name once they are complete.
//!
//! Must not know: where a copy comes from.

use super::files::Client;
use super::refusal::Error as CallError;
use super::transport::Error;
use crate::fs::Error as Errno;
use crate::wire::{Dialect, Fid, Message, Stat};
use std::hash::{BuildHasher, RandomState};

/// Longest name in bytes: NAME_MAX of Linux.
const NAME_BYTES_MAX: usize = 255;
/// What stands behind the name.
const INFIX: &[u8] = b".r9-";
/// Letters and digits at the end of a temporary name.
const MARK_BYTES: usize = 6;

/// A new name beside `name`: `.NAME.r9-XXXXXX`, where X are random letters and digits. A long name
/// is cut, so that the result is a name of 255 bytes at most.
pub fn temporary_name(name: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    // The keys of each `RandomState` are different, and nobody else knows them.
    let mut random = RandomState::new().hash_one(0);
    let room = NAME_BYTES_MAX - 1 - INFIX.len() - MARK_BYTES;
    let mut cut = name.len().min(room);
    // Not within a character: some servers take nothing but UTF-8.
    while cut > 0 && cut > room - 3 && name.get(cut).is_some_and(|byte| byte & 0xc0 == 0x80) {
        cut -= 1;
    }
    let mut made = [b".", &name[..cut], INFIX].concat();
    for _ in 0..MARK_BYTES {
        made.push(DIGITS[(random % 32) as usize]);
        random /= 32;
    }
    made
}

impl Client {
    /// Asks for the file `temporary` of `dir` to be called `name` instead, so that many can be asked for together. `fid` is that file, which the older dialects need. `None`: there is
    /// no such message. Then, and where it is refused, [`replace`](Self::replace) is to be called.
    pub fn rename_message<'a>(
        &self,
        (dir, temporary): (Fid, &'a [u8]),
        fid: Option<Fid>,
        name: &'a [u8],
    ) -> Option<Message<'a>> {
        if self.dialect() != Dialect::L {
            return Some(Message::Twstat { fid: fid?, stat: Stat { name, ..Stat::dont_touch() } });
        }
        let message = Message::Trenameat { olddirfid: dir, oldname: temporary, newdirfid: dir, newname: name };
        self.has_at().then_some(message)
    }

    /// Calls a file `temporary` of `dir` `name` instead, in place of the file that has the name.
    ///
    /// In 9P2000.L that is one step: at each moment the name leads to the old file or to the new one. In the older dialects it is left to the server whether a Twstat
    /// replaces (stat(9P) says no). If it does not, the old file is removed first, and for a moment nothing has the name.
    pub fn replace(&mut self, dir: Fid, temporary: &[u8], name: &[u8]) -> Result<(), Error> {
        match self.rename(dir, temporary, dir, name) {
            Err(error) if self.dialect() != Dialect::L && error.errno() == Some(Errno::EEXIST) => {}
            done => return done,
        }
        let old = self.walk(dir, name)?;
        match self.stat(old) {
            // Tremove would take an empty directory.
            Ok(attr) if attr.is_dir() => {
                self.clunk_after(old, Err(Error::Call(CallError::Refused(Errno::EISDIR, None))))
            }
            Ok(_) => {
                self.remove_fid(old)?;
                self.rename(dir, temporary, dir, name)
            }
            failed => self.clunk_after(old, failed.map(|_| ())),
        }
    }
}

#[cfg(test)]
mod tests;
