//! All that a tree shows, without a change of it: to compare two trees.
#![allow(missing_docs, unreachable_pub, reason = "nobody else uses this")]

use ring9::fs::mem::{Mem, Watch};
use ring9::fs::{At, Filesystem, Iovec, Open, Stat, Time, User, mode};
use std::collections::BTreeMap;

const ROOT: User = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };

/// All that a tree shows of a file, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    cookie: u64,
    text: String,
    bytes: Option<Vec<u8>>,
}

/// By path.
pub type Shape = BTreeMap<Vec<u8>, Shown>;

/// Access times are not told by themselves, and blocks may differ.
fn text(stat: &Stat<'_>) -> String {
    format!("{:?}", Stat { atime: Time::default(), blocks: 0, name: b"", ..*stat })
}

/// A moment at which to look at a file that has this access time does not move it.
fn same_moment(stat: &Stat<'_>) -> At {
    At { wall: stat.atime, mono_ns: 0 }
}

/// The whole tree, without a change of it.
pub fn shape<W: Watch>(tree: &mut Mem<W>) -> Shape {
    let mut shape = Shape::new();
    let root = tree.attach(ROOT, b"").expect("the root is there");
    let stat = tree.stat(&root).expect("the root is there");
    shape.insert(Vec::new(), Shown { cookie: 0, text: text(&stat), bytes: None });
    let mut waiting = vec![(Vec::new(), root)];
    while let Some((path, mut dir)) = waiting.pop() {
        let at = same_moment(&tree.stat(&dir).expect("it is there"));
        let mut entries = Vec::new();
        let listed = tree.list(&mut dir, 0, at, &mut |entry| {
            entries.push((entry.cookie, entry.stat.name.to_vec(), text(&entry.stat), entry.stat.mode & mode::IFMT));
            true
        });
        listed.expect("a directory");
        for (cookie, name, text, kind) in entries.into_iter().skip(2) {
            let mut file = tree.lookup(&dir, &name).expect("just listed");
            let at = same_moment(&tree.stat(&file).expect("it is there"));
            let mut bytes = None;
            // One that is open for exclusive use cannot be read.
            if kind == mode::IFREG && tree.open(&mut file, Open { read: true, ..Open::NONE }, at).is_ok() {
                let mut all = Iovec::default();
                tree.read(&mut file, 0, all.out(u32::MAX), at).expect("it is open");
                bytes = Some(all.to_vec());
            }
            let below = [&path[..], b"/", &name].concat();
            shape.insert(below.clone(), Shown { cookie, text, bytes });
            if kind == mode::IFDIR {
                waiting.push((below, file));
            } else {
                tree.close(file, at).expect("it was only looked at");
            }
        }
        tree.close(dir, at).expect("it was only looked at");
    }
    shape
}

/// Says where two trees differ.
pub fn same_shape(ours: &Shape, other: &Shape) -> Result<(), String> {
    if !ours.keys().eq(other.keys()) {
        let names =
            |shape: &Shape| shape.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>();
        return Err(format!("files: {:?}, of the second tree: {:?}", names(ours), names(other)));
    }
    for ((path, ours), other) in ours.iter().zip(other.values()) {
        let path = String::from_utf8_lossy(path);
        if (&ours.text, ours.cookie) != (&other.text, other.cookie) {
            return Err(format!(
                "{path}: {} {}, of the second tree: {} {}",
                ours.cookie, ours.text, other.cookie, other.text
            ));
        }
        if let (Some(ours), Some(other)) = (&ours.bytes, &other.bytes)
            && ours != other
        {
            let at = ours.iter().zip(other).position(|(ours, other)| ours != other);
            return Err(format!("{path}: {} bytes, of the second tree {}; first at {at:?}", ours.len(), other.len()));
        }
    }
    Ok(())
}
