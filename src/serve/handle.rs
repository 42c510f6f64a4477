//! How a server is stopped without signals of the process, and servers in threads of their own.

use super::{Address, Builder, Error, Listening};
use crate::fs::Service;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Where the loop of a handle is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It has not started. True: it is to end once it starts.
    Before(bool),
    /// It runs in this thread, which lives at least as long as this state.
    Running(Pthread),
    /// It has ended.
    After,
}

/// Stops a server from any thread. It may be cloned, and outlive the server.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Mutex<State>>);

impl Handle {
    pub(super) fn new() -> Handle {
        Handle(Arc::new(Mutex::new(State::Before(false))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does to this server what SIGTERM does to the process: nothing new is accepted, and replies have 5 s to leave.
    /// The second call does not wait for them. Returns at once; a server that has not started yet ends when it starts.
    pub fn stop(&self) {
        let mut state = self.state();
        match &mut *state {
            State::Before(ends) => *ends = true,
            // The thread cannot end meanwhile: it waits for the lock, to leave this state.
            State::Running(thread) => tell(*thread),
            State::After => {}
        }
    }

    /// Whether the server has ended.
    pub fn is_over(&self) -> bool {
        matches!(*self.state(), State::After)
    }

    /// The loop begins in this thread, in which SIGTERM is blocked and read from a descriptor.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        let thread = pthread_self();
        if let State::Before(true) = *state {
            tell(thread);
        }
        *state = State::Running(thread);
    }

    /// The loop has ended.
    pub(super) fn end(&self) {
        *self.state() = State::After;
    }
}

fn tell(thread: Pthread) {
    // It fails for threads that are gone, and for signals that are none.
    let _ = pthread_kill(thread, Signal::SIGTERM);
}

/// A server in a thread of its own. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Running {
    listening: Vec<Listening>,
    handle: Handle,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

/// Starts a thread that serves what `build` makes, and waits until it listens. The builder is made in that thread, so that
/// its tree need not be [`Send`].
///
/// Signals of the process go to its other threads.
///
/// ```
/// use ring9::serve::{self, Builder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = serve::spawn(|| Builder::new().dev().listen("tcp:127.0.0.1:0"))?;
/// println!("it listens on {}", server.address());
/// server.stop()?;
/// # Ok(())
/// # }
/// ```
pub fn spawn<S: Service>(build: impl FnOnce() -> Builder<S> + Send + 'static) -> Result<Running, Error> {
    let (tell, told) = mpsc::channel();
    let serve = move || {
        let server = build().bind()?;
        // The other end waits for it.
        let _ = tell.send((server.listening().to_vec(), server.handle()));
        server.run()
    };
    let thread = std::thread::Builder::new().name("ring9".into()).spawn(serve);
    let thread = thread.map_err(|error| Error::Thread(error.to_string()))?;
    match told.recv() {
        Ok((listening, handle)) => Ok(Running { listening, handle, thread: Some(thread) }),
        Err(_) => Err(join(thread).expect_err("it has ended before it served")),
    }
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Error::Thread(format!("it has panicked: {}", text.unwrap_or("no text"))))
    })
}

impl Running {
    /// The address of the first listener, as it is in fact.
    pub fn address(&self) -> &Address {
        &self.listening[0].address
    }

    /// All listeners, in the order in which the builder was given them.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Stops it from elsewhere.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops it, waits until it has ended, and returns what it has ended with.
    pub fn stop(mut self) -> Result<(), Error> {
        self.handle.stop();
        self.thread.take().map_or(Ok(()), join)
    }

    /// Waits until it ends by itself, or by its [`handle`](Self::handle).
    pub fn join(mut self) -> Result<(), Error> {
        self.thread.take().map_or(Ok(()), join)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            let ended = join(thread);
            if let Err(error) = ended {
                log::warn!("a server that was dropped: {error}");
            }
        }
    }
}
