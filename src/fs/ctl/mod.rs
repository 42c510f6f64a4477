//! The server's own figures as files.
//!
//! ```text
//! version, stats                  made when they are opened, so that what is read never mixes two moments
//! store                           likewise; only if files are in a store
//! connections                     a line for each, made as it is read
//! latency/Tread, ...              a percentile table of service times for each type of request, made likewise
//! latency.hlog                    the same by interval, a line for each: a read at the end waits for the next interval
//! log                             the server's log: a read at the end waits for the next line
//! ```
//! Must not know: sessions, rings. It reads what main lends it.

mod intervals;
mod listing;
mod tail;
mod text;

use super::catalog::{Catalog, ENDLESS, Member, Node, Source};
use super::join::AttachNames;
use super::{At, Error, Out, Result};
use crate::arena::Gauge;
use crate::stats::{Lines, Stats};
use crate::wire::Kind;
use intervals::Intervals;
use listing::{ListingId, Listings};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use tail::{ReaderId, Tail};

/// Attach names of the tree.
pub const ATTACH_NAMES: AttachNames = &[b"ctl"];

/// The tree `ctl`.
pub type Ctl = Catalog<Figures>;
/// A file of it.
pub type CtlFile = Member<Opened>;

/// Bytes of all texts that opens hold. More opens fail, or a client could have one made for each of its fids.
const TEXTS_BYTES_MAX: usize = 16 << 20;

/// Units of work of a text: a table of percentiles goes through a histogram of 216 KiB, `stats` four times
/// through one, `store` four times through two. And of a line of `connections`.
const TABLE_UNITS: u32 = 5000;
const STATS_UNITS: u32 = 500;
const STORE_UNITS: u32 = 1000;
const LINE_UNITS: u32 = 6;

/// Where the texts come from.
pub struct Figures {
    stats: Rc<Stats>,
    gauge: Gauge,
    /// The types of requests, in the order of their files.
    kinds: Vec<Kind>,
    /// The text that was made last, of which file and when: another open in the same turn gets the same text. A
    /// table of percentiles takes 0.4 ms, and a turn may have many opens.
    last: Option<(usize, At, Rc<[u8]>)>,
    texts_bytes: usize,
    /// What [`Source::spent`] answers next.
    spent: u32,
    listings: Listings,
    log: Tail,
    intervals: Intervals,
    /// The number of `store`.
    store: Option<usize>,
}

/// What an open of a file has.
#[derive(Clone, Debug)]
pub enum Opened {
    /// The text of that moment.
    Text(Rc<[u8]>),
    /// A text that is made as it is read.
    Listing(ListingId),
    /// A place in a text that goes on.
    Reader(ReaderId),
}

impl Ctl {
    /// Shows these figures, and the lines of this log. Whether there is a store is known by now.
    pub fn new(stats: Rc<Stats>, gauge: Gauge, log: Arc<Mutex<Lines>>) -> Ctl {
        let kinds: Vec<Kind> = (0..=255).map(Kind).filter(|kind| kind.is_request()).collect();
        let mut nodes = vec![
            Node::ROOT,
            Node::file("version", 0o444),
            Node::file("stats", 0o444),
            Node::file("connections", 0o444),
            Node::file("log", 0o444),
            Node::file("latency.hlog", 0o444),
            Node::dir("latency"),
        ];
        let files = kinds.iter().filter_map(|kind| kind.name()).map(|name| Node::file(name, 0o444));
        nodes.extend(files.map(|file| Node { parent: LATENCY, ..file }));
        let store = stats.store().map(|_| nodes.len());
        nodes.extend(store.map(|_| Node::file("store", 0o444)));
        let (log, intervals) = (Tail::new(log), Intervals::new());
        Catalog::of(
            nodes,
            Figures {
                stats,
                gauge,
                kinds,
                last: None,
                texts_bytes: 0,
                spent: 0,
                listings: Listings::default(),
                log,
                intervals,
                store,
            },
        )
    }
}

const VERSION: usize = 1;
const STATS: usize = 2;
const CONNECTIONS: usize = 3;
const LOG: usize = 4;
const INTERVALS: usize = 5;
const LATENCY: usize = 6;

impl Figures {
    fn text(&self, node: usize) -> String {
        match node {
            VERSION => text::version(),
            STATS => text::stats(&self.stats, &self.gauge),
            _ if Some(node) == self.store => self.stats.store().map(text::store).unwrap_or_default(),
            _ => text::percentiles(self.stats.latency().of(self.kind(node))),
        }
    }

    /// The type of request that a file of `latency` is about.
    fn kind(&self, node: usize) -> Kind {
        self.kinds[node - LATENCY - 1]
    }

    /// Counts the bytes of a text that is opened.
    fn take_text_bytes(&mut self, bytes: usize) -> Result<()> {
        if self.texts_bytes + bytes > TEXTS_BYTES_MAX {
            return Err(Error::ENFILE);
        }
        self.texts_bytes += bytes;
        Ok(())
    }

    /// The text of this turn.
    fn text_now(&mut self, node: usize, at: At) -> Rc<[u8]> {
        match &self.last {
            Some((of, then, text)) if (*of, *then) == (node, at) => Rc::clone(text),
            _ => {
                self.spent += match node {
                    VERSION => 0,
                    STATS => STATS_UNITS,
                    _ if Some(node) == self.store => STORE_UNITS,
                    _ => TABLE_UNITS,
                };
                let text: Rc<[u8]> = self.text(node).into_bytes().into();
                self.last = Some((node, at, Rc::clone(&text)));
                text
            }
        }
    }

    /// The text of a file that goes on.
    fn tail(&self, node: usize) -> &Tail {
        if node == LOG { &self.log } else { &self.intervals.tail }
    }
}

impl Source for Figures {
    type Opened = Opened;

    const IS_PRIVATE: bool = true;

    fn open(&mut self, node: usize, at: At) -> Result<Opened> {
        if node == LOG {
            let oldest = self.log.lines().start();
            return self.log.open(Box::default(), oldest).map(Opened::Reader);
        }
        if node == INTERVALS {
            return self.intervals.open(&self.stats, at).map(Opened::Reader);
        }
        if node == CONNECTIONS {
            let bytes = text::connections_len(&self.stats);
            self.take_text_bytes(bytes)?;
            return Ok(Opened::Listing(self.listings.open(at, bytes)));
        }
        let text = self.text_now(node, at);
        self.take_text_bytes(text.len())?;
        Ok(Opened::Text(text))
    }

    fn close(&mut self, node: usize, held: Opened) {
        match held {
            Opened::Text(text) => self.texts_bytes -= text.len(),
            Opened::Listing(listing) => self.texts_bytes -= self.listings.close(listing),
            Opened::Reader(reader) if node == LOG => self.log.close(reader),
            Opened::Reader(reader) => self.intervals.close(&self.stats, reader),
        }
    }

    /// Of the text that is open. Otherwise a length that the next open's text does not exceed: Linux may read
    /// no further than the length that it was shown. It is computed; no text is made to be measured. A text that
    /// goes on has no end.
    fn size(&self, node: usize, held: Option<&Opened>) -> u64 {
        let bytes = match (node, held) {
            (LOG | INTERVALS, _) => return ENDLESS,
            (_, Some(Opened::Text(text))) => text.len(),
            (_, Some(Opened::Listing(listing))) => self.listings.len(*listing),
            (VERSION, _) => text::version().len(),
            (STATS, _) => text::stats_len(&self.stats),
            (CONNECTIONS, _) => text::connections_len(&self.stats),
            _ if Some(node) == self.store => text::store_len(),
            _ => {
                let latency = self.stats.latency();
                text::percentiles_len_max(latency.of(self.kind(node)).map_or(0, |of| of.len()))
            }
        };
        bytes as u64
    }

    fn read(&mut self, node: usize, held: &Opened, offset: u64, mut out: Out<'_>) -> Result<()> {
        match held {
            Opened::Text(text) => {
                out.bytes_from(text, offset);
                Ok(())
            }
            &Opened::Listing(listing) => {
                self.spent += LINE_UNITS * self.listings.read(listing, &self.stats, offset, out)? as u32;
                Ok(())
            }
            &Opened::Reader(reader) if node == LOG => self.log.read(reader, offset, out),
            &Opened::Reader(reader) => self.intervals.tail.read(reader, offset, out),
        }
    }

    /// A read at the end of a text that goes on waits for its next line.
    fn waits(&self, node: usize, held: &Opened, offset: u64) -> bool {
        matches!(held, &Opened::Reader(reader) if self.tail(node).waits(reader, offset))
    }

    fn news(&self) -> u64 {
        self.log.end().wrapping_add(self.intervals.tail.end())
    }

    fn tick(&mut self, at: At) {
        self.intervals.tick(&self.stats, at);
    }

    fn spent(&mut self) -> u32 {
        std::mem::take(&mut self.spent)
    }

    /// Ends the interval of one type of request, too, if intervals are being ended.
    fn work(&mut self) {
        self.intervals.end_one(&self.stats);
    }

    fn has_work(&self) -> bool {
        self.intervals.is_ending()
    }
}

#[cfg(test)]
mod tests;
