use serde::{Deserialize, Serialize};

/// Who makes requests, or answers them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Who {
    Hyper,
    Mesh,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) who: Who,
    /// HTTP/2, or HTTP/1.1 with keep-alive.
    pub(crate) http2: bool,
    pub(crate) mtls: bool,
}

impl Contestant {
    /// All of them, each behind the one that it is compared with.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let kinds = [(false, false), (true, false), (false, true), (true, true)];
        kinds
            .into_iter()
            .flat_map(|(http2, mtls)| [Who::Hyper, Who::Mesh].map(|who| Self { who, http2, mtls }))
    }

    /// Another one's end of the same connection.
    pub(crate) fn of(self, who: Who) -> Self {
        Self { who, ..self }
    }

    pub(crate) fn name(self) -> String {
        let who = match self.who {
            Who::Hyper => "hyper",
            Who::Mesh => "mesh",
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
