//! Values of a file to messages on the wire, by protobuf's JSON mapping.

use std::sync::LazyLock;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};
use serde::{
    Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

use super::{
    error::Fault,
    tree::{Key, Node, Value},
};

/// Names, numbers and types of the fields of all messages that resources are made of, as the
/// package `envoy-types` has them: `tests/descriptors.rs` makes this file, and sees that it is
/// current.
static MESSAGES: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!("descriptors.bin").as_slice())
        .expect("a test reads the same bytes")
});

/// The message that `node` describes: a map whose `@type` says what it is.
pub(super) fn any(node: &Node) -> Result<Any, Fault> {
    let problem = "must have an \"@type\", such as \
                   type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let Some(node_type) = node.get("@type") else {
        return Err(Fault::new(problem).at(node.at));
    };
    let Value::Text(url) = &node_type.value else {
        return Err(Fault::new("must be a string")
            .inside("@type")
            .at(node_type.at));
    };
    let held = MESSAGES
        .get_message_by_name("google.protobuf.Any")
        .expect("every extension is held by one");
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(held, Read(node), &options)?;
    let any = Any::decode(message.encode_to_vec().as_slice())
        .map_err(|error| Fault::new(format!("{url}: {error}")).at(node.at))?;
    Ok(any)
}

/// Reads a node; what is wrong with it is said to be where it stands.
#[derive(Clone, Copy)]
struct Read<'a>(&'a Node);

/// The items of a list.
struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    index: usize,
}

/// The entries of a map, `@type` first: what it holds is read as that type without a detour, in
/// which places would be lost.
struct Entries<'a> {
    first: Option<&'a (Key, Node)>,
    rest: std::slice::Iter<'a, (Key, Node)>,
    current: Option<&'a (Key, Node)>,
}

impl<'de> Deserializer<'de> for Read<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Node { at, value } = self.0;
        let result = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Integer(integer) => visitor.visit_i64(*integer),
            Value::Unsigned(integer) => visitor.visit_u64(*integer),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter(),
                index: 0,
            }),
            Value::Map(entries) => {
                let mut entries = Entries::new(entries);
                let result = visitor.visit_map(&mut entries);
                result.map_err(|fault| match entries.current {
                    // Of the key itself: it is not known, or not expected.
                    Some((key, _)) if fault.at.is_none() => fault.at(key.at).inside(&key.text),
                    _ => fault,
                })
            }
        };
        result.map_err(|fault| fault.at(*at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        let value = seed.deserialize(Read(item));
        let value = value.map_err(|fault| fault.at(item.at).inside(&format!("[{index}]")));
        value.map(Some)
    }
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [(Key, Node)]) -> Self {
        Self {
            first: entries.iter().find(|(key, _)| key.text == "@type"),
            rest: entries.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let first = self.first.take();
        self.current = first.or_else(|| self.rest.by_ref().find(|(key, _)| key.text != "@type"));
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        let name: serde::de::value::StrDeserializer<'_, Fault> =
            key.text.as_str().into_deserializer();
        seed.deserialize(name)
            .map_err(|fault| fault.at(key.at))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, node) = self.current.expect("a key comes before its value");
        let value = seed.deserialize(Read(node));
        value.map_err(|fault| fault.at(node.at).inside(&key.text))
    }
}
