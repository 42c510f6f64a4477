//! What is there: ls, tree, cat, stat, df.

use crate::{Run, join, shown};
use ring9::client::{Attr, Client, Named};
use ring9::fs::{Time, mode};
use ring9::wire::{Data, Fid, Message};
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use time::OffsetDateTime;
use time::macros::format_description;

/// Reads of `cat` that are in flight together.
const READS: u64 = 8;

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
        for path in paths {
            let bytes = path.as_bytes();
            let walked = self.client.walk(Client::ROOT, bytes);
            let Some(fid) = self.go_on(shown(bytes), walked)? else { continue };
            let attr = self.client.stat(fid)?;
            if attr.is_dir() {
                if paths.len() > 1 {
                    println!("{}:", shown(bytes));
                }
                let listed = self.client.list(fid);
                let mut names = self.go_on(shown(bytes), listed)?.unwrap_or_default();
                names.sort_by(|a, b| a.name.cmp(&b.name));
                self.show_names(fid, bytes, &names, long)?;
            } else {
                let target = if attr.kind() == mode::IFLNK { self.client.readlink(fid, &attr)? } else { Vec::new() };
                show_line(&mut io::stdout().lock(), bytes, &attr, &target, long)?;
            }
            self.client.clunk(fid)?;
        }
        Ok(())
    }

    fn show_names(&mut self, dir: Fid, path: &[u8], names: &[Named], long: bool) -> anyhow::Result<()> {
        for named in names {
            if !long {
                show_line(&mut io::stdout().lock(), &named.name, &Attr::default(), b"", false)?;
                continue;
            }
            let walked = self.client.walk(dir, &named.name);
            let Some(fid) = self.go_on(shown(&join(path, &named.name)), walked)? else { continue };
            let attr = self.client.stat(fid)?;
            let target = if attr.kind() == mode::IFLNK { self.client.readlink(fid, &attr)? } else { Vec::new() };
            self.client.clunk(fid)?;
            show_line(&mut io::stdout().lock(), &named.name, &attr, &target, true)?;
        }
        Ok(())
    }

    pub(crate) fn tree(&mut self, path: &OsStr) -> anyhow::Result<()> {
        let is_terminal = io::stdout().is_terminal();
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut todo = vec![(path.as_bytes().to_vec(), 0, path.as_bytes().to_vec(), true)];
        while let Some((path, depth, name, is_dir)) = todo.pop() {
            write!(out, "{:width$}", "", width = depth * 2)?;
            put_name(&mut out, &name, is_terminal)?;
            writeln!(out, "{}", if is_dir && depth > 0 { "/" } else { "" })?;
            if !is_dir {
                continue;
            }
            let walked = self.client.walk(Client::ROOT, &path);
            let Some(fid) = self.go_on(shown(&path), walked)? else { continue };
            let listed = self.client.list(fid);
            self.client.clunk(fid)?;
            let mut names = self.go_on(shown(&path), listed)?.unwrap_or_default();
            names.sort_by(|a, b| b.name.cmp(&a.name));
            todo.extend(names.into_iter().map(|named| {
                let is_dir = named.is_dir();
                (join(&path, &named.name), depth + 1, named.name, is_dir)
            }));
        }
        out.flush()?;
        Ok(())
    }

    pub(crate) fn cat(&mut self, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let bytes = path.as_bytes();
            let walked = self.client.walk(Client::ROOT, bytes);
            let Some(fid) = self.go_on(shown(bytes), walked)? else { continue };
            let opened = self.client.open(fid, false, false);
            if self.go_on(shown(bytes), opened)?.is_some() {
                self.cat_open(fid, bytes)?;
            }
            self.client.clunk(fid)?;
        }
        Ok(())
    }

    /// Several reads are in flight, and what they bring is printed in order; the first that comes short may be the end.
    fn cat_open(&mut self, fid: Fid, path: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let chunk = u64::from(self.client.chunk());
        let (mut offset, mut reads) = (0, 1);
        loop {
            let mut parts: Vec<Vec<u8>> = vec![Vec::new(); reads as usize];
            let mut failed = None;
            let messages = (0..reads).map(|n| Message::Tread { fid, offset: offset + n * chunk, count: chunk as u32 });
            self.client.transport().exchange(messages, |number, reply| match reply {
                Ok(Message::Rread { data: Data::Here(bytes) }) => parts[number] = bytes.to_vec(),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            })?;
            if let Some(error) = failed {
                self.report(shown(path), error);
                return Ok(());
            }
            let mut whole = true;
            for part in parts {
                out.write_all(&part)?;
                offset += part.len() as u64;
                whole = part.len() as u64 == chunk;
                if part.is_empty() {
                    return Ok(out.flush()?);
                }
                if !whole {
                    break;
                }
            }
            reads = if whole { READS } else { 1 };
        }
    }

    pub(crate) fn stat(&mut self, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let bytes = path.as_bytes();
            let walked = self.client.walk(Client::ROOT, bytes);
            let Some(fid) = self.go_on(shown(bytes), walked)? else { continue };
            let asked = self.client.stat(fid);
            if let Some(attr) = self.go_on(shown(bytes), asked)? {
                let target = if attr.kind() == mode::IFLNK { self.client.readlink(fid, &attr)? } else { Vec::new() };
                let mut out = io::stdout().lock();
                writeln!(out, "path    {}", shown(bytes))?;
                writeln!(out, "mode    {} {:04o}", mode_text(attr.mode), attr.mode & mode::PERM)?;
                writeln!(out, "links   {}", attr.nlink)?;
                writeln!(out, "owner   {} {}", attr.uid, attr.gid)?;
                writeln!(out, "size    {}", attr.size)?;
                if attr.rdev != (0, 0) {
                    writeln!(out, "device  {} {}", attr.rdev.0, attr.rdev.1)?;
                }
                if !target.is_empty() {
                    writeln!(out, "target  {}", shown(&target))?;
                }
                for (name, time) in [("read", attr.atime), ("written", attr.mtime), ("changed", attr.ctime)] {
                    if time != Time::default() {
                        writeln!(out, "{name:<7} {}.{:09} UTC", time_text(time), time.nsec)?;
                    }
                }
                let qid = attr.qid;
                writeln!(out, "qid     type {:#04x} version {} path {}", qid.kind, qid.version, qid.path)?;
            }
            self.client.clunk(fid)?;
        }
        Ok(())
    }

    pub(crate) fn df(&mut self) -> anyhow::Result<()> {
        let asked = self.client.statfs(Client::ROOT);
        let Some(fs) = self.go_on("/", asked)? else { return Ok(()) };
        let mib = |blocks: u64| blocks * u64::from(fs.bsize) / (1 << 20);
        let used = fs.blocks - fs.bfree.min(fs.blocks);
        let percent = |part: u64, of: u64| (part * 100).checked_div(of).unwrap_or(0);
        let mut out = io::stdout().lock();
        writeln!(out, "{:<6} {:>12} {:>12} {:>12} {:>5}", "", "all", "used", "free", "use%")?;
        let (all, free) = (mib(fs.blocks), mib(fs.bfree));
        writeln!(out, "{:<6} {all:>12} {:>12} {free:>12} {:>4}%", "MiB", mib(used), percent(used, fs.blocks))?;
        let files = fs.files - fs.ffree.min(fs.files);
        writeln!(out, "{:<6} {:>12} {files:>12} {:>12} {:>4}%", "files", fs.files, fs.ffree, percent(files, fs.files))?;
        Ok(())
    }
}

fn show_line(out: &mut impl Write, name: &[u8], attr: &Attr, target: &[u8], long: bool) -> io::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    if long {
        let size = match attr.kind() {
            mode::IFCHR | mode::IFBLK => format!("{}, {}", attr.rdev.0, attr.rdev.1),
            _ => attr.size.to_string(),
        };
        let (mode, time) = (mode_text(attr.mode), time_text(attr.mtime));
        write!(out, "{mode} {:>3} {:<8} {:<8} {size:>12} {time} ", attr.nlink, attr.uid, attr.gid)?;
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
