use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::{envoy::service::discovery::v3::Resource as Wrapper, google::protobuf::Any};

use super::{
    Context, Decode, Decoded, FieldError, Message, PolicyRegistry, Rejected, ResultExt,
    bounds::{MAX_RESOURCE_BYTES, quote},
    cluster,
    cluster_fields::CLUSTER,
    connections_fields::UPSTREAM_OPTIONS,
    discovery::{AGGREGATE_CLUSTER, DNS_CLUSTER},
    endpoints::{self, Assignment},
    endpoints_fields::CLUSTER_LOAD_ASSIGNMENT,
    extension::parse,
    fields::{Extensions, Field, Findings, walk},
    filter::WRAPPER as FILTER_CONFIG,
    listener::{self, HTTP_CONNECTION_MANAGER},
    policy::WRR_LOCALITY,
    route,
    route_fields::ROUTE_CONFIGURATION,
    secret::{self, SECRET},
    tls_fields::{DOWNSTREAM_TLS_CONTEXT, UPSTREAM_TLS_CONTEXT},
    wire,
};
use crate::{
    config::{Kind, Resource},
    control::xds::FilterRegistry,
};

/// Decodes resources with what this process knows: filters, policies, certificate providers.
#[derive(Debug)]
pub struct Decoder {
    filters: FilterRegistry,
    policies: PolicyRegistry,
    providers: BTreeSet<String>,
    environment: Vec<String>,
}

/// The type URL of the resources of a kind.
pub fn type_url(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    }
}

/// The type URL of the wrapper that a resource may come in (gRFC A27).
pub(in crate::control::xds) const WRAPPER_URL: &str =
    "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// The number of the field that holds the name, in resources of every kind.
const NAME: u32 = 1;
/// The same in a wrapper.
const WRAPPER_NAME: u32 = 3;

// === impl Decoder ===

impl Decoder {
    /// A decoder that accepts these filters and policies.
    ///
    /// `providers` are the names of the certificate providers in the bootstrap that can be used:
    /// a resource that names another one is rejected.
    pub fn new(
        filters: FilterRegistry,
        policies: PolicyRegistry,
        providers: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            filters,
            policies,
            providers: providers.into_iter().collect(),
            environment: Vec::new(),
        }
    }

    /// Lets configuration read these variables of this process (`%ENVIRONMENT(NAME)%`); default
    /// none.
    pub fn environment(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.environment = names.into_iter().collect();
        self
    }

    fn context(&self) -> Context<'_> {
        Context::new(&self.filters).reading(&self.environment)
    }

    fn unwrapped(
        &self,
        kind: Kind,
        raw: Any,
        mut findings: Findings,
    ) -> Result<Decoded, FieldError> {
        let table = match kind {
            Kind::Listener => listener::table(&raw.value),
            Kind::Route => &ROUTE_CONFIGURATION,
            Kind::Cluster => &CLUSTER,
            Kind::Endpoints => &CLUSTER_LOAD_ASSIGNMENT,
            Kind::Secret => &SECRET,
        };
        // First, because it bounds depth and number of what is decoded after it.
        walk(table, &raw.value, self, &mut findings)?;
        let bytes = raw.value.as_slice();
        let (name, value) = match kind {
            Kind::Listener => {
                let mut cx = self.context();
                let decoded = listener::decode(parse(bytes)?, &self.providers, &mut cx)?;
                cx.finish(&mut findings);
                decoded
            }
            Kind::Route => {
                let mut cx = self.context();
                let routes = route::decode(parse(bytes)?, &mut cx)?;
                cx.finish(&mut findings);
                let name = Arc::clone(&routes.name);
                (name, Resource::Route(Arc::new(routes)))
            }
            Kind::Cluster => {
                let mut cx = self.context();
                let wire = parse(bytes)?;
                let cluster = cluster::decode(&wire, &self.policies, &self.providers, &mut cx)?;
                cx.finish(&mut findings);
                let name = Arc::clone(&cluster.name);
                (name, Resource::Cluster(Arc::new(cluster)))
            }
            Kind::Endpoints => {
                let mut cx = self.context();
                let endpoints = endpoints::decode(parse(bytes)?, Assignment::Eds, &mut cx)?;
                cx.finish(&mut findings);
                let name = Arc::clone(&endpoints.name);
                (name, Resource::Endpoints(Arc::new(endpoints)))
            }
            Kind::Secret => {
                let secret = secret::decode(parse(bytes)?)?;
                let name = Arc::clone(&secret.name);
                (name, Resource::Secret(Arc::new(secret)))
            }
        };
        if name.is_empty() {
            return Err(FieldError::new("must not be empty").field("name"));
        }
        Ok(Decoded {
            name,
            value,
            findings: findings.finish().into(),
            raw,
        })
    }
}

impl Decode for Decoder {
    fn decode(&self, kind: Kind, raw: &Any) -> Result<Decoded, Rejected> {
        let mut findings = Findings::default();
        let mut wrapper_name = None;
        let (raw, inside) = match raw.type_url == WRAPPER_URL {
            true => {
                wrapper_name = name(&raw.value, WRAPPER_NAME);
                let inner = unwrap(&raw.value, self, &mut findings)
                    .map_err(|error| rejected(error, wrapper_name.clone()))?;
                (inner, Some("resource"))
            }
            false => (raw.clone(), None),
        };
        let name = name(&raw.value, NAME).or(wrapper_name);
        check_envelope(kind, &raw)
            .map_err(|error| match inside {
                Some(field) => error.field(field),
                None => error,
            })
            .map_err(|error| rejected(error, name.clone()))?;
        self.unwrapped(kind, raw, findings)
            .map_err(|error| rejected(error, name))
    }
}

impl Extensions for Decoder {
    fn message(&self, name: &str) -> Option<&'static Message> {
        [
            &HTTP_CONNECTION_MANAGER,
            &FILTER_CONFIG,
            &DOWNSTREAM_TLS_CONTEXT,
            &UPSTREAM_TLS_CONTEXT,
            &UPSTREAM_OPTIONS,
            &WRR_LOCALITY,
            &AGGREGATE_CLUSTER,
            &DNS_CLUSTER,
        ]
        .into_iter()
        .find(|message| message.name == name)
        .or_else(|| self.policies.message(name))
        .or_else(|| self.filters.message(name))
    }

    fn structure(&self, name: &str) -> bool {
        let policy = self.policies.get(name);
        let filter = self.filters.get(name);
        policy.is_some_and(|policy| policy.accepts_struct())
            || filter.is_some_and(|filter| filter.accepts_struct())
    }
}

/// The resource in an `envoy.service.discovery.v3.Resource` (gRFC A27).
fn unwrap(
    wrapper: &[u8],
    extensions: &dyn Extensions,
    findings: &mut Findings,
) -> Result<Any, FieldError> {
    check_size(wrapper)?;
    walk(&WRAPPER, wrapper, extensions, findings)?;
    let Wrapper { resource, .. } = parse(wrapper)?;
    resource.ok_or_else(|| FieldError::new("must be set").field("resource"))
}

fn check_envelope(kind: Kind, raw: &Any) -> Result<(), FieldError> {
    let Any { type_url, value } = raw;
    if type_url != self::type_url(kind) {
        let problem = format!(
            "must be {}, not {:?}",
            self::type_url(kind),
            quote(type_url)
        );
        return Err(FieldError::new(problem).field("type_url"));
    }
    check_size(value).field("value")
}

fn check_size(encoded: &[u8]) -> Result<(), FieldError> {
    match encoded.len() {
        ..=MAX_RESOURCE_BYTES => Ok(()),
        length => Err(FieldError::new(format!(
            "the resource has {length} bytes: at most {MAX_RESOURCE_BYTES} are decoded"
        ))),
    }
}

/// The name of a resource, even of one that cannot be decoded.
fn name(message: &[u8], number: u32) -> Option<Arc<str>> {
    wire::string(message, number)
        .filter(|name| !name.is_empty())
        .map(Arc::from)
}

fn rejected(error: FieldError, name: Option<Arc<str>>) -> Rejected {
    let (path, problem) = error.into_parts();
    Rejected {
        name,
        path,
        problem,
    }
}

static WRAPPER: Message = Message {
    name: "envoy.service.discovery.v3.Resource",
    fields: &[
        Field::enforced(1, "version"),
        Field::enforced(2, "resource"),
        Field::enforced(3, "name"),
        Field::approximated(
            4,
            "aliases",
            "in the incremental protocol alone: a resource of state of the world goes by its own name",
        ),
        Field::ignored(6, "ttl", "a resource stays until it is replaced or removed"),
        Field::ignored(7, "cache_control", "nothing is cached beyond the process"),
        Field::approximated(
            8,
            "resource_name",
            "in the incremental protocol alone, and without dynamic parameters",
        ),
        Field::ignored(9, "metadata", "nothing here reads it"),
    ],
};

#[cfg(test)]
mod tests;
