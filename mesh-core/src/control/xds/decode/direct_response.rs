//! Routes that answer by themselves, under HTTP semantics (Envoy).

use envoy_types::pb::envoy::config::{
    core::v3::{DataSource, data_source::Specifier},
    route::v3::DirectResponseAction as Wire,
};
use http::StatusCode;

use super::{
    Context, FieldError, ResultExt,
    fields::{Field, Message},
};
use crate::config::{DirectResponse, RouteAction, Treatment};

/// `max_direct_response_body_size_bytes` where a route configuration does not say.
pub(super) const DEFAULT_MAX_BODY: u32 = 4096;

/// An answer with a body of at most `max_body` bytes.
pub(super) fn direct_response(
    wire: Wire,
    max_body: u32,
    cx: &mut Context<'_>,
) -> Result<RouteAction, FieldError> {
    let Wire { status, body, .. } = wire;
    let status = u16::try_from(status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| {
            let problem = format!("must be from 200 to 599, not {status}");
            FieldError::new(problem).field("status")
        })?;
    let (name, body) = match body.and_then(|DataSource { specifier, .. }| specifier) {
        None => ("body", Vec::new()),
        Some(Specifier::InlineBytes(bytes)) => ("inline_bytes", bytes),
        Some(Specifier::InlineString(text)) => ("inline_string", text.into_bytes()),
        // A control plane does not get to read the files and variables of this process.
        Some(Specifier::Filename(_)) => return Ok(elsewhere("filename", cx)),
        Some(Specifier::EnvironmentVariable(_)) => {
            return Ok(elsewhere("environment_variable", cx));
        }
    };
    if body.len() > max_body as usize {
        let problem = format!(
            "has {} bytes: max_direct_response_body_size_bytes allows {max_body}",
            body.len()
        );
        return Err(FieldError::new(problem)).field(name).field("body");
    }
    Ok(RouteAction::DirectResponse(DirectResponse {
        status,
        body: body.into(),
    }))
}

/// The route stays, so that no other one takes its requests: they fail.
fn elsewhere(source: &str, cx: &mut Context<'_>) -> RouteAction {
    let note = "only inline_bytes and inline_string are read: requests that match fail";
    let path = format!("body.{source}");
    cx.report(&path, Treatment::Approximated, note);
    RouteAction::Unsupported("direct_response with a body that is not inline")
}

pub(super) static DIRECT_RESPONSE: Message = Message {
    name: "envoy.config.route.v3.DirectResponseAction",
    fields: &[
        Field::enforced(1, "status"),
        Field::message(2, "body", &BODY),
        Field::ignored(3, "body_format", "the body is sent as it is"),
    ],
};

static BODY: Message = Message {
    name: "envoy.config.core.v3.DataSource",
    fields: &[
        Field::enforced(1, "filename"),
        Field::enforced(2, "inline_bytes"),
        Field::enforced(3, "inline_string"),
        Field::enforced(4, "environment_variable"),
        Field::ignored(5, "watched_directory", "only for `filename`"),
    ],
};

#[cfg(test)]
mod tests;
