use super::{ServerConfig, ServerConfigBuilder, error::Fault, json::member};

/// An authority of `xdstp:` names (gRFC A47).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AuthorityConfig {
    /// How a client target of this authority becomes a listener's name; begins with
    /// `xdstp://<authority>/`. Default `xdstp://<authority>/envoy.config.listener.v3.Listener/%s`.
    pub client_listener_template: String,
    /// Its own control planes; empty: the top-level ones.
    pub servers: Vec<ServerConfig>,
    /// Fall back to the next server if this one cannot be reached, even if every resource is
    /// cached (gRFC A95).
    pub fallback_on_reachability_only: bool,
}

impl AuthorityConfig {
    /// Builds an authority in code, with the default template and the top-level servers unless
    /// told otherwise.
    pub fn builder() -> AuthorityConfigBuilder {
        AuthorityConfigBuilder::default()
    }
}

/// Builds an [`AuthorityConfig`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct AuthorityConfigBuilder {
    client_listener_template: Option<String>,
    servers: Vec<ServerConfigBuilder>,
    fallback_on_reachability_only: bool,
}

impl AuthorityConfigBuilder {
    /// Sets how a client target of this authority becomes a listener's name.
    pub fn client_listener_template(mut self, template: impl Into<String>) -> Self {
        self.client_listener_template = Some(template.into());
        self
    }

    /// Adds a control plane, behind those added before.
    pub fn server(mut self, server: impl Into<ServerConfigBuilder>) -> Self {
        self.servers.push(server.into());
        self
    }

    /// Sets [`AuthorityConfig::fallback_on_reachability_only`]. Default: false.
    pub fn fallback_on_reachability_only(mut self, only: bool) -> Self {
        self.fallback_on_reachability_only = only;
        self
    }

    /// Builds the authority called `name` that stands at `path`.
    pub(super) fn build_at(self, name: &str, path: &str) -> Result<AuthorityConfig, Fault> {
        let prefix = format!("xdstp://{name}/");
        let client_listener_template = self
            .client_listener_template
            .unwrap_or_else(|| format!("{prefix}envoy.config.listener.v3.Listener/%s"));
        if !client_listener_template.starts_with(&prefix) {
            let path = member(path, "client_listener_resource_name_template");
            let problem = format!("must begin with `{prefix}` (gRFC A47)");
            let value = client_listener_template.into();
            return Err(Fault::new(path, problem).with_value(&value));
        }
        Ok(AuthorityConfig {
            client_listener_template,
            servers: build_servers(self.servers, path)?,
            fallback_on_reachability_only: self.fallback_on_reachability_only,
        })
    }
}

/// Builds the `xds_servers` of the object at `path`.
pub(super) fn build_servers(
    servers: Vec<ServerConfigBuilder>,
    path: &str,
) -> Result<Vec<ServerConfig>, Fault> {
    let path = member(path, "xds_servers");
    let build = |(index, server): (usize, ServerConfigBuilder)| {
        server.build_at(&format!("{path}[{index}]"))
    };
    servers.into_iter().enumerate().map(build).collect()
}
