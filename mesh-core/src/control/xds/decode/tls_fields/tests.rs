//! Fields of the future, which are refused wherever leaving one out may let somebody in.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
        },
        core::v3::{
            Address, DataSource, SocketAddress, TransportSocket, address::Address as AddressKind,
            data_source::Specifier, socket_address::PortSpecifier,
            transport_socket::ConfigType as SocketConfig,
        },
        listener::v3::{
            Filter, FilterChain, FilterChainMatch, Listener, filter::ConfigType as FilterConfig,
        },
    },
    extensions::transport_sockets::tls::v3::{
        CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
        DownstreamTlsContext, Secret, UpstreamTlsContext, common_tls_context::*,
    },
};
use prost::{Message as _, Name};

use super::{
    super::{
        Decode as _, Rejected,
        fixtures::{manager, named_any},
        test_support::*,
        type_url,
    },
    TRUSTED,
};
use crate::{config::Kind, testing::CertificateAuthority};

/// In a cluster.
const UPSTREAM: &str = "transport_socket.typed_config";
/// In a listener.
const DOWNSTREAM: &str = "filter_chains[0].transport_socket.typed_config";

/// The field #99, in the message that these fields lead to. Appended to a message it is a part of
/// it: protobuf merges what is there twice.
fn future(path: &[u8]) -> Vec<u8> {
    path.iter().rfold(vec![0x98, 0x06, 0x01], |inner, number| {
        field(*number, &inner)
    })
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(value.len() as u64, &mut field);
    field.extend(value);
    field
}

fn provider() -> Option<CertificateProviderPluginInstance> {
    Some(CertificateProviderPluginInstance {
        instance_name: "default".into(),
        ..Default::default()
    })
}

/// A TLS context that is fine, whose trust is in a validation context of its own or of two.
fn common(combined: bool) -> Option<CommonTlsContext> {
    let context = CertificateValidationContext {
        ca_certificate_provider_instance: provider(),
        ..Default::default()
    };
    let trust = match combined {
        false => ValidationContextType::ValidationContext(context),
        true => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(context),
                ..Default::default()
            })
        }
    };
    Some(CommonTlsContext {
        tls_certificate_provider_instance: provider(),
        validation_context_type: Some(trust),
        ..Default::default()
    })
}

/// A transport socket with this context, and `more` at its end.
fn socket<M: Name>(context: &M, more: &[u8]) -> Option<TransportSocket> {
    let encoded = [&context.encode_to_vec(), more].concat();
    Some(TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(SocketConfig::TypedConfig(named_any(
            &M::type_url(),
            encoded,
        ))),
    })
}

fn decode(kind: Kind, encoded: Vec<u8>) -> Result<(), Rejected> {
    let decoded = decoder().decode(kind, &named_any(type_url(kind), encoded));
    decoded.map(drop)
}

fn cluster(combined: bool, more: &[u8]) -> Result<(), Rejected> {
    let context = UpstreamTlsContext {
        common_tls_context: common(combined),
        ..Default::default()
    };
    let cluster = Cluster {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            ..Default::default()
        }),
        transport_socket: socket(&context, more),
        ..Default::default()
    };
    decode(Kind::Cluster, cluster.encode_to_vec())
}

/// A server's listener with `more` at the end of its only chain, and of its TLS context.
fn listener(combined: bool, of_chain: &[u8], of_context: &[u8]) -> Result<(), Rejected> {
    let context = DownstreamTlsContext {
        common_tls_context: common(combined),
        ..Default::default()
    };
    let chain = FilterChain {
        filter_chain_match: Some(FilterChainMatch::default()),
        filters: vec![Filter {
            name: "hcm".into(),
            config_type: Some(FilterConfig::TypedConfig(any(&manager()))),
        }],
        transport_socket: socket(&context, of_context),
        ..Default::default()
    };
    let address = AddressKind::SocketAddress(SocketAddress {
        address: "10.0.0.1".into(),
        port_specifier: Some(PortSpecifier::PortValue(80)),
        ..Default::default()
    });
    let listener = Listener {
        name: "l".into(),
        address: Some(Address {
            address: Some(address),
        }),
        ..Default::default()
    };
    let chain = field(3, &[&chain.encode_to_vec(), of_chain].concat());
    let encoded = [listener.encode_to_vec(), chain].concat();
    decode(Kind::Listener, encoded)
}

fn secret(more: &[u8]) -> Result<(), Rejected> {
    let roots = CertificateAuthority::new("root").root_pem();
    let context = CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(Specifier::InlineString(roots)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let secret = Secret {
        name: "s".into(),
        r#type: None,
    };
    let context = field(4, &[&context.encode_to_vec(), more].concat());
    decode(Kind::Secret, [secret.encode_to_vec(), context].concat())
}

fn refused(result: Result<(), Rejected>, path: &str, restricts: &str) {
    let error = result.expect_err(path);
    assert_eq!(error.path, path);
    assert_eq!(
        error.problem,
        format!("not known to this version, and may restrict {restricts}")
    );
}

#[test]
fn all_is_well_without_them() {
    for combined in [false, true] {
        cluster(combined, &[]).unwrap();
        listener(combined, &[], &[]).unwrap();
    }
    secret(&[]).unwrap();
}

#[test]
fn of_a_tls_context() {
    // common_tls_context (1), and in it validation_context (3), which has
    // match_typed_subject_alt_names (15), and combined_validation_context (8), which has
    // default_validation_context (1).
    let cases: [(bool, &[u8], &str); 6] = [
        (false, &[], ""),
        (false, &[1], ".common_tls_context"),
        (false, &[1, 3], ".common_tls_context.validation_context"),
        (
            false,
            &[1, 3, 15],
            ".common_tls_context.validation_context.match_typed_subject_alt_names[0]",
        ),
        (
            true,
            &[1, 8],
            ".common_tls_context.combined_validation_context",
        ),
        (
            true,
            &[1, 8, 1],
            ".common_tls_context.combined_validation_context.default_validation_context",
        ),
    ];
    for (combined, path, at) in cases {
        let future = match path {
            // One that is fine but for it: san_type (1) and matcher (2), which has exact (1).
            [.., 15] => {
                let matcher = [&[0x08, 0x03][..], &field(2, &field(1, b"a:b"))].concat();
                let matcher = field(15, &[matcher, future(&[])].concat());
                field(1, &field(3, &matcher))
            }
            _ => future(path),
        };
        let up = format!("{UPSTREAM}{at}.#99");
        refused(cluster(combined, &future), &up, TRUSTED);
        let down = format!("{DOWNSTREAM}{at}.#99");
        refused(listener(combined, &[], &future), &down, TRUSTED);
    }
}

#[test]
fn of_the_trust_in_a_secret() {
    refused(
        secret(&future(&[])),
        "validation_context.#99",
        "which certificates are accepted",
    );
}

#[test]
fn of_what_a_filter_chain_matches() {
    const TAKEN: &str = "which connections a chain takes";
    let matched = "filter_chains[0].filter_chain_match";
    refused(
        listener(false, &future(&[1]), &[]),
        &format!("{matched}.#99"),
        TAKEN,
    );
    // In a prefix of no bits.
    for (number, name) in [(3, "prefix_ranges"), (6, "source_prefix_ranges")] {
        let range = [field(1, b"10.0.0.1"), future(&[])].concat();
        let chain = field(1, &field(number, &range));
        let at = format!("{matched}.{name}[0].#99");
        refused(listener(false, &chain, &[]), &at, TAKEN);
    }
}
