//! The reports of responses, as gRPC and Envoy read them.

use std::collections::HashSet;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue};
use prost::Message;

use super::{BINARY, OrcaLoadReport, TEXTUAL, json};
use crate::{Semantics, route::first_value};

/// With padding or without, as in all binary headers of gRPC; written without.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The report in these headers or trailers, if there is one. gRPC knows
/// `endpoint-load-metrics-bin` alone (gRFC A51); Envoy, where that is missing,
/// `endpoint-load-metrics` too, which begins with `TEXT`, `JSON` or `BIN`.
///
/// # Errors
/// If it cannot be read; says why.
pub(crate) fn read(
    semantics: Semantics,
    headers: &HeaderMap,
) -> Result<Option<OrcaLoadReport>, String> {
    if let Some(value) = first_value(headers, &BINARY) {
        return binary(value.as_bytes()).map(Some);
    }
    match first_value(headers, &TEXTUAL) {
        Some(value) if semantics == Semantics::Http => textual(value).map(Some),
        _ => Ok(None),
    }
}

fn binary(base64: &[u8]) -> Result<OrcaLoadReport, String> {
    let bytes = BASE64.decode(base64).map_err(|error| error.to_string())?;
    OrcaLoadReport::decode(&*bytes).map_err(|error| error.to_string())
}

fn textual(value: &HeaderValue) -> Result<OrcaLoadReport, String> {
    let value = value.to_str().map_err(|error| error.to_string())?;
    match value.split_once(' ') {
        Some(("BIN", base64)) => binary(base64.trim().as_bytes()),
        Some(("JSON", json)) => json::read(json),
        Some(("TEXT", list)) => self::list(list),
        _ => Err("begins with none of TEXT, JSON and BIN".to_owned()),
    }
}

/// Reads `cpu_utilization:0.3,named_metrics.foo:1`. As in Envoy, what is said twice or is not
/// known spoils the rest.
fn list(list: &str) -> Result<OrcaLoadReport, String> {
    let mut report = OrcaLoadReport::default();
    let mut seen = HashSet::new();
    for entry in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let (name, value) = entry.split_once(':').unwrap_or((entry, ""));
        let name = name.trim();
        if !seen.insert(name) {
            return Err(format!("{name}: is there twice"));
        }
        let value = value.trim().parse::<f64>().ok();
        let value = value.filter(|value| value.is_finite());
        let value = value.ok_or_else(|| format!("{name}: not a finite number"))?;
        match (name.strip_prefix("named_metrics."), report.number(name)) {
            (Some(""), _) => return Err(format!("{name}: has no name")),
            (Some(key), _) => {
                report.named_metrics.insert(key.to_owned(), value);
            }
            (None, Some(place)) => *place = value,
            (None, None) => return Err(format!("{name}: not a metric that is known")),
        }
    }
    Ok(report)
}

/// Reads a header's value as each form that it may be of, and a message: for fuzzing.
#[cfg(feature = "testing")]
pub(crate) fn read_bytes(bytes: &[u8]) {
    let message = HeaderValue::try_from(BASE64.encode(bytes));
    let values = [HeaderValue::from_bytes(bytes), message];
    for value in values.into_iter().flatten() {
        for name in [&BINARY, &TEXTUAL] {
            let headers = HeaderMap::from_iter([(name.clone(), value.clone())]);
            for semantics in [Semantics::Grpc, Semantics::Http] {
                let _ = read(semantics, &headers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = value.parse().expect("a value");
        HeaderMap::from_iter([(name.parse().expect("a name"), value)])
    }

    fn report() -> OrcaLoadReport {
        let mut report = OrcaLoadReport {
            cpu_utilization: 0.5,
            application_utilization: 1.25,
            ..Default::default()
        };
        report.named_metrics.insert("foo".into(), 2.0);
        report
    }

    /// The bytes that protobuf's own encoder makes of [`report`].
    const BYTES: &[u8] = &[
        0x09, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, // 1: 0.5
        0x42, 14, 0x0a, 3, b'f', b'o', b'o', 0x11, 0, 0, 0, 0, 0, 0, 0, 0x40, // 8: foo, 2
        0x49, 0, 0, 0, 0, 0, 0, 0xf4, 0x3f, // 9: 1.25
    ];

    #[test]
    fn every_form_says_the_same() {
        let padded = base64::engine::general_purpose::STANDARD.encode(BYTES);
        let bare = padded.trim_end_matches('=').to_owned();
        assert_ne!(bare, padded);
        let same = Ok(Some(report()));
        for value in [&padded, &bare] {
            let headers = headers("endpoint-load-metrics-bin", value);
            assert_eq!(read(Semantics::Grpc, &headers), same);
            assert_eq!(read(Semantics::Http, &headers), same);
        }
        let text = "cpu_utilization:0.5, application_utilization: 1.25,named_metrics.foo:2";
        let json = r#"{"cpu_utilization": 0.5, "applicationUtilization": "1.25", "eps": null,
            "namedMetrics": {"foo": 2}, "someday": [1]}"#;
        let json = json.replace('\n', " ");
        for value in [
            format!("TEXT {text}"),
            format!("JSON {json}"),
            format!("BIN {padded}"),
            format!("BIN {bare}"),
        ] {
            let headers = headers("endpoint-load-metrics", &value);
            assert_eq!(read(Semantics::Http, &headers), same, "{value}");
            // Not gRPC's.
            assert_eq!(read(Semantics::Grpc, &headers), Ok(None));
        }
        assert_eq!(BYTES, report().encode_to_vec());
    }

    #[test]
    fn grpcs_form_comes_first() {
        let mut both = headers("endpoint-load-metrics", "TEXT eps:3");
        both.extend(headers("endpoint-load-metrics-bin", &BASE64.encode(BYTES)));
        assert_eq!(read(Semantics::Http, &both), Ok(Some(report())));
        assert_eq!(read(Semantics::Http, &HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (value, why) in [
            ("eps:1", "TEXT, JSON and BIN"),
            ("YAML eps: 1", "TEXT, JSON and BIN"),
            ("TEXT eps:1,eps:2", "eps: is there twice"),
            ("TEXT eps", "eps: not a finite number"),
            ("TEXT eps:NaN", "eps: not a finite number"),
            ("TEXT eps:inf", "eps: not a finite number"),
            ("TEXT named_metrics.:1", "has no name"),
            ("TEXT utilization.foo:1", "not a metric that is known"),
            ("JSON [1]", "not an object"),
            ("JSON {\"eps\": true}", "eps: not a number"),
            ("JSON {\"utilization\": 1}", "utilization: not an object"),
            ("JSON {", "EOF"),
            ("BIN ?", "nvalid"),
            ("BIN CQ", "cpu_utilization"),
        ] {
            let headers = headers("endpoint-load-metrics", value);
            let error = read(Semantics::Http, &headers).expect_err(value);
            assert!(error.contains(why), "{value}: {error}");
        }
    }
}
