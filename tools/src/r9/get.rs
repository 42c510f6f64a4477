//! The command get: files of the server to this machine.
//!
//! Small files are read 64 at a time; a large file is read alone, with many reads in flight. The
//! length that the server shows is a hint: a file is read to its end. Runs of zeros become holes. A
//! directory gets its permissions and time once everything below it is there.

use crate::batch::{BATCH, Item, SMALL_BYTES, Step};
use crate::pour::pour;
use crate::{Run, join, shown, split};
use anyhow::bail;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use ring9::client::{Access, Attr, Client};
use ring9::fs::{Time, mode};
use ring9::wire::{Data, Fid, Message};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Zeros are looked for in units of this many bytes.
const PAGE: usize = 4096;

/// What a page is compared with: memcmp(3) is several times as fast as a look at each byte.
static ZEROS: [u8; PAGE] = [0; PAGE];

/// A directory to be copied, or to be finished.
enum Todo {
    Enter(Vec<u8>, PathBuf, Attr),
    Leave(PathBuf, Attr),
}

fn set_attr(path: &Path, attr: &Attr) -> io::Result<()> {
    if attr.kind() != mode::IFLNK {
        fs::set_permissions(path, Permissions::from_mode(attr.mode & mode::PERM))?;
    }
    set_mtime(path, attr.mtime)
}

fn set_mtime(path: &Path, mtime: Time) -> io::Result<()> {
    let mtime = TimeSpec::new(mtime.sec, mtime.nsec.into());
    let omit = TimeSpec::UTIME_OMIT;
    utimensat(AT_FDCWD, path, &omit, &mtime, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

/// Writes what is not zero; the rest stays a hole.
fn write_sparse(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let page = |at: usize| &bytes[at..bytes.len().min(at + PAGE)];
        let is_zero = |at: usize| page(at) == &ZEROS[..page(at).len()];
        if is_zero(at) {
            at += page(at).len();
            continue;
        }
        let start = at;
        while at < bytes.len() && !is_zero(at) {
            at += page(at).len();
        }
        file.write_all_at(&bytes[start..at], offset + start as u64)?;
    }
    Ok(())
}

/// A new file in place of what is there: never through a link, so that nothing outside of the copy is written.
fn create(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_dir() => fs::remove_file(path)?,
        _ => {}
    }
    // Nobody else may read it before it has its permissions.
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Where a file that the command line names goes: links are followed, as cp(1) does it. What is no file is left alone: /dev/null must not become one.
fn destination(to: PathBuf) -> io::Result<PathBuf> {
    match fs::metadata(&to) {
        Ok(there) if there.is_file() => fs::canonicalize(to),
        Ok(there) if there.is_dir() => Err(io::Error::from(ErrorKind::IsADirectory)),
        Ok(_) => Err(io::Error::other("is no regular file (`r9 cat` prints into it)")),
        Err(_) => Ok(to),
    }
}

fn is_dir_itself(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// A name from the server that stays in its directory.
fn is_plain(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

impl Run {
    pub(crate) fn get(&mut self, recursive: bool, sources: &[OsString], dest: &Path) -> anyhow::Result<()> {
        self.show_progress();
        if sources.len() > 1 && !dest.is_dir() {
            bail!("{}: several files need a directory to go to", dest.display());
        }
        for source in sources {
            let path = source.as_bytes();
            let found = self.client.with(path, Client::stat);
            let Some(attr) = self.go_on(shown(path), found)? else { continue };
            let (parent, name) = split(path);
            let inside = dest.is_dir() && !(attr.is_dir() && sources.len() == 1);
            if inside && !is_plain(name) {
                self.report(shown(path), "has no name that it could get");
                continue;
            }
            let to = if inside { dest.join(OsStr::from_bytes(name)) } else { dest.to_owned() };
            if attr.is_dir() && recursive {
                // A link that leads to a directory is followed here, and nowhere below.
                let to = fs::canonicalize(&to).unwrap_or(to);
                self.get_tree(path, to, attr)?;
            } else if attr.is_dir() {
                self.report(shown(path), "is a directory (-r copies it)");
            } else {
                let to = match destination(to) {
                    Ok(to) => to,
                    Err(error) => {
                        self.report(dest.display(), error);
                        continue;
                    }
                };
                let walked = self.client.walk(Client::ROOT, parent);
                let Some(dir) = self.go_on(shown(path), walked)? else { continue };
                let item = Item { local: to, name: name.to_vec(), ..Item::default() };
                self.get_items(dir, parent, vec![item], &mut Vec::new())?;
                self.client.clunk(dir)?;
            }
        }
        Ok(())
    }

    fn get_tree(&mut self, source: &[u8], dest: PathBuf, attr: Attr) -> anyhow::Result<()> {
        let mut todo = vec![Todo::Enter(source.to_vec(), dest, attr)];
        while let Some(step) = todo.pop() {
            match step {
                Todo::Enter(remote, _, _) if self.is_too_deep(source, &remote) => {}
                Todo::Enter(remote, local, attr) => self.get_dir(&remote, local, attr, &mut todo)?,
                Todo::Leave(local, attr) => {
                    if let Err(error) = set_attr(&local, &attr) {
                        self.report(shown(local.as_os_str().as_bytes()), error);
                    }
                }
            }
        }
        Ok(())
    }

    fn get_dir(&mut self, remote: &[u8], local: PathBuf, attr: Attr, todo: &mut Vec<Todo>) -> anyhow::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&local) {
            Ok(()) => {}
            // A link would lead out of the copy: a server may show one and then a directory of the same name.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_dir_itself(&local) => {}
            Err(error) => {
                self.report(shown(local.as_os_str().as_bytes()), error);
                return Ok(());
            }
        }
        let walked = self.client.walk(Client::ROOT, remote);
        let Some(dir) = self.go_on(shown(remote), walked)? else { return Ok(()) };
        todo.push(Todo::Leave(local.clone(), attr));
        let listed = self.client.list(dir);
        let names = self.go_on(shown(remote), listed)?.unwrap_or_default();
        let (plain, odd): (Vec<_>, Vec<_>) = names.into_iter().partition(|named| is_plain(&named.name));
        for named in odd {
            self.report(shown(&join(remote, &named.name)), "a name that leads elsewhere");
        }
        for names in plain.chunks(BATCH) {
            let items = names.iter().map(|named| Item {
                local: local.join(OsStr::from_bytes(&named.name)),
                name: named.name.clone(),
                ..Item::default()
            });
            self.get_items(dir, remote, items.collect(), todo)?;
        }
        self.client.clunk(dir)?;
        Ok(())
    }

    /// Files of one directory, all steps; directories among them are put on the list.
    fn get_items(&mut self, dir: Fid, remote: &[u8], mut items: Vec<Item>, todo: &mut Vec<Todo>) -> anyhow::Result<()> {
        self.walk_all(&mut items, dir, true)?;
        self.step(
            &mut items,
            |client, item| Some(client.stat_message(item.fid()?)),
            |_, reply| Ok(Step::Attr(Attr::of(reply))),
        )?;
        self.readlink_all(&mut items)?;
        self.step(
            &mut items,
            |client, item| (item.attr.kind() == mode::IFREG).then_some(client.open_message(item.fid()?, Access::Read)),
            |_, _| Ok(Step::Done),
        )?;
        let small = SMALL_BYTES.min(u64::from(self.client.chunk()) - 1);
        self.step(
            &mut items,
            |_, item| {
                let (kind, size, fid) = (item.attr.kind(), item.attr.size, item.fid()?);
                // One more than there should be: without it, this was the end.
                (kind == mode::IFREG && size <= small).then(|| Message::Tread {
                    fid,
                    offset: 0,
                    count: size as u32 + 1,
                })
            },
            |_, reply| match reply {
                Message::Rread { data: Data::Here(bytes) } => Ok(Step::Data(bytes.to_vec())),
                _ => Ok(Step::Done),
            },
        )?;
        for item in items.iter_mut().filter(|item| item.error.is_none()) {
            if item.attr.is_dir() {
                todo.push(Todo::Enter(join(remote, &item.name), item.local.clone(), item.attr.clone()));
                continue;
            }
            item.error = self.get_item(item)?;
        }
        self.clunk_all(&mut items)?;
        self.report_all(&mut items, |item| shown(&join(remote, &item.name)));
        Ok(())
    }

    fn get_item(&mut self, item: &mut Item) -> anyhow::Result<Option<String>> {
        let fid = item.fid.expect("the item was walked to");
        let (local, attr) = (&item.local, &item.attr);
        let made = match attr.kind() {
            mode::IFREG => match create(local) {
                Ok(file) if item.data.len() as u64 == attr.size => {
                    self.progress.inc(attr.size);
                    file.write_all_at(&item.data, 0)
                }
                Ok(file) => match self.get_large(fid, &file, local, attr)? {
                    None => Ok(()),
                    error => return Ok(error),
                },
                Err(error) => Err(error),
            },
            mode::IFLNK => {
                let _ = fs::remove_file(local);
                std::os::unix::fs::symlink(OsStr::from_bytes(&item.data), local)
            }
            kind => {
                let kind = SFlag::from_bits_truncate(kind);
                let _ = fs::remove_file(local);
                let dev = makedev(attr.rdev.0.into(), attr.rdev.1.into());
                mknod(local, kind, Mode::from_bits_truncate(0o600), dev).map_err(io::Error::from)
            }
        };
        Ok(made.and_then(|()| set_attr(local, attr)).err().map(|error| error.to_string()))
    }

    /// A file of more than one message. Its own errors are text; those of the connection end everything.
    fn get_large(&mut self, fid: Fid, file: &File, local: &Path, attr: &Attr) -> anyhow::Result<Option<String>> {
        self.progress.set_message(shown(local.as_os_str().as_bytes()));
        let progress = &self.progress;
        let poured = pour(&mut self.client, fid, 0, attr.size, |offset, bytes| {
            progress.inc(bytes.len() as u64);
            write_sparse(file, offset, bytes)
        });
        match poured {
            // Zeros at the end are not written either.
            Ok(end) => Ok(end.and_then(|end| file.set_len(end)).err().map(|error| error.to_string())),
            Err(error) if error.is_refusal() => Ok(Some(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn zeros_are_not_written() {
        let path = std::env::temp_dir().join(format!("r9-sparse-{}", std::process::id()));
        let mut data = vec![0; 40 * PAGE + 5];
        for at in [0, 7 * PAGE, 9 * PAGE - 1, 40 * PAGE + 4] {
            data[at] = 1;
        }
        // Of whatever the file held before, all that is not written would show.
        let file = create(&path).expect("a temporary file");
        file.write_all_at(&vec![2; data.len()], 0).expect("a temporary file");
        write_sparse(&file, 0, &data).expect("a temporary file");
        let mut there = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut there)).expect("it was written");
        fs::remove_file(&path).expect("it was written");
        for (at, (page, wanted)) in there.chunks(PAGE).zip(data.chunks(PAGE)).enumerate() {
            let written = [0, 7, 8, 40].contains(&at);
            assert!(if written { page == wanted } else { page.iter().all(|&byte| byte == 2) }, "page {at}");
        }
    }

    #[test]
    fn a_link_is_no_directory_and_no_file() {
        let folder = std::env::temp_dir().join(format!("r9-links-{}", std::process::id()));
        fs::create_dir(&folder).expect("it is new");
        let (link, behind) = (folder.join("link"), folder.join("behind"));
        fs::create_dir(&behind).expect("it is new");
        std::os::unix::fs::symlink(&behind, &link).expect("it is new");
        assert!(is_dir_itself(&behind) && !is_dir_itself(&link));
        create(&link).expect("the link gives way");
        assert!(fs::symlink_metadata(&link).expect("it was made").is_file() && behind.is_dir());
        fs::remove_dir_all(&folder).expect("it was made");
    }

    #[test]
    fn names_stay_in_their_directory() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/etc", b"a\0"] {
            assert!(!is_plain(name));
        }
        assert!(is_plain(b"...") && is_plain(b"\xff"));
    }
}
