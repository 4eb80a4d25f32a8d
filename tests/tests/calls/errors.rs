//! What a failed call says, to a generated client and to whoever asks the error itself.

use std::error::Error as _;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
        },
        core::v3::{
            AggregatedConfigSource, ConfigSource, TransportSocket,
            config_source::ConfigSourceSpecifier, transport_socket::ConfigType,
        },
        route::v3::route_match::PathSpecifier,
    },
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, UpstreamTlsContext,
        certificate_validation_context::SystemRootCerts, common_tls_context::ValidationContextType,
    },
};
use envoy_types::pb::google::protobuf::Any;
use mesh_core::{
    Code,
    config::Address,
    telemetry::Cause,
    testing::{Retry, Route, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, SERVICE, echo, within},
    way::{Ask, Call, Way, cause},
};
use mesh_tonic::{Channel, Error};
use prost::{Message, Name};
use tonic::{Status, codegen::Service};

use crate::routing;

/// A call without a generated client, which would keep the status alone.
async fn bare_call(channel: &Channel) -> Result<(), Error> {
    let mut request = http::Request::post("/mesh.test.Echo/Unary")
        .body(tonic::body::Body::empty())
        .unwrap();
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    within(Service::call(&mut channel.clone(), request))
        .await
        .map(drop)
}

#[tokio::test]
async fn an_error_leads_to_its_status_and_tells_where() {
    let backends = [Backend::start("a").await, Backend::start("b").await];
    let fixture = Fixture::start().await;
    fixture
        .serve(&[&backends[0], &backends[1]])
        .retry(Retry::on([Code::Internal]).times(1))
        .apply();
    for backend in &backends {
        backend.answer(|call| call.reset(h2::Reason::INTERNAL_ERROR));
    }
    let error = bare_call(&fixture.channel()).await.unwrap_err();
    let status = error.source().unwrap().downcast_ref::<Status>().unwrap();
    assert_eq!(status.code(), tonic::Code::Internal);
    assert_eq!(status.message(), error.to_string());
    assert_eq!(error.status().code(), tonic::Code::Internal);
    assert!(
        status.source().is_some(),
        "the status leads on to the cause"
    );

    let cause = error.cause();
    assert_eq!(cause.code(), Code::Internal);
    assert_eq!(cause.cause(), Cause::Reset);
    assert_eq!(cause.route(), Some("#0"));
    let cluster = cluster_name(SERVICE, "v1");
    assert_eq!(cause.cluster(), Some(&*cluster));
    let mut tried = cause.endpoints_tried().to_vec();
    tried.sort();
    let mut all = backends
        .each_ref()
        .map(|backend| Address::Socket(backend.address()));
    all.sort();
    assert_eq!(tried, all);
    assert!(!cause.is_timeout() && !cause.is_shed() && !cause.is_no_endpoint());

    // The same through a generated client.
    let status = within(fixture.client().unary(echo("hi")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
    let text = status.message();
    for part in ["INTERNAL", "route #0", &cluster] {
        assert!(
            text.to_lowercase().contains(&part.to_lowercase()),
            "{part}: {text}"
        );
    }
    for backend in &backends {
        assert!(text.contains(&backend.address().to_string()), "{text}");
    }
}

async fn no_route_fails_at_once(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::over(way).await;
    fixture.serve(&[&backend]).apply();
    let elsewhere = routing::path(PathSpecifier::Path("/other/Method".to_owned()));
    let routes = routing::configuration(vec![routing::to("v1", elsewhere)]);
    fixture.control_plane.set(&routes);
    let status = fixture.call().await.unwrap_err();
    assert_eq!(cause(&status).cause(), Cause::NoRoute);
    assert_eq!(cause(&status).route(), None);
    assert_eq!(cause(&status).code(), Code::Unavailable);
    assert!(
        status.message().contains("/mesh.test.Echo/Unary"),
        "{status}"
    );
    assert!(status.message().contains("no route"), "{status}");
}

async fn no_endpoint_fails_at_once_and_says_why(way: Way) {
    let fixture = Fixture::over(way).await;
    fixture.service().version("v1").apply();
    let caller = fixture.caller();
    let status = within(caller.call()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("no endpoints"), "{status}");
    assert!(
        status.message().contains(&cluster_name(SERVICE, "v1")),
        "{status}"
    );
    assert!(cause(&status).is_no_endpoint());
    assert_eq!(cause(&status).cause(), Cause::NoEndpoint);
    assert_eq!(cause(&status).endpoints_tried(), []);

    // Endpoints that refuse connections.
    let refusing = Backend::refusing("refusing");
    let address = refusing.address();
    fixture.service().endpoint(address).apply().acked().await;
    let status = within(caller.call()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let text = status.message();
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

#[tokio::test]
async fn invalid_targets_make_no_channel() {
    let fixture = Fixture::start().await;
    for (target, reason) in [
        ("", "empty"),
        ("xds:///", "names nothing"),
        ("xds://nobody/echo", "nobody"),
        ("no spaces please", "authority"),
        ("a/b", ""),
        ("dns:///echo:80", ""),
    ] {
        let error = mesh_tonic::channel(&fixture.mesh, target).map(drop);
        let error = match error {
            Err(error) => error,
            Ok(()) => panic!("{target:?} is accepted"),
        };
        assert_eq!(error.target, target);
        let text = error.to_string();
        assert!(text.contains(reason), "{target:?}: {text}");
        assert!(text.contains(&format!("{target:?}")), "{target:?}: {text}");
    }
    assert_eq!(fixture.control_plane.connections(), 0);
}

/// A cluster that asks for TLS, which its endpoint does not speak: its calls fail.
async fn tls_is_never_replaced_by_plaintext(way: Way) {
    let plaintext = Backend::start("tls").await;
    let other = Backend::start("plain").await;
    let fixture = Fixture::over(way).await;
    fixture
        .service()
        .version("tls")
        .endpoint(plaintext.address())
        .version("plain")
        .weight(0)
        .endpoint(other.address())
        .route(Route::prefix("").header("x-to", "plain").to("plain"))
        .apply();
    let tls = way.cluster(tls_cluster(&cluster_name(SERVICE, "tls")));
    fixture.control_plane.set(&tls);

    let status = fixture.call().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("no TLS with"), "{status}");

    // Waiting for ready does not weaken it.
    let ask = Ask::new("hi").wait_for_ready(true);
    let ask = ask.timeout(std::time::Duration::from_millis(300));
    let status = fixture.ask(ask).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(plaintext.calls(), 0);

    // The service's other cluster is not affected.
    let ask = Ask::new("hi").header("x-to", "plain");
    assert_eq!(fixture.ask(ask).await.unwrap().server, "plain");
}

/// An update that turns TLS on withdraws the endpoints that were reached without it.
async fn tls_that_is_turned_on_ends_plaintext(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let caller = fixture.caller();
    within(caller.call()).await.unwrap();
    let tls = way.cluster(tls_cluster(&cluster_name(SERVICE, "v1")));
    fixture.control_plane.set(&tls).acked().await;
    for _ in 0..20 {
        let status = within(caller.call()).await.unwrap_err();
        assert!(status.message().contains("TLS"), "{status}");
    }
    assert_eq!(backend.calls(), 1);
    backend
        .until("the connection is closed", |seen| seen.open == 0)
        .await;
}

fn tls_cluster(name: &str) -> Cluster {
    let tls = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    system_root_certs: Some(SystemRootCerts::default()),
                    ..CertificateValidationContext::default()
                },
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ConfigSource {
                config_source_specifier: Some(ConfigSourceSpecifier::Ads(
                    AggregatedConfigSource {},
                )),
                ..ConfigSource::default()
            }),
            service_name: String::new(),
        }),
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(ConfigType::TypedConfig(Any {
                type_url: UpstreamTlsContext::type_url(),
                value: tls.encode_to_vec(),
            })),
        }),
        ..Cluster::default()
    }
}

every_way!(
    no_route_fails_at_once,
    no_endpoint_fails_at_once_and_says_why,
    tls_is_never_replaced_by_plaintext,
    tls_that_is_turned_on_ends_plaintext,
);
