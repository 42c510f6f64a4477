//! Extended attributes (xattr(7)): by file and name, each with a value of its own in the arena.
//!
//! They are in a table beside the nodes, so that a file without any pays nothing. Each counts as a file, since its name takes memory like one; all values of a
//! file together are bounded, so that one file cannot take everything.

use super::content::Content;
use super::key::Key;
use super::node::{Kind, Node};
use super::permit::{READ, Rights, WRITE};
use super::replay::Unfit;
use super::watch::Watch;
use super::{Mem, enospc};
use crate::arena::Arena;
use crate::fs::{At, Error, Result, SetXattr, User, XATTR_BYTES_MAX, XATTR_LIST_BYTES_MAX, XATTR_NAME_BYTES_MAX, mode};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Largest sum of the values of one file, in bytes.
const VALUES_BYTES_MAX: u64 = 256 << 10;
/// What makes a program act as somebody else; whoever changes the program must not inherit it (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

/// Names that a listing shows for one unit of work.
const NAMES_PER_UNIT: usize = 16;

/// The attributes of one file, with sums of their lengths: nothing is added up when one more is set.
#[derive(Debug, Default)]
pub(super) struct Of {
    values: BTreeMap<Box<[u8]>, Content>,
    /// Bytes of all values.
    value_bytes: u64,
    /// Bytes of all names, each with a NUL.
    list_bytes: usize,
    /// Bytes of the blocks of all values.
    block_bytes: u64,
}

impl Of {
    fn put(&mut self, name: &[u8], value: Content, arena: &Arena) -> Option<Content> {
        let old = self.take(name, arena);
        self.value_bytes += value.size;
        self.block_bytes += value.allocated(arena);
        self.list_bytes += name.len() + 1;
        self.values.insert(name.into(), value);
        old
    }

    fn take(&mut self, name: &[u8], arena: &Arena) -> Option<Content> {
        let (name, old) = self.values.remove_entry(name)?;
        self.went(&name, &old, arena);
        Some(old)
    }

    /// Any of them.
    pub(super) fn pop(&mut self, arena: &Arena) -> Option<Content> {
        let (name, old) = self.values.pop_last()?;
        self.went(&name, &old, arena);
        Some(old)
    }

    fn went(&mut self, name: &[u8], value: &Content, arena: &Arena) {
        self.value_bytes -= value.size;
        self.block_bytes -= value.allocated(arena);
        self.list_bytes -= name.len() + 1;
    }

    /// Bytes of the blocks of all values.
    pub(super) fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the sums are those of what is there, and anything is. Adds everything up: for debug builds.
    fn adds_up(&self, arena: &Arena) -> bool {
        let names = self.values.keys().map(|name| name.len() + 1).sum();
        let (values, blocks) = self
            .values
            .values()
            .fold((0, 0), |(values, blocks), value| (values + value.size, blocks + value.allocated(arena)));
        let sums = (self.value_bytes, self.list_bytes, self.block_bytes);
        sums == (values, names, blocks) && !self.values.is_empty()
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Attrs {
    files: BTreeMap<Key, Of>,
    /// Attributes of all files.
    count: usize,
}

impl Attrs {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn find(&self, key: Key, name: &[u8]) -> Option<&Content> {
        // Most files have none, and Linux asks before every write.
        if self.files.is_empty() { None } else { self.files.get(&key)?.values.get(name) }
    }

    /// The value of an attribute.
    pub(super) fn value<'a>(&self, arena: &'a Arena, key: Key, name: &[u8]) -> Option<&'a [u8]> {
        let value = self.find(key, name)?;
        Some(value.small().map_or(b"", |block| arena.bytes(block, 0..value.size as usize)))
    }

    /// The names of the attributes of a file behind this one, or all of them, with the lengths of the values.
    pub(super) fn names_behind<'a>(
        &'a self,
        key: Key,
        name: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], u64)> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let of = self.files.get(&key).into_iter();
        of.flat_map(move |of| of.values.range::<[u8], _>((from, Bound::Unbounded)))
            .map(|(name, value)| (&**name, value.size))
    }

    fn put(&mut self, key: Key, name: &[u8], value: Content, arena: &Arena) -> Option<Content> {
        let old = self.files.entry(key).or_default().put(name, value, arena);
        self.count += usize::from(old.is_none());
        old
    }

    fn take(&mut self, key: Key, name: &[u8], arena: &Arena) -> Option<Content> {
        let of = self.files.get_mut(&key)?;
        let old = of.take(name, arena)?;
        self.count -= 1;
        if of.values.is_empty() {
            self.files.remove(&key);
        }
        Some(old)
    }

    fn take_file(&mut self, key: Key) -> Of {
        let of = self.files.remove(&key).unwrap_or_default();
        self.count -= of.len();
        of
    }
}

/// What a name begins with decides who may see and change it.
enum Space {
    /// Anyone may who may read or write the file.
    User,
    /// Root alone, reading included.
    Trusted,
    /// Anyone may read, root change.
    Security,
    /// Access lists: anyone may read, the owner change. They are kept for the clients, which act by them.
    AccessList,
}

fn space(name: &[u8]) -> Result<Space> {
    let spaces = [(&b"user."[..], Space::User), (b"trusted.", Space::Trusted), (b"security.", Space::Security)];
    let found = spaces.into_iter().find(|(prefix, _)| name.starts_with(prefix));
    match (found, name) {
        (Some((prefix, _)), _) if name.len() == prefix.len() || name.contains(&0) => Err(Error::EINVAL),
        (Some(_), _) if name.len() > XATTR_NAME_BYTES_MAX => Err(Error::ERANGE),
        (Some((_, space)), _) => Ok(space),
        (None, b"system.posix_acl_access" | b"system.posix_acl_default") => Ok(Space::AccessList),
        _ => Err(Error::EOPNOTSUPP),
    }
}

/// Whether the user may read the attribute of this name (xattr(7)).
fn check_read(rights: &Rights, node: &Node, user: User, name: &[u8]) -> Result<()> {
    match space(name)? {
        Space::User if !has_user_space(node) => Err(Error::ENODATA),
        Space::User => rights.check(node, user, READ),
        Space::Trusted if user.uid != 0 => Err(Error::ENODATA),
        Space::AccessList if matches!(node.kind, Kind::Symlink(_)) => Err(Error::EOPNOTSUPP),
        _ => Ok(()),
    }
}

/// Whether the user may set or remove it.
fn check_write(rights: &Rights, node: &Node, user: User, name: &[u8]) -> Result<()> {
    let owns = [0, node.uid].contains(&user.uid);
    match space(name)? {
        Space::User if !has_user_space(node) => Err(Error::EPERM),
        // In a sticky directory names are the owner's, and so are these.
        Space::User if node.is_dir() && node.permissions & mode::ISVTX != 0 && !owns => Err(Error::EPERM),
        Space::User => rights.check(node, user, WRITE),
        Space::Trusted | Space::Security if user.uid != 0 => Err(Error::EPERM),
        Space::AccessList if matches!(node.kind, Kind::Symlink(_)) => Err(Error::EOPNOTSUPP),
        Space::AccessList if !owns => Err(Error::EPERM),
        Space::AccessList if name.ends_with(b"default") && !node.is_dir() => Err(Error::EACCES),
        _ => Ok(()),
    }
}

/// Anyone may write to a device or a pipe, and everything about a symbolic link is allowed: their permissions say nothing about attributes.
fn has_user_space(node: &Node) -> bool {
    matches!(node.kind, Kind::File(_) | Kind::Dir(_))
}

impl<W: Watch> Mem<W> {
    pub(super) fn find_xattr(&self, key: Key, user: User, name: &[u8]) -> Result<&[u8]> {
        check_read(&self.rights, &self.nodes[key], user, name)?;
        self.attrs.value(&self.store.arena, key, name).ok_or(Error::ENODATA)
    }

    pub(super) fn list_xattrs(&self, key: Key, user: User, each: &mut dyn FnMut(&[u8])) {
        let Some(of) = self.attrs.files.get(&key) else { return };
        self.spend((of.len() / NAMES_PER_UNIT) as u32);
        let names = of.values.keys();
        names.filter(|name| user.uid == 0 || !name.starts_with(b"trusted.")).for_each(|name| each(name));
    }

    pub(super) fn put_xattr(
        &mut self,
        key: Key,
        user: User,
        name: &[u8],
        value: Option<&[u8]>,
        how: SetXattr,
        at: At,
    ) -> Result<()> {
        check_write(&self.rights, &self.nodes[key], user, name)?;
        let old = self.attrs.find(key, name).map(|value| value.size);
        match how {
            SetXattr::Create if old.is_some() => return Err(Error::EEXIST),
            SetXattr::Replace if old.is_none() => return Err(Error::ENODATA),
            _ => {}
        }
        // An access list without entries is none: so Linux takes one back that says no more than the mode.
        let value = value.filter(|value| !(value.is_empty() && name.starts_with(b"system.")));
        if value.is_none() && old.is_none() {
            // Nothing is there to be removed, so nothing changes.
            return Ok(());
        }
        let taken = if let Some(value) = value {
            self.store.make_inode_room();
            self.check_room(key, name, value.len(), old)?;
            let mut content = Content::default();
            content.write(&mut self.store, 0, value).map_err(enospc)?;
            self.attrs.put(key, name, content, &self.store.arena)
        } else {
            self.attrs.take(key, name, &self.store.arena)
        };
        self.free_xattr(taken);
        let of = self.attrs.files.get(&key);
        debug_assert!(of.is_none_or(|of| of.adds_up(&self.store.arena)), "sums of attributes");
        self.nodes[key].ctime = at.wall;
        if W::ON && self.has_name(key) {
            self.watch.xattr(key, name);
            self.watch.node(key);
        }
        Ok(())
    }

    /// Sets or removes an attribute, without a look at rights and bounds.
    pub(super) fn apply_xattr(
        &mut self,
        key: Key,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> std::result::Result<(), Unfit> {
        let taken = match value {
            Some(value) => {
                let mut content = Content::default();
                content.write(&mut self.store, 0, value).map_err(|_| Unfit::Memory)?;
                self.attrs.put(key, name, content, &self.store.arena)
            }
            None => self.attrs.take(key, name, &self.store.arena),
        };
        self.free_xattr(taken);
        Ok(())
    }

    /// Whether a value fits beside the others, `old` of which it replaces.
    fn check_room(&self, key: Key, name: &[u8], bytes: usize, old: Option<u64>) -> Result<()> {
        if bytes > XATTR_BYTES_MAX {
            return Err(Error::E2BIG);
        }
        let of = self.attrs.files.get(&key);
        let (all, listed) = of.map_or((0, 0), |of| (of.value_bytes, of.list_bytes));
        let is_new = old.is_none();
        let full = all - old.unwrap_or(0) + bytes as u64 > VALUES_BYTES_MAX
            || is_new && (listed + name.len() + 1 > XATTR_LIST_BYTES_MAX || self.inodes_free() == 0);
        if full { Err(Error::ENOSPC) } else { Ok(()) }
    }

    /// The file's content, or its owner, is another one now.
    pub(super) fn drop_capability(&mut self, key: Key) {
        if self.attrs.len() > 0 {
            let taken = self.attrs.take(key, CAPABILITY, &self.store.arena);
            if W::ON && taken.is_some() && self.has_name(key) {
                self.watch.xattr(key, CAPABILITY);
            }
            self.free_xattr(taken);
        }
    }

    /// The file is gone.
    pub(super) fn drop_xattrs(&mut self, key: Key) {
        if self.attrs.len() > 0 {
            let of = self.attrs.take_file(key);
            self.store.discard_attrs(of);
        }
    }

    /// All files are.
    pub(super) fn drop_all_xattrs(&mut self) {
        let keys: Vec<Key> = self.attrs.files.keys().copied().collect();
        keys.into_iter().for_each(|key| self.drop_xattrs(key));
    }

    fn free_xattr(&mut self, value: Option<Content>) {
        if let Some(mut value) = value {
            value.clear(&mut self.store);
        }
    }
}
