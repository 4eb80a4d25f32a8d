use std::time::Duration;

/// How a mesh behaves where configuration does not say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a resource may take to arrive before it counts as missing; default 15 s
    /// (gRFC A57).
    pub resource_timeout: Duration,
    /// Bytes a message of the control plane may have; default 64 MiB.
    pub max_config_message: usize,
    /// Connections to one endpoint where its cluster does not say; default 1, at most 10
    /// (gRFC A105).
    pub connections_per_endpoint: u32,
    /// First pause after a failed connection attempt; default 1 s (gRPC connection backoff).
    pub connect_backoff_base: Duration,
    /// Longest such pause; default 120 s.
    pub connect_backoff_max: Duration,
    /// Bytes of a request's body kept until its response begins; default 256 KiB. A longer one is not
    /// tried again. Of gRPC calls they are kept without a retry policy, too: what a server has not
    /// processed, as when it goes away, is sent again all the same (gRFC A6).
    pub retry_buffer: usize,
    /// Variables of this process that configuration may put into headers (`%ENVIRONMENT(NAME)%`);
    /// default none: a control plane does not get to read the others. A header that names one of
    /// those is left out, with a finding.
    pub environment: Vec<String>,
    /// Whether nothing older than TLS 1.3 is spoken with endpoints, with clients, and with the
    /// servers that the mesh calls for itself (control planes, certificate authorities); default
    /// `false`: TLS 1.2 too, the newest that an Envoy offers as a client unless it is told
    /// otherwise. If so, a peer that has nothing newer is refused, and the error says so.
    pub tls13_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resource_timeout: Duration::from_secs(15),
            max_config_message: 64 << 20,
            connections_per_endpoint: 1,
            connect_backoff_base: Duration::from_secs(1),
            connect_backoff_max: Duration::from_secs(120),
            retry_buffer: 256 << 10,
            environment: Vec::new(),
            tls13_only: false,
        }
    }
}
