//! The end of a run: everything that is left is compared with the model, then removed.

use super::Watch;
use super::play::same;
use crate::model::{self, What};
use ring9::fs::{At, Entry, Error, Filesystem, Iovec, Make, Open, SetXattr, User};
use std::collections::BTreeMap;

impl<F: Filesystem> Watch<F> {
    /// Every name and every byte is as in the model; then all of it goes. Nobody else has a file any more, unless sessions were
    /// `left` where they are: then the bytes of a file that one of them has for itself alone are not seen.
    pub fn check_all_and_remove(&mut self, at: At, left: bool) {
        let user = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };
        let root = self.fs.attach(user, b"").expect("the root is there");
        let mut dirs = vec![(root, model::ROOT)];
        let mut play = self.play.borrow_mut();
        let mut done = Vec::new();
        while let Some((mut dir, node)) = dirs.pop() {
            let mut names = Vec::new();
            let each = &mut |entry: &Entry<'_>| {
                names.push(entry.stat.name.to_vec());
                true
            };
            self.fs.list(&mut dir, 0, at, each).expect("model: a directory can be listed");
            let mut names = names.split_off(2);
            names.sort();
            let entries = play.model.entries(node);
            same!(names, entries.keys().cloned().collect::<Vec<_>>(), "names of directory {node}");
            for (name, &below) in &entries {
                let mut file = self.fs.lookup(&dir, name).expect("model: what is listed is there");
                play.check_qid(below, self.fs.attr(&file));
                check_xattrs(&mut self.fs, &file, &play.model.inodes[below].xattrs);
                match play.model.inodes[below].what {
                    What::Dir => {
                        dirs.push((file, below));
                        continue;
                    }
                    What::File => {
                        let read = Open { read: true, ..Open::default() };
                        let opened = self.fs.open(&mut file, read, at);
                        if opened.is_ok() {
                            let mut all = Iovec::default();
                            let done = self.fs.read(&mut file, 0, all.out(u32::MAX), at);
                            same!(done, Ok(()), "a read");
                            assert!(all.to_vec() == play.model.inodes[below].data, "model: content of file {below}");
                        }
                        let is_taken = left && opened == Err(Error::EBUSY);
                        assert!(opened.is_ok() || is_taken, "model: nobody has file {below} open: {opened:?}");
                    }
                    _ => {}
                }
                let _ = self.fs.close(file, at);
            }
            done.push((dir, entries));
        }
        while let Some((dir, entries)) = done.pop() {
            for (name, below) in entries {
                let is_dir = play.model.inodes[below].what == What::Dir;
                self.fs.unlink(&dir, &name, is_dir, at).expect("model: what is there can be removed");
            }
            let _ = self.fs.close(dir, at);
        }
        // The root stays; only its attributes go.
        let root = self.fs.attach(user, b"").expect("the root is there");
        let of_root = &play.model.inodes[model::ROOT].xattrs;
        check_xattrs(&mut self.fs, &root, of_root);
        for name in of_root.keys() {
            self.fs.set_xattr(&root, name, None, SetXattr::Replace, at).expect("model: what is there can be removed");
        }
        // What was given back last is collected when something is needed next.
        self.fs.make(&root, b"last", Make::Symlink(b"target"), 0o777, None, at).expect("leaks: there is room now");
        self.fs.unlink(&root, b"last", false, at).expect("it is there");
        let _ = self.fs.close(root, at);
    }
}

/// Every attribute is as in the model.
fn check_xattrs<F: Filesystem>(fs: &mut F, file: &F::File, wanted: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut names = Vec::new();
    // A tree without any need not know of them.
    let _ = fs.xattrs(file, &mut |name| names.push(name.to_vec()));
    same!(names, wanted.keys().cloned().collect::<Vec<_>>(), "names of attributes");
    for (name, value) in wanted {
        assert!(fs.xattr(file, name) == Ok(&value[..]), "model: the value of {name:?}");
    }
}
