//! Servers over in-memory connections, in paused time.

mod deadlines;
mod drains;
mod floods;
mod frames;
mod harness;
mod http1;
mod idle;
mod limits;
mod policy;
mod requests;
mod revoked;
mod routes;
mod trust;
mod upgrades;
mod versions;
