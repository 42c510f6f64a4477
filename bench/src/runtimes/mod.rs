//! What is measured of ring9 beside the same server on other I/O layers.
//!
//! - `baselines`: the names of the servers on other I/O layers, their tiers, and the goals against each.
//! - `roster`: the servers, how they are built, and what is known of them without load.
//! - `shapes`: the loads, and what ring9 ought to reach in them.
//!
//! Must not know: how a load is made, or how results are shown.

mod baselines;
mod roster;
mod shapes;

pub(crate) use roster::{Built, Roster};
pub(crate) use shapes::{Company, Cpus, SHAPES, Shape, Transport};
