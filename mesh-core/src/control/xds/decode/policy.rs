//! Load balancing policies (gRFC A52).

use std::{collections::BTreeMap, fmt, sync::Arc};

use envoy_types::pb::{
    envoy::{
        config::cluster::v3::LoadBalancingPolicy,
        extensions::load_balancing_policies::wrr_locality::v3::WrrLocality,
    },
    google::protobuf::Any,
};

use super::{
    Extension, FieldError, Message, ResultExt,
    bounds::{MAX_POLICY_DEPTH, quote},
    extension::parse,
    fields::{ANY, Field},
    least_request::LeastRequestDecoder,
    round_robin::RoundRobinDecoder,
};
use crate::config::{LbPolicy, PolicyConfig};

/// Turns the configuration of one endpoint-picking policy into a value that knows how to build
/// it (gRFC A52).
///
/// Together with a [`PolicySpec`](crate::balance::PolicySpec) and a
/// [`Policy`](crate::balance::Policy), this is all that a policy consists of.
pub trait PolicyDecoder: fmt::Debug + Send + Sync + 'static {
    /// The messages that configure the policy. Their names are how configuration asks for it;
    /// their tables tell which of their fields are in force.
    fn messages(&self) -> &'static [&'static Message];

    /// Whether its configuration may come as JSON, in a `TypedStruct`. Default: no, and one in
    /// that form is skipped like one of an unknown type.
    fn accepts_struct(&self) -> bool {
        false
    }

    /// Decodes `config`, which is of the type called `name`: one of [`messages`](Self::messages).
    ///
    /// # Errors
    /// If it cannot be accepted: the whole cluster is rejected then. The path is relative to the
    /// policy's configuration.
    fn decode(&self, name: &str, config: &Extension) -> Result<PolicyConfig, FieldError>;
}

/// The endpoint-picking policies that configuration can ask for.
///
/// ```
/// use mesh_core::control::xds::PolicyRegistry;
///
/// let round_robin = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
/// assert!(PolicyRegistry::standard().get(round_robin).is_some());
/// ```
#[derive(Debug, Clone)]
pub struct PolicyRegistry {
    by_message: BTreeMap<&'static str, (&'static Message, Arc<dyn PolicyDecoder>)>,
}

/// Decodes the field `load_balancing_policy` of a cluster: the first supported entry counts.
///
/// `wrr_locality` is no endpoint-picking policy and is known without the registry.
pub(super) fn decode(
    list: &LoadBalancingPolicy,
    registry: &PolicyRegistry,
) -> Result<LbPolicy, FieldError> {
    at_depth(1, list, registry)
}

fn at_depth(
    depth: usize,
    list: &LoadBalancingPolicy,
    registry: &PolicyRegistry,
) -> Result<LbPolicy, FieldError> {
    if depth > MAX_POLICY_DEPTH {
        return Err(FieldError::new(format!(
            "policies are nested deeper than {MAX_POLICY_DEPTH} levels"
        )));
    }
    let mut skipped = Vec::new();
    for (index, entry) in list.policies.iter().enumerate() {
        let decoded = match &entry.typed_extension_config {
            Some(extension) => match &extension.typed_config {
                Some(config) => one(depth, config, registry).field("typed_config"),
                None => Err(FieldError::new("must be set").field("typed_config")),
            },
            None => Err(FieldError::new("must be set")),
        };
        match decoded
            .field("typed_extension_config")
            .index("policies", index)?
        {
            Entry::Supported(policy) => return Ok(policy),
            // Enough of them to see what was sent.
            Entry::Unknown(name) if skipped.len() < 8 => skipped.push(quote(&name)),
            Entry::Unknown(_) => {}
        }
    }
    let problem = match skipped.is_empty() {
        true => "must not be empty".to_owned(),
        false => format!("none of the policies is supported: {}", skipped.join(", ")),
    };
    Err(FieldError::new(problem).field("policies"))
}

enum Entry {
    Supported(LbPolicy),
    Unknown(String),
}

fn one(depth: usize, config: &Any, registry: &PolicyRegistry) -> Result<Entry, FieldError> {
    let (name, config) = Extension::unwrap(config)?;
    if let Extension::Message(value) = &config
        && name == WRR_LOCALITY.name
    {
        let WrrLocality {
            endpoint_picking_policy,
            ..
        } = parse(value)?;
        let child = match &endpoint_picking_policy {
            Some(child) => at_depth(depth + 1, child, registry),
            None => Err(FieldError::new("must be set")),
        };
        // Below the choice of a locality there is one locality to choose from.
        let (LbPolicy::Endpoints(policy) | LbPolicy::Localities(policy)) =
            child.field("endpoint_picking_policy")?;
        return Ok(Entry::Supported(LbPolicy::Localities(policy)));
    }
    let decoder = registry.get(&name).filter(|decoder| match config {
        Extension::Message(_) => true,
        Extension::Struct(_) => decoder.accepts_struct(),
    });
    match decoder {
        Some(decoder) => {
            let policy = decoder.decode(&name, &config)?;
            Ok(Entry::Supported(LbPolicy::Endpoints(policy)))
        }
        None => Ok(Entry::Unknown(name)),
    }
}

pub(super) static LOAD_BALANCING_POLICY: Message = Message {
    name: "envoy.config.cluster.v3.LoadBalancingPolicy",
    fields: &[Field::repeated(1, "policies", &POLICY)],
};

static POLICY: Message = Message {
    name: "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
    fields: &[Field::message(
        4,
        "typed_extension_config",
        &TYPED_EXTENSION_CONFIG,
    )],
};

static TYPED_EXTENSION_CONFIG: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        Field::enforced(1, "name"),
        Field::message(2, "typed_config", &ANY),
    ],
};

pub(super) static WRR_LOCALITY: Message = Message {
    name: "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
    fields: &[Field::message(
        1,
        "endpoint_picking_policy",
        &LOAD_BALANCING_POLICY,
    )],
};

// === impl PolicyRegistry ===

impl PolicyRegistry {
    /// A registry without any policy.
    pub fn empty() -> Self {
        Self {
            by_message: BTreeMap::new(),
        }
    }

    /// All policies that this crate has: `round_robin` and `least_request` (gRFC A48).
    pub fn standard() -> Self {
        Self::empty()
            .register(RoundRobinDecoder)
            .register(LeastRequestDecoder)
    }

    /// Adds a policy. It takes the place of one that was registered for the same messages.
    #[must_use]
    pub fn register(mut self, decoder: impl PolicyDecoder) -> Self {
        let decoder: Arc<dyn PolicyDecoder> = Arc::new(decoder);
        for &message in decoder.messages() {
            self.by_message
                .insert(message.name, (message, Arc::clone(&decoder)));
        }
        self
    }

    /// The policy that the message called `name` configures.
    pub fn get(&self, name: &str) -> Option<&dyn PolicyDecoder> {
        self.by_message.get(name).map(|(_, decoder)| &**decoder)
    }

    /// The table of the message called `name`.
    pub(super) fn message(&self, name: &str) -> Option<&'static Message> {
        self.by_message.get(name).map(|&(message, _)| message)
    }
}

impl Default for PolicyRegistry {
    /// As [`standard`](Self::standard).
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests;
