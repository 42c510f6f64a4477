//! Permissions: which user may do what to which file.
//!
//! 9P carries no groups, and v9fs has checked them before it asks. So a user who is not the owner
//! has the permissions of group and of others together. If the operator gives a table of groups,
//! the group's permissions are for its members only.
//!
//! Set-group-id and a change of group need a member: root, the user's own group, or the table. Without
//! a table, a peer that may act for anyone is believed for the group that its request names or acts on.

use super::node::{Kind, Node};
use crate::fs::{Change, Error, Open, Result, SetTime, User, mode};
use std::collections::BTreeSet;

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXEC: u32 = 1;

/// Who is in which group, as pairs of uid and gid. Who is not in it is in no group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(BTreeSet<(u32, u32)>);

impl FromIterator<(u32, u32)> for Groups {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(pairs: I) -> Groups {
        Groups(pairs.into_iter().collect())
    }
}

/// The rules, with or without a table of groups.
pub(super) struct Rights {
    pub(super) groups: Option<Groups>,
}

impl Rights {
    /// Whether the user is known to be in the group. Root may do what members may.
    fn is_member(&self, user: User, gid: u32) -> bool {
        let is_listed = || self.groups.as_ref().is_some_and(|groups| groups.0.contains(&(user.uid, gid)));
        user.uid == 0 || user.gid == Some(gid) || is_listed()
    }

    /// Whether the user counts as a member for a request that names this group, or acts on a file of it.
    fn is_accepted(&self, user: User, gid: u32) -> bool {
        self.is_member(user, gid) || self.groups.is_none() && user.vouched
    }

    /// Whether the user has all the bits of `want` on the node.
    #[inline]
    pub(super) fn check(&self, node: &Node, user: User, want: u32) -> Result<()> {
        let bits = node.permissions;
        let has = if user.uid == 0 {
            // Root passes, but executes no file that nobody may execute (capabilities(7), CAP_DAC_OVERRIDE).
            let exec = if node.is_dir() || bits & 0o111 != 0 { EXEC } else { 0 };
            READ | WRITE | exec
        } else if user.uid == node.uid {
            bits >> 6 & 7
        } else if self.groups.is_none() {
            (bits >> 3 | bits) & 7
        } else if self.is_member(user, node.gid) {
            bits >> 3 & 7
        } else {
            bits & 7
        };
        if want & !has == 0 { Ok(()) } else { Err(Error::EACCES) }
    }

    /// Whether the user may take a name for `node` out of `dir`: in a sticky directory only the owner of either may.
    #[inline]
    pub(super) fn check_removal(&self, dir: &Node, node: &Node, user: User) -> Result<()> {
        self.check(dir, user, WRITE | EXEC)?;
        let sticky = dir.permissions & mode::ISVTX != 0;
        if sticky && ![0, dir.uid, node.uid].contains(&user.uid) { Err(Error::EPERM) } else { Ok(()) }
    }

    /// Whether the user may give a file to this group (chown(2), EPERM).
    pub(super) fn check_group(&self, user: User, gid: u32) -> Result<()> {
        if self.is_accepted(user, gid) { Ok(()) } else { Err(Error::EPERM) }
    }

    /// The permissions after a chmod of a file of this group: without set-group-id, if the user is not in it (chmod(2)).
    pub(super) fn granted(&self, user: User, gid: u32, asked: u32) -> u32 {
        if self.is_accepted(user, gid) { asked } else { asked & !mode::ISGID }
    }

    /// The permissions of a new file of this group. `named` is the group in the request: if the file gets another one,
    /// that of its directory, then no client has checked whether the user is in it.
    pub(super) fn granted_new(&self, user: User, gid: u32, named: Option<u32>, asked: u32) -> u32 {
        let is_in = if named == Some(gid) { self.is_accepted(user, gid) } else { self.is_member(user, gid) };
        if is_in { asked } else { asked & !mode::ISGID }
    }

    /// Whether the user may make this change. `open_for_writing`: the fid was opened so, which is enough to change the size.
    pub(super) fn check_change(
        &self,
        node: &Node,
        user: User,
        change: &Change<'_>,
        open_for_writing: bool,
    ) -> Result<()> {
        let is_root = user.uid == 0;
        let is_owner = is_root || user.uid == node.uid;
        let to_time = |time: Option<SetTime>| matches!(time, Some(SetTime::To(_)));
        if (change.mode.is_some() || change.bits.is_some() || to_time(change.atime) || to_time(change.mtime))
            && !is_owner
        {
            return Err(Error::EPERM);
        }
        if (change.atime.is_some() || change.mtime.is_some()) && !is_owner {
            self.check(node, user, WRITE)?;
        }
        // chown(2): only the owner may ask for an owner and a group at all, also for those that the file has.
        if (change.uid.is_some() || change.gid.is_some()) && !is_owner {
            return Err(Error::EPERM);
        }
        if change.uid.is_some_and(|uid| uid != node.uid) && !is_root {
            return Err(Error::EPERM);
        }
        if let Some(gid) = change.gid.filter(|&gid| gid != node.gid) {
            self.check_group(user, gid)?;
        }
        if change.size.is_some() {
            match node.kind {
                Kind::File(_) if open_for_writing => {}
                Kind::File(_) => self.check(node, user, WRITE)?,
                Kind::Dir(_) => return Err(Error::EISDIR),
                _ => return Err(Error::EINVAL),
            }
        }
        Ok(())
    }
}

/// The part of a change that changes something: an owner, a group or a name that the file already has is left out, so it
/// takes away no set-id bit, no capability and no change time. `renames`: the name is another one.
pub(super) fn effective<'a>(node: &Node, change: &Change<'a>, renames: bool) -> Change<'a> {
    Change {
        uid: change.uid.filter(|&uid| uid != node.uid),
        gid: change.gid.filter(|&gid| gid != node.gid),
        name: change.name.filter(|_| renames),
        replace: change.replace && renames,
        ..*change
    }
}

/// The bits that an open needs. Every open directory can be listed, so an open for execution (OEXEC) needs read
/// permission there, too.
pub(super) fn wanted(node: &Node, flags: Open) -> u32 {
    let bit = |asked, bit| if asked { bit } else { 0 };
    bit(flags.read || flags.exec && node.is_dir(), READ)
        | bit(flags.write || flags.truncate, WRITE)
        | bit(flags.exec, EXEC)
}

/// Permissions after a change of content by this user, or of the owner by anyone: set-uid goes, set-gid where the group may execute (chown(2), write(2)).
pub(super) fn without_set_id(permissions: u32) -> u32 {
    let group = if permissions & 0o010 != 0 { mode::ISGID } else { 0 };
    permissions & !(mode::ISUID | group)
}
