//! The commands that show files: ls, tree, cat, stat, df.

use crate::batch::{BATCH, Item, Step, To};
use crate::pour::pour;
use crate::say::{of_stdout, print, shown};
use crate::{Run, join, split};
use ring9::client::{Access, Attr, Client, Error, Named};
use ring9::fs::{Time, mode};
use ring9::wire::Fid;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use time::OffsetDateTime;
use time::macros::format_description;

/// `drwxr-xr-x`, as ls(1) has it.
fn mode_text(bits: u32) -> String {
    let kind = match bits & mode::IFMT {
        mode::IFDIR => 'd',
        mode::IFLNK => 'l',
        mode::IFCHR => 'c',
        mode::IFBLK => 'b',
        mode::IFIFO => 'p',
        mode::IFSOCK => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, mode::ISUID, 's'), (3, mode::ISGID, 's'), (0, mode::ISVTX, 't')] {
        let three = bits >> shift & 7;
        text.push(if three & 4 != 0 { 'r' } else { '-' });
        text.push(if three & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & special != 0, three & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn time_text(at: Time) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let time = OffsetDateTime::from_unix_timestamp(at.sec).ok();
    time.and_then(|time| time.format(&format).ok()).unwrap_or_else(|| at.sec.to_string())
}

/// Names raw to a pipe, readable to a person.
fn put_name(out: &mut impl Write, name: &[u8], is_terminal: bool) -> io::Result<()> {
    if is_terminal { out.write_all(shown(name).as_bytes()) } else { out.write_all(name) }
}

impl Run {
    pub(crate) fn ls(&mut self, long: bool, paths: &[OsString]) -> anyhow::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        for path in paths {
            let path = path.as_bytes();
            let found = self.client.with(path, stat_and_target);
            let Some((attr, target)) = self.go_on(shown(path), found)? else { continue };
            if !attr.is_dir() {
                show_line(&mut out, path, &attr, &target, long).map_err(of_stdout)?;
                continue;
            }
            if paths.len() > 1 {
                writeln!(out, "{}:", shown(path)).map_err(of_stdout)?;
            }
            let walked = self.client.walk(Client::ROOT, path);
            let Some(dir) = self.go_on(shown(path), walked)? else { continue };
            let listed = self.client.list(dir);
            let mut names = self.go_on(shown(path), listed)?.unwrap_or_default();
            names.sort_by(|a, b| a.name.cmp(&b.name));
            self.show_names(&mut out, dir, path, &names, long)?;
            self.client.clunk(dir)?;
        }
        out.flush().map_err(of_stdout)
    }

    fn show_names(
        &mut self,
        out: &mut impl Write,
        dir: Fid,
        path: &[u8],
        names: &[Named],
        long: bool,
    ) -> anyhow::Result<()> {
        for names in names.chunks(BATCH) {
            let items = names.iter().map(|named| Item { name: named.name.clone(), ..Item::default() });
            let mut items: Vec<Item> = items.collect();
            if long {
                self.walk_all(&mut items, dir, To::Name)?;
                self.step(
                    &mut items,
                    |client, item| Some(client.stat_message(item.fid()?)),
                    |reply| Step::Attr(Attr::of(reply)),
                )?;
                self.readlink_all(&mut items)?;
                self.clunk_all(&mut items)?;
            }
            for item in items.iter().filter(|item| item.error.is_none()) {
                show_line(out, &item.name, &item.attr, &item.data, long).map_err(of_stdout)?;
            }
            self.report_all(&mut items, path, None);
        }
        Ok(())
    }

    pub(crate) fn tree(&mut self, path: &OsStr) -> anyhow::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        self.tree_to(&mut out, path.as_bytes())?;
        out.flush().map_err(of_stdout)
    }

    fn tree_to(&mut self, out: &mut impl Write, top: &[u8]) -> anyhow::Result<()> {
        let is_terminal = io::stdout().is_terminal();
        put_name(out, top, is_terminal).and_then(|()| out.write_all(b"\n")).map_err(of_stdout)?;
        let walked = self.client.walk(Client::ROOT, top);
        let Some(fid) = self.go_on(shown(top), walked)? else { return Ok(()) };
        let mut path = top.to_vec();
        let mut levels = vec![(fid, self.names_backwards(fid, &path)?)];
        while let Some((fid, names)) = levels.last_mut() {
            let fid = *fid;
            let Some(Named { name, qid }) = names.pop() else {
                self.client.clunk(fid)?;
                levels.pop();
                path.truncate(split(&path).0.len());
                continue;
            };
            let depth = levels.len();
            let is_dir = Named { name: Vec::new(), qid }.is_dir();
            write!(out, "{:width$}", "", width = depth * 2)
                .and_then(|()| put_name(out, &name, is_terminal))
                .and_then(|()| out.write_all(if is_dir { b"/\n" } else { b"\n" }))
                .map_err(of_stdout)?;
            if !is_dir || self.is_too_deep(top, depth) {
                continue;
            }
            let below = join(&path, &name);
            let walked = self.client.walk(fid, &name);
            let Some(fid) = self.go_on(shown(&below), walked)? else { continue };
            path = below;
            levels.push((fid, self.names_backwards(fid, &path)?));
        }
        Ok(())
    }

    /// The names of a directory, the first one last.
    fn names_backwards(&mut self, dir: Fid, path: &[u8]) -> anyhow::Result<Vec<Named>> {
        let listed = self.client.list(dir);
        let mut names = self.go_on(shown(path), listed)?.unwrap_or_default();
        names.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(names)
    }

    pub(crate) fn cat(&mut self, paths: &[OsString]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for path in paths {
            let path = path.as_bytes();
            let copied = self.client.with(path, |client, fid| {
                client.open(fid, Access::Read)?;
                let size = client.stat(fid)?.size;
                pour(client, fid, 0, size, |_, bytes| out.write_all(bytes))
            });
            // What came before an error is printed too.
            out.flush().map_err(of_stdout)?;
            if let Some(printed) = self.go_on(shown(path), copied)? {
                printed.map_err(of_stdout)?;
            }
        }
        Ok(())
    }

    pub(crate) fn stat(&mut self, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let found = self.client.with(path, stat_and_target);
            let Some((attr, target)) = self.go_on(shown(path), found)? else { continue };
            show_all(&mut io::stdout().lock(), path, &attr, &target).map_err(of_stdout)?;
        }
        Ok(())
    }

    pub(crate) fn df(&mut self) -> anyhow::Result<()> {
        let asked = self.client.statfs(Client::ROOT);
        let Some(fs) = self.go_on("/", asked)? else { return Ok(()) };
        let mib = |blocks: u64| (u128::from(blocks) * u128::from(fs.bsize)) >> 20;
        let used = fs.blocks - fs.bfree.min(fs.blocks);
        let percent = |part: u64, of: u64| (u128::from(part) * 100).checked_div(of.into()).unwrap_or(0);
        let files = fs.files - fs.ffree.min(fs.files);
        let line = |name: &str, all: u128, used: u128, free: u128, percent: u128| {
            format!("{name:<6} {all:>12} {used:>12} {free:>12} {percent:>4}%\n")
        };
        let head = format!("{:<6} {:>12} {:>12} {:>12} {:>5}\n", "", "all", "used", "free", "use%");
        let blocks = (mib(fs.blocks), mib(used), mib(fs.bfree));
        let space = line("MiB", blocks.0, blocks.1, blocks.2, percent(used, fs.blocks));
        print(
            (head + &space + &line("files", fs.files.into(), files.into(), fs.ffree.into(), percent(files, fs.files)))
                .as_bytes(),
        )
    }
}

/// Everything known of a file, a line for each thing.
fn show_all(out: &mut impl Write, path: &[u8], attr: &Attr, target: &[u8]) -> io::Result<()> {
    writeln!(out, "path    {}", shown(path))?;
    writeln!(out, "mode    {} {:04o}", mode_text(attr.mode), attr.mode & mode::PERM)?;
    writeln!(out, "links   {}", attr.nlink)?;
    writeln!(out, "owner   {} {}", shown(attr.uid.as_bytes()), shown(attr.gid.as_bytes()))?;
    writeln!(out, "size    {}", attr.size)?;
    if attr.rdev != (0, 0) {
        writeln!(out, "device  {} {}", attr.rdev.0, attr.rdev.1)?;
    }
    if !target.is_empty() {
        writeln!(out, "target  {}", shown(target))?;
    }
    for (name, time) in [("read", attr.atime), ("written", attr.mtime), ("changed", attr.ctime)] {
        if time != Time::default() {
            writeln!(out, "{name:<7} {}.{:09} UTC", time_text(time), time.nsec)?;
        }
    }
    let qid = attr.qid;
    writeln!(out, "qid     type {:#04x} version {} path {}", qid.kind, qid.version, qid.path)?;
    out.flush()
}

/// The attributes, and the target of a symbolic link.
fn stat_and_target(client: &mut Client, fid: Fid) -> Result<(Attr, Vec<u8>), Error> {
    let attr = client.stat(fid)?;
    let target = if attr.kind() == mode::IFLNK { client.readlink(fid, &attr)? } else { Vec::new() };
    Ok((attr, target))
}

fn show_line(out: &mut impl Write, name: &[u8], attr: &Attr, target: &[u8], long: bool) -> io::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    if long {
        let size = match attr.kind() {
            mode::IFCHR | mode::IFBLK => format!("{}, {}", attr.rdev.0, attr.rdev.1),
            _ => attr.size.to_string(),
        };
        let (mode, time) = (mode_text(attr.mode), time_text(attr.mtime));
        let (uid, gid) = (shown(attr.uid.as_bytes()), shown(attr.gid.as_bytes()));
        write!(out, "{mode} {:>3} {uid:<8} {gid:<8} {size:>12} {time} ", attr.nlink)?;
    }
    put_name(out, name, is_terminal)?;
    if !target.is_empty() {
        out.write_all(b" -> ")?;
        put_name(out, target, is_terminal)?;
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_ls_shows_them() {
        assert_eq!(mode_text(mode::IFDIR | 0o1777), "drwxrwxrwt");
        assert_eq!(mode_text(mode::IFREG | 0o4640), "-rwSr-----");
        assert_eq!(mode_text(mode::IFLNK | 0o2777), "lrwxrwsrwx");
        assert_eq!(time_text(Time { sec: 1_000_000_000, nsec: 5 }), "2001-09-09 01:46:40");
    }
}
