//! Which rule takes a request: pure functions over compiled tables.

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
