use std::sync::Arc;

use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3 as wire;

use super::{
    Extension, FieldError,
    extension::parse,
    fields::{Field, Message},
    policy::PolicyDecoder,
};
use crate::{balance::RoundRobin, config::PolicyConfig};

/// Decodes `round_robin`, which has nothing to configure that is in force.
#[derive(Debug)]
pub(super) struct RoundRobinDecoder;

/// The policy with its only configuration.
pub(super) fn round_robin() -> PolicyConfig {
    PolicyConfig(Arc::new(RoundRobin))
}

impl PolicyDecoder for RoundRobinDecoder {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&ROUND_ROBIN] }
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<PolicyConfig, FieldError> {
        if let Extension::Message(value) = config {
            let wire::RoundRobin { .. } = parse(value)?;
        }
        Ok(round_robin())
    }
}

static ROUND_ROBIN: Message = Message {
    name: "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    fields: &[
        Field::ignored(1, "slow_start_config", NO_SLOW_START),
        Field::ignored(2, "locality_lb_config", NO_LOCALITY_CONFIG),
    ],
};

/// `Cluster.RoundRobinLbConfig`.
pub(super) static ROUND_ROBIN_LB_CONFIG: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig",
    fields: &[Field::ignored(1, "slow_start_config", NO_SLOW_START)],
};

pub(super) const NO_SLOW_START: &str = "a new endpoint gets its full share at once";
pub(super) const NO_LOCALITY_CONFIG: &str =
    "localities are chosen by weight only under wrr_locality";
