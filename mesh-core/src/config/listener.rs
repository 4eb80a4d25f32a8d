use std::{any::Any, fmt, sync::Arc, time::Duration};

use super::RouteConfig;
use crate::{
    Semantics,
    filter::{Disabled, Filter, FilterSpec},
};

/// How calls to one target are carried: the client side of a listener (API listener, gRFC A27).
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The resource's name.
    pub name: Arc<str>,
    /// The HTTP connection manager of the API listener.
    pub http: HttpManager,
}

/// The parts of an HTTP connection manager that concern a client or a server.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpManager {
    /// Where the routes are.
    pub routes: RouteSource,
    /// The filters in order, without the terminal router.
    pub filters: Arc<[HttpFilter]>,
    /// `common_http_protocol_options.max_stream_duration`; `None` or zero: no limit (gRFC A31).
    /// `None` in servers.
    pub max_stream_duration: Option<Duration>,
    /// `stream_idle_timeout`, in force under HTTP semantics: how long nothing may happen on a
    /// stream; default 5 min. `None`: no limit (Envoy's zero).
    pub stream_idle_timeout: Option<Duration>,
    /// Protocols that requests may upgrade to (`upgrade_configs`), by name and in lower case, such
    /// as `websocket`, under HTTP semantics. False: not allowed where no route says otherwise.
    pub upgrades: Vec<(Arc<str>, bool)>,
    /// Which ports authorities lose before anything else looks at them, under HTTP semantics.
    pub strip_port: StripPort,
}

/// Which ports authorities lose (`strip_port_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StripPort {
    /// None.
    #[default]
    Never,
    /// The one that the connection reached (`strip_matching_host_port`). A client has none: nothing
    /// is lost there.
    Matching,
    /// Any (`strip_any_host_port`).
    Any,
}

impl StripPort {
    /// What is left of `authority`, whose connection has reached the port `local`, if any. What follows
    /// the last colon is no port if it is no number, and stays (Envoy).
    pub fn strip(self, authority: &str, local: Option<u16>) -> &str {
        if self == Self::Never {
            return authority;
        }
        let Some(host) = crate::route::without_port(authority) else {
            return authority;
        };
        // As wide as Envoy reads it.
        let is_stripped = match authority[host.len() + 1..].parse::<u32>() {
            Ok(port) => self == Self::Any || local.is_some_and(|local| u32::from(local) == port),
            Err(_) => false,
        };
        if is_stripped { host } else { authority }
    }
}

impl HttpManager {
    /// `stream_idle_timeout` where a listener does not say.
    pub const DEFAULT_STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
}

/// Where a listener's routes are.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteSource {
    /// In a resource of their own.
    Named(Arc<str>),
    /// In the listener.
    Inline(Arc<RouteConfig>),
}

/// One entry of a filter chain.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpFilter {
    /// The instance's name: the key of per-route overrides.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: FilterConfig,
}

/// The validated configuration of a filter, or of an override of one (gRFC A39).
#[derive(Clone)]
pub struct FilterConfig(pub Arc<dyn FilterSpec>);

impl FilterConfig {
    /// Builds the filter for one route, as [`FilterSpec::build`]; nothing where `over` is
    /// [`Disabled`].
    pub fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        match Self::is_off(over) {
            true => None,
            false => self.0.build(over),
        }
    }

    /// As [`build`](Self::build), in a server, as [`FilterSpec::build_for`].
    pub fn build_for(
        &self,
        semantics: Semantics,
        over: Option<&FilterConfig>,
    ) -> Option<Arc<dyn Filter>> {
        match Self::is_off(over) {
            true => None,
            false => self.0.build_for(semantics, over),
        }
    }

    fn is_off(over: Option<&FilterConfig>) -> bool {
        over.is_some_and(|FilterConfig(over)| (&**over as &dyn Any).is::<Disabled>())
    }
}

impl fmt::Debug for FilterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for FilterConfig {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::StripPort::{self, Any, Matching, Never};

    #[test]
    fn ports_are_stripped_as_envoy_does() {
        for (mode, authority, expected) in [
            (Never, "a.shop:80", "a.shop:80"),
            (Any, "a.shop:80", "a.shop"),
            (Any, "a.shop:8080", "a.shop"),
            (Any, "a.shop", "a.shop"),
            (Any, "a.shop:", "a.shop:"),
            (Any, "a.shop:http", "a.shop:http"),
            (Any, "[::1]:80", "[::1]"),
            (Any, "[::1]", "[::1]"),
            (Any, "", ""),
            (Matching, "a.shop:80", "a.shop"),
            (Matching, "a.shop:080", "a.shop"),
            (Matching, "a.shop:8080", "a.shop:8080"),
            (Matching, "[::1]:80", "[::1]"),
        ] {
            assert_eq!(mode.strip(authority, Some(80)), expected, "{mode:?}");
        }
        assert_eq!(Matching.strip("a.shop:80", None), "a.shop:80");
        assert_eq!(Any.strip("a.shop:80", None), "a.shop");
        assert_eq!(StripPort::default(), Never);
    }

    /// Goes from left to right, and compares ports as text.
    fn model(mode: StripPort, authority: &str, local: Option<u16>) -> String {
        let (mut in_brackets, mut last) = (false, None);
        for (at, letter) in authority.char_indices() {
            match letter {
                '[' => in_brackets = true,
                ']' => (in_brackets, last) = (false, None),
                ':' if !in_brackets => last = Some(at),
                _ => {}
            }
        }
        let Some(at) = last else {
            return authority.to_owned();
        };
        let port = &authority[at + 1..];
        let is_number = !port.is_empty() && port.chars().all(|letter| letter.is_ascii_digit());
        let plain = |text: &str| text.trim_start_matches('0').to_owned();
        let is_local = local.is_some_and(|local| plain(port) == plain(&local.to_string()));
        let goes = match mode {
            Never => false,
            Matching => is_number && is_local,
            Any => is_number,
        };
        match goes {
            true => authority[..at].to_owned(),
            false => authority.to_owned(),
        }
    }

    #[test]
    fn ports_are_stripped_as_a_model_does() {
        let mut rng = fastrand::Rng::with_seed(39);
        let pieces = ["a", ".", ":", "[::1]", "8", "0", "80", ":80", "x"];
        let mut stripped = 0;
        for _ in 0..20_000 {
            let authority: String = (0..rng.usize(0..5))
                .map(|_| pieces[rng.usize(0..pieces.len())])
                .collect();
            let local = [None, Some(8), Some(80), Some(800)][rng.usize(0..4)];
            for mode in [Never, Matching, Any] {
                let left = mode.strip(&authority, local);
                assert_eq!(
                    left,
                    model(mode, &authority, local),
                    "{mode:?} {authority} {local:?}"
                );
                stripped += u32::from(left != authority);
            }
        }
        assert!(stripped > 1_000, "{stripped}");
    }
}
