//! Servers over in-memory connections, in paused time.

mod deadlines;
mod drains;
mod early;
mod floods;
mod frames;
mod harness;
mod http1;
mod idle;
mod items;
mod limits;
mod policy;
mod requests;
mod revoked;
mod routes;
mod trust;
mod upgrades;
mod versions;
