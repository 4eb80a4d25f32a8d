//! HTTP filters and their overrides (gRFC A39).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use envoy_types::pb::{
    envoy::{
        config::route::v3 as route,
        extensions::filters::network::http_connection_manager::v3::{
            HttpFilter as WireFilter, http_filter::ConfigType,
        },
    },
    google::protobuf::Any,
};

use super::{
    Context, Extension, FieldError, ResultExt,
    bounds::quote,
    extension::{parse, type_name},
    fields::{ANY, Field, Message},
    limits::Limit,
};
use crate::{
    config::{FilterConfig, FilterOverrides, HttpFilter},
    control::xds::{FilterDecoder, Side},
    filter::{Disabled, Filter, FilterSpec, OffByDefault},
};

/// A chain of filters on one side, without the terminal one at its end.
pub(super) fn chain(
    wire: Vec<WireFilter>,
    side: Side,
    cx: &mut Context<'_>,
) -> Result<Arc<[HttpFilter]>, FieldError> {
    cx.count(Limit::Filters, wire.len()).field(FILTERS)?;
    let mut names = HashSet::with_capacity(wire.len());
    let mut chain = Vec::with_capacity(wire.len());
    let mut end: Option<(usize, bool, Arc<str>)> = None;
    for (index, wire) in wire.into_iter().enumerate() {
        let name: Arc<str> = wire.name.as_str().into();
        if !names.insert(name.clone()) {
            let problem = format!("{:?} is the name of an earlier filter too", quote(&name));
            return Err(FieldError::new(problem).field("name").index(FILTERS, index));
        }
        let Some(Decoded { terminal, config }) =
            cx.index(FILTERS, index, |cx| instance(wire, side, cx))?
        else {
            continue;
        };
        if let Some((index, true, name)) = &end {
            let problem = format!("{:?} is a terminal filter and not the last", quote(name));
            return Err(FieldError::new(problem).index(FILTERS, *index));
        }
        end = Some((index, terminal, name.clone()));
        if !terminal {
            chain.push(HttpFilter { name, config });
        }
    }
    match end {
        None => Err(FieldError::new(
            "must not be empty: it has to end with a terminal filter, such as the router",
        )
        .field(FILTERS)),
        Some((index, false, name)) => Err(FieldError::new(format!(
            "{:?} is the last filter and not a terminal one, such as the router",
            quote(&name)
        ))
        .index(FILTERS, index)),
        Some((_, true, _)) => Ok(chain.into()),
    }
}

const FILTERS: &str = "http_filters";

/// A filter whose type is known.
struct Decoded {
    terminal: bool,
    config: FilterConfig,
}

/// One filter of a chain; `None` if it is optional and not supported.
fn instance(
    wire: WireFilter,
    side: Side,
    cx: &mut Context<'_>,
) -> Result<Option<Decoded>, FieldError> {
    let WireFilter {
        name,
        config_type,
        is_optional,
        disabled,
        ..
    } = wire;
    if name.is_empty() {
        return Err(FieldError::new("must not be empty").field("name"));
    }
    let (problem, field) = match config_type {
        Some(ConfigType::TypedConfig(any)) => {
            let (kind, config) = Extension::unwrap(&any).field("typed_config")?;
            match cx.filters.get(&kind) {
                Some(decoder) if decoder.side().covers(side) => {
                    let config = decode(decoder, &config, |config| {
                        decoder.decode_instance(&name, &kind, config)
                    })
                    .field("typed_config")?;
                    return Ok(Some(Decoded {
                        terminal: decoder.is_terminal(),
                        config: match disabled {
                            true => FilterConfig(Arc::new(OffByDefault(config))),
                            false => config,
                        },
                    }));
                }
                Some(_) => {
                    let others = match side {
                        Side::Server => "clients",
                        Side::Client | Side::Both => "servers",
                    };
                    let problem = format!("the filter {:?} is for {others} only", quote(&kind));
                    (problem, "typed_config")
                }
                None => (unknown(&any, &kind), "typed_config"),
            }
        }
        Some(ConfigType::ConfigDiscovery(_)) => (
            "filters in resources of their own are not supported".to_owned(),
            "config_discovery",
        ),
        None => ("must be set".to_owned(), "typed_config"),
    };
    if !is_optional {
        return Err(FieldError::new(problem).field(field));
    }
    cx.ignored(field, format!("{problem}; it is optional, and skipped"));
    Ok(None)
}

/// A `typed_per_filter_config`. A key that no filter has is no error: the listener that names
/// the filters may change before these routes do.
pub(super) fn overrides(
    wire: HashMap<String, Any>,
    cx: &mut Context<'_>,
) -> Result<FilterOverrides, FieldError> {
    const FIELD: &str = "typed_per_filter_config";
    if wire.is_empty() {
        return Ok(FilterOverrides::new());
    }
    cx.count(Limit::Overrides, wire.len()).field(FIELD)?;
    // Sorted, so that of several errors always the same one is reported.
    let wire: BTreeMap<String, Any> = wire.into_iter().collect();
    let mut overrides = FilterOverrides::new();
    for (name, any) in wire {
        let config = cx.key(FIELD, &quote(&name), |cx| override_of(&any, cx))?;
        overrides.extend(config.map(|config| (name.into(), config)));
    }
    Ok(overrides)
}

/// One override; `None` if it is optional and not supported.
fn override_of(any: &Any, cx: &mut Context<'_>) -> Result<Option<FilterConfig>, FieldError> {
    if type_name(&any.type_url) != WRAPPER.name {
        return bare_override(any, false, cx);
    }
    let route::FilterConfig {
        config,
        is_optional,
        disabled,
        ..
    } = parse(&any.value)?;
    match config {
        _ if disabled => Ok(Some(FilterConfig(Arc::new(Disabled)))),
        Some(any) => cx.field("config", |cx| bare_override(&any, is_optional, cx)),
        None if is_optional => Ok(None),
        None => Err(FieldError::new("must be set").field("config")),
    }
}

fn bare_override(
    any: &Any,
    is_optional: bool,
    cx: &mut Context<'_>,
) -> Result<Option<FilterConfig>, FieldError> {
    let (name, config) = Extension::unwrap(any)?;
    match cx.filters.get(&name) {
        Some(decoder) => decode(decoder, &config, |config| {
            decoder.decode_override(&name, config)
        })
        .map(Some),
        None if is_optional => {
            let problem = unknown(any, &name);
            cx.ignored("", format!("{problem}; it is optional, and skipped"));
            Ok(None)
        }
        None => Err(FieldError::new(unknown(any, &name))),
    }
}

fn decode(
    decoder: &dyn FilterDecoder,
    config: &Extension,
    decode: impl FnOnce(&Extension) -> Result<FilterConfig, FieldError>,
) -> Result<FilterConfig, FieldError> {
    if matches!(config, Extension::Struct(_)) && !decoder.accepts_struct() {
        return Err(FieldError::new(
            "this filter takes its own message, not a TypedStruct",
        ));
    }
    decode(config)
}

fn unknown(any: &Any, name: &str) -> String {
    match name {
        "" => "no type is given".to_owned(),
        _ if type_name(&any.type_url) == name => {
            format!("no filter is known by {:?}", quote(&any.type_url))
        }
        _ => format!(
            "no filter is known by {:?}, which {:?} holds",
            quote(name),
            quote(&any.type_url)
        ),
    }
}

/// The router (gRFC A39): what ends a chain, and has no behaviour of its own.
#[derive(Debug)]
pub(crate) struct RouterDecoder;

impl FilterDecoder for RouterDecoder {
    fn messages(&self) -> &'static [&'static Message] {
        &[&ROUTER]
    }

    fn side(&self) -> Side {
        Side::Both
    }

    fn is_terminal(&self) -> bool {
        true
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
        if let Extension::Message(value) = config {
            parse::<Router>(value)?;
        }
        Ok(FilterConfig(Arc::new(RouterSpec)))
    }
}

#[derive(Debug)]
struct RouterSpec;

impl FilterSpec for RouterSpec {
    fn build(&self, _: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
        None
    }

    fn equals(&self, other: &dyn FilterSpec) -> bool {
        (other as &dyn std::any::Any).is::<Self>()
    }
}

pub(super) static HTTP_FILTER: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(4, "typed_config", &ANY),
        Field::enforced(5, "config_discovery"),
        Field::enforced(6, "is_optional"),
        Field::enforced(7, "disabled"),
    ],
};

/// What an override may be wrapped in.
pub(super) static WRAPPER: Message = Message {
    name: "envoy.config.route.v3.FilterConfig",
    fields: &[
        Field::message(1, "config", &ANY),
        Field::enforced(2, "is_optional"),
        Field::enforced(3, "disabled"),
    ],
};

const ROUTER: Message = Message {
    name: "envoy.extensions.filters.http.router.v3.Router",
    fields: &[
        Field::ignored(1, "dynamic_stats", ROUTER_IGNORES),
        Field::ignored(2, "start_child_span", ROUTER_IGNORES),
        Field::ignored(3, "upstream_log", ROUTER_IGNORES),
        Field::ignored(4, "suppress_envoy_headers", "no such header is added here"),
        Field::ignored(5, "strict_check_headers", ROUTER_IGNORES),
        Field::ignored(6, "respect_expected_rq_timeout", ROUTER_IGNORES),
        Field::ignored(
            7,
            "suppress_grpc_request_failure_code_stats",
            ROUTER_IGNORES,
        ),
        Field::ignored(8, "upstream_http_filters", ROUTER_IGNORES),
        Field::ignored(9, "upstream_log_options", ROUTER_IGNORES),
        Field::ignored(10, "reject_connect_request_early_data", ROUTER_IGNORES),
    ],
};

const ROUTER_IGNORES: &str = "no option of the router is supported (gRFC A39)";

#[cfg(test)]
mod tests;
