//! One request for each of many files at a time.
//!
//! A server may serve what is in flight in any order, so the steps of one file follow each other, while many files take the same step together.

use crate::here::Here;
use crate::say::{Why, shown};
use crate::{Run, join};
use ring9::client::{Attr, CallError, Client, Error};
use ring9::fs::{Error as Errno, mode};
use ring9::wire::{Dialect, Fid, Message, Names};
use std::ffi::OsString;

/// Files that take their steps together.
pub(crate) const BATCH: usize = 64;
/// Files up to this size travel in one message each.
pub(crate) const SMALL_BYTES: u64 = 64 << 10;

/// Why a file did not arrive, with its place.
#[derive(Debug)]
pub(crate) enum Failure {
    Here(String),
    There(String),
}

/// Which fid an item gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Dir,
    Name,
    Aside,
}

/// A file on its way.
#[derive(Debug, Default)]
pub(crate) struct Item {
    /// Its name in its directory here.
    pub(crate) local: OsString,
    /// It was named by the user: a link here is followed.
    pub(crate) is_named: bool,
    /// Its name in its directory there.
    pub(crate) name: Vec<u8>,
    /// The name under which it is made there.
    pub(crate) aside: Vec<u8>,
    /// Something was made under that name.
    pub(crate) is_made: bool,
    /// What has its name there, if that is known.
    pub(crate) old: Option<Attr>,
    /// Its fid there, once it has one.
    pub(crate) fid: Option<Fid>,
    pub(crate) attr: Attr,
    pub(crate) data: Vec<u8>,
    /// Bytes of `data` that the server has taken.
    pub(crate) written: usize,
    /// What ended its way.
    pub(crate) error: Option<Failure>,
    /// Its bytes are too many for one step.
    pub(crate) large: bool,
}

impl Item {
    /// It has failed here.
    pub(crate) fn fail_here(&mut self, why: impl Why) {
        self.error = Some(Failure::Here(why.why()));
    }

    /// It has failed there.
    pub(crate) fn fail_there(&mut self, why: impl Why) {
        self.error = Some(Failure::There(why.why()));
    }

    /// A refusal is the file's own matter; anything else ends the run.
    pub(crate) fn settle<T>(&mut self, result: Result<T, Error>) -> Result<(), Error> {
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.is_refusal() => {
                self.fail_there(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// It is still on its way and has a fid.
    pub(crate) fn fid(&self) -> Option<Fid> {
        self.fid.filter(|_| self.error.is_none())
    }
}

impl Run {
    /// Makes one request for each item for which `make` gives one; a refusal ends the item's way, a reply is shown to `see`.
    pub(crate) fn step(
        &mut self,
        items: &mut [Item],
        make: impl for<'a> Fn(&Client, &'a Item) -> Option<Message<'a>>,
        mut see: impl FnMut(&Message<'_>) -> Step,
    ) -> anyhow::Result<()> {
        let asked: Vec<(usize, Message<'_>)> = items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.error.is_none())
            .filter_map(|(index, item)| Some((index, make(&self.client, item)?)))
            .collect();
        let mut seen = Vec::with_capacity(asked.len());
        let messages = asked.iter().map(|(_, message)| *message);
        self.client.transport().exchange(messages, |number, reply| {
            let index = asked[number].0;
            seen.push((index, reply.map(|reply| see(&reply))));
        })?;
        drop(asked);
        for (index, result) in seen {
            match result {
                Ok(Step::Done) => {}
                Ok(Step::Attr(attr)) => items[index].attr = attr,
                Ok(Step::Data(data)) => items[index].data = data,
                Ok(Step::Written(count)) => items[index].written = count,
                Err(error) => items[index].fail_there(error),
            }
        }
        Ok(())
    }

    /// The same of what need not succeed.
    pub(crate) fn try_step(
        &mut self,
        items: &mut [Item],
        make: impl for<'a> Fn(&Client, &'a Item) -> Option<Message<'a>>,
    ) -> anyhow::Result<()> {
        let had_failed: Vec<bool> = items.iter().map(|item| item.error.is_some()).collect();
        self.step(items, make, |_| Step::Done)?;
        for (item, _) in items.iter_mut().zip(had_failed).filter(|(_, had_failed)| !had_failed) {
            item.error = None;
        }
        Ok(())
    }

    /// Gives each item a new fid: on `dir` itself, or on a name in there.
    pub(crate) fn walk_all(&mut self, items: &mut [Item], dir: Fid, to: To) -> anyhow::Result<()> {
        for item in items.iter_mut().filter(|item| item.error.is_none()) {
            item.fid = Some(self.client.new_fid());
        }
        let names: Vec<Vec<u8>> =
            items.iter().map(|item| if to == To::Aside { item.aside.clone() } else { item.name.clone() }).collect();
        let slices: Vec<[&[u8]; 1]> = names.iter().map(|name| [name.as_slice()]).collect();
        let asked: Vec<usize> = (0..items.len()).filter(|&index| items[index].error.is_none()).collect();
        let mut failed = Vec::new();
        let messages = asked.iter().map(|&index| Message::Twalk {
            fid: dir,
            newfid: items[index].fid.expect("just given"),
            wnames: Names::list(if to == To::Dir { &[] } else { &slices[index] }),
        });
        let wanted = usize::from(to != To::Dir);
        self.client.transport().exchange(messages, |number, reply| match reply {
            // walk(9P) has an error for a first name that fails; there is no fid either way.
            Ok(Message::Rwalk { wqids }) if wqids.len() < wanted => {
                failed.push((asked[number], CallError::Refused(Errno::ENOENT, None)));
            }
            Ok(_) => {}
            Err(error) => failed.push((asked[number], error)),
        })?;
        for (index, error) in failed {
            if let Some(fid) = items[index].fid.take() {
                self.client.free_fid(fid);
            }
            items[index].fail_there(error);
        }
        Ok(())
    }

    /// The targets of the symbolic links among them, as their data.
    pub(crate) fn readlink_all(&mut self, items: &mut [Item]) -> anyhow::Result<()> {
        if self.client.dialect() != Dialect::L {
            // .u tells them along with the attributes.
            for item in items.iter_mut().filter(|item| item.attr.kind() == mode::IFLNK) {
                item.data = std::mem::take(&mut item.attr.target);
            }
            return Ok(());
        }
        self.step(
            items,
            |_, item| (item.attr.kind() == mode::IFLNK).then_some(Message::Treadlink { fid: item.fid()? }),
            |reply| match reply {
                Message::Rreadlink { target } => Step::Data(target.to_vec()),
                _ => Step::Done,
            },
        )
    }

    /// Clunks all fids, those of failed items as well. A server may keep its last error for this.
    pub(crate) fn clunk_all(&mut self, items: &mut [Item]) -> anyhow::Result<()> {
        let fids: Vec<(usize, Fid)> =
            items.iter_mut().enumerate().filter_map(|(index, item)| Some((index, item.fid.take()?))).collect();
        self.client.transport().exchange(fids.iter().map(|&(_, fid)| Message::Tclunk { fid }), |number, reply| {
            let item = &mut items[fids[number].0];
            if let (Err(error), None) = (reply, &item.error) {
                item.fail_there(error);
            }
        })?;
        fids.into_iter().for_each(|(_, fid)| self.client.free_fid(fid));
        Ok(())
    }

    /// Says what failed in the directory `path` of the server, or here.
    pub(crate) fn report_all(&mut self, items: &mut [Item], path: &[u8], here: Option<&Here>) {
        for item in items {
            match (item.error.take(), here) {
                (None, _) => {}
                (Some(Failure::Here(why)), Some(here)) => self.report_here(here.place(&item.local), why),
                (Some(Failure::Here(why) | Failure::There(why)), _) => {
                    self.report(shown(&join(path, &item.name)), why);
                }
            }
        }
    }
}

/// What a reply leaves behind.
pub(crate) enum Step {
    Done,
    Attr(Attr),
    Data(Vec<u8>),
    Written(usize),
}
