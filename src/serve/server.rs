//! A server that listens.

use super::{Address, Error, Handle, Listening, Logs};
use crate::fs::Service;
use crate::uring::{self, Kernel, Remove, Signals};

/// A server that listens, and serves once it [runs](Self::run). It belongs to the thread that has made it.
pub struct Server<S: Service> {
    server: uring::Server<Kernel, S>,
    listening: Vec<Listening>,
    /// Removes the paths of unix sockets on drop.
    _removals: Vec<Remove>,
    /// Keeps the descriptor open.
    _signals: Signals,
    logs: Option<Logs>,
    handle: Handle,
}

impl<S: Service> Server<S> {
    pub(super) fn new(
        server: uring::Server<Kernel, S>,
        listening: Vec<Listening>,
        removals: Vec<Remove>,
        signals: Signals,
        logs: Option<Logs>,
    ) -> Server<S> {
        Server { server, listening, _removals: removals, _signals: signals, logs, handle: Handle::new() }
    }

    /// The address of the first listener, as it is in fact.
    pub fn address(&self) -> &Address {
        &self.listening[0].address
    }

    /// All listeners, in the order in which the builder was given them.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Stops it from any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The loop, for what the builder has no word for.
    pub fn inner(&mut self) -> &mut uring::Server<Kernel, S> {
        &mut self.server
    }

    /// Serves until SIGTERM, SIGINT or the [handle](Self::handle) ends it; then the tree is [cleaned up](Service::cleanup).
    pub fn run(self) -> Result<(), Error> {
        self.run_then(|_| ())
    }

    /// The same, and shows the tree to `last` before it is cleaned up.
    pub fn run_then(mut self, last: impl FnOnce(&mut S)) -> Result<(), Error> {
        self.handle.begin();
        let ended = self.server.run(last);
        self.handle.end();
        if let Some(logs) = &self.logs {
            // For the error, if there is one.
            logs.log.write_directly();
        }
        ended.map_err(Error::Loop)
    }
}

impl<S: Service> Drop for Server<S> {
    fn drop(&mut self) {
        self.handle.end();
    }
}
