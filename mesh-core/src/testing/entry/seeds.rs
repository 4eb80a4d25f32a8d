//! Good inputs: what a control plane of the fakes sends, and what people write.

use std::sync::LazyLock;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, TlsCertificate, secret,
        },
        service::{
            discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource as Wrapper},
            load_stats::v3::LoadStatsResponse,
            status::v3::ClientStatusRequest,
        },
    },
    google::protobuf::{Any, Duration},
};
use http::HeaderMap;
use prost::Message;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    super::{
        CertificateAuthority, ControlPlane, Issued, Leaf, ListenerTls, Permission, Principal, Rbac,
        Retry, SanMatch, Tls, render::type_url, store::Names, zone,
    },
    decoder,
};
use crate::{
    Code,
    config::{Kind, ResourceId},
    control::{istio_ca as ca, snapshot},
    orca::CallLoad,
};

/// The kinds that [`rendered`] has resources of.
pub(super) const KINDS: [Kind; 4] = [Kind::Listener, Kind::Route, Kind::Cluster, Kind::Endpoints];

/// A name that is watched and that no seed has.
const MISSING: &str = "missing";

pub(super) const BOOTSTRAP: &str = r#"{
  "xds_servers": [{
    "server_uri": "unix:///run/xds.sock",
    "channel_creds": [{"type": "tls", "config": {"ca_certificate_file": "/ca.pem"}}],
    "call_creds": [{"type": "jwt_token_file", "config": {"jwt_token_file": "/token"}}],
    "server_features": ["xds_v3", "delta", "fail_on_data_errors"]
  }],
  "node": {"id": "a", "cluster": "b", "locality": {"zone": "z"}, "metadata": {"k": [1, null]}},
  "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": {
    "certificate_file": "/c.pem", "private_key_file": "/k.pem", "ca_certificate_file": "/r.pem",
    "refresh_interval": "10s"}}},
  "server_listener_resource_name_template": "xdstp://a/envoy.config.listener.v3.Listener/%s",
  "client_default_listener_resource_name_template": "%s",
  "authorities": {"a": {
    "client_listener_resource_name_template": "xdstp://a/envoy.config.listener.v3.Listener/%s",
    "xds_servers": [{"server_uri": "xds.test:1", "channel_creds": [{"type": "insecure"}]}]}}
}"#;

#[cfg(feature = "files")]
const YAML: &str = r#"version_info: "7"
resources:
- &one
  "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: one
  type: EDS
  eds_cluster_config: {eds_config: {ads: {}}}
  connect_timeout: 1.5s
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: one
  endpoints:
  - locality: {zone: a}
    load_balancing_weight: 1
    lb_endpoints:
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}
    - endpoint: {address: {pipe: {path: "/run/\u00e9"}}}
---
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: >-
    folded
    name
"#;

#[cfg(feature = "files")]
const JSON: &str = r#"[{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "one",
  "type": "STATIC", "loadAssignment": {"clusterName": "one"}, "connectTimeout": "3s"}]"#;

/// Resources with as many fields as there are decoders for.
#[cfg(feature = "files")]
pub(super) const RESOURCES: &str = include_str!("resources.yaml");

// === from a control plane ===

/// Good resources of `kind`, without their type.
pub(super) fn resources(kind: Kind) -> Vec<Vec<u8>> {
    of_kind(kind).into_iter().map(|raw| raw.value).collect()
}

pub(super) fn wrapped() -> Vec<Vec<u8>> {
    let wrapped = |raw: Any| wrapper(raw).encode_to_vec();
    all().into_iter().map(wrapped).collect()
}

pub(super) fn responses() -> Vec<Vec<u8>> {
    let response = |kind| DiscoveryResponse {
        version_info: "1".to_owned(),
        nonce: "1".to_owned(),
        type_url: type_url(kind).to_owned(),
        resources: of_kind(kind),
        ..DiscoveryResponse::default()
    };
    KINDS.map(|kind| response(kind).encode_to_vec()).into()
}

pub(super) fn delta_responses() -> Vec<Vec<u8>> {
    let response = |kind| DeltaDiscoveryResponse {
        nonce: "1".to_owned(),
        type_url: type_url(kind).to_owned(),
        resources: of_kind(kind).into_iter().map(wrapper).collect(),
        removed_resources: vec![MISSING.to_owned()],
        ..DeltaDiscoveryResponse::default()
    };
    KINDS.map(|kind| response(kind).encode_to_vec()).into()
}

pub(super) fn load_responses() -> Vec<Vec<u8>> {
    let response = |send_all_clusters| LoadStatsResponse {
        clusters: vec!["one".to_owned(), MISSING.to_owned()],
        send_all_clusters,
        load_reporting_interval: Some(Duration {
            seconds: 10,
            nanos: 500,
        }),
        ..LoadStatsResponse::default()
    };
    [false, true]
        .map(|all| response(all).encode_to_vec())
        .into()
}

pub(super) fn endpoint_loads() -> Vec<Vec<u8>> {
    let load = CallLoad::new();
    load.cpu_utilization(0.5);
    load.named_metric("foo", 1.0);
    load.request_cost("rows", 3.0);
    let mut headers = HeaderMap::new();
    load.write(&mut headers);
    let binary = headers
        .into_iter()
        .map(|(_, value)| value.as_bytes().to_vec());
    let texts = [
        "TEXT cpu_utilization:0.3, named_metrics.foo:1e3",
        "JSON {\"cpuUtilization\": 0.3, \"named_metrics\": {\"foo\": \"1\"}}",
        "BIN CQAAAAAAAOA/",
    ];
    let texts = texts.map(|text| text.as_bytes().to_vec());
    // The message, without base64.
    let message = vec![0x09, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
    binary.chain(texts).chain([message]).collect()
}

/// What a response may speak of: every seed, and what is in none.
pub(super) fn watched() -> &'static [ResourceId] {
    static WATCHED: LazyLock<Vec<ResourceId>> = LazyLock::new(|| {
        let missing = KINDS.map(|kind| ResourceId::new(kind, MISSING));
        all().iter().map(id_of).chain(missing).collect()
    });
    &WATCHED
}

pub(super) fn secrets() -> Vec<Vec<u8>> {
    let inline = |text: String| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text)),
            ..DataSource::default()
        })
    };
    let issued = issued();
    let certificate = secret::Type::TlsCertificate(TlsCertificate {
        certificate_chain: inline(issued.chain_pem()),
        private_key: inline(issued.key_pem()),
        ..TlsCertificate::default()
    });
    let trust = secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: inline(authority().root_pem()),
        ..CertificateValidationContext::default()
    });
    let secret = |r#type| Secret {
        name: "default".to_owned(),
        r#type: Some(r#type),
    };
    [certificate, trust]
        .map(|r#type| secret(r#type).encode_to_vec())
        .into()
}

fn wrapper(raw: Any) -> Wrapper {
    Wrapper {
        name: id_of(&raw).name.to_string(),
        version: "1".to_owned(),
        resource: Some(raw),
        ..Wrapper::default()
    }
}

/// Which resource a seed is.
fn id_of(raw: &Any) -> ResourceId {
    let kind = KINDS
        .into_iter()
        .find(|&kind| type_url(kind) == raw.type_url);
    let kind = kind.expect("seeds are of these kinds");
    let decoded = decoder().decode(kind, raw).expect("seeds are good");
    ResourceId::new(kind, decoded.name)
}

fn all() -> Vec<Any> {
    KINDS.into_iter().flat_map(of_kind).collect()
}

fn of_kind(kind: Kind) -> Vec<Any> {
    #[cfg(feature = "files")]
    let written = {
        let of_kind = written().iter().filter(move |(id, _)| id.kind == kind);
        of_kind.map(|(_, raw)| raw.clone())
    };
    #[cfg(not(feature = "files"))]
    let written = [];
    rendered(kind).into_iter().chain(written).collect()
}

#[cfg(feature = "files")]
fn written() -> &'static [(ResourceId, Any)] {
    static WRITTEN: LazyLock<Vec<(ResourceId, Any)>> =
        LazyLock::new(|| crate::control::files::messages(RESOURCES, &**decoder()));
    &WRITTEN
}

/// What a control plane of the fakes sends.
fn rendered(kind: Kind) -> Vec<Any> {
    static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
        let plane = ControlPlane::in_memory();
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let tls = || {
            let tls = Tls::trust("default").present("default");
            tls.san(SanMatch::uri("spiffe://shop.example/greeter"))
        };
        let service = plane.service("greeter.shop:8080").version("v1").weight(90);
        let service = service.tls(tls()).least_request(3).max_requests(7);
        let service = service
            .endpoint_in(zone("a"), address(1))
            .endpoint(address(2));
        let service = service.drop_percent("all", 1.5).version("v2").weight(10);
        let service = service.endpoint_in(zone("b"), address(3));
        service
            .retry(Retry::on([Code::Unavailable]).times(3))
            .apply();
        plane
            .service("named.shop:1")
            .strict_dns("a.test", 80)
            .retry(Retry::conditions(["connect-failure", "5xx"]))
            .apply();
        plane
            .server(address(4))
            .tls(ListenerTls::present("default").require_client("default"))
            .rbac(Rbac::allow().policy("p", Permission::any(), Principal::identity("spiffe://a/b")))
            .apply();
        plane
    });
    let shared = PLANE.shared();
    let state = shared.state();
    let served = state.store.served("", type_url(kind), Names::All);
    served.iter().map(|raw| Any::clone(raw)).collect()
}

// === from here ===

pub(super) fn bootstraps() -> Vec<Vec<u8>> {
    vec![BOOTSTRAP.as_bytes().to_vec()]
}

pub(super) fn targets() -> Vec<Vec<u8>> {
    [
        "greeter.shop:8080",
        "xds:///greeter.shop:8080",
        "xds:greeter",
        "xds://a/greeter%2Fshop?x#y",
        "xdstp://a/envoy.config.listener.v3.Listener/b/c?k=v&l=w#f",
        "unix:/run/x",
        "[::1]:80",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

#[cfg(feature = "files")]
pub(super) fn files() -> Vec<Vec<u8>> {
    [YAML, JSON, RESOURCES]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

pub(super) fn snapshots() -> Vec<Vec<u8>> {
    let named = |raw: Any| (id_of(&raw), raw);
    let all = all().into_iter().map(named).collect();
    vec![snapshot::written(all), snapshot::written(Vec::new())]
}

// === identities ===

pub(super) fn pem() -> Vec<Vec<u8>> {
    let issued = issued();
    let all = issued.chain_pem() + &issued.key_pem();
    vec![all.into_bytes(), authority().root_pem().into_bytes()]
}

pub(super) fn bundle_maps() -> Vec<Vec<u8>> {
    let pem = authority().root_pem();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = serde_json::json!({"kty": "EC", "use": "x509-svid", "x5c": [base64]});
    let bundle = serde_json::json!({"spiffe_sequence": 1, "keys": [key]});
    let map = serde_json::json!({"trust_domains": {"shop.example": bundle}});
    vec![map.to_string().into_bytes()]
}

pub(super) fn certificates() -> Vec<Vec<u8>> {
    let pem = issued().chain_pem();
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).expect("it was just made");
    vec![leaf.to_vec()]
}

pub(super) fn istio_ca() -> Vec<Vec<u8>> {
    let answer = ca::CertificateResponse {
        cert_chain: vec![issued().chain_pem(), authority().root_pem()],
    };
    vec![answer.encode_to_vec()]
}

fn authority() -> &'static CertificateAuthority {
    static AUTHORITY: LazyLock<CertificateAuthority> =
        LazyLock::new(|| CertificateAuthority::new("root"));
    &AUTHORITY
}

fn issued() -> Issued {
    authority().issue(Leaf::spiffe("spiffe://shop.example/greeter"))
}

// === questions ===

pub(super) fn status_requests() -> Vec<Vec<u8>> {
    let request = |exclude_resource_contents| ClientStatusRequest {
        exclude_resource_contents,
        ..ClientStatusRequest::default()
    };
    [false, true]
        .map(|exclude| request(exclude).encode_to_vec())
        .into()
}
