//! Certificates of a certificate authority, over a real connection.

use mesh_core::{
    bootstrap::IstioCaConfig,
    control::istio_ca::IstioCa,
    identity::{CertificateSource, Identity, Watched, default_crypto_provider},
    testing::{CertificateService, SigningFault},
};

use super::super::*;

fn watch(config: &IstioCaConfig) -> Watched<Identity> {
    let crypto = default_crypto_provider().expect("a feature is on");
    IstioCa::source(config, Arc::new(HyperSideCall::default()), crypto).identity("")
}

#[tokio::test]
async fn signed_over_loopback() {
    let service = CertificateService::start().await;
    let config = service
        .config()
        .spiffe_id("spiffe://shop/greeter")
        .cluster_id("east");
    let mut watched = watch(&config);
    while watched.known().value.is_none() {
        watched.changed().await;
    }
    let identity = watched.known().value.expect("just seen");
    assert_eq!(identity.leaf().spiffe_id(), Some("spiffe://shop/greeter"));
    let requests = service.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].cluster_id.as_deref(), Some("east"));
    assert_eq!(requests[0].authorization, None);
}

#[tokio::test]
async fn refused_over_loopback() {
    let service = CertificateService::start().await;
    service.set_fault(Some(SigningFault::Refuse(Code::PermissionDenied)));
    let mut watched = watch(&service.config());
    watched.changed().await;
    let trouble = watched.known().trouble.expect("refused");
    assert!(
        trouble.contains("PERMISSION_DENIED: told to refuse"),
        "{trouble}"
    );
}
