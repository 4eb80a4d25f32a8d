use std::{sync::Arc, time::Duration};

use http::Uri;
use mesh_core::Mesh;

use super::{Client, Inner, Outside, Way, absolute, invalid, name::Named, table::Settings};
use crate::{call::CallOptions, error::Error, plane::HyperPlane};

/// Makes a [`Client`].
#[derive(Debug, Clone)]
#[must_use = "a builder makes nothing before it builds"]
pub struct ClientBuilder {
    mesh: Mesh,
    options: CallOptions,
    error_responses: bool,
    settings: Settings,
}

// === impl ClientBuilder ===

impl ClientBuilder {
    pub(super) fn new(mesh: &Mesh) -> Self {
        Self {
            mesh: mesh.clone(),
            options: CallOptions::default(),
            error_responses: false,
            settings: Settings {
                outside: Outside::Deny,
                max_targets: 1024,
                target_idle: Duration::from_secs(300),
            },
        }
    }

    /// What applies to calls that do not say otherwise.
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }

    /// Whether calls that fail are answered with a response all the same, as
    /// [`Error::into_response`] makes it: for proxies, whose callers are to get what Envoy's would.
    /// Default false.
    pub fn error_responses(mut self, responses: bool) -> Self {
        self.error_responses = responses;
        self
    }

    /// What becomes of requests for hosts that are not of the mesh; default [`Outside::Deny`].
    pub fn outside(mut self, outside: Outside) -> Self {
        self.settings.outside = outside;
        self
    }

    /// How many targets are kept; default 1024, at least 1. Clients of the same mesh and settings
    /// keep them together; those with other settings have as many of their own. At the limit a new one takes the place
    /// of the one that was asked for longest ago, of those without a call under way; if there is
    /// none, the call fails.
    pub fn max_targets(mut self, targets: usize) -> Self {
        self.settings.max_targets = targets.max(1);
        self
    }

    /// How long a target is kept that nobody asks for and no call goes to, up to a quarter longer;
    /// default 5 min. Zero: for as long as there is room, and a client.
    pub fn target_idle(mut self, idle: Duration) -> Self {
        self.settings.target_idle = idle;
        self
    }

    /// A client of whatever its requests name.
    pub fn build(self) -> Client {
        let table = HyperPlane::of(&self.mesh).named.get(self.settings);
        Client(Arc::new(Inner {
            mesh: self.mesh,
            options: self.options,
            error_responses: self.error_responses,
            way: Way::Named(table),
        }))
    }

    /// A client of one target, as [`Client::to`]. Limits on targets have no effect on it.
    ///
    /// # Errors
    /// If it is not a URL with a scheme and an authority, and nothing else.
    pub fn to(self, url: &str) -> Result<Client, Error> {
        let uri: Uri = url
            .parse()
            .map_err(|error| invalid(format!("{url:?} is no URL: {error}")))?;
        let (scheme, authority) = absolute(&uri)?;
        if !matches!(
            uri.path_and_query().map(|path| path.as_str()),
            None | Some("/")
        ) {
            return Err(invalid(format!(
                "a target has no path: write {scheme}://{authority}, and the path in requests"
            )));
        }
        let outside = &self.settings.outside;
        let caller = Named::new(&self.mesh, outside, scheme.clone(), authority)?.open(&self.mesh);
        Ok(Client(Arc::new(Inner {
            options: self.options,
            error_responses: self.error_responses,
            way: Way::Bound {
                caller,
                scheme: scheme.clone(),
                authority: authority.clone(),
            },
            mesh: self.mesh,
        })))
    }
}
