use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::route::v3::HeaderMatcher,
        extensions::filters::{
            common::fault::v3::fault_delay::HeaderDelay, http::fault::v3::fault_abort::HeaderAbort,
        },
    },
    google::protobuf::Duration as WireDuration,
};
use prost::Message as _;

use super::{super::fixtures::*, *};
use crate::{config::Fraction, control::xds::FilterRegistry};

fn percent(numerator: u32, denominator: i32) -> Option<FractionalPercent> {
    Some(FractionalPercent {
        numerator,
        denominator,
    })
}

fn decode(wire: &HttpFault) -> Result<FilterConfig, FieldError> {
    FaultDecoder.decode(HTTP_FAULT.name, &Extension::Message(wire.encode_to_vec()))
}

fn spec(spec: FaultSpec) -> Result<FilterConfig, FieldError> {
    Ok(FilterConfig(Arc::new(spec)))
}

const NOTHING: FaultSpec = FaultSpec {
    delay: None,
    abort: None,
    max_active: None,
};

#[test]
fn everything_is_decoded() {
    let value = every_fault().value;
    let decoded = FaultDecoder.decode(HTTP_FAULT.name, &Extension::Message(value));
    let expected = FaultSpec {
        delay: Some(FaultDelay {
            share: FaultShare {
                limit: Fraction::per_million(1_000_000),
                unit: 10_000,
            },
            length: DelayLength::Fixed(Duration::from_millis(1_250)),
        }),
        abort: Some(FaultAbort {
            share: FaultShare {
                limit: Fraction::per_million(100),
                unit: 100,
            },
            status: AbortStatus::Http(http::StatusCode::SERVICE_UNAVAILABLE),
        }),
        max_active: Some(7),
    };
    assert_eq!(decoded, spec(expected.clone()));
    assert_ne!(decoded, spec(NOTHING));
    assert_ne!(
        decoded,
        spec(FaultSpec {
            max_active: None,
            ..expected
        })
    );
}

#[test]
fn an_abort_has_one_of_three_statuses() {
    for (wire, status) in [
        (
            ErrorType::HttpStatus(200),
            AbortStatus::Http(http::StatusCode::OK),
        ),
        (ErrorType::GrpcStatus(0), AbortStatus::Grpc(Code::Ok)),
        (
            ErrorType::GrpcStatus(16),
            AbortStatus::Grpc(Code::Unauthenticated),
        ),
        (ErrorType::HeaderAbort(HeaderAbort {}), AbortStatus::Header),
    ] {
        let decoded = decode(&HttpFault {
            abort: Some(WireAbort {
                percentage: percent(3, 2),
                error_type: Some(wire),
                ..Default::default()
            }),
            ..Default::default()
        });
        let abort = FaultAbort {
            share: FaultShare {
                limit: Fraction::per_million(3),
                unit: 1,
            },
            status,
        };
        let abort = Some(abort);
        assert_eq!(decoded, spec(FaultSpec { abort, ..NOTHING }));
    }
}

#[test]
fn what_is_missing_injects_nothing() {
    assert_eq!(decode(&HttpFault::default()), spec(NOTHING));
    let unset = HttpFault {
        delay: Some(WireDelay::default()),
        abort: Some(WireAbort::default()),
        ..Default::default()
    };
    assert_eq!(decode(&unset), spec(NOTHING));
    let no_share = HttpFault {
        delay: Some(WireDelay {
            fault_delay_secifier: Some(FaultDelaySecifier::HeaderDelay(HeaderDelay {})),
            percentage: None,
        }),
        ..Default::default()
    };
    let delay = Some(FaultDelay {
        share: FaultShare {
            limit: Fraction::per_million(0),
            unit: 10_000,
        },
        length: DelayLength::Header,
    });
    assert_eq!(decode(&no_share), spec(FaultSpec { delay, ..NOTHING }));
}

#[test]
fn what_is_refused() {
    let abort = |error_type, percentage| HttpFault {
        abort: Some(WireAbort {
            percentage,
            error_type: Some(error_type),
            ..Default::default()
        }),
        ..Default::default()
    };
    let delay = |wire, percentage| HttpFault {
        delay: Some(WireDelay {
            percentage,
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(wire)),
        }),
        ..Default::default()
    };
    let negative = WireDuration {
        seconds: -5,
        nanos: 0,
    };
    for (wire, path, problem) in [
        (
            delay(negative, None),
            "delay.fixed_delay",
            "a negative duration",
        ),
        (
            delay(millis(1), percent(1, 3)),
            "delay.percentage.denominator",
            "unknown denominator 3",
        ),
        (
            abort(ErrorType::HttpStatus(199), None),
            "abort.http_status",
            "199 is not within 200 and 599",
        ),
        (
            abort(ErrorType::HttpStatus(65_736), None),
            "abort.http_status",
            "65736 is not within 200 and 599",
        ),
        (
            abort(ErrorType::GrpcStatus(17), None),
            "abort.grpc_status",
            "17 is not a status code of gRPC",
        ),
        (
            abort(ErrorType::GrpcStatus(3), percent(1, -1)),
            "abort.percentage.denominator",
            "unknown denominator -1",
        ),
    ] {
        let error = decode(&wire).unwrap_err();
        assert_eq!((error.path(), error.problem()), (path, problem));
    }
}

#[test]
fn conditions_without_effect_are_found() {
    let fault = HttpFault {
        headers: vec![HeaderMatcher::default()],
        ..Default::default()
    };
    let mut manager = manager();
    manager.http_filters.insert(0, filter("x", any(&fault)));
    let wire = api_listener("l", manager);
    let (_, findings) = decode_listener(wire, &FilterRegistry::standard()).unwrap();
    let paths: Vec<_> = findings.iter().map(|finding| &*finding.path).collect();
    assert_eq!(
        paths,
        ["api_listener.api_listener.http_filters[0].typed_config.headers"]
    );
}
