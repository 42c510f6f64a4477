//! Files of every kind, without their names.

use super::content::Content;
use super::dir::Dir;
use super::key::Key;
use super::store::Store;
use crate::fs::{At, Time, User, mode};
use crate::wire::{Qid, qt};
use slab::Slab;

/// Bits of `qid.kind` that are kept and can be set.
pub(super) const BITS: u8 = qt::APPEND | qt::EXCL | qt::TMP;

pub(super) enum Kind {
    File(Content),
    Dir(Box<Dir>),
    /// The target is charged like any content: 2^20 long ones are 4 GiB.
    Symlink(Content),
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

pub(super) struct Node {
    pub(super) kind: Kind,
    /// Never used again.
    pub(super) path: u64,
    /// Never 0, new at every change of content.
    pub(super) version: u32,
    /// Permissions with set-id and sticky; the type is that of `kind`.
    pub(super) permissions: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) muid: u32,
    /// Names; a directory's are counted when it is shown.
    pub(super) links: u32,
    /// File values that name it.
    pub(super) uses: u32,
    /// QTAPPEND, QTEXCL, QTTMP.
    pub(super) bits: u8,
    /// File values that are open.
    pub(super) opens: u32,
    /// The latest name that is known: directory and cookie.
    pub(super) link: (Key, u64),
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) btime: Time,
}

/// An empty file costs its node, its entry and its name: 400 bytes at most, and the node is what grows unnoticed.
const _: () = assert!(size_of::<Node>() <= 200);

impl Node {
    #[inline]
    pub(super) fn new(kind: Kind, path: u64, permissions: u32, bits: u8, user: User, gid: u32, at: At) -> Node {
        let now = at.wall;
        Node {
            kind,
            path,
            version: 1,
            permissions: permissions & mode::PERM,
            uid: user.uid,
            gid,
            muid: user.uid,
            links: 0,
            uses: 0,
            bits: bits & BITS,
            opens: 0,
            link: (0, 0),
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
        }
    }

    #[inline]
    pub(super) fn qid(&self) -> Qid {
        let kind = match self.kind {
            Kind::Dir(_) => qt::DIR,
            Kind::Symlink(_) => qt::SYMLINK,
            _ => qt::FILE,
        };
        Qid { kind: kind | self.bits, version: self.version, path: self.path }
    }

    #[inline]
    pub(super) fn mode(&self) -> u32 {
        let kind = match self.kind {
            Kind::File(_) => mode::IFREG,
            Kind::Dir(_) => mode::IFDIR,
            Kind::Symlink(_) => mode::IFLNK,
            Kind::Device { block: true, .. } => mode::IFBLK,
            Kind::Device { block: false, .. } => mode::IFCHR,
            Kind::Fifo => mode::IFIFO,
            Kind::Socket => mode::IFSOCK,
        };
        kind | self.permissions
    }

    /// The content was changed by this user.
    #[inline]
    pub(super) fn changed(&mut self, uid: u32, at: At) {
        self.version = self.version.checked_add(1).unwrap_or(1);
        (self.mtime, self.ctime, self.muid) = (at.wall, at.wall, uid);
    }

    #[inline]
    pub(super) fn dir(&self) -> Option<&Dir> {
        if let Kind::Dir(dir) = &self.kind { Some(dir) } else { None }
    }

    #[inline]
    pub(super) fn dir_mut(&mut self) -> Option<&mut Dir> {
        if let Kind::Dir(dir) = &mut self.kind { Some(dir) } else { None }
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir(_))
    }

    /// What takes memory of the arena, if anything does.
    pub(super) fn charged_mut(&mut self) -> Option<&mut Content> {
        if let Kind::File(content) | Kind::Symlink(content) = &mut self.kind { Some(content) } else { None }
    }

    /// The content of a regular file.
    #[inline]
    pub(super) fn content_mut(&mut self) -> Option<&mut Content> {
        if let Kind::File(content) = &mut self.kind { Some(content) } else { None }
    }
}

/// All nodes. Flat, so that nothing recurses however deep the tree is.
pub(super) struct Nodes {
    nodes: Slab<Node>,
    next_path: u64,
}

impl Nodes {
    pub(super) fn new() -> Nodes {
        Nodes { nodes: Slab::new(), next_path: 1 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// One past the last place that a node may have now.
    pub(super) fn places(&self) -> Key {
        self.nodes.capacity() as Key
    }

    #[inline]
    pub(super) fn next_path(&mut self) -> u64 {
        self.next_path += 1;
        self.next_path - 1
    }

    /// The number that the next new file gets.
    pub(super) fn path_of_next(&self) -> u64 {
        self.next_path
    }

    /// New files get this number and those behind it, unless that has happened already.
    pub(super) fn skip_to(&mut self, path: u64) {
        self.next_path = self.next_path.max(path);
    }

    #[inline]
    pub(super) fn add(&mut self, node: Node) -> Key {
        self.nodes.insert(node) as Key
    }

    /// Removes a node, and frees its bytes. Not generic, so that it is compiled once, without a copy of the node.
    pub(super) fn remove_with_bytes(&mut self, key: Key, store: &mut Store) {
        let mut node = self.nodes.remove(key as usize);
        if let Some(content) = node.charged_mut() {
            content.clear(store);
        }
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<&Node> {
        self.nodes.get(key as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|(_, node)| node)
    }

    /// Drops the nodes of which `keep` says no.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Key, &mut Node) -> bool) {
        self.nodes.retain(|key, node| keep(key as Key, node));
    }
}

impl std::ops::Index<Key> for Nodes {
    type Output = Node;
    #[inline]
    fn index(&self, key: Key) -> &Node {
        &self.nodes[key as usize]
    }
}

impl std::ops::IndexMut<Key> for Nodes {
    #[inline]
    fn index_mut(&mut self, key: Key) -> &mut Node {
        &mut self.nodes[key as usize]
    }
}
