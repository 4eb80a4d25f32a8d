//! Servers over in-memory connections, in paused time.

mod deadlines;
mod drains;
mod floods;
mod harness;
mod http1;
mod limits;
mod policy;
mod requests;
mod revoked;
mod trust;
mod upgrades;
mod versions;
