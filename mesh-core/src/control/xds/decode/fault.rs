//! Fault injection (gRFC A33).

use std::sync::Arc;

use envoy_types::pb::envoy::{
    extensions::filters::{
        common::fault::v3::{FaultDelay as WireDelay, fault_delay::FaultDelaySecifier},
        http::fault::v3::{FaultAbort as WireAbort, HttpFault, fault_abort::ErrorType},
    },
    r#type::v3::FractionalPercent,
};

use super::{
    Extension, FieldError, ResultExt,
    bounds::duration,
    extension::parse,
    fields::{Field, Message},
    matcher::{self, NO_RUNTIME},
};
use crate::{
    Code,
    config::FilterConfig,
    control::xds::{FilterDecoder, Side},
    filter::{AbortStatus, DelayLength, FaultAbort, FaultDelay, FaultShare, FaultSpec},
};

/// The decoder of `envoy.extensions.filters.http.fault.v3.HTTPFault`, which is also the type of
/// its overrides.
#[derive(Debug)]
pub(crate) struct FaultDecoder;

impl FilterDecoder for FaultDecoder {
    fn messages(&self) -> &'static [&'static Message] {
        &[&HTTP_FAULT]
    }

    /// For clients in gRFC A33. Istio puts it before the router in listeners for servers too, where
    /// the same filter does the same.
    fn side(&self) -> Side {
        Side::Both
    }

    fn decode(&self, _: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        let HttpFault {
            delay: wire_delay,
            abort: wire_abort,
            max_active_faults,
            ..
        } = match config {
            Extension::Message(value) => parse(value)?,
            Extension::Struct(_) => return Err(FieldError::new("a message is expected")),
        };
        Ok(FilterConfig(Arc::new(FaultSpec {
            delay: wire_delay.map(delay).transpose().field("delay")?.flatten(),
            abort: wire_abort.map(abort).transpose().field("abort")?.flatten(),
            max_active: max_active_faults.map(|most| most.value),
        })))
    }
}

fn delay(wire: WireDelay) -> Result<Option<FaultDelay>, FieldError> {
    let share = share(wire.percentage)?;
    let length = match wire.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(wire)) => {
            DelayLength::Fixed(duration(&wire).field("fixed_delay")?)
        }
        Some(FaultDelaySecifier::HeaderDelay(_)) => DelayLength::Header,
        None => return Ok(None),
    };
    Ok(Some(FaultDelay { share, length }))
}

fn abort(wire: WireAbort) -> Result<Option<FaultAbort>, FieldError> {
    let share = share(wire.percentage)?;
    let status = match wire.error_type {
        Some(ErrorType::HttpStatus(status)) => u16::try_from(status)
            .ok()
            .filter(|status| (200..600).contains(status))
            .and_then(|status| http::StatusCode::from_u16(status).ok())
            .map(AbortStatus::Http)
            .ok_or_else(|| FieldError::new(format!("{status} is not within 200 and 599")))
            .field("http_status")?,
        Some(ErrorType::GrpcStatus(status @ 0..=16)) => {
            AbortStatus::Grpc(i32::try_from(status).map_or(Code::Unknown, Code::from_i32))
        }
        Some(ErrorType::GrpcStatus(status)) => {
            let problem = format!("{status} is not a status code of gRPC");
            return Err(FieldError::new(problem).field("grpc_status"));
        }
        Some(ErrorType::HeaderAbort(_)) => AbortStatus::Header,
        None => return Ok(None),
    };
    Ok(Some(FaultAbort { share, status }))
}

/// A share of calls; without one, none.
fn share(wire: Option<FractionalPercent>) -> Result<FaultShare, FieldError> {
    let (limit, unit) = matcher::fraction(&wire.unwrap_or_default()).field("percentage")?;
    Ok(FaultShare { limit, unit })
}

const EVERY_CALL: &str = "faults are injected into calls whether this matches or not (gRFC A33)";

const HTTP_FAULT: Message = Message {
    name: "envoy.extensions.filters.http.fault.v3.HTTPFault",
    fields: &[
        Field::message(1, "delay", &FAULT_DELAY),
        Field::message(2, "abort", &FAULT_ABORT),
        Field::ignored(3, "upstream_cluster", EVERY_CALL),
        Field::ignored(4, "headers", EVERY_CALL),
        Field::ignored(5, "downstream_nodes", EVERY_CALL),
        Field::enforced(6, "max_active_faults"),
        Field::ignored(
            7,
            "response_rate_limit",
            "responses are not slowed down (gRFC A33)",
        ),
        Field::ignored(8, "delay_percent_runtime", NO_RUNTIME),
        Field::ignored(9, "abort_percent_runtime", NO_RUNTIME),
        Field::ignored(10, "delay_duration_runtime", NO_RUNTIME),
        Field::ignored(11, "abort_http_status_runtime", NO_RUNTIME),
        Field::ignored(12, "max_active_faults_runtime", NO_RUNTIME),
        Field::ignored(13, "response_rate_limit_percent_runtime", NO_RUNTIME),
        Field::ignored(14, "abort_grpc_status_runtime", NO_RUNTIME),
        Field::ignored(
            15,
            "disable_downstream_cluster_stats",
            "there are no such statistics",
        ),
        Field::ignored(16, "filter_metadata", "no filter here reads it"),
    ],
};

static FAULT_DELAY: Message = Message {
    name: "envoy.extensions.filters.common.fault.v3.FaultDelay",
    fields: &[
        Field::enforced(3, "fixed_delay"),
        Field::enforced(4, "percentage"),
        Field::enforced(5, "header_delay"),
    ],
};

static FAULT_ABORT: Message = Message {
    name: "envoy.extensions.filters.http.fault.v3.FaultAbort",
    fields: &[
        Field::enforced(2, "http_status"),
        Field::enforced(3, "percentage"),
        Field::enforced(4, "header_abort"),
        Field::enforced(5, "grpc_status"),
        Field::ignored(6, "response_body", "the caller gets a status and no body"),
    ],
};

#[cfg(test)]
mod tests;
