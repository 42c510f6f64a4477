//! The command get: files of the server to this machine.
//!
//! Each file is made aside, and gets its name once it is complete. Small files are read 64 at a time; a large file is read alone, with many reads in flight. The
//! length that the server shows is a hint: a file is read to its end. Runs of zeros become holes. A
//! directory gets its permissions and time once everything below it is there.

use crate::batch::{BATCH, Item, SMALL_BYTES, Step, To};
use crate::here::{Here, set_attr};
use crate::pour::pour;
use crate::say::{Why, shown};
use crate::sent::with_advice;
use crate::{Run, join, split};
use anyhow::{Context, bail};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, makedev, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::symlinkat;
use ring9::client::{Access, Attr, Client};
use ring9::fs::{Error as Errno, mode};
use ring9::wire::{Data, Fid, Message};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// Zeros are looked for in units of this many bytes.
const PAGE: usize = 4096;

/// What a page is compared with: memcmp(3) is several times as fast as a look at each byte.
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Directories of a directory, by their names, with their attributes.
type Dirs = Vec<(Vec<u8>, Attr)>;

/// A directory on the way down.
struct Level {
    fid: Fid,
    path: Vec<u8>,
    attr: Attr,
    /// Those in it that are still to be copied.
    dirs: Dirs,
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

/// Where a file that the command line names goes: links are followed, as cp(1) does it. What is no file is left alone: /dev/null must not become one.
fn destination(to: PathBuf) -> io::Result<PathBuf> {
    match fs::metadata(&to) {
        Ok(there) if there.is_file() => fs::canonicalize(to),
        Ok(there) if there.is_dir() => Err(io::Error::from_raw_os_error(Errno::EISDIR.0.into())),
        Ok(_) => Err(io::Error::other("is no regular file (`r9 cat` prints into it)")),
        Err(_) => Ok(to),
    }
}

/// A name from the server that stays in its directory.
fn is_plain(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

/// A refusal to make a file in a directory, with what to do about it if a file of the name is there.
fn refused(error: &io::Error, here: &Here, name: &OsStr) -> String {
    let errno = error.raw_os_error().and_then(|number| u16::try_from(number).ok()).map(Errno);
    with_advice(error.why(), errno.filter(|_| here.stat(name).is_ok()))
}

impl Run {
    pub(crate) fn get(
        &mut self,
        recursive: bool,
        in_place: bool,
        sources: &[OsString],
        dest: &Path,
    ) -> anyhow::Result<()> {
        if sources.len() > 1 && !dest.is_dir() {
            bail!("{}: several files need a directory to go to", dest.display());
        }
        self.expect_of(recursive, sources)?;
        for source in sources {
            let path = source.as_bytes();
            let found = self.client.with(path, Client::stat);
            let Some(attr) = self.go_on(shown(path), found)? else { continue };
            let name = split(path).1;
            let inside = dest.is_dir() && !(attr.is_dir() && sources.len() == 1);
            if inside && !is_plain(name) {
                self.report(shown(path), "has no name that it could get");
                continue;
            }
            let to = if inside { dest.join(OsStr::from_bytes(name)) } else { dest.to_owned() };
            if attr.is_dir() && recursive {
                self.get_tree(path, &to, attr, in_place)?;
            } else if attr.is_dir() {
                self.report(shown(path), "is a directory (-r copies it)");
            } else {
                self.get_one(path, to, in_place)?;
            }
        }
        Ok(())
    }

    /// A file that the command line names.
    fn get_one(&mut self, path: &[u8], to: PathBuf, in_place: bool) -> anyhow::Result<()> {
        let shown_to = to.display().to_string();
        let opened = destination(to).and_then(|to| {
            let name = to.file_name().ok_or_else(|| io::Error::other("is no name of a file"))?.to_owned();
            Ok((Here::open(to.parent().unwrap_or(Path::new("")))?, name))
        });
        let (here, local) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.report_here(shown_to, error);
                return Ok(());
            }
        };
        let (parent, name) = split(path);
        let walked = self.client.walk(Client::ROOT, parent);
        let Some(fid) = self.go_on(shown(path), walked)? else { return Ok(()) };
        let item = Item { local, is_named: true, name: name.to_vec(), ..Item::default() };
        self.get_items(fid, parent, &here, vec![item], in_place)?;
        self.client.clunk(fid)?;
        Ok(())
    }

    fn get_tree(&mut self, source: &[u8], dest: &Path, attr: Attr, in_place: bool) -> anyhow::Result<()> {
        let made = match fs::DirBuilder::new().mode(0o700).create(dest) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Here::open(dest),
        };
        let mut here = match made {
            Ok(here) => here,
            Err(error) => {
                self.report_here(dest.display(), error);
                return Ok(());
            }
        };
        let walked = self.client.walk(Client::ROOT, source);
        let Some(fid) = self.go_on(shown(source), walked)? else { return Ok(()) };
        self.tally.dirs_open = 1;
        let dirs = self.get_files_of(fid, source, &here, in_place)?;
        let mut levels = vec![Level { fid, path: source.to_vec(), attr, dirs }];
        loop {
            self.tally.dirs_open = levels.len();
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some((name, attr)) = level.dirs.pop() else {
                let place = here.place(OsStr::new(""));
                let set = if depth > 1 {
                    let left = here.leave().with_context(|| place.clone())?;
                    set_attr(left, &level.attr)
                } else {
                    set_attr(here.fd(), &level.attr)
                };
                let fid = level.fid;
                levels.pop();
                if let Err(error) = set {
                    self.report_here(place, error);
                }
                self.client.clunk(fid)?;
                continue;
            };
            if self.is_too_deep(source, depth) {
                continue;
            }
            let path = join(&level.path, &name);
            let walked = self.client.walk(level.fid, &name);
            let Some(fid) = self.go_on(shown(&path), walked)? else { continue };
            let local = OsStr::from_bytes(&name);
            if let Err(error) = here.make_and_enter(local) {
                self.report_here(here.place(local), error);
                self.client.clunk(fid)?;
                continue;
            }
            self.tally.dirs_open = depth + 1;
            let dirs = self.get_files_of(fid, &path, &here, in_place)?;
            levels.push(Level { fid, path, attr, dirs });
        }
    }

    /// The files of a directory; the directories in it.
    fn get_files_of(&mut self, dir: Fid, path: &[u8], here: &Here, in_place: bool) -> anyhow::Result<Dirs> {
        let listed = self.client.list(dir);
        let names = self.go_on(shown(path), listed)?.unwrap_or_default();
        let (plain, odd): (Vec<_>, Vec<_>) = names.into_iter().partition(|named| is_plain(&named.name));
        for named in odd {
            self.report(shown(&join(path, &named.name)), "a name that leads elsewhere");
        }
        let mut dirs = Vec::new();
        for names in plain.chunks(BATCH) {
            let items = names.iter().map(|named| Item {
                local: OsStr::from_bytes(&named.name).to_owned(),
                name: named.name.clone(),
                ..Item::default()
            });
            dirs.append(&mut self.get_items(dir, path, here, items.collect(), in_place)?);
        }
        Ok(dirs)
    }

    /// Files of one directory, all steps; the directories among them.
    fn get_items(
        &mut self,
        dir: Fid,
        path: &[u8],
        here: &Here,
        mut items: Vec<Item>,
        in_place: bool,
    ) -> anyhow::Result<Dirs> {
        self.tally.begin(items.iter().map(|item| here.place(&item.local)).collect());
        self.walk_all(&mut items, dir, To::Name)?;
        self.step(
            &mut items,
            |client, item| Some(client.stat_message(item.fid()?)),
            |reply| Step::Attr(Attr::of(reply)),
        )?;
        self.readlink_all(&mut items)?;
        self.step(
            &mut items,
            |client, item| (item.attr.kind() == mode::IFREG).then_some(client.open_message(item.fid()?, Access::Read)),
            |_| Step::Done,
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
            |reply| match reply {
                Message::Rread { data: Data::Here(bytes) } => Step::Data(bytes.to_vec()),
                _ => Step::Done,
            },
        )?;
        let mut dirs = Vec::new();
        for item in items.iter_mut().filter(|item| item.error.is_none()) {
            if item.attr.is_dir() {
                dirs.push((item.name.clone(), item.attr.clone()));
                continue;
            }
            self.get_item(here, item, in_place)?;
            if item.error.is_none() {
                self.tally.finish(&here.place(&item.local));
            }
        }
        self.clunk_all(&mut items)?;
        self.report_all(&mut items, path, Some(here));
        Ok(dirs)
    }

    fn get_item(&mut self, here: &Here, item: &mut Item, in_place: bool) -> anyhow::Result<()> {
        if item.attr.kind() != mode::IFREG {
            if let Err(error) = make_special(here, item) {
                let why = refused(&error, here, &item.local);
                item.fail_here(why);
            }
            return Ok(());
        }
        if in_place {
            match here.create_in_place(&item.local) {
                Ok(file) => self.fill(&file, here, item)?,
                Err(error) => item.fail_here(error),
            }
            return Ok(());
        }
        let mut aside = here.aside(&item.local);
        match aside.create() {
            Ok(file) => self.fill(&file, here, item)?,
            Err(error) => {
                let why = refused(&error, here, &item.local);
                item.fail_here(why);
            }
        }
        if item.error.is_none()
            && let Err(error) = aside.rename_to(&item.local)
        {
            item.fail_here(error);
        }
        Ok(())
    }

    /// The data of a file, its permissions and its time.
    fn fill(&mut self, file: &File, here: &Here, item: &mut Item) -> anyhow::Result<()> {
        if item.data.len() as u64 == item.attr.size {
            self.tally.moved(item.attr.size);
            if let Err(error) = file.write_all_at(&item.data, 0) {
                item.fail_here(error);
            }
        } else {
            self.get_large(file, here, item)?;
        }
        if item.error.is_none()
            && let Err(error) = set_attr(file, &item.attr)
        {
            item.fail_here(error);
        }
        Ok(())
    }

    /// A file of more than one message. What goes wrong with it is noted; an error of the connection ends everything.
    fn get_large(&mut self, file: &File, here: &Here, item: &mut Item) -> anyhow::Result<()> {
        let fid = item.fid.expect("the item was walked to");
        self.tally.name(here.place(&item.local));
        let tally = &mut self.tally;
        let poured = pour(&mut self.client, fid, 0, item.attr.size, |offset, bytes| {
            tally.moved(bytes.len() as u64);
            write_sparse(file, offset, bytes)
        });
        match poured {
            // Zeros at the end are not written either.
            Ok(end) => {
                if let Err(error) = end.and_then(|end| file.set_len(end)) {
                    item.fail_here(error);
                }
                Ok(())
            }
            failed => Ok(item.settle(failed)?),
        }
    }

    /// How many bytes are to be copied, if there is a progress line to show it. What cannot be looked at is told when it is copied.
    fn expect_of(&mut self, recursive: bool, sources: &[OsString]) -> anyhow::Result<()> {
        if !self.tally.is_shown() {
            return Ok(());
        }
        let mut bytes = 0;
        for source in sources {
            match self.client.with(source.as_bytes(), Client::stat) {
                Ok(attr) if attr.is_dir() && recursive => bytes += self.bytes_below(source.as_bytes())?,
                Ok(attr) if attr.kind() == mode::IFREG => bytes += attr.size,
                Err(error) if !error.is_refusal() => return Err(error.into()),
                _ => {}
            }
        }
        self.tally.expect(bytes);
        Ok(())
    }

    fn bytes_below(&mut self, top: &[u8]) -> anyhow::Result<u64> {
        let mut bytes = 0_u64;
        let mut levels = vec![(self.client.walk(Client::ROOT, top)?, None::<Dirs>)];
        while let Some((fid, dirs)) = levels.last_mut() {
            let fid = *fid;
            if dirs.is_none() {
                let names = match self.client.list(fid) {
                    Err(error) if !error.is_refusal() => return Err(error.into()),
                    listed => listed.unwrap_or_default(),
                };
                let below = dirs.insert(Vec::new());
                for names in names.chunks(BATCH) {
                    let items = names.iter().map(|named| Item { name: named.name.clone(), ..Item::default() });
                    let mut items: Vec<Item> = items.collect();
                    self.walk_all(&mut items, fid, To::Name)?;
                    self.step(
                        &mut items,
                        |client, item| Some(client.stat_message(item.fid()?)),
                        |reply| Step::Attr(Attr::of(reply)),
                    )?;
                    self.clunk_all(&mut items)?;
                    for item in items.into_iter().filter(|item| item.error.is_none()) {
                        match item.attr.kind() {
                            mode::IFREG => bytes = bytes.saturating_add(item.attr.size),
                            mode::IFDIR => below.push((item.name, item.attr)),
                            _ => {}
                        }
                    }
                }
                continue;
            }
            let next = dirs.as_mut().and_then(Vec::pop).filter(|_| levels.len() <= crate::DEPTH_MAX);
            match next {
                Some((name, _)) => match self.client.walk(fid, &name) {
                    Ok(fid) => levels.push((fid, None)),
                    Err(error) if error.is_refusal() => {}
                    Err(error) => return Err(error.into()),
                },
                None => {
                    levels.pop();
                    self.client.clunk(fid)?;
                }
            }
        }
        Ok(bytes)
    }
}

/// A link or a special file, in place of what has its name.
fn make_special(here: &Here, item: &Item) -> io::Result<()> {
    let attr = &item.attr;
    let mut aside = here.aside(&item.local);
    aside.make(|dir, name| match attr.kind() {
        mode::IFLNK => symlinkat(OsStr::from_bytes(&item.data), dir, name),
        kind => {
            let kind = SFlag::from_bits_truncate(kind);
            let dev = makedev(attr.rdev.0.into(), attr.rdev.1.into());
            mknodat(dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, dev)
        }
    })?;
    if attr.kind() != mode::IFLNK {
        let mode = Mode::from_bits_truncate(attr.mode & mode::PERM);
        fchmodat(here.fd(), aside.name.as_os_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    let mtime = TimeSpec::new(attr.mtime.sec, attr.mtime.nsec.into());
    let no_follow = UtimensatFlags::NoFollowSymlink;
    utimensat(here.fd(), aside.name.as_os_str(), &TimeSpec::UTIME_OMIT, &mtime, no_follow)?;
    aside.rename_to(&item.local)
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
        let file = File::create_new(&path).expect("a temporary file");
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
        let mut here = Here::open(&folder).expect("it was made");
        let name = OsStr::new("link");
        let refused = here.make_and_enter(name).expect_err("a link is no directory");
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        let mut aside = here.aside(name);
        aside.create().expect("a new name");
        aside.rename_to(name).expect("the link gives way");
        here.aside(name).create().expect("a new name, which goes with what holds it");
        assert_eq!(here.names().expect("it is ours").len(), 2);
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
