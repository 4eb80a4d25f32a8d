//! The certificate providers of bootstraps: everybody's, and those of one node.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::store::Scope;
use crate::bootstrap::FileWatcherConfig;

#[derive(Debug, Default)]
pub(super) struct Providers(HashMap<Scope, BTreeMap<String, FileWatcherConfig>>);

impl Providers {
    pub(super) fn put(&mut self, scope: &Scope, instance: String, config: FileWatcherConfig) {
        let providers = self.0.entry(scope.clone()).or_default();
        providers.insert(instance, config);
    }

    /// Those of a node: its own win over everybody's.
    pub(super) fn of(&self, node: &str) -> BTreeMap<String, FileWatcherConfig> {
        let scopes = [None, Some(node.into())];
        let layers = scopes.iter().filter_map(|scope| self.0.get(scope));
        layers
            .flatten()
            .map(|(instance, config)| (instance.clone(), config.clone()))
            .collect()
    }
}

/// `certificate_providers` of a bootstrap.
pub(super) fn json(providers: &BTreeMap<String, FileWatcherConfig>) -> Value {
    let providers = providers.iter().map(|(instance, config)| {
        let plugin = json!({ "plugin_name": FileWatcherConfig::PLUGIN, "config": files(config) });
        (instance.clone(), plugin)
    });
    Value::Object(providers.collect())
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
