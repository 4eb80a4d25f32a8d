//! From the certificate providers of a bootstrap to where certificates come from.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use rustls::crypto::CryptoProvider;

use crate::{
    bootstrap::{Bootstrap, CertificatePlugin, ServerConfig},
    identity::{CertificateSource, FileSource},
    runtime::{Limits, SideCall, SideCallError, SideCallFuture},
};

/// By the name of the instance.
pub(crate) type Providers = BTreeMap<Arc<str>, Arc<dyn CertificateSource>>;

/// The calls of a plane that comes later: certificates are needed only once there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct LateSideCall(Arc<OnceLock<Arc<dyn SideCall>>>);

/// The providers of `bootstrap`, where none of `given` has their name. Instances with equal settings
/// share one source (gRFC A29).
pub(crate) fn of(
    bootstrap: &Bootstrap,
    given: Providers,
    crypto: Option<&Arc<CryptoProvider>>,
    calls: &LateSideCall,
) -> Providers {
    let mut providers = given;
    // Without cryptography nobody gets as far as to ask.
    let Some(crypto) = crypto else {
        return providers;
    };
    let mut made: Vec<(&CertificatePlugin, Arc<dyn CertificateSource>)> = Vec::new();
    for (instance, provider) in &bootstrap.certificate_providers {
        if providers.contains_key(instance.as_str()) {
            continue;
        }
        let plugin = &provider.config;
        let known = made.iter().find(|(other, _)| *other == plugin);
        let source = match known {
            Some((_, source)) => Some(Arc::clone(source)),
            None => source(plugin, crypto, calls),
        };
        if let Some(source) = source {
            made.push((plugin, Arc::clone(&source)));
            providers.insert(instance.as_str().into(), source);
        }
    }
    providers
}

/// What `plugin` stands for; `None`: resources cannot refer to it.
fn source(
    plugin: &CertificatePlugin,
    crypto: &Arc<CryptoProvider>,
    calls: &LateSideCall,
) -> Option<Arc<dyn CertificateSource>> {
    let crypto = Arc::clone(crypto);
    match plugin {
        CertificatePlugin::FileWatcher(config) => {
            Some(Arc::new(FileSource::new(config.clone(), crypto)))
        }
        #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
        CertificatePlugin::IstioCa(config) => {
            let calls = Arc::new(calls.clone());
            let source = crate::control::istio_ca::IstioCa::source(config, calls, crypto);
            Some(Arc::new(source))
        }
        #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
        CertificatePlugin::IstioCa(_) => {
            // Nothing makes keys, so nobody makes calls.
            let _ = calls;
            None
        }
        #[cfg(feature = "spiffe")]
        CertificatePlugin::SpiffeWorkloadApi(config) => {
            Some(Arc::new(crate::identity::SpiffeSource::new(config, crypto)))
        }
        // A bootstrap without the feature has none.
        #[cfg(not(feature = "spiffe"))]
        CertificatePlugin::SpiffeWorkloadApi(_) => None,
        CertificatePlugin::Unsupported => None,
    }
}

// === impl LateSideCall ===

impl LateSideCall {
    /// Makes calls through `calls` from now on. The first given stay.
    pub(crate) fn provide(&self, calls: Arc<dyn SideCall>) {
        let _ = self.0.set(calls);
    }
}

impl SideCall for LateSideCall {
    fn stream(
        &self,
        server: &ServerConfig,
        path: &'static str,
        metadata: HeaderMap,
        limits: Limits,
    ) -> SideCallFuture {
        match self.0.get() {
            Some(calls) => calls.stream(server, path, metadata, limits),
            None => {
                let error = SideCallError {
                    server: server.uri.clone(),
                    reason: "nothing carries calls for this mesh yet: make a channel or a server \
                             of mesh-hyper or mesh-tonic from it first"
                        .into(),
                };
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bootstrap::FileWatcherConfig,
        identity::{InCode, default_crypto_provider},
    };

    #[test]
    fn instances_with_equal_settings_share_a_source_and_code_goes_first() {
        let files = |ca: &str| FileWatcherConfig::new().ca_certificate_file(ca);
        let bootstrap = Bootstrap::builder()
            .server(ServerConfig::insecure("control-plane:1"))
            .certificate_provider("a", files("/ca.pem"))
            .certificate_provider("b", files("/ca.pem"))
            .certificate_provider("c", files("/other.pem"))
            .certificate_provider("d", files("/ca.pem"))
            .build()
            .expect("a valid bootstrap");
        let in_code: Arc<dyn CertificateSource> = Arc::new(InCode::new());
        let given = Providers::from([("d".into(), Arc::clone(&in_code))]);
        let crypto = default_crypto_provider();
        let providers = of(&bootstrap, given, crypto.as_ref(), &LateSideCall::default());
        // Data pointers: the same type has one table here, or several.
        let same = |x: &Arc<dyn CertificateSource>, y: &Arc<dyn CertificateSource>| {
            std::ptr::addr_eq(Arc::as_ptr(x), Arc::as_ptr(y))
        };
        assert!(same(&providers["a"], &providers["b"]));
        assert!(!same(&providers["a"], &providers["c"]));
        assert!(same(&providers["d"], &in_code));
        assert!(!providers.contains_key("e"));
    }
}
