use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::{envoy::service::discovery::v3::Resource as Wrapper, google::protobuf::Any};

use super::{
    Context, Decode, Decoded, Earlier, FieldError, Message, PolicyRegistry, Rejected, ResultExt,
    Tally,
    bounds::{MAX_FIELDS, MAX_RESOURCE_BYTES, quote},
    cluster,
    cluster_fields::CLUSTER,
    connections_fields::UPSTREAM_OPTIONS,
    discovery::{AGGREGATE_CLUSTER, DNS_CLUSTER},
    endpoints::{self, Assignment},
    endpoints_fields::CLUSTER_LOAD_ASSIGNMENT,
    extension::parse,
    fields::{Extensions, Field, Findings, walk, walk_inside},
    filter::WRAPPER as FILTER_CONFIG,
    listener::{self, HTTP_CONNECTION_MANAGER},
    policy::WRR_LOCALITY,
    route,
    route_fields::ROUTE_CONFIGURATION,
    route_reuse,
    secret::{self, SECRET},
    tls_fields::{DOWNSTREAM_TLS_CONTEXT, UPSTREAM_TLS_CONTEXT},
    wire,
};
use crate::{
    config::{Kind, Resource, RouteConfig},
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
        earlier: Option<Earlier<'_>>,
    ) -> Result<Decoded, FieldError> {
        let bytes = raw.value.as_slice();
        // The walk comes first, because it bounds depth and number of what is decoded after it.
        let (name, value) = match kind {
            Kind::Listener => {
                walk(listener::table(bytes), bytes, self, &mut findings)?;
                let mut cx = self.context();
                let decoded = listener::decode(parse(bytes)?, &self.providers, &mut cx)?;
                cx.finish(&mut findings);
                decoded
            }
            Kind::Route => return self.routes(raw, findings, earlier),
            Kind::Cluster => {
                walk(&CLUSTER, bytes, self, &mut findings)?;
                let mut cx = self.context();
                let wire = parse(bytes)?;
                let cluster = cluster::decode(&wire, &self.policies, &self.providers, &mut cx)?;
                cx.finish(&mut findings);
                let name = Arc::clone(&cluster.name);
                (name, Resource::Cluster(Arc::new(cluster)))
            }
            Kind::Endpoints => {
                walk(&CLUSTER_LOAD_ASSIGNMENT, bytes, self, &mut findings)?;
                let mut cx = self.context();
                let endpoints = endpoints::decode(parse(bytes)?, Assignment::Eds, &mut cx)?;
                cx.finish(&mut findings);
                let name = Arc::clone(&endpoints.name);
                (name, Resource::Endpoints(Arc::new(endpoints)))
            }
            Kind::Secret => {
                walk(&SECRET, bytes, self, &mut findings)?;
                let secret = secret::decode(parse(bytes)?)?;
                let name = Arc::clone(&secret.name);
                (name, Resource::Secret(Arc::new(secret)))
            }
        };
        decoded(name, value, findings, raw, None)
    }

    fn routes(
        &self,
        raw: Any,
        mut findings: Findings,
        earlier: Option<Earlier<'_>>,
    ) -> Result<Decoded, FieldError> {
        let bytes = raw.value.as_slice();
        let quiet = earlier.and_then(|earlier| self.quietly_changed_routes(bytes, earlier));
        let (routes, cx, fields) = match quiet {
            Some(changed) => changed,
            None => {
                let before = findings.count();
                let fields = walk(&ROUTE_CONFIGURATION, bytes, self, &mut findings)?;
                let fields = (findings.count() == before).then_some(fields);
                let looked_at = &mut |_: usize, _: &'static Message, _: &[u8]| Some(());
                let changed =
                    earlier.and_then(|earlier| self.changed_routes(bytes, earlier, looked_at));
                let (routes, cx) = match changed {
                    Some(changed) => changed,
                    None => {
                        let mut cx = self.context();
                        (route::decode(parse(bytes)?, &mut cx)?, cx)
                    }
                };
                (routes, cx, fields)
            }
        };
        let tally = cx.tally(fields);
        cx.finish(&mut findings);
        let name = Arc::clone(&routes.name);
        decoded(
            name,
            Resource::Route(Arc::new(routes)),
            findings,
            raw,
            tally,
        )
    }

    /// As [`changed_routes`](Self::changed_routes), where no table had anything to report and none
    /// has now: only what is new is looked at. With the number of fields, at most.
    fn quietly_changed_routes(
        &self,
        bytes: &[u8],
        earlier: Earlier<'_>,
    ) -> Option<(RouteConfig, Context<'_>, Option<usize>)> {
        let mut fields = earlier.tally?.fields?;
        let look = &mut |levels: usize, table: &'static Message, part: &[u8]| {
            let mut findings = Findings::default();
            fields += walk_inside(levels, table, part, self, &mut findings).ok()?;
            (findings.count() == 0 && fields <= MAX_FIELDS).then_some(())
        };
        let (routes, cx) = self.changed_routes(bytes, earlier, look)?;
        Some((routes, cx, Some(fields)))
    }

    /// The routes that `bytes` say, where they can be told by what changed since `earlier`. What is new
    /// is passed to `look` before it is decoded.
    fn changed_routes(
        &self,
        bytes: &[u8],
        earlier: Earlier<'_>,
        look: route_reuse::Look<'_>,
    ) -> Option<(RouteConfig, Context<'_>)> {
        let (Resource::Route(routes), Some(tally)) = (earlier.value, earlier.tally) else {
            return None;
        };
        let mut cx = self.context().continuing(tally);
        let routes = route_reuse::decode(bytes, &earlier.raw.value, routes, look, &mut cx)?;
        Some((routes, cx))
    }
}

fn decoded(
    name: Arc<str>,
    value: Resource,
    findings: Findings,
    raw: Any,
    tally: Option<Arc<Tally>>,
) -> Result<Decoded, FieldError> {
    if name.is_empty() {
        return Err(FieldError::new("must not be empty").field("name"));
    }
    Ok(Decoded {
        name,
        value,
        findings: findings.finish().into(),
        raw,
        tally,
    })
}

impl Decode for Decoder {
    fn decode(&self, kind: Kind, raw: &Any) -> Result<Decoded, Rejected> {
        self.decode_next(kind, raw, &|_| None)
    }

    fn decode_next<'a>(
        &self,
        kind: Kind,
        raw: &Any,
        earlier: &dyn Fn(&str) -> Option<Earlier<'a>>,
    ) -> Result<Decoded, Rejected> {
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
        let earlier = name.as_deref().and_then(earlier);
        self.unwrapped(kind, raw, findings, earlier)
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
