//! What the program can be asked to do, and how it ends.
//!
//! - `load`: flags that say where a server is and what the load is; all that make a load share them.
//! - `run`: one load, one result. `sweep`: many rates. `compare`, `floor`: many servers. `noise`: no server.
//! - `runtimes`: ring9 beside its core on other I/O layers, which are measured in its `yard`.
//! - `writes`: writes of many sizes beside a server that only keeps payloads; in the same `yard`.
//! - `report`: a page of what they left. `demo`: a little of everything.

pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod floor;
pub(crate) mod load;
pub(crate) mod noise;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runtimes;
pub(crate) mod sweep;
pub(crate) mod writes;
mod yard;

use std::process::ExitCode;

/// How a measurement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Well,
    /// A limit was broken, or an earlier result was better.
    Broken,
    /// What was measured says nothing about the server.
    Invalid,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> ExitCode {
        ExitCode::from(match ending {
            Ending::Well => 0,
            Ending::Broken => 1,
            Ending::Invalid => 3,
        })
    }
}

/// Why there is no measurement.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for cannot be.
    Usage(anyhow::Error),
    /// The server cannot be reached, or does not do what it is asked to.
    Target(anyhow::Error),
}

impl Failure {
    pub(crate) fn error(&self) -> &anyhow::Error {
        let (Failure::Usage(error) | Failure::Target(error)) = self;
        error
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) => 2,
            Failure::Target(_) => 4,
        })
    }
}

/// Says whose fault an error is.
pub(crate) trait Blame<T> {
    fn usage(self) -> Result<T, Failure>;
    fn target(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Blame<T> for Result<T, E> {
    fn usage(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Usage(error.into()))
    }

    fn target(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Target(error.into()))
    }
}
