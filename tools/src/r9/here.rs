//! A directory of this machine, by its descriptor, and the way to those below it and back.
//!
//! Paths have no part in it, so a tree may be deeper than a path can be long (PATH_MAX), and no link
//! leads out of it. At most `KEPT` descriptors are open; those further above are opened again
//! through "..", if that is still the directory that it was.

use crate::say::shown;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use ring9::client::{Attr, temporary_name};
use ring9::fs::mode;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Descriptors that are kept open: of the directory itself and of those above it.
const KEPT: usize = 32;

/// A directory, and those above it up to the one that was opened first.
pub(crate) struct Here {
    /// For messages.
    path: PathBuf,
    /// The last one is the directory itself.
    open: VecDeque<OwnedFd>,
    /// What each of them is, from the one that was opened first: device and inode.
    identities: Vec<(u64, u64)>,
}

impl Here {
    /// The directory at a path. An empty path is the current directory.
    pub(crate) fn open(path: &Path) -> io::Result<Here> {
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let dir = openat(AT_FDCWD, at, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let identities = vec![identity(&dir)?];
        Ok(Here { path: path.to_owned(), open: [dir].into(), identities })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.open.back().expect("one is open always").as_fd()
    }

    /// Where a name in here is, for messages.
    pub(crate) fn place(&self, name: &OsStr) -> String {
        shown(self.path.join(name).as_os_str().as_bytes())
    }

    /// Goes into a directory of this one; a link is none.
    pub(crate) fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(self.fd(), name, flags, Mode::empty())?;
        self.identities.push(identity(&dir)?);
        self.open.push_back(dir);
        if self.open.len() > KEPT {
            self.open.pop_front();
        }
        self.path.push(name);
        Ok(())
    }

    /// Makes a directory in this one, for its owner alone until it is complete, or takes the one that is there. Goes into it.
    pub(crate) fn make_and_enter(&mut self, name: &OsStr) -> io::Result<()> {
        match mkdirat(self.fd(), name, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                // A link would lead out of the copy: a server may show one and then a directory of the same name.
                let there = self.stat(name)?.st_mode;
                if there & mode::IFMT != mode::IFDIR {
                    return Err(Errno::EEXIST.into());
                }
                if there & 0o700 != 0o700 {
                    // It is to be filled, and gets other permissions then. If this fails, so does what comes next.
                    let opened = Mode::from_bits_truncate(there & mode::PERM | 0o700);
                    let _ = fchmodat(self.fd(), name, opened, FchmodatFlags::FollowSymlink);
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.enter(name)
    }

    /// Goes to the directory above; the one that was left.
    pub(crate) fn leave(&mut self) -> io::Result<OwnedFd> {
        let left = self.open.pop_back().expect("one is open always");
        self.identities.pop();
        if self.open.is_empty() {
            let above = openat(&left, "..", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            if self.identities.last() != Some(&identity(&above)?) {
                return Err(io::Error::other("was moved to another directory meanwhile"));
            }
            self.open.push_back(above);
        }
        self.path.pop();
        Ok(left)
    }

    /// Its names, without "." and "..".
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut dir = Dir::openat(self.fd(), ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// What a name in here is; links are not followed.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        Ok(fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Opens a file in here for reading, and does not wait if it has become a pipe. `follows`: a link is followed.
    pub(crate) fn open_file(&self, name: &OsStr, follows: bool) -> io::Result<File> {
        let no_follow = if follows { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | no_follow;
        Ok(File::from(openat(self.fd(), name, flags, Mode::empty())?))
    }

    /// A new name beside `name`, to be made now.
    pub(crate) fn aside(&self, name: &OsStr) -> Aside<'_> {
        Aside { here: self, name: OsString::from_vec(temporary_name(name.as_bytes())), is_there: false }
    }

    /// Opens a file in here for writing, cut to nothing, or makes it; no link is followed.
    pub(crate) fn create_in_place(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC;
        Ok(File::from(openat(self.fd(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(self.fd(), name, UnlinkatFlags::NoRemoveDir)?)
    }
}

fn identity(dir: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A temporary name. What is there under it is removed with this, unless it has got its own name.
pub(crate) struct Aside<'h> {
    here: &'h Here,
    pub(crate) name: OsString,
    is_there: bool,
}

impl Aside<'_> {
    /// Makes a file that nobody else may read before it has its permissions.
    pub(crate) fn create(&mut self) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(self.here.fd(), self.name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        self.is_there = true;
        Ok(File::from(file))
    }

    /// Makes something else under the name.
    pub(crate) fn make(&mut self, make: impl FnOnce(BorrowedFd<'_>, &OsStr) -> nix::Result<()>) -> io::Result<()> {
        make(self.here.fd(), &self.name)?;
        self.is_there = true;
        Ok(())
    }

    /// Gives it its own name, in place of the file that has it.
    pub(crate) fn rename_to(mut self, name: &OsStr) -> io::Result<()> {
        renameat(self.here.fd(), self.name.as_os_str(), self.here.fd(), name)?;
        self.is_there = false;
        Ok(())
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if self.is_there
            && let Err(error) = self.here.remove(&self.name)
        {
            crate::say::say(format_args!("{}: is left: {error}", self.here.place(&self.name)));
        }
    }
}

/// Gives an open file its permissions and its time.
pub(crate) fn set_attr(file: impl AsFd, attr: &Attr) -> io::Result<()> {
    fchmod(&file, Mode::from_bits_truncate(attr.mode & mode::PERM))?;
    let mtime = TimeSpec::new(attr.mtime.sec, attr.mtime.nsec.into());
    Ok(futimens(&file, &TimeSpec::UTIME_OMIT, &mtime)?)
}
