//! The certificate providers of bootstraps: everybody's, and those of one node.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::store::Scope;
use crate::bootstrap::{
    CertificatePlugin, ChannelCreds, FileWatcherConfig, IstioCaConfig, SpiffeWorkloadApiConfig,
};

#[derive(Debug, Default)]
pub(super) struct Providers(HashMap<Scope, BTreeMap<String, CertificatePlugin>>);

impl Providers {
    pub(super) fn put(&mut self, scope: &Scope, instance: String, config: CertificatePlugin) {
        let providers = self.0.entry(scope.clone()).or_default();
        providers.insert(instance, config);
    }

    /// Those of a node: its own win over everybody's.
    pub(super) fn of(&self, node: &str) -> BTreeMap<String, CertificatePlugin> {
        let scopes = [None, Some(node.into())];
        let layers = scopes.iter().filter_map(|scope| self.0.get(scope));
        layers
            .flatten()
            .map(|(instance, config)| (instance.clone(), config.clone()))
            .collect()
    }
}

/// `certificate_providers` of a bootstrap.
pub(super) fn json(providers: &BTreeMap<String, CertificatePlugin>) -> Value {
    let providers = providers.iter().map(|(instance, plugin)| {
        let (name, config) = match plugin {
            CertificatePlugin::FileWatcher(config) => (FileWatcherConfig::PLUGIN, files(config)),
            CertificatePlugin::IstioCa(config) => (IstioCaConfig::PLUGIN, istio_ca(config)),
            CertificatePlugin::SpiffeWorkloadApi(config) => (
                SpiffeWorkloadApiConfig::PLUGIN,
                json!({ "socket": config.socket }),
            ),
            CertificatePlugin::Unsupported => ("unsupported", json!({})),
        };
        let plugin = json!({ "plugin_name": name, "config": config });
        (instance.clone(), plugin)
    });
    Value::Object(providers.collect())
}

fn istio_ca(config: &IstioCaConfig) -> Value {
    let creds = match &config.server.channel_creds {
        ChannelCreds::Tls {
            ca_certificate_file,
            identity_files,
        } => {
            let mut tls = json!({});
            let identity = identity_files.as_ref();
            for (field, path) in [
                ("ca_certificate_file", ca_certificate_file.as_ref()),
                ("certificate_file", identity.map(|files| &files.0)),
                ("private_key_file", identity.map(|files| &files.1)),
            ] {
                if let Some(path) = path {
                    tls[field] = path.to_string_lossy().into();
                }
            }
            json!({ "type": "tls", "config": tls })
        }
        ChannelCreds::Insecure => json!({ "type": "insecure" }),
    };
    let mut ca = json!({
        "ca_server": {
            "server_uri": config.server.uri,
            "channel_creds": [creds],
        },
        "validity": format!("{}s", config.validity.as_secs()),
    });
    if let Some(id) = &config.spiffe_id {
        ca["spiffe_id"] = id.as_str().into();
    }
    if let Some(id) = &config.cluster_id {
        ca["cluster_id"] = id.as_str().into();
    }
    ca
}

fn files(config: &FileWatcherConfig) -> Value {
    let interval = config.refresh_interval;
    let mut files = json!({
        "refresh_interval": format!("{}.{:09}s", interval.as_secs(), interval.subsec_nanos()),
    });
    let identity = config.identity_files.as_ref();
    for (field, path) in [
        ("certificate_file", identity.map(|files| &files.0)),
        ("private_key_file", identity.map(|files| &files.1)),
        ("ca_certificate_file", config.ca_certificate_file.as_ref()),
        (
            "spiffe_trust_bundle_map_file",
            config.spiffe_trust_bundle_map_file.as_ref(),
        ),
    ] {
        if let Some(path) = path {
            files[field] = path.to_string_lossy().into();
        }
    }
    files
}
