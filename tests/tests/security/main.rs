//! Who is let in, who is trusted, and what becomes of it when that changes: both ends are ours.

mod client;
mod csr;
mod door;
mod istio;
mod listeners;
mod rotation;
mod rules;
mod sds;
mod trust;
