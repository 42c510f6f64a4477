//! What is measured of ring9 beside the same server on other I/O layers.
//!
//! - `roster`: the servers, how they are built, and what is known of them without load.
//! - `shapes`: the loads, and what ring9 ought to reach in them.
//!
//! Must not know: how a load is made, or how results are shown.

mod roster;
mod shapes;

pub(crate) use roster::{Built, Roster};
pub(crate) use shapes::{Company, Cpus, SHAPES, Shape, Transport};
