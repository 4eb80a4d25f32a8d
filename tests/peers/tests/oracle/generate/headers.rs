//! Changes to headers.

use envoy_types::pb::{
    envoy::config::core::v3::{
        HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
    },
    google::protobuf::BoolValue,
};

use crate::random::Random;

/// Of requests, and of the responses of the backend.
const NAMES: &[&str] = &["x-a", "x-b", "x-num", "X-New", "x-one", "x-two", "x-empty"];
const TEXTS: &[&str] = &[
    "new",
    "",
    "%REQ(x-a)%",
    "a-%REQ(x-none?x-b)%-z",
    "%REQ(:path):4%",
    "%REQ(:METHOD)%",
    "%REQ(:authority)%",
    "100%%",
    "%PROTOCOL%",
    "%UPSTREAM_CLUSTER%",
    "%ROUTE_NAME%",
    "%RESP(x-one)%",
];
/// The last ones only in responses: what a request says of its response is meant to differ.
const RESPONSE_TEXTS: &[&str] = &["%RESPONSE_CODE%", "%RESP(x-two)%-%RESPONSE_CODE%"];

/// To a request's headers, and to those of its response.
pub(super) fn add(
    random: &mut Random,
    request: &mut Vec<HeaderValueOption>,
    response: &mut Vec<HeaderValueOption>,
) {
    some(random, TEXTS, request);
    some(random, &[TEXTS, RESPONSE_TEXTS].concat(), response);
}

fn some(random: &mut Random, texts: &[&str], to: &mut Vec<HeaderValueOption>) {
    for _ in 0..random.below(3) {
        let action = *random.pick(&[
            HeaderAppendAction::AppendIfExistsOrAdd,
            HeaderAppendAction::AddIfAbsent,
            HeaderAppendAction::OverwriteIfExistsOrAdd,
            HeaderAppendAction::OverwriteIfExists,
        ]);
        let header = HeaderValue {
            key: random.text(NAMES),
            value: random.text(texts),
            ..HeaderValue::default()
        };
        #[expect(deprecated, reason = "control planes still set it")]
        to.push(HeaderValueOption {
            header: Some(header),
            append: (action == HeaderAppendAction::AppendIfExistsOrAdd && random.chance(30)).then(
                || BoolValue {
                    value: random.chance(50),
                },
            ),
            append_action: action.into(),
            keep_empty_value: random.chance(30),
        });
    }
}

pub(super) fn remove(random: &mut Random, from: &mut Vec<String>) {
    for _ in 0..1 + random.below(2) {
        from.push(random.text(NAMES));
    }
}
