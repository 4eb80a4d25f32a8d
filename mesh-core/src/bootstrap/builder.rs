use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    AuthorityConfigBuilder, Bootstrap, BootstrapError, CertificatePlugin,
    CertificateProviderConfig, Node, Origin, ServerConfigBuilder, authority::build_servers,
    error::Fault, json::member, target::xdstp_authority,
};
use crate::config::LocalityId;

/// Builds a [`Bootstrap`] in code. The rules are those of the JSON, and errors name its fields.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct BootstrapBuilder {
    servers: Vec<ServerConfigBuilder>,
    node: Node,
    certificate_providers: BTreeMap<String, CertificateProviderConfig>,
    client_listener_template: Option<String>,
    server_listener_template: Option<String>,
    authorities: BTreeMap<String, AuthorityConfigBuilder>,
    without_servers: bool,
}

impl BootstrapBuilder {
    /// Says that there is no control plane, and that none is needed: for a mesh that takes its
    /// configuration from elsewhere.
    pub fn without_servers(mut self) -> Self {
        self.without_servers = true;
        self
    }

    /// Adds a control plane, behind those added before. One is needed.
    pub fn server(mut self, server: impl Into<ServerConfigBuilder>) -> Self {
        self.servers.push(server.into());
        self
    }

    /// Sets the node's id. Default: empty.
    pub fn node_id(mut self, id: impl Into<String>) -> Self {
        self.node.id = id.into();
        self
    }

    /// Sets the cluster that the node belongs to. Default: empty.
    pub fn node_cluster(mut self, cluster: impl Into<String>) -> Self {
        self.node.cluster = cluster.into();
        self
    }

    /// Sets where the node is. Default: unknown.
    pub fn locality(mut self, locality: LocalityId) -> Self {
        self.node.locality = locality;
        self
    }

    /// Tells the control plane something of this node.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.node.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds a certificate provider that resources may refer to as `instance`: a
    /// [`FileWatcherConfig`](super::FileWatcherConfig), an
    /// [`IstioCaConfig`](super::IstioCaConfig) or a
    /// [`SpiffeWorkloadApiConfig`](super::SpiffeWorkloadApiConfig).
    pub fn certificate_provider(
        self,
        instance: impl Into<String>,
        config: impl Into<CertificatePlugin>,
    ) -> Self {
        let config = config.into();
        let provider = CertificateProviderConfig {
            plugin_name: config.name().unwrap_or_default().to_owned(),
            config,
        };
        self.provider(instance.into(), provider)
    }

    pub(super) fn provider(mut self, instance: String, config: CertificateProviderConfig) -> Self {
        self.certificate_providers.insert(instance, config);
        self
    }

    /// Sets how a client target becomes a listener's name. Default `%s`, which is the target.
    pub fn client_listener_template(mut self, template: impl Into<String>) -> Self {
        self.client_listener_template = Some(template.into());
        self
    }

    /// Sets how a server's address becomes a listener's name; `%s` is `IP:port`.
    pub fn server_listener_template(mut self, template: impl Into<String>) -> Self {
        self.server_listener_template = Some(template.into());
        self
    }

    /// Adds the authority of `xds://name/...` targets and `xdstp://name/...` resources.
    pub fn authority(mut self, name: impl Into<String>, authority: AuthorityConfigBuilder) -> Self {
        self.authorities.insert(name.into(), authority);
        self
    }

    /// The finished bootstrap.
    ///
    /// # Errors
    /// If there is no server and [`without_servers`](Self::without_servers) was not said, or a part breaks the rules of its JSON field.
    pub fn build(self) -> Result<Bootstrap, BootstrapError> {
        self.checked()
            .map_err(|fault| BootstrapError::new(Origin::Builder, fault))
    }

    pub(super) fn checked(self) -> Result<Bootstrap, Fault> {
        let servers = build_servers(self.servers, "")?;
        if servers.is_empty() && !self.without_servers {
            let problem = "empty; list at least one control plane";
            return Err(Fault::new("xds_servers", problem));
        }
        for (instance, provider) in &self.certificate_providers {
            provider
                .config
                .check(&member("certificate_providers", instance))?;
        }
        check_template(
            "client_default_listener_resource_name_template",
            self.client_listener_template.as_deref(),
        )?;
        check_template(
            "server_listener_resource_name_template",
            self.server_listener_template.as_deref(),
        )?;
        let build = |(name, authority): (String, AuthorityConfigBuilder)| {
            let built = authority.build_at(&name, &member("authorities", &name))?;
            Ok((name, built))
        };
        Ok(Bootstrap {
            servers,
            node: self.node,
            certificate_providers: self.certificate_providers,
            client_listener_template: self
                .client_listener_template
                .unwrap_or_else(|| "%s".to_owned()),
            server_listener_template: self.server_listener_template,
            authorities: self
                .authorities
                .into_iter()
                .map(build)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A template makes a name, and one that makes `xdstp:` names makes them with an authority.
fn check_template(path: &str, template: Option<&str>) -> Result<(), Fault> {
    let problem = match template {
        None => return Ok(()),
        Some("") => "empty; write a template such as `%s`, or remove the field",
        Some(template) if template.starts_with("xdstp:") && xdstp_authority(template).is_none() => {
            "must be `xdstp://<authority>/envoy.config.listener.v3.Listener/...` (gRFC A47)"
        }
        Some(_) => return Ok(()),
    };
    Err(Fault::new(path, problem).with_value(&template.into()))
}
