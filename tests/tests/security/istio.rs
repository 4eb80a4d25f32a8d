//! The inbound listener as istiod sends it to proxyless servers: enforced end to end.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{TransportSocket, TypedExtensionConfig, transport_socket},
            listener::v3::{FilterChain, Listener},
            rbac::v3::{
                Permission, Policy, Principal, Rbac as Rules,
                permission::{Rule, Set as PermissionSet},
                principal::{Authenticated, Identifier, Set as PrincipalSet},
                rbac::{
                    Action, AuditLoggingOptions,
                    audit_logging_options::{AuditCondition, AuditLoggerConfig},
                },
            },
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::{
                http::{fault::v3::HttpFault, rbac::v3::Rbac},
                network::http_connection_manager::v3::http_connection_manager::RouteSpecifier,
            },
            transport_sockets::tls::v3::{
                CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
                DownstreamTlsContext,
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            },
        },
        r#type::matcher::v3::{
            PathMatcher, StringMatcher, path_matcher, string_matcher::MatchPattern,
        },
    },
    google::protobuf::{Any, BoolValue},
};
use mesh_core::{
    Mesh,
    authz::AuditEvent,
    bootstrap::{Bootstrap, ServerConfig},
    control::xds::{
        FilterRegistry, RbacDecoder,
        decode::{Message, SharedLogger},
    },
    identity::{InCode, Trust},
    testing::{CertificateAuthority, ControlPlane, Leaf},
};
use mesh_tests::{
    fixture::SERVICE,
    load,
    running::{Running, port},
    secured::{SERVER, Side, client_tls, echo_server},
    xds,
};
use mesh_tonic::{Channel, ServingMode};
use parking_lot::Mutex;
use tonic::Code;

static AUDIT: Message = Message {
    name: "mesh.test.Audit",
    fields: &[],
};

/// Decisions that were audited: who, by which filter and policy, and whether it may.
type Audited = Arc<Mutex<Vec<(String, String, String, bool)>>>;

/// A server as istiod configures it.
struct World {
    control_plane: ControlPlane,
    ca: CertificateAuthority,
    server: Mesh,
    running: Running,
    audited: Audited,
}

impl World {
    async fn start(listener: impl FnOnce(&str) -> FilterChain) -> Self {
        let control_plane = ControlPlane::start().await;
        let ca = CertificateAuthority::new("root");
        let certificates = Arc::new(InCode::new());
        certificates.present(ca.identity(SERVER));
        certificates.trust_in(Trust::Roots(ca.roots()));
        let audited = Audited::default();
        let heard = Arc::clone(&audited);
        let logger = move |event: &AuditEvent<'_>| {
            let text = [event.principal, event.policy_name, event.matched_rule];
            let [who, filter, policy] = text.map(str::to_owned);
            heard.lock().push((who, filter, policy, event.authorized));
        };
        let rbac = RbacDecoder::standard().with_logger(SharedLogger::new(&AUDIT, Arc::new(logger)));
        let server = ServerConfig::insecure(control_plane.address().unwrap().to_string());
        let bootstrap = Bootstrap::builder()
            .server(server)
            .node_id("sidecar~127.0.0.1~server.shop~shop.svc.cluster.local")
            .server_listener_template("xds.istio.io/grpc/lds/inbound/%s");
        let server = Mesh::builder()
            .bootstrap(bootstrap.build().unwrap())
            .filters(FilterRegistry::standard().register(rbac))
            .certificates("default", certificates as _)
            .build()
            .await
            .unwrap();
        let socket = port().await;
        let address = socket.local_addr().unwrap();
        let name = format!("xds.istio.io/grpc/lds/inbound/{address}");
        control_plane.set(&Listener {
            // What istiod says of the direction (inbound).
            traffic_direction: 1,
            ..xds::server_listener(&name, address, vec![listener(&name)])
        });
        let mut running = Running::start(echo_server(&server), socket).await;
        let mode = running.until(|_| true).await;
        assert_eq!(mode, ServingMode::Serving);
        Self {
            control_plane,
            ca,
            server,
            running,
            audited,
        }
    }

    /// A channel of a client of this identity, over mTLS.
    async fn client(&self, node: &str, id: &'static str) -> (Side, Channel) {
        let side = Side::start(&self.control_plane, node, id, &self.ca).await;
        let service = self.control_plane.service(SERVICE).version("v1");
        let service = service.endpoint(self.running.address);
        service.tls(client_tls()).apply();
        let channel = side.channel();
        (side, channel)
    }
}

async fn code(channel: &Channel) -> Code {
    match load::call(channel).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

/// One chain: two filters for authorization, one for faults, the router, and one route.
fn chain(name: &str, deny: Rules, allow: Rules) -> FilterChain {
    let rbac = |name: &str, rules: Rules| {
        let config = Rbac {
            rules: Some(rules),
            ..Rbac::default()
        };
        xds::http_filter(name, &config)
    };
    let filters = vec![
        rbac("envoy.filters.http.rbac.DENY", deny),
        rbac("envoy.filters.http.rbac", allow),
        xds::http_filter("envoy.filters.http.fault", &HttpFault::default()),
    ];
    let routes = RouteConfiguration {
        name: "inbound|8080||".to_owned(),
        ..xds::routes("", "*", vec![xds::served("/")])
    };
    FilterChain {
        name: name.to_owned(),
        ..xds::server_chain(filters, RouteSpecifier::RouteConfig(routes))
    }
}

fn mtls(chain: FilterChain) -> FilterChain {
    let instance = |certificate: &str| {
        Some(CertificateProviderPluginInstance {
            instance_name: "default".to_owned(),
            certificate_name: certificate.to_owned(),
        })
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            ca_certificate_provider_instance: instance("ROOTCA"),
            ..CertificateValidationContext::default()
        }),
        ..CombinedCertificateValidationContext::default()
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_provider_instance: instance("default"),
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(
                combined,
            )),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: Some(BoolValue { value: true }),
        ..DownstreamTlsContext::default()
    };
    FilterChain {
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(xds::pack(
                &context,
            ))),
        }),
        ..chain
    }
}

/// As istiod writes an AuthorizationPolicy: everything in lists of lists.
fn rules(action: Action, policies: &[(&str, MatchPattern, Option<&str>)]) -> Rules {
    let policy = |(name, who, path): &(&str, MatchPattern, Option<&str>)| {
        let who = Identifier::Authenticated(Authenticated {
            principal_name: Some(string(who.clone())),
        });
        let path = match path {
            Some(path) => Rule::UrlPath(PathMatcher {
                rule: Some(path_matcher::Rule::Path(string(MatchPattern::Exact(
                    (*path).to_owned(),
                )))),
            }),
            None => Rule::Any(true),
        };
        let policy = Policy {
            permissions: vec![permission(Rule::AndRules(PermissionSet {
                rules: vec![permission(Rule::OrRules(PermissionSet {
                    rules: vec![permission(path)],
                }))],
            }))],
            principals: vec![principal(Identifier::AndIds(PrincipalSet {
                ids: vec![principal(Identifier::OrIds(PrincipalSet {
                    ids: vec![principal(who)],
                }))],
            }))],
            ..Policy::default()
        };
        (format!("ns[shop]-policy[{name}]-rule[0]"), policy)
    };
    let logger = TypedExtensionConfig {
        name: "audit".to_owned(),
        typed_config: Some(Any {
            type_url: format!("type.googleapis.com/{}", AUDIT.name),
            value: Vec::new(),
        }),
    };
    Rules {
        action: action.into(),
        policies: policies.iter().map(policy).collect(),
        audit_logging_options: Some(AuditLoggingOptions {
            audit_condition: AuditCondition::OnDenyAndAllow.into(),
            logger_configs: vec![AuditLoggerConfig {
                audit_logger: Some(logger),
                is_optional: false,
            }],
        }),
    }
}

fn string(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    }
}

fn permission(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn principal(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

#[tokio::test]
async fn inbound_mtls() {
    const UNARY: &str = "/mesh.test.Echo/Unary";
    let exact = |id: &str| MatchPattern::Exact(format!("spiffe://cluster.local/ns/{id}"));
    let prefix = |id: &str| MatchPattern::Prefix(format!("spiffe://cluster.local/ns/{id}"));
    let deny = rules(
        Action::Deny,
        &[
            ("deny-one", exact("web/sa/bad"), None),
            ("deny-ns", prefix("evil/"), Some(UNARY)),
        ],
    );
    let allow = rules(
        Action::Allow,
        &[
            ("allow-one", exact("web/sa/cart"), Some(UNARY)),
            ("allow-ns", prefix("web/sa/b"), None),
        ],
    );
    let world = World::start(|_| mtls(chain("inbound-mtls", deny, allow))).await;
    const DENY: &str = "envoy.filters.http.rbac.DENY";
    const ALLOW: &str = "envoy.filters.http.rbac";
    // Who, what the filter for denials finds, and what the one for permissions does.
    type Found = Option<(&'static str, bool)>;
    let cases: [(&'static str, (&str, bool), Found); 6] = [
        ("web/sa/cart", ("", true), Some(("allow-one", true))),
        ("web/sa/books", ("", true), Some(("allow-ns", true))),
        // Allowed by one filter, and denied by the other before.
        ("web/sa/bad", ("deny-one", false), None),
        ("evil/sa/x", ("deny-ns", false), None),
        ("web/sa/other", ("", true), Some(("", false))),
        // An exact name is not a prefix.
        ("web/sa/cart2", ("", true), Some(("", false))),
    ];
    for (number, (who, denial, permission)) in cases.into_iter().enumerate() {
        let id: &'static str = format!("spiffe://cluster.local/ns/{who}").leak();
        let (_side, channel) = world.client(&format!("client-{number}"), id).await;
        let expected = match permission {
            Some((_, true)) => Code::Ok,
            _ => Code::PermissionDenied,
        };
        assert_eq!(code(&channel).await, expected, "{who}");
        let rule = |name: &str| match name {
            "" => String::new(),
            name => format!("ns[shop]-policy[{name}]-rule[0]"),
        };
        let mut heard = vec![(id.to_owned(), DENY.to_owned(), rule(denial.0), denial.1)];
        heard.extend(
            permission.map(|(name, may)| (id.to_owned(), ALLOW.to_owned(), rule(name), may)),
        );
        assert_eq!(std::mem::take(&mut *world.audited.lock()), heard, "{who}");
    }
    assert!(
        world
            .server
            .connections()
            .list()
            .iter()
            .all(|one| one.peer.tls.is_some())
    );

    // Nobody without a certificate gets that far.
    let io = tokio::net::TcpStream::connect(world.running.address)
        .await
        .unwrap();
    let (_send, http2) = h2::client::handshake(io).await.unwrap();
    assert!(mesh_tests::fixture::within(http2).await.is_err());
    assert!(world.audited.lock().is_empty());
    // And nobody of another authority.
    let other = CertificateAuthority::new("other")
        .issue(Leaf::spiffe("spiffe://cluster.local/ns/web/sa/cart"));
    let (side, channel) = world
        .client("other", "spiffe://cluster.local/ns/web/sa/cart")
        .await;
    side.present(other.identity()).await;
    load::until_failure_with(&channel, &["UnknownCA"]).await;
}

/// Without mTLS nobody has a name: what asks for one denies.
#[tokio::test]
async fn inbound_plaintext() {
    let named = |action| {
        let cart = MatchPattern::Exact("spiffe://cluster.local/ns/web/sa/cart".to_owned());
        rules(action, &[("cart", cart, None)])
    };
    let nothing = || rules(Action::Deny, &[]);
    let cases = [
        (nothing(), named(Action::Allow), Code::PermissionDenied),
        (named(Action::Deny), nothing(), Code::Ok),
    ];
    for (deny, allow, expected) in cases {
        let world = World::start(|_| chain("inbound-plaintext", deny, allow)).await;
        let mut client = world.running.client().await;
        let called = client.unary(mesh_tests::running::hello()).await;
        let code = called.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(code, expected);
        assert!(!world.audited.lock().is_empty());
    }
}
