//! One request for each of many files at a time.
//!
//! A server may serve what is in flight in any order, so the steps of one file follow each other, while many files take the same step together.

use crate::Run;
use ring9::client::{Attr, Client};
use ring9::fs::{Error as Errno, mode};
use ring9::wire::{Dialect, Fid, Message, Names};
use std::path::PathBuf;

/// Files that take their steps together.
pub(crate) const BATCH: usize = 64;
/// Files up to this size travel in one message each.
pub(crate) const SMALL_BYTES: u64 = 64 << 10;

/// A file on its way.
#[derive(Debug, Default)]
pub(crate) struct Item {
    /// Here.
    pub(crate) local: PathBuf,
    /// Its name in its directory there.
    pub(crate) name: Vec<u8>,
    /// Its fid there, once it has one.
    pub(crate) fid: Option<Fid>,
    pub(crate) attr: Attr,
    pub(crate) data: Vec<u8>,
    /// Bytes of `data` that the server has taken.
    pub(crate) written: usize,
    /// What ended its way.
    pub(crate) error: Option<String>,
    /// Its bytes are too many for one step.
    pub(crate) large: bool,
}

impl Item {
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
        mut see: impl FnMut(usize, &Message<'_>) -> Result<Step, String>,
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
            seen.push((index, reply.map_err(|error| error.to_string()).and_then(|reply| see(index, &reply))));
        })?;
        drop(asked);
        for (index, result) in seen {
            match result {
                Ok(Step::Done) => {}
                Ok(Step::Attr(attr)) => items[index].attr = attr,
                Ok(Step::Data(data)) => items[index].data = data,
                Ok(Step::Written(count)) => items[index].written = count,
                Err(error) => items[index].error = Some(error),
            }
        }
        Ok(())
    }

    /// Gives each item a new fid on `dir` itself, or on its name in there.
    pub(crate) fn walk_all(&mut self, items: &mut [Item], dir: Fid, to_name: bool) -> anyhow::Result<()> {
        for item in items.iter_mut().filter(|item| item.error.is_none()) {
            item.fid = Some(self.client.new_fid());
        }
        let names: Vec<Vec<u8>> = items.iter().map(|item| item.name.clone()).collect();
        let slices: Vec<[&[u8]; 1]> = names.iter().map(|name| [name.as_slice()]).collect();
        let asked: Vec<usize> = (0..items.len()).filter(|&index| items[index].error.is_none()).collect();
        let mut failed = Vec::new();
        let messages = asked.iter().map(|&index| Message::Twalk {
            fid: dir,
            newfid: items[index].fid.expect("just given"),
            wnames: Names::list(if to_name { &slices[index] } else { &[] }),
        });
        let wanted = usize::from(to_name);
        self.client.transport().exchange(messages, |number, reply| match reply {
            // walk(9P) has an error for a first name that fails; there is no fid either way.
            Ok(Message::Rwalk { wqids }) if wqids.len() < wanted => {
                failed.push((asked[number], Errno::ENOENT.to_string()));
            }
            Ok(_) => {}
            Err(error) => failed.push((asked[number], error.to_string())),
        })?;
        for (index, error) in failed {
            if let Some(fid) = items[index].fid.take() {
                self.client.free_fid(fid);
            }
            items[index].error = Some(error);
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
            |_, reply| match reply {
                Message::Rreadlink { target } => Ok(Step::Data(target.to_vec())),
                _ => Ok(Step::Done),
            },
        )
    }

    /// Clunks all fids, those of failed items as well.
    pub(crate) fn clunk_all(&mut self, items: &mut [Item]) -> anyhow::Result<()> {
        let fids: Vec<Fid> = items.iter_mut().filter_map(|item| item.fid.take()).collect();
        self.client.transport().exchange(fids.iter().map(|&fid| Message::Tclunk { fid }), |_, _| ())?;
        fids.into_iter().for_each(|fid| self.client.free_fid(fid));
        Ok(())
    }

    /// Says what failed.
    pub(crate) fn report_all(&mut self, items: &mut [Item], path: impl Fn(&Item) -> String) {
        for item in items {
            if let Some(error) = item.error.take() {
                self.report(path(item), error);
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
