//! Extended attributes, and what wstat(9P) changes.

use super::{Model, Name, READ, WRITE, What};
use ring9::fs::{Change, Error, Result, SetTime, SetXattr, User};

impl Model {
    /// Whether somebody may read, or change, an attribute of this name.
    fn may_xattr(&self, node: usize, user: User, name: &[u8], write: bool) -> Result<()> {
        let inode = &self.inodes[node];
        let owns = user.uid == 0 || user.uid == inode.uid;
        let is_link = matches!(inode.what, What::Symlink(_));
        let (space, rest) = name.split_at(name.iter().position(|&byte| byte == b'.').map_or(name.len(), |at| at + 1));
        if let b"user." | b"trusted." | b"security." = space {
            if rest.is_empty() || rest.contains(&0) {
                return Err(Error::EINVAL);
            }
            if name.len() > 255 {
                return Err(Error::ERANGE);
            }
        }
        match (space, rest) {
            (b"user.", _) if !matches!(inode.what, What::File | What::Dir) => {
                Err(if write { Error::EPERM } else { Error::ENODATA })
            }
            (b"user.", _) if !write => self.may(node, user, READ),
            (b"user.", _) if inode.what == What::Dir && inode.permissions & 0o1000 != 0 && !owns => Err(Error::EPERM),
            (b"user.", _) => self.may(node, user, WRITE),
            (b"trusted.", _) if user.uid != 0 => Err(if write { Error::EPERM } else { Error::ENODATA }),
            (b"security.", _) if write && user.uid != 0 => Err(Error::EPERM),
            (b"trusted." | b"security.", _) => Ok(()),
            (b"system.", b"posix_acl_access" | b"posix_acl_default") if is_link => Err(Error::EOPNOTSUPP),
            (b"system.", b"posix_acl_access" | b"posix_acl_default") if write && !owns => Err(Error::EPERM),
            (b"system.", b"posix_acl_default") if write && inode.what != What::Dir => Err(Error::EACCES),
            (b"system.", b"posix_acl_access" | b"posix_acl_default") => Ok(()),
            _ => Err(Error::EOPNOTSUPP),
        }
    }

    pub fn xattr(&self, at: usize, name: &[u8]) -> Result<Vec<u8>> {
        let handle = self.handle(at);
        self.may_xattr(handle.node, handle.user, name, false)?;
        self.inodes[handle.node].xattrs.get(name).cloned().ok_or(Error::ENODATA)
    }

    pub fn xattrs(&self, at: usize) -> Vec<Vec<u8>> {
        let handle = self.handle(at);
        let names = self.inodes[handle.node].xattrs.keys();
        names.filter(|name| handle.user.uid == 0 || !name.starts_with(b"trusted.")).cloned().collect()
    }

    pub fn set_xattr(&mut self, at: usize, name: &[u8], value: Option<&[u8]>, how: SetXattr) -> Result<()> {
        let handle = self.handle(at);
        self.may_xattr(handle.node, handle.user, name, true)?;
        let xattrs = &self.inodes[handle.node].xattrs;
        match (how, xattrs.contains_key(name)) {
            (SetXattr::Create, true) => return Err(Error::EEXIST),
            (SetXattr::Replace, false) => return Err(Error::ENODATA),
            _ => {}
        }
        let value = value.filter(|value| !value.is_empty() || !name.starts_with(b"system."));
        if let Some(value) = value {
            if value.len() > 64 << 10 {
                return Err(Error::E2BIG);
            }
            let others = || xattrs.iter().filter(|(other, _)| *other != name);
            let bytes: usize = others().map(|(_, value)| value.len()).sum();
            let listed: usize = others().map(|(name, _)| name.len() + 1).sum();
            let is_new = !xattrs.contains_key(name);
            let no_room = is_new && (listed + name.len() + 1 > 64 << 10 || self.files_used() >= self.files_max);
            if bytes + value.len() > 256 << 10 || no_room {
                return Err(Error::ENOSPC);
            }
        }
        if value.is_none() && !xattrs.contains_key(name) {
            return Ok(());
        }
        let inode = &mut self.inodes[handle.node];
        match value {
            Some(value) => drop(inode.xattrs.insert(name.to_vec(), value.to_vec())),
            None => drop(inode.xattrs.remove(name)),
        }
        inode.ctime = self.now;
        Ok(())
    }

    pub fn wstat(&mut self, at: usize, change: &Change<'_>) -> Result<()> {
        let handle = self.handle(at);
        let (node, user) = (handle.node, handle.user);
        let inode = &self.inodes[node];
        let owner = user.uid == 0 || user.uid == inode.uid;
        let given = |time: Option<SetTime>| matches!(time, Some(SetTime::To(_)));
        if !owner && (change.mode.is_some() || change.bits.is_some() || given(change.atime) || given(change.mtime)) {
            return Err(Error::EPERM);
        }
        if !owner && (change.atime.is_some() || change.mtime.is_some()) {
            self.may(node, user, WRITE)?;
        }
        if !owner && (change.uid.is_some() || change.gid.is_some()) {
            return Err(Error::EPERM);
        }
        if user.uid != 0 && change.uid.is_some_and(|uid| uid != inode.uid) {
            return Err(Error::EPERM);
        }
        if change.gid.is_some_and(|gid| gid != inode.gid && !self.accepted(user, gid)) {
            return Err(Error::EPERM);
        }
        if change.size.is_some() {
            match inode.what {
                What::File if handle.open.is_some_and(|open| open.write) => {}
                What::File => self.may(node, user, WRITE)?,
                What::Dir => return Err(Error::EISDIR),
                _ => return Err(Error::EINVAL),
            }
        }
        let mut renamed = None;
        if let Some(name) = change.name {
            let place = self.own_name(&handle)?;
            if self.entry(place).name != name {
                let dir = self.entry(place).dir;
                self.may_remove(dir, node, user)?;
                let there = self.find(dir, name).filter(|_| change.replace);
                match there {
                    Some(there) if self.entry(there).node == node => {}
                    Some(there) => {
                        self.may_replace(there, node, user)?;
                        renamed = Some((place, dir, name.to_vec(), Some(there)));
                    }
                    None => {
                        self.may_add(dir, name, user)?;
                        renamed = Some((place, dir, name.to_vec(), None));
                    }
                }
            }
        }
        // What the file has already is not changed.
        let inode = &self.inodes[node];
        let change = &Change {
            uid: change.uid.filter(|&uid| uid != inode.uid),
            gid: change.gid.filter(|&gid| gid != inode.gid),
            name: change.name.filter(|_| renamed.is_some()),
            replace: change.replace && renamed.is_some(),
            ..*change
        };
        if *change == Change::default() {
            return Ok(());
        }
        // From here on nothing fails.
        if let Some(size) = change.size {
            self.inodes[node].data.resize(size as usize, 0);
            self.wrote(node, user);
        }
        if let Some((place, dir, name, there)) = renamed {
            if let Some(there) = there {
                self.take_out(there, user);
            }
            let since = self.named();
            self.names[place] = Some(Name { dir, name, node, since });
            self.changed(dir, user);
        }
        if change.uid.is_some() || change.gid.is_some() {
            let inode = &mut self.inodes[node];
            inode.uid = change.uid.unwrap_or(inode.uid);
            inode.gid = change.gid.unwrap_or(inode.gid);
            inode.xattrs.remove(&b"security.capability"[..]);
            if !self.is_dir(node) {
                self.drop_set_id(node);
            }
        }
        if let Some(asked) = change.mode {
            let strip = if self.accepted(user, self.inodes[node].gid) { 0 } else { 0o2000 };
            self.inodes[node].permissions = asked & 0o7777 & !strip;
        }
        let now = self.now;
        let time = |set: SetTime| if let SetTime::To(time) = set { time } else { now };
        let inode = &mut self.inodes[node];
        inode.bits = change.bits.unwrap_or(inode.bits);
        inode.atime = change.atime.map_or(inode.atime, time);
        inode.mtime = change.mtime.map_or(inode.mtime, time);
        inode.ctime = now;
        Ok(())
    }
}
