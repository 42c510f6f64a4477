//! Messages to operands, so that captured traffic becomes seeds. A value that no table has is
//! replaced by a value that its table has.

use crate::say::{
    ANAMES, COUNTS, FIDS, GOOD_NAMES, LENS, LINUX_FLAGS, LOCK_KINDS, LOCK_PLACES, MASKS, MODES, MSIZES, NAMES, OFFSETS,
    OPEN_MODES, OWNERS, PERMS, PROCESSES, SIZES, Say, TAGS, TEXTS, UNLINK_FLAGS, USERS, VALIDS, VERSIONS, XATTR_FLAGS,
    XATTR_SIZES, XATTRS,
};
use ring9::wire::{Message, NOFID, NOTAG, Tag};

/// What comes next to a message; `None` for replies.
pub fn like(message: &Message<'_>) -> Option<Say> {
    Some(match *message {
        Message::Tversion { msize, version } => {
            Say::Version { version: same(VERSIONS, &version), msize: near(MSIZES, msize.into(), |&size| size.into()) }
        }
        Message::Tauth { afid, .. } => Say::Auth { fid: fid_code(afid) },
        Message::Tattach { fid, aname, n_uname, .. } => {
            let user = USERS.iter().position(|&(_, number)| number == n_uname.0).unwrap_or(0) as u8;
            Say::Attach { fid: fid_code(fid), afid: 0, user, aname: same(ANAMES, &aname) }
        }
        Message::Tflush { oldtag } => Say::Flush { oldtag: tag_code(oldtag) },
        Message::Twalk { fid, newfid, wnames } => {
            let mut codes = wnames.iter().map(name_code);
            let mut next = || codes.next().unwrap_or_default();
            let (first, second, third) = (next(), next(), next());
            Say::Walk { fid: fid_code(fid), newfid: fid_code(newfid), count: wnames.len() as u8, first, second, third }
        }
        Message::Tread { fid, offset, count } => {
            Say::Read { fid: fid_code(fid), offset: offset_code(offset), count: count_code(count) }
        }
        Message::Twrite { fid, offset, data } => {
            let len = near(LENS, data.len() as u64, |&len| len.into());
            Say::Write { fid: fid_code(fid), offset: offset_code(offset), len, seed: data.len() as u8 % 128 }
        }
        Message::Tclunk { fid } => Say::Clunk { fid: fid_code(fid) },
        Message::Tremove { fid } => Say::Remove { fid: fid_code(fid) },
        Message::Topen { fid, mode } => Say::Open { fid: fid_code(fid), mode: same(OPEN_MODES, &mode) },
        Message::Tcreate { fid, name, perm, mode, extension } => Say::Create {
            fid: fid_code(fid),
            name: name_code(name),
            perm: same(PERMS, &perm),
            mode: same(OPEN_MODES, &mode),
            extension: same(TEXTS, &extension.0),
        },
        Message::Tstat { fid } => Say::Stat { fid: fid_code(fid) },
        Message::Twstat { fid, stat } => {
            let changes =
                [stat.mode != !0, stat.length != !0, stat.mtime != !0, stat.atime != !0, !stat.name.is_empty()];
            let which = changes.iter().enumerate().map(|(bit, &is)| u8::from(is) << bit).sum();
            Say::Wstat {
                fid: fid_code(fid),
                which,
                name: name_code(stat.name),
                value: near(SIZES, stat.length, |&size| size),
            }
        }
        Message::Tlopen { fid, flags } => Say::Lopen { fid: fid_code(fid), flags: same(LINUX_FLAGS, &flags) },
        Message::Tlcreate { fid, name, flags, mode, gid } => Say::Lcreate {
            fid: fid_code(fid),
            name: name_code(name),
            flags: same(LINUX_FLAGS, &flags),
            mode: same(MODES, &mode),
            gid: same(OWNERS, &gid),
        },
        Message::Tsymlink { fid, name, target, .. } => {
            Say::Symlink { fid: fid_code(fid), name: name_code(name), target: same(TEXTS, &target) }
        }
        Message::Tmknod { dfid, name, mode, .. } => {
            Say::Mknod { fid: fid_code(dfid), name: name_code(name), mode: same(MODES, &mode) }
        }
        Message::Trename { fid, dfid, name } => {
            Say::Rename { fid: fid_code(fid), dfid: fid_code(dfid), name: name_code(name) }
        }
        Message::Treadlink { fid } => Say::Readlink { fid: fid_code(fid) },
        Message::Tgetattr { fid, request_mask } => {
            Say::Getattr { fid: fid_code(fid), mask: same(MASKS, &request_mask) }
        }
        Message::Tsetattr { fid, valid, mode, uid, size, .. } => Say::Setattr {
            fid: fid_code(fid),
            valid: same(VALIDS, &valid),
            mode: same(MODES, &mode),
            owner: same(OWNERS, &uid),
            size: near(SIZES, size, |&size| size),
            time: 0,
        },
        Message::Txattrwalk { fid, newfid, name } if XATTRS.contains(&name) => {
            Say::Getxattr { fid: fid_code(fid), newfid: fid_code(newfid), name: same(XATTRS, &name) }
        }
        Message::Txattrwalk { fid, newfid, name } => {
            Say::Xattrwalk { fid: fid_code(fid), newfid: fid_code(newfid), name: name_code(name) }
        }
        Message::Txattrcreate { fid, name, attr_size, flags } if XATTRS.contains(&name) => Say::Setxattr {
            fid: fid_code(fid),
            name: same(XATTRS, &name),
            size: near(XATTR_SIZES, attr_size, |&size| size),
            flags: same(XATTR_FLAGS, &flags),
        },
        Message::Txattrcreate { fid, name, .. } => Say::Xattrcreate { fid: fid_code(fid), name: name_code(name) },
        Message::Treaddir { fid, offset, count } => {
            Say::Readdir { fid: fid_code(fid), offset: offset_code(offset), count: count_code(count) }
        }
        Message::Tfsync { fid, .. } => Say::Fsync { fid: fid_code(fid) },
        Message::Tlock { fid, flags: 0, .. } => Say::Lock { fid: fid_code(fid) },
        Message::Tlock { fid, type_, start, length, proc_id, .. } => Say::Lockrange {
            fid: fid_code(fid),
            kind: same(LOCK_KINDS, &type_),
            start: near(LOCK_PLACES, start, |&place| place),
            length: near(LOCK_PLACES, length, |&place| place),
            process: same(PROCESSES, &proc_id),
        },
        Message::Tgetlock { fid, type_: 1, .. } => Say::Getlock { fid: fid_code(fid) },
        Message::Tgetlock { fid, type_, start, length, proc_id, .. } => Say::Askrange {
            fid: fid_code(fid),
            kind: same(LOCK_KINDS, &type_),
            start: near(LOCK_PLACES, start, |&place| place),
            length: near(LOCK_PLACES, length, |&place| place),
            process: same(PROCESSES, &proc_id),
        },
        Message::Tlink { dfid, fid, name } => {
            Say::Link { dfid: fid_code(dfid), fid: fid_code(fid), name: name_code(name) }
        }
        Message::Tmkdir { dfid, name, mode, .. } => {
            Say::Mkdir { fid: fid_code(dfid), name: name_code(name), mode: same(MODES, &mode) }
        }
        Message::Trenameat { olddirfid, oldname, newdirfid, newname } => Say::Renameat {
            fid: fid_code(olddirfid),
            name: name_code(oldname),
            newdirfid: fid_code(newdirfid),
            newname: name_code(newname),
        },
        Message::Tunlinkat { dfid, name, flags } => {
            Say::Unlinkat { fid: fid_code(dfid), name: name_code(name), flags: same(UNLINK_FLAGS, &flags) }
        }
        Message::Tstatfs { fid } => Say::Statfs { fid: fid_code(fid) },
        _ => return None,
    })
}

/// The place of the same value, or else the first.
fn same<T: PartialEq>(table: &[T], value: &T) -> u8 {
    table.iter().position(|entry| entry == value).unwrap_or(0) as u8
}

/// The place of the nearest number.
fn near<T>(table: &[T], value: u64, number: impl Fn(&T) -> u64) -> u8 {
    let nearest = table.iter().enumerate().min_by_key(|(_, entry)| number(entry).abs_diff(value));
    nearest.map_or(0, |(at, _)| at as u8)
}

fn fid_code(fid: u32) -> u8 {
    if fid == NOFID { FIDS.len() as u8 - 1 } else { (fid % 8) as u8 }
}

fn name_code(name: &[u8]) -> u8 {
    let sum: usize = name.iter().map(|&byte| usize::from(byte)).sum();
    NAMES.iter().position(|entry| *entry == name).unwrap_or(sum % GOOD_NAMES) as u8
}

fn offset_code(offset: u64) -> u8 {
    near(OFFSETS, offset, |&offset| offset)
}

fn count_code(count: u32) -> u8 {
    near(COUNTS, count.into(), |&count| count.into())
}

/// The operand of a tag.
pub fn tag_code(tag: Tag) -> u8 {
    if tag == NOTAG { TAGS.len() as u8 - 1 } else { (tag % 15) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say::SAYS;
    use arbitrary::Unstructured;
    use ring9::wire::Dialect;

    /// What is captured must not lose its meaning on the way to a seed.
    #[test]
    fn a_message_leads_back_to_what_was_said() {
        let first = |say: Say, dialect| say.frame(5, dialect, u32::MAX);
        for place in 0..SAYS {
            // The first entries of every table, but no afid.
            let operands = [0; 8];
            let say = Say::decode(place, &mut Unstructured::new(&operands)).expect("enough operands");
            let frames = [Dialect::L, Dialect::U].map(|dialect| (dialect, first(say, dialect)));
            let Some((dialect, frame, message)) = frames
                .iter()
                .find_map(|(dialect, frame)| Some((*dialect, frame, Message::parse(frame, *dialect).ok()?.1)))
            else {
                assert!(matches!(say, Say::Raw { .. }), "{say:?} is a message");
                continue;
            };
            let alike = like(&message).expect("requests are alike to something");
            assert_eq!(&first(alike, dialect), frame, "{say:?}, {alike:?}");
        }
    }
}
