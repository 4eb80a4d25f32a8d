use std::sync::Arc;

use envoy_types::pb::{
    envoy::extensions::load_balancing_policies::least_request::v3 as wire,
    google::protobuf::UInt32Value,
};

use super::{
    Extension, FieldError,
    extension::parse,
    fields::{Field, Message},
    policy::PolicyDecoder,
    round_robin::{NO_LOCALITY_CONFIG, NO_SLOW_START},
};
use crate::{balance::LeastRequest, config::PolicyConfig};

/// Decodes `least_request` (gRFC A48).
#[derive(Debug)]
pub(super) struct LeastRequestDecoder;

/// The policy with this many choices: 2 by default, at most 10.
pub(super) fn least_request(choice_count: Option<UInt32Value>) -> Result<PolicyConfig, FieldError> {
    let count = match choice_count {
        Some(UInt32Value {
            value: value @ ..=1,
        }) => {
            let problem = format!("must be at least 2, not {value}");
            return Err(FieldError::new(problem).field("choice_count"));
        }
        Some(UInt32Value { value }) => value.min(LeastRequest::MAX_CHOICE_COUNT),
        None => LeastRequest::DEFAULT_CHOICE_COUNT,
    };
    Ok(PolicyConfig(Arc::new(LeastRequest::new(count))))
}

impl PolicyDecoder for LeastRequestDecoder {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&LEAST_REQUEST] }
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<PolicyConfig, FieldError> {
        match config {
            Extension::Message(value) => {
                let wire::LeastRequest { choice_count, .. } = parse(value)?;
                least_request(choice_count)
            }
            Extension::Struct(_) => Err(FieldError::new("a TypedStruct is not supported")),
        }
    }
}

static LEAST_REQUEST: Message = Message {
    name: "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    fields: &[
        CHOICE_COUNT,
        ACTIVE_REQUEST_BIAS,
        Field::ignored(3, "slow_start_config", NO_SLOW_START),
        Field::ignored(4, "locality_lb_config", NO_LOCALITY_CONFIG),
        Field::ignored(5, "enable_full_scan", NO_FULL_SCAN),
        Field::ignored(6, "selection_method", NO_FULL_SCAN),
    ],
};

/// `Cluster.LeastRequestLbConfig`.
pub(super) static LEAST_REQUEST_LB_CONFIG: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
    fields: &[
        CHOICE_COUNT,
        ACTIVE_REQUEST_BIAS,
        Field::ignored(3, "slow_start_config", NO_SLOW_START),
    ],
};

const CHOICE_COUNT: Field = Field::enforced(1, "choice_count");
const ACTIVE_REQUEST_BIAS: Field = Field::ignored(
    2,
    "active_request_bias",
    "endpoints are compared by their requests in flight alone (gRFC A48)",
);
const NO_FULL_SCAN: &str = "choice_count endpoints are drawn and compared (gRFC A48)";
