//! What a run leaves: times of operations in histograms, by kind and by interval.
//!
//! - `recorder`: takes the times in.
//! - `percentile`: percentiles, with intervals of confidence.
//! - `median`: the median of a few rounds, with its interval.
//! - `hiccups`: how late the machine wakes a thread that sleeps.
//! - `gaps`: how long the machine interrupts a thread that never sleeps.
//!
//! *Response* is from when an operation was due until its last reply was here; *service* from when
//! its first request was handed to the socket; *lag* is what lies between the two beginnings. All
//! in nanoseconds.
//!
//! Must not know: sockets, 9P.

mod gaps;
mod hiccups;
mod median;
mod percentile;
mod recorder;

pub(crate) use gaps::watch;
pub(crate) use hiccups::Hiccups;
pub(crate) use median::{Median, median};
pub(crate) use percentile::{Percentile, curve, given, percentile};
pub(crate) use recorder::{Histogram, Interval, Recorder, Times, histogram};
