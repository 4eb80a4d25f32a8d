use envoy_types::pb::envoy::{
    config::core::v3::ExtensionConfigSource,
    extensions::filters::{
        http::fault::v3::HttpFault, network::http_connection_manager::v3::HttpConnectionManager,
    },
};

use super::{super::fixtures::*, *};
use crate::{
    config::{Finding, Listener, RouteConfig, Treatment},
    control::xds::FilterRegistry,
    filter::FaultSpec,
};

const UNKNOWN: &str = "type.googleapis.com/some.vendor.Filter";

fn fault() -> Any {
    any(&HttpFault::default())
}

fn unknown() -> Any {
    named_any(UNKNOWN, vec![])
}

fn in_struct(wrapper: &str, type_name: &str) -> Any {
    let type_url = format!("type.googleapis.com/{type_name}");
    let length = u8::try_from(type_url.len()).unwrap();
    // Field 1 is the type, field 2 an empty struct.
    let value = [&[0x0a, length], type_url.as_bytes(), &[0x12, 0]].concat();
    named_any(&format!("type.googleapis.com/{wrapper}"), value)
}

fn optional(filter: WireFilter) -> WireFilter {
    WireFilter {
        is_optional: true,
        ..filter
    }
}

fn listener(
    http_filters: Vec<WireFilter>,
    registry: &FilterRegistry,
) -> Result<(Listener, Vec<Finding>), FieldError> {
    let manager = HttpConnectionManager {
        http_filters,
        ..manager()
    };
    decode_listener(api_listener("l", manager), registry)
}

/// A filter that takes JSON, and one that is for servers.
#[derive(Debug)]
struct Custom(Side);

const CUSTOM: Message = Message {
    name: "test.Custom",
    fields: &[],
};

impl FilterDecoder for Custom {
    fn messages(&self) -> &'static [&'static Message] {
        &[&CUSTOM]
    }

    fn side(&self) -> Side {
        self.0
    }

    fn accepts_struct(&self) -> bool {
        true
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        match config {
            Extension::Message(_) => Err(FieldError::new("only JSON")),
            Extension::Struct(_) => Ok(FilterConfig(Arc::new(Disabled))),
        }
    }
}

#[test]
fn a_chain_keeps_order_and_drops_the_terminal_filter() {
    let chain = vec![filter("b", fault()), filter("a", fault()), router()];
    let (listener, findings) = listener(chain, &FilterRegistry::standard()).unwrap();
    let names: Vec<_> = listener.http.filters.iter().map(|f| &*f.name).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(findings, []);
}

#[test]
fn what_is_refused() {
    let registry = FilterRegistry::standard().register(Custom(Side::Server));
    let discovered = WireFilter {
        name: "d".into(),
        config_type: Some(ConfigType::ConfigDiscovery(ExtensionConfigSource::default())),
        ..Default::default()
    };
    let bare = WireFilter {
        name: "n".into(),
        ..Default::default()
    };
    let fault_name = "envoy.extensions.filters.http.fault.v3.HTTPFault";
    let xds = "xds.type.v3.TypedStruct";
    let cases = [
        (vec![], "http_filters", "must not be empty"),
        (
            vec![optional(filter("x", unknown()))],
            "http_filters",
            "must not be empty",
        ),
        (
            vec![filter("", fault()), router()],
            "http_filters[0].name",
            "must not be empty",
        ),
        (
            vec![filter("x", fault()), filter("x", fault()), router()],
            "http_filters[1].name",
            r#""x" is the name of an earlier filter too"#,
        ),
        (
            vec![
                optional(filter("x", unknown())),
                filter("x", fault()),
                router(),
            ],
            "http_filters[1].name",
            r#""x" is the name of an earlier filter too"#,
        ),
        (
            vec![filter("x", fault())],
            "http_filters[0]",
            r#""x" is the last filter and not a terminal one"#,
        ),
        (
            vec![router(), filter("x", fault())],
            "http_filters[0]",
            r#""router" is a terminal filter and not the last"#,
        ),
        (
            vec![filter("x", unknown()), router()],
            "http_filters[0].typed_config",
            r#"no filter is known by "type.googleapis.com/some.vendor.Filter""#,
        ),
        (
            vec![filter("x", in_struct(xds, "some.vendor.Filter")), router()],
            "http_filters[0].typed_config",
            r#"no filter is known by "some.vendor.Filter", which "type.googleapis.com/xds"#,
        ),
        (
            vec![filter("x", named_any("", vec![])), router()],
            "http_filters[0].typed_config",
            "no type is given",
        ),
        (
            vec![filter("x", in_struct(xds, fault_name)), router()],
            "http_filters[0].typed_config",
            "this filter takes its own message, not a TypedStruct",
        ),
        (
            vec![
                filter("x", named_any(&format!("t/{xds}"), vec![0x0a, 9])),
                router(),
            ],
            "http_filters[0].typed_config",
            "malformed TypedStruct",
        ),
        (
            vec![filter("x", in_struct(xds, "test.Custom")), router()],
            "http_filters[0].typed_config",
            r#"the filter "test.Custom" is for servers only"#,
        ),
        (
            vec![discovered, router()],
            "http_filters[0].config_discovery",
            "filters in resources of their own are not supported",
        ),
        (
            vec![bare, router()],
            "http_filters[0].typed_config",
            "must be set",
        ),
        (
            vec![
                filter("x", named_any(&format!("t/{fault_name}"), vec![0x0a, 9])),
                router(),
            ],
            "http_filters[0].typed_config",
            "not a valid envoy.extensions.filters.http.fault.v3.HTTPFault",
        ),
    ];
    for (chain, path, problem) in cases {
        let error = listener(chain, &registry).unwrap_err();
        assert_eq!(
            error.path(),
            format!("api_listener.api_listener.{path}"),
            "{error}"
        );
        assert!(error.problem().starts_with(problem), "{error}");
    }
}

#[test]
fn an_optional_filter_is_skipped_with_a_finding() {
    let registry = FilterRegistry::standard().register(Custom(Side::Server));
    for config in [
        unknown(),
        in_struct("udpa.type.v1.TypedStruct", "test.Custom"),
    ] {
        let chain = vec![optional(filter("x", config)), router()];
        let (listener, findings) = listener(chain, &registry).unwrap();
        assert!(listener.http.filters.is_empty());
        let finding = &findings[0];
        assert_eq!(
            finding.path,
            "api_listener.api_listener.http_filters[0].typed_config"
        );
        assert_eq!(finding.treatment, Treatment::Ignored);
        assert!(finding.note.ends_with("it is optional, and skipped"));
    }
}

#[test]
fn an_optional_filter_is_refused_if_it_is_known_and_wrong() {
    let wrong = named_any(
        "t/envoy.extensions.filters.http.fault.v3.HTTPFault",
        vec![1],
    );
    let chain = vec![optional(filter("x", wrong)), router()];
    assert!(listener(chain, &FilterRegistry::standard()).is_err());
}

#[test]
fn a_custom_filter_in_either_typed_struct() {
    let registry = FilterRegistry::standard().register(Custom(Side::Both));
    for wrapper in ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"] {
        let chain = vec![filter("x", in_struct(wrapper, "test.Custom")), router()];
        let (listener, findings) = listener(chain, &registry).unwrap();
        assert_eq!(listener.http.filters.len(), 1);
        assert_eq!(findings, []);
    }
}

#[test]
fn a_disabled_filter_is_off_until_overridden() {
    let disabled = WireFilter {
        disabled: true,
        ..filter("x", every_fault())
    };
    let (listener, _) = listener(vec![disabled, router()], &FilterRegistry::standard()).unwrap();
    let config = &listener.http.filters[0].config;
    assert!(config.build(None).is_none());
    let over = overrides_of([("x", every_fault())]).unwrap();
    assert!(config.build(over.get("x")).is_some());
    assert!(
        config
            .build(Some(&FilterConfig(Arc::new(Disabled))))
            .is_none()
    );
}

fn overrides_of<const N: usize>(entries: [(&str, Any); N]) -> Result<FilterOverrides, FieldError> {
    let entries = entries.map(|(name, any)| (name.to_owned(), any));
    overrides(
        entries.into(),
        &mut Context::new(&FilterRegistry::standard()),
    )
}

fn wrapped(config: Option<Any>, is_optional: bool, disabled: bool) -> Any {
    any(&route::FilterConfig {
        config,
        is_optional,
        disabled,
    })
}

#[test]
fn overrides_are_unwrapped() {
    let decoded = overrides_of([
        ("bare", fault()),
        ("wrapped", wrapped(Some(fault()), false, false)),
        ("off", wrapped(None, false, true)),
        ("unknown and off", wrapped(Some(unknown()), false, true)),
        ("optional", wrapped(Some(unknown()), true, false)),
        ("optional and empty", wrapped(None, true, false)),
    ])
    .unwrap();
    let names: Vec<_> = decoded.keys().map(|name| &**name).collect();
    assert_eq!(names, ["bare", "off", "unknown and off", "wrapped"]);
    let nothing = FaultSpec {
        delay: None,
        abort: None,
        max_active: None,
    };
    assert_eq!(decoded["bare"], FilterConfig(Arc::new(nothing)));
    assert_eq!(decoded["bare"], decoded["wrapped"]);
    assert_eq!(decoded["off"], FilterConfig(Arc::new(Disabled)));
    assert_ne!(decoded["off"], decoded["bare"]);
}

#[test]
fn overrides_that_are_refused() {
    let cases = [
        (unknown(), "", "no filter is known"),
        (
            wrapped(Some(unknown()), false, false),
            ".config",
            "no filter is known",
        ),
        (wrapped(None, false, false), ".config", "must be set"),
        (
            named_any("t/envoy.config.route.v3.FilterConfig", vec![1]),
            "",
            "not a valid envoy.config.route.v3.FilterConfig",
        ),
    ];
    for (config, path, problem) in cases {
        let error = overrides_of([("a b", config)]).unwrap_err();
        assert_eq!(
            error.path(),
            format!("typed_per_filter_config[\"a b\"]{path}")
        );
        assert!(error.problem().starts_with(problem), "{error}");
    }
}

#[test]
fn overrides_are_read_at_all_three_levels() {
    let mut wire = routes(vec![route::Route {
        typed_per_filter_config: [("x".to_owned(), fault())].into(),
        ..any_route()
    }]);
    wire.virtual_hosts[0].typed_per_filter_config = [("x".to_owned(), fault())].into();
    let (RouteConfig { virtual_hosts, .. }, findings) = decode_routes(wire).unwrap();
    assert!(virtual_hosts[0].overrides.contains_key("x"));
    assert!(virtual_hosts[0].routes[0].overrides.contains_key("x"));
    assert_eq!(findings, []);
}
