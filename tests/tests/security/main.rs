//! Who is let in, who is trusted, and what becomes of it when that changes: both ends are ours.

mod csr;
mod rotation;
mod trust;
