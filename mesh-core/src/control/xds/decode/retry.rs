//! Retry policies: gRFC A44 under gRPC semantics, Envoy's router under HTTP semantics.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::{
    envoy::config::route::v3::{
        HeaderMatcher as WireHeader, RetryPolicy as WireRetry,
        retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType},
    },
    google::protobuf,
};
use http::StatusCode;

use super::{
    Context, FieldError, ResultExt,
    bounds::{duration, quote},
    extension::type_name,
    fields::{Field, Message},
    limits::Limit,
    matcher::{self, HEADER_MATCHER},
};
use crate::config::{HeaderMatcher, HttpRetry, RetryOn, RetryPolicy, Treatment};

/// A retry policy; `None` if it asks for no retries, which overrides one that does (gRFC A44).
pub(super) fn retry(
    wire: WireRetry,
    cx: &mut Context<'_>,
) -> Result<Option<Arc<RetryPolicy>>, FieldError> {
    let WireRetry {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_host_predicate,
        retriable_status_codes,
        retry_back_off,
        retriable_headers,
        retriable_request_headers,
        ..
    } = wire;
    let on = conditions(&retry_on, cx);
    let retries = match num_retries.map(|retries| retries.value) {
        Some(0) => return Err(FieldError::new("must be at least 1").field("num_retries")),
        Some(retries) => retries,
        None => 1,
    };
    let (base_interval, max_interval) = match retry_back_off {
        Some(wire) => back_off(&wire).field("retry_back_off")?,
        None => (Duration::from_millis(25), Duration::from_millis(250)),
    };
    let http = HttpRetry {
        per_try_timeout: limit(per_try_timeout).field("per_try_timeout")?,
        per_try_idle_timeout: limit(per_try_idle_timeout).field("per_try_idle_timeout")?,
        statuses: statuses(&retriable_status_codes, cx),
        headers: headers("retriable_headers", retriable_headers, cx)?,
        request_headers: headers("retriable_request_headers", retriable_request_headers, cx)?,
    };
    host_predicates(&retry_host_predicate, cx);
    let any = on != RetryOn::default();
    Ok(any.then(|| {
        Arc::new(RetryPolicy {
            on,
            retries,
            base_interval,
            max_interval,
            http,
        })
    }))
}

/// The conditions of gRFC A44, and those of Envoy's `x-envoy-retry-on`.
fn conditions(retry_on: &str, cx: &mut Context<'_>) -> RetryOn {
    let mut on = RetryOn::default();
    let (mut http, mut others) = (Vec::new(), Vec::new());
    let named = retry_on.split(',').map(str::trim);
    for condition in named.filter(|condition| !condition.is_empty()) {
        match on.condition(condition) {
            Some((flag, is_code)) => {
                *flag = true;
                if !is_code {
                    http.push(condition);
                }
            }
            None => others.push(condition),
        }
    }
    let codes_only = |conditions: &[&str]| {
        format!(
            "gRPC retries its status codes only (gRFC A44), not {}",
            quote(&conditions.join(", "))
        )
    };
    match (http.is_empty(), others.is_empty()) {
        (true, true) => {}
        (false, true) => cx.report("retry_on", Treatment::HttpOnly, codes_only(&http)),
        (no_http, false) => {
            let mut note = format!(
                "not a condition that is known here: {}",
                quote(&others.join(", "))
            );
            if !no_http {
                note = format!("{note}; {}", codes_only(&http));
            }
            cx.report("retry_on", Treatment::Approximated, note);
        }
    }
    on
}

/// The first and the longest interval.
fn back_off(wire: &RetryBackOff) -> Result<(Duration, Duration), FieldError> {
    const LEAST: Duration = Duration::from_millis(1);
    let base = match &wire.base_interval {
        Some(wire) => duration(wire).field("base_interval")?,
        None => return Err(FieldError::new("must be set").field("base_interval")),
    };
    if base.is_zero() {
        return Err(FieldError::new("must be more than zero").field("base_interval"));
    }
    let max = match &wire.max_interval {
        Some(wire) => duration(wire).field("max_interval")?,
        None => base.max(LEAST).saturating_mul(10),
    };
    if max < base {
        let problem = format!("{max:?} is below the base interval of {base:?}");
        return Err(FieldError::new(problem).field("max_interval"));
    }
    Ok((base.max(LEAST), max.max(LEAST)))
}

/// A limit, where zero is none.
fn limit(wire: Option<protobuf::Duration>) -> Result<Option<Duration>, FieldError> {
    let limit = wire.as_ref().map(duration).transpose()?;
    Ok(limit.filter(|limit| !limit.is_zero()))
}

fn statuses(codes: &[u32], cx: &mut Context<'_>) -> Vec<StatusCode> {
    let status = |&code: &u32| StatusCode::from_u16(u16::try_from(code).ok()?).ok();
    if let Some(code) = codes.iter().find(|code| status(code).is_none()) {
        let note = format!("no response has a status of {code}: it calls for no retry");
        cx.report("retriable_status_codes", Treatment::Approximated, note);
    }
    codes.iter().filter_map(status).collect()
}

fn headers(
    name: &str,
    wire: Vec<WireHeader>,
    cx: &mut Context<'_>,
) -> Result<Vec<HeaderMatcher>, FieldError> {
    cx.count(Limit::Matchers, wire.len()).field(name)?;
    wire.into_iter()
        .enumerate()
        .map(|(index, wire)| cx.index(name, index, |cx| matcher::header(wire, cx)))
        .collect()
}

/// Attempts always avoid endpoints that were tried: `previous_hosts` asks for no more.
fn host_predicates(wire: &[RetryHostPredicate], cx: &mut Context<'_>) {
    const TYPE: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    const NAME: &str = "envoy.retry_host_predicates.previous_hosts";
    for (index, RetryHostPredicate { name, config_type }) in wire.iter().enumerate() {
        let (found, known) = match config_type {
            Some(ConfigType::TypedConfig(any)) => {
                let found = type_name(&any.type_url);
                (found, found == TYPE)
            }
            None => (name.as_str(), name == NAME),
        };
        if !known {
            let note = format!("predicate {:?} is not known here", quote(found));
            cx.ignored(&format!("retry_host_predicate[{index}]"), note);
        }
    }
}

/// What becomes under gRPC semantics of what Envoy retries besides.
const NOT_GRPC: &str = "in force under HTTP semantics; gRPC ignores it (gRFC A44)";

pub(super) static RETRY_POLICY: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy",
    fields: &[
        Field::enforced(1, "retry_on"),
        Field::enforced(2, "num_retries"),
        Field::enforced(3, "per_try_timeout").http_only(NOT_GRPC),
        Field::ignored(4, "retry_priority", "priorities are chosen by health"),
        Field::enforced(5, "retry_host_predicate"),
        Field::approximated(
            6,
            "host_selection_retry_max_attempts",
            "an endpoint that was not tried is looked for among all",
        ),
        Field::enforced(7, "retriable_status_codes").http_only(NOT_GRPC),
        Field::message(8, "retry_back_off", &RETRY_BACK_OFF),
        Field::repeated(9, "retriable_headers", &HEADER_MATCHER).http_only(NOT_GRPC),
        Field::repeated(10, "retriable_request_headers", &HEADER_MATCHER).http_only(NOT_GRPC),
        Field::ignored(
            11,
            "rate_limited_retry_back_off",
            "no response header is read as a delay but grpc-retry-pushback-ms, under gRPC \
             semantics (gRFC A6)",
        ),
        Field::ignored(
            12,
            "retry_options_predicates",
            "extensions are not supported",
        ),
        Field::enforced(13, "per_try_idle_timeout").http_only(NOT_GRPC),
        Field::ignored(
            14,
            "refresh_cluster_on_retry",
            "all attempts of a call go to the cluster that was drawn for it (gRFC A31)",
        ),
    ],
};

static RETRY_BACK_OFF: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.RetryBackOff",
    fields: &[
        Field::enforced(1, "base_interval"),
        Field::enforced(2, "max_interval"),
    ],
};

#[cfg(test)]
mod tests;
