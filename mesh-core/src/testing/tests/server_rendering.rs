//! TLS and servers as resources, and what bootstraps say of them.

use std::{net::Ipv4Addr, panic::catch_unwind, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{TransportSocket, transport_socket},
            listener::v3::{FilterChain, Listener, filter::ConfigType},
            rbac::v3::{permission::Rule, principal::Identifier, rbac::Action as RbacAction},
            route::v3::{RouteConfiguration, route::Action},
        },
        extensions::{
            filters::{
                http::rbac::v3::{Rbac as Filter, RbacPerRoute},
                network::http_connection_manager::v3::{
                    HttpConnectionManager, http_connection_manager::RouteSpecifier, http_filter,
                },
            },
            transport_sockets::tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
                UpstreamTlsContext, common_tls_context::ValidationContextType,
                subject_alt_name_matcher::SanType,
            },
        },
        r#type::matcher::v3::string_matcher::MatchPattern,
    },
    google::protobuf::Any,
};
use prost::{Message, Name};

use super::{NODE, address, rendering::served};
use crate::{
    bootstrap::{Bootstrap, FileWatcherConfig},
    config::{Kind, SanKind, SourceType},
    testing::{
        ConnectionChain, ControlPlane, ListenerTls, Permission, Principal, Rbac, Route, SanMatch,
        Tls, render::type_url, server_listener_name, store::Names,
    },
};

fn unpack<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(&any.value[..]).unwrap()
}

fn context<M: Message + Name + Default>(socket: Option<&TransportSocket>) -> Option<M> {
    socket.map(|socket| {
        assert_eq!(socket.name, "envoy.transport_sockets.tls");
        let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
            panic!("no context");
        };
        unpack(any)
    })
}

fn identity(common: &CommonTlsContext) -> Option<&str> {
    let identity = common.tls_certificate_provider_instance.as_ref()?;
    Some(&identity.instance_name)
}

fn validation(common: &CommonTlsContext) -> Option<CertificateValidationContext> {
    match common.validation_context_type.clone()? {
        ValidationContextType::ValidationContext(validation) => Some(validation),
        _ => panic!("another kind of validation"),
    }
}

fn roots(validation: &CertificateValidationContext) -> Option<&str> {
    let roots = validation.ca_certificate_provider_instance.as_ref()?;
    Some(&roots.instance_name)
}

fn manager(chain: &FilterChain) -> HttpConnectionManager {
    let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
        panic!("no connection manager");
    };
    unpack(any)
}

fn filters(manager: &HttpConnectionManager) -> Vec<(&str, &Any)> {
    let filters = manager.http_filters.iter();
    filters
        .map(|filter| match &filter.config_type {
            Some(http_filter::ConfigType::TypedConfig(any)) => (&*filter.name, any),
            _ => panic!("no filter configuration"),
        })
        .collect()
}

#[test]
fn clusters_name_certificate_providers() {
    let control_plane = ControlPlane::in_memory();
    let tls = |tls: Option<Tls>| {
        control_plane.service("s").tls(tls).apply();
        let cluster: Cluster = served(&control_plane, "s");
        context::<UpstreamTlsContext>(cluster.transport_socket.as_ref())
    };
    let mutual = Tls::trust("roots")
        .present("own")
        .san(SanMatch::uri("spiffe://a/b"))
        .san(SanMatch::prefix(SanKind::Any, "x"))
        .sni("name");
    let rendered = tls(Some(mutual.clone())).unwrap();
    assert_eq!(rendered.sni, "name");
    let common = rendered.common_tls_context.unwrap();
    assert_eq!(identity(&common), Some("own"));
    let rendered = validation(&common).unwrap();
    assert_eq!(roots(&rendered), Some("roots"));
    assert_eq!(rendered.system_root_certs, None);
    let sans = &rendered.match_typed_subject_alt_names;
    // A matcher of every kind is one for each.
    assert_eq!(sans.len(), 5);
    assert_eq!(sans[0].san_type(), SanType::Uri);
    let pattern = sans[0].matcher.as_ref().unwrap().match_pattern.clone();
    assert_eq!(
        pattern,
        Some(MatchPattern::Exact("spiffe://a/b".to_owned()))
    );

    let rendered = tls(Some(mutual.deprecated_sans())).unwrap();
    let rendered = validation(&rendered.common_tls_context.unwrap()).unwrap();
    assert_eq!(rendered.match_typed_subject_alt_names, []);
    #[allow(deprecated)]
    let sans = rendered.match_subject_alt_names;
    assert_eq!(sans.len(), 2);

    let system = Tls::trust_system()
        .auto_host_sni()
        .auto_sni_san_validation();
    let rendered = tls(Some(system)).unwrap();
    assert!(rendered.auto_host_sni && rendered.auto_sni_san_validation);
    let common = rendered.common_tls_context.unwrap();
    assert_eq!(identity(&common), None);
    assert!(validation(&common).unwrap().system_root_certs.is_some());

    let given = UpstreamTlsContext {
        sni: "given".to_owned(),
        ..UpstreamTlsContext::default()
    };
    assert_eq!(tls(Some(Tls::given(given.clone()))), Some(given));
    assert_eq!(tls(None), None);
}

#[test]
fn a_plain_server_takes_everything() {
    let control_plane = ControlPlane::in_memory();
    let push = control_plane.server(address(7)).apply();
    assert_eq!(push.kinds(), [Kind::Listener, Kind::Route]);

    let name = server_listener_name(address(7));
    assert_eq!(name, "server/127.0.0.1:7");
    let listener: Listener = served(&control_plane, &name);
    assert!(listener.address.is_some() && listener.default_filter_chain.is_none());
    let [chain] = &listener.filter_chains[..] else {
        panic!("{} chains", listener.filter_chains.len());
    };
    assert_eq!(chain.transport_socket, None);
    let manager = manager(chain);
    assert_eq!(filters(&manager).len(), 1);
    let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier else {
        panic!("no rds");
    };
    let routes: RouteConfiguration = served(&control_plane, &rds.route_config_name);
    let [host] = &routes.virtual_hosts[..] else {
        panic!("{} hosts", routes.virtual_hosts.len());
    };
    assert_eq!(host.domains, ["*"]);
    assert_eq!(host.routes.len(), 1);
    let action = host.routes[0].action.as_ref();
    assert!(matches!(action, Some(Action::NonForwardingAction(_))));
}

#[test]
fn chains_have_matches_and_tls() {
    let control_plane = ControlPlane::in_memory();
    let server = || control_plane.server(address(7));
    let listener = || -> Listener { served(&control_plane, "server/127.0.0.1:7") };
    let tls = |chain: &FilterChain| {
        let context = context::<DownstreamTlsContext>(chain.transport_socket.as_ref())?;
        let common = context.common_tls_context.unwrap();
        let validation = validation(&common);
        Some((
            identity(&common).unwrap().to_owned(),
            validation.map(|validation| roots(&validation).unwrap().to_owned()),
            context.require_client_certificate.unwrap().value,
        ))
    };
    let expected = |roots: Option<&str>, required| {
        Some(("own".to_owned(), roots.map(str::to_owned), required))
    };
    let own = || ListenerTls::present("own");
    server().tls(own()).apply();
    assert_eq!(tls(&listener().filter_chains[0]), expected(None, false));
    server().tls(own().ask_client("roots")).apply();
    let chain = &listener().filter_chains[0];
    assert_eq!(tls(chain), expected(Some("roots"), false));
    server().tls(own().require_client("roots")).apply();
    let chain = &listener().filter_chains[0];
    assert_eq!(tls(chain), expected(Some("roots"), true));

    server()
        .clear_chains()
        .chain(
            ConnectionChain::new()
                .name("near")
                .destination(Ipv4Addr::LOCALHOST, 32)
                .source_type(SourceType::SameIpOrLoopback)
                .source(Ipv4Addr::new(10, 0, 0, 0), 8)
                .source_port(99),
        )
        .default_chain(ConnectionChain::new().tls(own()))
        .apply();
    let rendered = listener();
    let [near] = &rendered.filter_chains[..] else {
        panic!("{} chains", rendered.filter_chains.len());
    };
    let rule = near.filter_chain_match.as_ref().unwrap();
    assert_eq!(rule.source_prefix_ranges[0].address_prefix, "10.0.0.0");
    assert_eq!(rule.prefix_ranges[0].prefix_len.unwrap().value, 32);
    assert_eq!((&*rule.source_ports, rule.source_type), (&[99][..], 1));
    let default = rendered.default_filter_chain.unwrap();
    assert_eq!(tls(&default), expected(None, false));

    server().plaintext().default_chain(None).apply();
    assert_eq!(tls(&listener().filter_chains[0]), None);
    assert_eq!(listener().default_filter_chain, None);
}

#[test]
fn servers_have_policies_and_routes_others() {
    let control_plane = ControlPlane::in_memory();
    let server = || control_plane.server(address(7));
    let rest = Permission::path_prefix("/a").negated();
    let readers = Principal::one([
        Principal::identity("spiffe://a"),
        Principal::authenticated(),
    ]);
    server()
        .rbac(Rbac::deny().policy("bad", Permission::any(), Principal::header("x", "y")))
        .rbac_filter("allow", Rbac::allow().policy("good", rest, readers))
        .route(Route::path("/free").rbac(Rbac::off()))
        .route(Route::prefix("/closed").rbac(Rbac::allow()))
        .domains(["greeter"])
        .only_routes(true)
        .inline_routes(true)
        .apply();
    let listener: Listener = served(&control_plane, "server/127.0.0.1:7");
    let manager = manager(&listener.filter_chains[0]);
    let found = filters(&manager);
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["rbac", "allow", "envoy.filters.http.router"]);
    let rules = unpack::<Filter>(found[0].1).rules.unwrap();
    assert_eq!(rules.action(), RbacAction::Deny);
    let rules = unpack::<Filter>(found[1].1).rules.unwrap();
    let good = &rules.policies["good"];
    assert!(matches!(good.permissions[0].rule, Some(Rule::NotRule(_))));
    let Some(Identifier::OrIds(ids)) = &good.principals[0].identifier else {
        panic!("no set");
    };
    let Some(Identifier::Authenticated(anybody)) = &ids.ids[1].identifier else {
        panic!("no identity");
    };
    assert_eq!(anybody.principal_name, None);

    let Some(RouteSpecifier::RouteConfig(routes)) = &manager.route_specifier else {
        panic!("no routes");
    };
    let host = &routes.virtual_hosts[0];
    assert_eq!(
        (&*host.domains, host.routes.len()),
        (&["greeter".to_owned()][..], 2)
    );
    let own: RbacPerRoute = unpack(&host.routes[0].typed_per_filter_config["rbac"]);
    assert_eq!(own.rbac, None);
    let own: RbacPerRoute = unpack(&host.routes[1].typed_per_filter_config["rbac"]);
    assert_eq!(own.rbac.unwrap().rules.unwrap().action(), RbacAction::Allow);

    server().clear_http_filters().clear_routes().apply();
    let listener: Listener = served(&control_plane, "server/127.0.0.1:7");
    let manager = self::manager(&listener.filter_chains[0]);
    assert_eq!(filters(&manager).len(), 1);
}

#[test]
fn a_server_that_is_removed_leaves_nothing() {
    let control_plane = ControlPlane::in_memory();
    control_plane.server(address(1)).apply();
    control_plane.server(address(2)).apply();
    let left = || {
        [Kind::Listener, Kind::Route].map(|kind| {
            let left = control_plane.peek(NODE, type_url(kind), Names::All);
            left.len()
        })
    };
    assert_eq!(left(), [2, 2]);
    // The routes move into the listener.
    control_plane.server(address(1)).inline_routes(true).apply();
    assert_eq!(left(), [2, 1]);
    control_plane.server(address(1)).remove();
    assert_eq!(left(), [1, 1]);
    control_plane.view(NODE).server(address(2)).remove();
    assert_eq!(left(), [0, 0]);
}

#[test]
fn bootstraps_name_providers_and_listeners() {
    let control_plane = ControlPlane::in_memory();
    let roots = FileWatcherConfig::new()
        .ca_certificate_file("/roots")
        .refresh_interval(Duration::from_millis(1500));
    let own = roots.clone().identity_files("/cert", "/key");
    control_plane.certificate_provider("roots", roots.clone());
    control_plane.certificate_provider("both", roots);
    control_plane
        .view(NODE)
        .certificate_provider("both", own.clone());
    for node in [NODE, "another"] {
        let built = control_plane.bootstrap(node);
        let parsed = Bootstrap::from_json(&control_plane.bootstrap_json(node)).unwrap();
        assert_eq!(built, parsed);
        assert_eq!(built.certificate_providers.len(), 2);
        let template = built.server_listener_template.as_deref().unwrap();
        let name = template.replace("%s", "127.0.0.1:7");
        assert_eq!(name, server_listener_name(address(7)));
    }
    let of = |node| control_plane.bootstrap(node).certificate_providers;
    assert_ne!(of(NODE)["both"], of("another")["both"]);

    let no_file = || {
        let none = FileWatcherConfig::new();
        ControlPlane::in_memory().certificate_provider("empty", none);
    };
    assert!(catch_unwind(no_file).is_err());
}
