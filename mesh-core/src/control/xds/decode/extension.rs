//! What an `Any` of the kind "typed_config" holds: an extension's configuration.

use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind};
use prost::{Message, Name};

use super::{FieldError, bounds::quote};

/// The configuration of an extension, unwrapped from its `Any`.
#[derive(Debug, Clone, PartialEq)]
pub enum Extension {
    /// An encoded message of the extension's own type.
    Message(Vec<u8>),
    /// The same in the form of JSON, from a `TypedStruct` (gRFC A39, A52). Numbers are `f64`, as
    /// everywhere in protobuf's `Struct`.
    Struct(serde_json::Map<String, serde_json::Value>),
}

/// `xds.type.v3.TypedStruct`, and `udpa.type.v1.TypedStruct` with the same fields.
#[derive(Clone, PartialEq, Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

impl Extension {
    /// The full name of the configuration's type, and the configuration.
    ///
    /// # Errors
    /// If it is a `TypedStruct` that cannot be decoded.
    pub(super) fn unwrap(any: &Any) -> Result<(String, Self), FieldError> {
        let name = type_name(&any.type_url);
        if !is_typed_struct(name) {
            return Ok((name.to_owned(), Self::Message(any.value.clone())));
        }
        let TypedStruct { type_url, value } = TypedStruct::decode(any.value.as_slice())
            .map_err(|error| FieldError::new(format!("malformed TypedStruct: {error}")))?;
        let value = value.unwrap_or_default();
        Ok((type_name(&type_url).to_owned(), Self::Struct(object(value))))
    }
}

/// The message in `any`, which must be of the type `M`.
pub(super) fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, FieldError> {
    match type_name(&any.type_url) == M::full_name() {
        true => parse(&any.value),
        false => Err(FieldError::new(format!(
            "must be of type {}, not {:?}",
            M::full_name(),
            quote(&any.type_url)
        ))),
    }
}

/// Parses a message of type `M`.
pub(super) fn parse<M: Message + Name + Default>(value: &[u8]) -> Result<M, FieldError> {
    M::decode(value)
        .map_err(|error| FieldError::new(format!("not a valid {}: {error}", M::full_name())))
}

/// The name in a type URL: what follows the last slash.
pub(super) fn type_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

/// Whether a message of this name wraps another configuration in the form of JSON.
pub(super) fn is_typed_struct(name: &str) -> bool {
    matches!(name, "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct")
}

fn object(value: Struct) -> serde_json::Map<String, serde_json::Value> {
    value
        .fields
        .into_iter()
        .map(|(key, value)| (key, json(value)))
        .collect()
}

/// As deep as protobuf's decoder went: its limit of recursion holds here too.
fn json(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(truth)) => truth.into(),
        Some(Kind::StructValue(fields)) => object(fields).into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_both_forms() {
        let plain = Any {
            type_url: "type.googleapis.com/a.B".into(),
            value: vec![8, 1],
        };
        assert_eq!(
            Extension::unwrap(&plain),
            Ok(("a.B".into(), Extension::Message(vec![8, 1])))
        );

        let value = |kind| Value { kind: Some(kind) };
        let list = envoy_types::pb::google::protobuf::ListValue {
            values: vec![value(Kind::BoolValue(true)), Value { kind: None }],
        };
        let typed = TypedStruct {
            type_url: "type.googleapis.com/a.B".into(),
            value: Some(Struct {
                fields: [
                    ("n".to_owned(), value(Kind::NumberValue(2.0))),
                    ("l".to_owned(), value(Kind::ListValue(list))),
                ]
                .into(),
            }),
        };
        for wrapper in ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"] {
            let any = Any {
                type_url: format!("type.googleapis.com/{wrapper}"),
                value: typed.encode_to_vec(),
            };
            let (name, config) = Extension::unwrap(&any).unwrap();
            assert_eq!(name, "a.B");
            let Extension::Struct(config) = config else {
                panic!("{config:?}");
            };
            assert_eq!(
                serde_json::Value::from(config),
                serde_json::json!({"n": 2.0, "l": [true, null]})
            );
        }
    }

    #[test]
    fn refuses_a_damaged_struct() {
        let any = Any {
            type_url: "type.googleapis.com/xds.type.v3.TypedStruct".into(),
            value: vec![0x0a, 0x7f],
        };
        let error = Extension::unwrap(&any).unwrap_err();
        assert!(error.problem().starts_with("malformed TypedStruct"));
    }
}
