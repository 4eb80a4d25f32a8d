//! Endpoints, those of EDS and those that a cluster has in itself: gRFC A27, A37, A61.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use envoy_types::pb::envoy::config::{
    core::v3::{
        Address as WireAddress, HealthStatus, Locality as WireLocality, Metadata, SocketAddress,
        address::Address as AddressKind,
        socket_address::{PortSpecifier, Protocol},
    },
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
        cluster_load_assignment::{Policy, policy::DropOverload},
        lb_endpoint::HostIdentifier,
        locality_lb_endpoints::LbConfig,
    },
};

use super::{Context, FieldError, ResultExt, bounds::quote, matcher, workload};
use crate::config::{
    Address, Drop, EndpointConfig, Endpoints, Health, Locality, LocalityId, Workload,
};

/// Whose endpoints they are: what a locality and an address may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Assignment {
    /// A resource of its own.
    #[default]
    Eds,
    /// Part of a cluster of type STATIC.
    Static,
    /// Part of a cluster of type STRICT_DNS: addresses may be host names.
    StrictDns,
    /// Part of a cluster of type LOGICAL_DNS: the address of its one endpoint is a host name.
    LogicalDns,
}

/// Decodes the endpoints of a cluster. None at all are valid: the cluster is unreachable.
pub(super) fn decode(
    wire: ClusterLoadAssignment,
    assignment: Assignment,
    cx: &mut Context<'_>,
) -> Result<Endpoints, FieldError> {
    let ClusterLoadAssignment {
        cluster_name,
        endpoints,
        policy,
        ..
    } = wire;
    if cluster_name.is_empty() && assignment == Assignment::Eds {
        return Err(FieldError::new("must not be empty").field("cluster_name"));
    }
    let mut seen = Seen {
        assignment,
        ..Seen::default()
    };
    let mut localities = Vec::with_capacity(endpoints.len());
    for (index, wire) in endpoints.into_iter().enumerate() {
        localities.extend(cx.index("endpoints", index, |cx| locality(wire, &mut seen, cx))?);
    }
    seen.priorities_are_contiguous().field("endpoints")?;
    let Policy {
        drop_overloads,
        overprovisioning_factor,
        ..
    } = policy.unwrap_or_default();
    let drops = drop_overloads.into_iter().enumerate().map(|(index, wire)| {
        drop_overload(wire)
            .index("drop_overloads", index)
            .field("policy")
    });
    let overprovisioning_factor = match overprovisioning_factor {
        None => Endpoints::DEFAULT_OVERPROVISIONING_FACTOR,
        Some(factor) if factor.value == 0 => {
            let error = FieldError::new("must not be 0");
            return Err(error.field("overprovisioning_factor").field("policy"));
        }
        Some(factor) => factor.value,
    };
    Ok(Endpoints {
        name: cluster_name.into(),
        drops: drops.collect::<Result<_, _>>()?,
        localities,
        overprovisioning_factor,
    })
}

/// What may occur only once in an assignment, and what is summed up.
#[derive(Default)]
struct Seen {
    assignment: Assignment,
    localities: HashSet<(u32, Arc<LocalityId>)>,
    addresses: HashSet<Address>,
    /// The weights of the localities of each priority.
    weights: BTreeMap<u32, u32>,
    /// By their fingerprints: many endpoints have one.
    workloads: HashMap<u64, Arc<Workload>>,
}

/// A locality; `None` if it takes no traffic.
fn locality(
    wire: LocalityLbEndpoints,
    seen: &mut Seen,
    cx: &mut Context<'_>,
) -> Result<Option<Locality>, FieldError> {
    let LocalityLbEndpoints {
        locality,
        lb_endpoints,
        load_balancing_weight,
        priority,
        lb_config,
        ..
    } = wire;
    let id = match (locality, seen.assignment) {
        (Some(id), _) => id,
        (None, Assignment::Eds) => {
            return Err(FieldError::new("must be set").field("locality"));
        }
        // As Envoy has it.
        (None, _) => WireLocality::default(),
    };
    let weight = match (load_balancing_weight, seen.assignment) {
        // It takes all there is (gRFC A37).
        (_, Assignment::LogicalDns) => 1,
        (Some(weight), _) => weight.value,
        (None, Assignment::Eds) => 0,
        // Without weights of localities, in Envoy each endpoint has its share whatever its locality.
        (None, _) => sum_of_weights(&lb_endpoints),
    };
    if weight == 0 {
        let note = "a locality whose weight is 0 or not set gets no traffic (gRFC A27)";
        cx.ignored("", note);
        return Ok(None);
    }
    if let Some(config) = lb_config {
        let field = match config {
            LbConfig::LedsClusterLocalityConfig(_) => "leds_cluster_locality_config",
            _ => "load_balancer_endpoints",
        };
        return Err(FieldError::new("not supported: use lb_endpoints").field(field));
    }
    let id = Arc::new(LocalityId {
        region: id.region,
        zone: id.zone,
        sub_zone: id.sub_zone,
    });
    if !seen.localities.insert((priority, Arc::clone(&id))) {
        let problem = format!("{id} is there twice in priority {priority}");
        return Err(FieldError::new(problem).field("locality"));
    }
    let sum = seen.weights.entry(priority).or_insert(0);
    *sum = sum.checked_add(weight).ok_or_else(|| {
        FieldError::new(format!(
            "the weights of the localities of priority {priority} add up to more than {}",
            u32::MAX
        ))
        .field("load_balancing_weight")
    })?;
    let mut sum = 0u32;
    let mut endpoints = Vec::with_capacity(lb_endpoints.len());
    for (index, wire) in lb_endpoints.into_iter().enumerate() {
        endpoints.push(endpoint(wire, &mut sum, seen).index("lb_endpoints", index)?);
    }
    Ok(Some(Locality {
        id,
        priority,
        weight,
        endpoints,
    }))
}

/// The weights of endpoints, taken together; at least 1.
fn sum_of_weights(endpoints: &[LbEndpoint]) -> u32 {
    let weights = endpoints.iter().map(|endpoint| {
        let weight = endpoint.load_balancing_weight.as_ref();
        weight.map_or(1, |weight| weight.value)
    });
    weights.fold(0, u32::saturating_add).max(1)
}

/// An endpoint, of whatever health. `sum` is that of the weights of its locality.
fn endpoint(
    wire: LbEndpoint,
    sum: &mut u32,
    seen: &mut Seen,
) -> Result<EndpointConfig, FieldError> {
    let LbEndpoint {
        health_status,
        load_balancing_weight,
        host_identifier,
        metadata,
        ..
    } = wire;
    let weight = match load_balancing_weight {
        None => 1,
        Some(weight) if weight.value == 0 => {
            return Err(FieldError::new("must not be 0").field("load_balancing_weight"));
        }
        Some(weight) => weight.value,
    };
    *sum = sum.checked_add(weight).ok_or_else(|| {
        FieldError::new(format!(
            "the weights of the endpoints of this locality add up to more than {}",
            u32::MAX
        ))
        .field("load_balancing_weight")
    })?;
    let Endpoint {
        address,
        hostname,
        additional_addresses,
        ..
    } = match host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return Err(FieldError::new("not supported: use endpoint").field("endpoint_name"));
        }
        None => return Err(FieldError::new("must be set").field("endpoint")),
    };
    let address = self::address(address, seen)
        .field("address")
        .field("endpoint")?;
    if !additional_addresses.is_empty() && seen.assignment.has_names() {
        let problem = "not supported in a cluster of a DNS type: a name has all its addresses";
        let error = FieldError::new(problem).field("additional_addresses");
        return Err(error.field("endpoint"));
    }
    let more = additional_addresses
        .into_iter()
        .enumerate()
        .map(|(index, wire)| {
            self::address(wire.address, seen)
                .field("address")
                .index("additional_addresses", index)
                .field("endpoint")
        });
    let more = more.collect::<Result<_, _>>()?;
    let hostname = match &address {
        // What Envoy calls an endpoint that has only been given a name to look up.
        Address::Name(name, _) if hostname.is_empty() => Some(Arc::clone(name)),
        _ => (!hostname.is_empty()).then(|| hostname.into()),
    };
    let health = match HealthStatus::try_from(health_status) {
        Ok(HealthStatus::Healthy) => Health::Healthy,
        Ok(HealthStatus::Unknown) => Health::Unknown,
        Ok(HealthStatus::Draining) => Health::Draining,
        Ok(HealthStatus::Degraded) => Health::Degraded,
        // Neither does a status of the future say that it is well.
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) | Err(_) => Health::Unhealthy,
    };
    Ok(EndpointConfig {
        address,
        more,
        weight,
        health,
        hostname,
        workload: metadata.and_then(|metadata| seen.workload(&metadata)),
    })
}

/// An address that was not seen before.
fn address(wire: Option<WireAddress>, seen: &mut Seen) -> Result<Address, FieldError> {
    let address = match wire.and_then(|wire| wire.address) {
        Some(AddressKind::SocketAddress(wire)) if seen.assignment.has_names() => {
            named_address(&wire).field("socket_address")?
        }
        Some(_) if seen.assignment.has_names() => {
            let problem = "must be a socket_address in a cluster of a DNS type";
            return Err(FieldError::new(problem));
        }
        Some(AddressKind::SocketAddress(wire)) => {
            Address::Socket(socket_address(&wire).field("socket_address")?)
        }
        Some(AddressKind::Pipe(pipe)) => match pipe.path.as_bytes() {
            [] | [b'@', ..] => {
                let problem = "must be the path of a socket in the file system";
                return Err(FieldError::new(problem).field("path").field("pipe"));
            }
            _ => Address::Unix(pipe.path.into()),
        },
        Some(AddressKind::EnvoyInternalAddress(_)) => {
            return Err(FieldError::new("not supported").field("envoy_internal_address"));
        }
        None => return Err(FieldError::new("must be set")),
    };
    match seen.addresses.contains(&address) {
        true => Err(FieldError::new(format!("{address} is there twice"))),
        false => {
            seen.addresses.insert(address.clone());
            Ok(address)
        }
    }
}

/// The address of a TCP socket.
pub(super) fn socket_address(wire: &SocketAddress) -> Result<SocketAddr, FieldError> {
    let ip: Result<IpAddr, _> = wire.address.parse();
    let port = port(wire)?;
    let ip = ip.map_err(|_| {
        let problem = format!("{:?} is not an IP address", quote(&wire.address));
        FieldError::new(problem).field("address")
    })?;
    Ok(SocketAddr::new(ip, port))
}

/// A host name and a port, or the address of a TCP socket.
fn named_address(wire: &SocketAddress) -> Result<Address, FieldError> {
    if !wire.resolver_name.is_empty() {
        let problem = "must be empty: the resolver of the process is asked";
        return Err(FieldError::new(problem).field("resolver_name"));
    }
    if wire.address.is_empty() {
        return Err(FieldError::new("must not be empty").field("address"));
    }
    let port = port(wire)?;
    if port == 0 {
        return Err(FieldError::new("must not be 0").field("port_value"));
    }
    Ok(match wire.address.parse() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
        Err(_) => Address::Name(wire.address.as_str().into(), port),
    })
}

fn port(wire: &SocketAddress) -> Result<u16, FieldError> {
    if wire.protocol != Protocol::Tcp as i32 {
        return Err(FieldError::new("must be TCP").field("protocol"));
    }
    match &wire.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(*port).map_err(|_| {
            let problem = format!("{port} is not a port: at most {}", u16::MAX);
            FieldError::new(problem).field("port_value")
        }),
        Some(PortSpecifier::NamedPort(_)) => {
            Err(FieldError::new("not supported: use port_value").field("named_port"))
        }
        None => Err(FieldError::new("must be set").field("port_value")),
    }
}

fn drop_overload(wire: DropOverload) -> Result<Drop, FieldError> {
    let DropOverload {
        category,
        drop_percentage,
        ..
    } = wire;
    if category.is_empty() {
        return Err(FieldError::new("must not be empty").field("category"));
    }
    let share = match &drop_percentage {
        Some(percentage) => matcher::fraction(percentage),
        None => Err(FieldError::new("must be set")),
    };
    let (share, _) = share.field("drop_percentage")?;
    Ok(Drop {
        category: category.into(),
        share,
    })
}

// === impl Assignment ===

impl Assignment {
    fn has_names(self) -> bool {
        matches!(self, Assignment::StrictDns | Assignment::LogicalDns)
    }
}

// === impl Seen ===

impl Seen {
    fn workload(&mut self, metadata: &Metadata) -> Option<Arc<Workload>> {
        let workload = workload::of_endpoint(metadata)?;
        let known = self.workloads.entry(workload.fingerprint());
        Some(Arc::clone(known.or_insert_with(|| Arc::new(workload))))
    }

    /// Priorities are counted without the localities that take no traffic.
    fn priorities_are_contiguous(&self) -> Result<(), FieldError> {
        match (0u32..).zip(self.weights.keys()).find(|(a, b)| a != *b) {
            Some((missing, _)) => Err(FieldError::new(format!(
                "priority {missing} is missing: priorities count from 0 without a gap"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
