//! What the benchmarks of clients and of servers are made of: processes that are told what to do
//! and say what it cost them.

pub mod envoy;
mod figures;
pub mod icount;
mod meter;
mod pem;
mod process;
pub mod report;
pub mod roles;
mod rounds;
pub mod table;
mod work;

pub use figures::Spread;
pub use meter::{Meter, Reading};
pub use pem::{Folder, Pem};
pub use process::{Process, per_call, say};
pub use rounds::{Plan, run};
pub use work::{Caller, Sample, measured};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
