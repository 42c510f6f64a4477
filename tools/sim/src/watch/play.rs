//! The model beside the tree, and how the two are compared.

use crate::kernel::faults::Faults;
use crate::model::{Model, What};
use crate::random::Random;
use ring9::fs::{Error, Result, Stat};
use ring9::wire::Qid;
use std::collections::BTreeMap;

/// The model, what is known of qids, and what goes wrong by chance.
pub(super) struct Play {
    pub(super) model: Model,
    /// By file of the model: qid.path, and the version after so many changes.
    pub(super) qids: BTreeMap<usize, (u64, u32, u64)>,
    pub(super) random: Random,
    pub(super) faults: Faults,
}

macro_rules! same {
    ($ours:expr, $models:expr, $($what:tt)*) => {{
        let (ours, models) = (&$ours, &$models);
        assert!(ours == models, "model: {}: {ours:?}, by the model {models:?}", format_args!($($what)*));
    }};
}
pub(super) use same;

impl Play {
    /// A file keeps its number, and its version is new exactly when its content is.
    pub(super) fn check_qid(&mut self, node: usize, qid: Qid) {
        let changes = self.model.inodes[node].changes;
        if let Some(&(path, version, as_of)) = self.qids.get(&node) {
            same!(qid.path, path, "qid.path of file {node}");
            same!(qid.version != version, changes != as_of, "a new version of file {node}");
        } else {
            let taken = self.qids.values().any(|&(path, ..)| path == qid.path);
            assert!(!taken, "model: qid.path {} is used again", qid.path);
        }
        assert!(qid.version != 0, "model: version 0 of file {node}");
        self.qids.insert(node, (qid.path, qid.version, changes));
    }

    /// Compares two results. Where memfs alone has no memory the model is left as it was.
    pub(super) fn agree<T, U>(
        &mut self,
        what: &str,
        ours: &Result<T>,
        needs_memory: bool,
        does: impl FnOnce(&mut Model) -> Result<U>,
    ) -> Option<U> {
        if needs_memory && ours.as_ref().is_err_and(|&error| error == Error::ENOSPC) {
            return None;
        }
        match (ours, does(&mut self.model)) {
            (Ok(_), Ok(models)) => Some(models),
            (Err(ours), Err(models)) if *ours == models => None,
            (ours, models) => {
                panic!("model: {what}: {:?}, by the model {:?}", ours.as_ref().map(|_| ()), models.map(|_| ()))
            }
        }
    }

    pub(super) fn compare(&self, stat: &Stat<'_>, id: usize) {
        let handle = self.model.handle(id);
        let node = handle.node;
        let inode = &self.model.inodes[node];
        let (size, rdev, target) = match &inode.what {
            What::File => (inode.data.len(), (0, 0), &b""[..]),
            What::Symlink(target) => (target.len(), (0, 0), &target[..]),
            What::Device { major, minor, .. } => (0, (*major, *minor), &b""[..]),
            _ => (0, (0, 0), &b""[..]),
        };
        same!(stat.mode, self.model.mode(node), "mode of file {node}");
        same!((stat.uid, stat.gid, stat.muid), (inode.uid, inode.gid, inode.muid), "owners of file {node}");
        same!(stat.nlink, self.model.nlink(node), "links of file {node}");
        same!((stat.size, stat.rdev), (size as u64, rdev), "size and device of file {node}");
        same!(stat.target, target, "target of file {node}");
        same!(stat.name, &self.model.name_of(&handle)[..], "name of file {node}");
        let times = [inode.atime, inode.mtime, inode.ctime, inode.btime];
        same!([stat.atime, stat.mtime, stat.ctime, stat.btime], times, "times of file {node}");
    }
}
