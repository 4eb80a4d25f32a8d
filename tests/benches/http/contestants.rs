use serde::{Deserialize, Serialize};

/// Who makes requests, or answers them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Who {
    Hyper,
    /// hyper-util's server with the time limits that ours has too.
    Timed,
    Mesh,
    /// Ours, which tells handlers of the peer by its `Context` alone.
    Lean,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) who: Who,
    /// HTTP/2, or HTTP/1.1 with keep-alive.
    pub(crate) http2: bool,
    pub(crate) mtls: bool,
}

impl Contestant {
    /// All that these are, each behind those that it is compared with.
    pub(crate) fn all(these: &[Who]) -> impl Iterator<Item = Self> {
        let kinds = [(false, false), (true, false), (false, true), (true, true)];
        let of = |(http2, mtls)| these.iter().map(move |&who| Self { who, http2, mtls });
        kinds.into_iter().flat_map(of)
    }

    /// Whom it is compared with, of these.
    pub(crate) fn baselines(self, these: &[Who]) -> impl Iterator<Item = Self> {
        let others = these.iter().filter(move |&&who| match self.who {
            Who::Hyper | Who::Timed => who == Who::Hyper,
            Who::Mesh | Who::Lean => matches!(who, Who::Hyper | Who::Timed),
        });
        others.map(move |&who| self.of(who))
    }

    /// Whether it is ours.
    pub(crate) fn is_mesh(self) -> bool {
        matches!(self.who, Who::Mesh | Who::Lean)
    }

    /// Another one's end of the same connection.
    pub(crate) fn of(self, who: Who) -> Self {
        Self { who, ..self }
    }

    pub(crate) fn name(self) -> String {
        let who = match self.who {
            Who::Hyper => "hyper",
            Who::Timed => "timed",
            Who::Mesh => "mesh",
            Who::Lean => "lean",
        };
        let http = if self.http2 { "h2" } else { "h1" };
        let mtls = if self.mtls { "-mtls" } else { "" };
        format!("{who}-{http}{mtls}")
    }

    /// What it speaks over TLS.
    pub(crate) fn alpn(self) -> &'static str {
        if self.http2 { "h2" } else { "http/1.1" }
    }
}
