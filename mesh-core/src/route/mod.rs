//! Which rule takes a request: pure functions over compiled tables.
//!
//! A host is chosen first ([`HostTable`], or [`virtual_host`] where it is chosen once per
//! snapshot), then the first of its routes that matches ([`Table`]), then one of that route's
//! clusters ([`ClusterChoice`]). Nothing here allocates per request, save for what no fixed buffer
//! can hold: a joined header or a folded path of more than 256 bytes.

mod choice;
mod header;
mod host;
mod index;
mod lookup;
mod query;
mod scratch;
mod table;
#[cfg(test)]
mod tests;
mod trace;

pub use choice::ClusterChoice;
pub(crate) use host::without_port;
pub use host::{HostTable, virtual_host};
pub use lookup::first_value;
pub use table::Table;
pub use trace::{Explain, Mismatch, Rejection, Trace};

pub(crate) use header::HeaderTest;
pub(crate) use index::Index;
pub(crate) use scratch::Scratch;

/// How a request is understood. Fixed by the channel, client or listener, never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// As the gRFCs say.
    Grpc,
    /// As Envoy does.
    Http,
}

/// The parts of a request that routes look at.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a http::Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Its authority, as written.
    pub authority: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a http::HeaderMap,
}
