//! What happened.
//!
//! A [`Recorder`] is asked once per snapshot for the [`Instruments`] of each [`Series`]; a call
//! then reports to those. [`Metrics`] is the recorder that is read in-process; a
//! [`Dialect`](dialect::Dialect) tells it as others know it.

pub mod dialect;
mod family;
mod histogram;
mod metrics;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod record;
mod recorder;
mod snapshot;

pub use family::{Buckets, Family, FamilyKind, Label, Labels, Value};
pub use histogram::{Histogram, HistogramSnapshot, Sizes, SizesSnapshot};
pub use metrics::Metrics;
pub use record::{Amount, Attempt, CallRecord, Cause, Security};
pub use recorder::{Instruments, Recorder, Series, Side};
pub use snapshot::{AttemptsSnapshot, CallsSnapshot, Counts, MethodSnapshot, SeriesSnapshot};
