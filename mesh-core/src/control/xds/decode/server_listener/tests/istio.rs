//! What istiod sends to proxyless servers.

use envoy_types::pb::envoy::{
    config::{core::v3::TransportSocket, core::v3::transport_socket, rbac::v3::Rbac as RbacRules},
    extensions::{
        filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails,
        transport_sockets::tls::v3::{
            CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
            DownstreamTlsContext,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
        },
    },
};

use proptest::prelude::{Strategy, prop, proptest};
use prost::Message as _;

use super::{super::super::fixtures::any, *};
use crate::config::{
    CaSource, CertificateProvider, FilterOverrides, IdentitySource, RouteAction, RouteSource,
};

/// What istiod sends to a proxyless server: one chain, with two filters for authorization, one for
/// faults and the router, and a route that serves all.
fn istio(chain: WireChain) -> WireListener {
    let rbac = || {
        any(&Rbac {
            rules: Some(RbacRules::default()),
            ..Default::default()
        })
    };
    let manager = HttpConnectionManager {
        stat_prefix: "inbound".into(),
        http_filters: vec![
            filter("envoy.filters.http.rbac.DENY", rbac()),
            filter("envoy.filters.http.rbac", rbac()),
            filter("envoy.filters.http.fault", every_fault()),
            router(),
        ],
        forward_client_cert_details: ForwardClientCertDetails::AppendForward as i32,
        ..serving()
    };
    WireListener {
        name: "xds.istio.io/grpc/lds/inbound/0.0.0.0:8080".into(),
        address: at(AddressKind::SocketAddress(socket_of("0.0.0.0", 8080))),
        filter_chains: vec![WireChain {
            filters: vec![network_filter(&manager)],
            ..chain
        }],
        // What istiod says of the direction (inbound), and where the chains are for.
        traffic_direction: 1,
        ..Default::default()
    }
}

fn istio_tls() -> TransportSocket {
    let instance = |name: &str| {
        Some(CertificateProviderPluginInstance {
            instance_name: "default".into(),
            certificate_name: name.into(),
        })
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            ca_certificate_provider_instance: instance("ROOTCA"),
            ..Default::default()
        }),
        ..Default::default()
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_provider_instance: instance("default"),
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(
                combined,
            )),
            ..Default::default()
        }),
        require_client_certificate: Some(BoolValue { value: true }),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

#[test]
fn istio_plaintext() {
    let wire = istio(WireChain {
        name: "inbound-plaintext".into(),
        ..Default::default()
    });
    let (listener, findings) = decode_server_listener(&wire, &registry()).unwrap();
    assert_eq!(
        &*listener.name,
        "xds.istio.io/grpc/lds/inbound/0.0.0.0:8080"
    );
    assert_eq!(listener.address, "0.0.0.0:8080".parse().unwrap());
    let [chain] = &listener.chains[..] else {
        panic!("{listener:?}");
    };
    assert_eq!((&*chain.name, &chain.tls), ("inbound-plaintext", &None));
    let names: Vec<_> = chain.http.filters.iter().map(|f| &*f.name).collect();
    assert_eq!(
        names,
        [
            "envoy.filters.http.rbac.DENY",
            "envoy.filters.http.rbac",
            "envoy.filters.http.fault"
        ]
    );
    let RouteSource::Inline(routes) = &chain.http.routes else {
        panic!("{chain:?}");
    };
    let route = &routes.virtual_hosts[0].routes[0];
    assert_eq!(route.action, RouteAction::NonForwarding);
    assert_eq!(route.overrides, FilterOverrides::default());
    let manager = "filter_chains[0].filters[0].typed_config";
    assert_eq!(
        findings,
        [
            format!(
                "{manager}.stat_prefix - names or selects statistics, which have labels of their \
                 own here"
            ),
            format!(
                "{manager}.forward_client_cert_details - no header about the peer is added, read \
                 or removed here"
            ),
            "traffic_direction - a server's listener is inbound".to_owned(),
        ]
    );
}

#[test]
fn istio_mtls() {
    let wire = istio(WireChain {
        name: "inbound-mtls".into(),
        transport_socket: Some(istio_tls()),
        ..Default::default()
    });
    let listener = decode(&wire).unwrap();
    let tls = listener.chains[0].tls.as_deref().unwrap();
    let provider = |certificate: &str| CertificateProvider {
        instance: "default".into(),
        certificate: certificate.into(),
    };
    assert_eq!(tls.identity, IdentitySource::Provider(provider("default")));
    assert_eq!(tls.roots, Some(CaSource::Provider(provider("ROOTCA"))));
    assert!(tls.require_client_certificate);
}

proptest! {
    #[test]
    fn no_damage_panics(
        damage in prop::collection::vec((any_index(), prop::num::u8::ANY), 1..8)
    ) {
        let mut bytes = istio(WireChain {
            transport_socket: Some(istio_tls()),
            filter_chain_match: Some(FilterChainMatch {
                source_ports: vec![1, 2],
                ..Default::default()
            }),
            ..Default::default()
        })
        .encode_to_vec();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(wire) = WireListener::decode(bytes.as_slice())
            && wire.api_listener.is_none()
        {
            let _ = decode_server_listener(&wire, &registry());
        }
    }
}

fn any_index() -> impl Strategy<Value = prop::sample::Index> {
    proptest::arbitrary::any::<prop::sample::Index>()
}
