//! What happened.
//!
//! A [`Recorder`] is asked once per snapshot for the [`Instruments`] of each [`Series`]; a call
//! then reports to those without a look-up. [`Metrics`] is the recorder that is read in-process.

mod histogram;
mod metrics;
mod record;
mod recorder;

pub use histogram::{Histogram, HistogramSnapshot};
pub use metrics::{Counts, Metrics, SeriesSnapshot};
pub use record::{Attempt, CallRecord, Cause};
pub use recorder::{Instruments, Recorder, Series};
