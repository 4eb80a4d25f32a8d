//! Changes to headers by route configurations, virtual hosts, routes and weighted clusters, under
//! HTTP semantics (Envoy, "Custom request/response headers").

use envoy_types::pb::{
    envoy::config::core::v3::{
        HeaderValue as WireValue, HeaderValueOption,
        header_value_option::HeaderAppendAction as WireAction,
    },
    google::protobuf::BoolValue,
};
use http::HeaderName;

use super::{
    Context, FieldError, ResultExt,
    bounds::quote,
    fields::{Field, Message},
    header_format::{Value, format},
    limits::Limit,
    rewrite::header_name,
    route_fields::NOT_GRPC,
};
use crate::config::{AppendAction, HeaderMutation, HeaderMutations};

/// Bytes that a header's name or value may have in configuration: Envoy's bound.
const MAX_BYTES: usize = 16_384;

/// The four fields of a message that change headers.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
}

/// The changes of one message: what is removed comes first, as in Envoy.
pub(super) fn mutations(wire: Wire, cx: &mut Context<'_>) -> Result<HeaderMutations, FieldError> {
    let Wire {
        request_add,
        request_remove,
        response_add,
        response_remove,
    } = wire;
    let mut both = |add, puts, remove, removals| {
        let mut mutations = self::removals(remove, removals, cx)?;
        mutations.extend(self::puts(add, puts, cx)?);
        Ok(mutations)
    };
    Ok(HeaderMutations {
        request: both(
            "request_headers_to_add",
            request_add,
            "request_headers_to_remove",
            request_remove,
        )?,
        response: both(
            "response_headers_to_add",
            response_add,
            "response_headers_to_remove",
            response_remove,
        )?,
    })
}

fn removals(
    field: &str,
    names: Vec<String>,
    cx: &mut Context<'_>,
) -> Result<Vec<HeaderMutation>, FieldError> {
    cx.count(Limit::HeaderMutations, names.len()).field(field)?;
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let name = changeable(name).index(field, index)?;
            Ok(HeaderMutation::Remove(name))
        })
        .collect()
}

fn puts(
    field: &str,
    options: Vec<HeaderValueOption>,
    cx: &mut Context<'_>,
) -> Result<Vec<HeaderMutation>, FieldError> {
    cx.count(Limit::HeaderMutations, options.len())
        .field(field)?;
    options
        .into_iter()
        .enumerate()
        .filter_map(|(index, wire)| cx.index(field, index, |cx| put(wire, cx)).transpose())
        .collect()
}

/// `None`: the header cannot be made, and nothing is there that it would have replaced.
fn put(
    wire: HeaderValueOption,
    cx: &mut Context<'_>,
) -> Result<Option<HeaderMutation>, FieldError> {
    #[expect(deprecated, reason = "istiod and others still set it")]
    let HeaderValueOption {
        header,
        append,
        append_action,
        keep_empty_value,
    } = wire;
    let Some(WireValue { key, value, .. }) = header else {
        return Err(FieldError::new("must be set").field("header"));
    };
    let name = changeable(&key).field("key").field("header")?;
    let value = match value.len() {
        0..=MAX_BYTES => format(&value, cx),
        length => Err(FieldError::new(format!(
            "has {length} bytes: at most {MAX_BYTES} are allowed"
        ))),
    };
    let action = match WireAction::try_from(append_action) {
        Ok(WireAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        Ok(WireAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        Ok(WireAction::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        Ok(WireAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        Err(_) => {
            let problem = format!("unknown action {append_action}");
            return Err(FieldError::new(problem).field("append_action"));
        }
    };
    let append = match (append, action) {
        (None, action) => action,
        (Some(BoolValue { value: true }), AppendAction::AppendIfExistsOrAdd) => action,
        (Some(BoolValue { value: false }), AppendAction::AppendIfExistsOrAdd) => {
            AppendAction::OverwriteIfExistsOrAdd
        }
        (Some(_), _) => {
            let problem = "may not be set together with append_action";
            return Err(FieldError::new(problem).field("append"));
        }
    };
    let value = match value.field("value").field("header")? {
        Value::Known(value) => value,
        Value::Unknown(note) => {
            // Not worth the configuration, which gRPC does not need for it. What somebody else put
            // into a header that was to be replaced does not come through either.
            cx.ignored("header.value", format!("{note}: the header is not set"));
            let replaces = matches!(
                append,
                AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd
            );
            return Ok(replaces.then_some(HeaderMutation::Remove(name)));
        }
    };
    Ok(Some(HeaderMutation::Put {
        name,
        value,
        append,
        keep_empty: keep_empty_value,
    }))
}

/// The name of a header that configuration may change: neither a pseudo-header nor `host`, which
/// rewrites are for.
fn changeable(name: &str) -> Result<HeaderName, FieldError> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        let name = quote(name);
        return Err(FieldError::new(format!(
            "{name:?} may not be changed: no pseudo-header may, nor host"
        )));
    }
    match name.len() {
        0..=MAX_BYTES => header_name(name),
        length => Err(FieldError::new(format!(
            "has {length} bytes: at most {MAX_BYTES} are allowed"
        ))),
    }
}

/// A field of headers to add.
pub(super) const fn adds(number: u32, name: &'static str) -> Field {
    Field::repeated(number, name, &HEADER_VALUE_OPTION).http_only(NOT_GRPC)
}

/// A field of names of headers to remove.
pub(super) const fn removes(number: u32, name: &'static str) -> Field {
    Field::enforced(number, name).http_only(NOT_GRPC)
}

static HEADER_VALUE_OPTION: Message = Message {
    name: "envoy.config.core.v3.HeaderValueOption",
    fields: &[
        Field::message(1, "header", &HEADER_VALUE),
        Field::enforced(2, "append"),
        Field::enforced(3, "append_action"),
        Field::enforced(4, "keep_empty_value"),
    ],
};

static HEADER_VALUE: Message = Message {
    name: "envoy.config.core.v3.HeaderValue",
    fields: &[
        Field::enforced(1, "key"),
        Field::enforced(2, "value"),
        Field::ignored(3, "raw_value", "`value` is what routes add, as in Envoy"),
    ],
};

#[cfg(test)]
mod tests;
