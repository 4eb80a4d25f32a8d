use std::{collections::BTreeMap, fmt, sync::Arc};

use super::decode::{Extension, FaultDecoder, FieldError, Message, RbacDecoder, RouterDecoder};
use crate::config::FilterConfig;

/// Turns the configuration of one HTTP filter into a value that knows how to build it
/// (gRFC A39).
///
/// Together with a [`FilterSpec`](crate::filter::FilterSpec) and a
/// [`Filter`](crate::filter::Filter), this is all that a filter consists of.
pub trait FilterDecoder: fmt::Debug + Send + Sync + 'static {
    /// The messages that configure the filter, or override its configuration. Their names are
    /// how configuration asks for it; their tables tell which of their fields are in force.
    fn messages(&self) -> &'static [&'static Message];

    /// Where the filter can run. Where it cannot, it is treated as unknown. Default: in clients.
    fn side(&self) -> Side {
        Side::Client
    }

    /// Whether the filter ends its chain, as the router does. Default: no. What a terminal filter
    /// decodes to is dropped.
    fn is_terminal(&self) -> bool {
        false
    }

    /// Whether its configuration may come as JSON, in a `TypedStruct`. Default: no.
    fn accepts_struct(&self) -> bool {
        false
    }

    /// Decodes `config`, which is of the type called `name`: one of [`messages`](Self::messages).
    ///
    /// # Errors
    /// If it cannot be accepted: the whole listener is rejected then. The path is relative to
    /// the filter's configuration.
    fn decode(&self, name: &str, config: &Extension) -> Result<FilterConfig, FieldError>;

    /// As [`decode`](Self::decode), for a filter that wants to know what it is called: `instance`
    /// is its name in the chain. This is what a chain is decoded with. Default: it does not.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_instance(
        &self,
        instance: &str,
        name: &str,
        config: &Extension,
    ) -> Result<FilterConfig, FieldError> {
        let _ = instance;
        self.decode(name, config)
    }

    /// The table of the message called `name`, if the filter's configuration can hold one in an
    /// `Any`. Default: it holds none.
    fn extension(&self, name: &str) -> Option<&'static Message> {
        let _ = name;
        None
    }

    /// Decodes an override from the `typed_per_filter_config` of a virtual host, a route or a
    /// weighted cluster. Default: an override is a whole configuration.
    ///
    /// # Errors
    /// If it cannot be accepted: the whole route configuration is rejected then.
    fn decode_override(&self, name: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
        self.decode(name, config)
    }
}

/// Where a filter can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In clients and in servers.
    Both,
    /// In clients, for outgoing requests.
    Client,
    /// In servers, for incoming requests.
    Server,
}

impl Side {
    /// Whether what can run here can run on `side`.
    pub(super) fn covers(self, side: Side) -> bool {
        self == Side::Both || self == side
    }
}

/// The HTTP filters that configuration can ask for.
///
/// ```
/// use mesh_core::control::xds::FilterRegistry;
///
/// let filters = FilterRegistry::standard();
/// assert!(filters.get("envoy.extensions.filters.http.fault.v3.HTTPFault").is_some());
/// ```
#[derive(Debug, Clone)]
pub struct FilterRegistry {
    by_message: BTreeMap<&'static str, (&'static Message, Arc<dyn FilterDecoder>)>,
}

impl FilterRegistry {
    /// A registry without any filter, not even the router.
    pub fn empty() -> Self {
        Self {
            by_message: BTreeMap::new(),
        }
    }

    /// All filters that this crate has: the router, fault injection (gRFC A33), and in servers
    /// role-based access control (gRFC A41).
    pub fn standard() -> Self {
        Self::empty()
            .register(RouterDecoder)
            .register(FaultDecoder)
            .register(RbacDecoder::standard())
    }

    /// Adds a filter. It takes the place of one that was registered for the same messages.
    #[must_use]
    pub fn register(mut self, decoder: impl FilterDecoder) -> Self {
        let decoder: Arc<dyn FilterDecoder> = Arc::new(decoder);
        for &message in decoder.messages() {
            self.by_message
                .insert(message.name, (message, decoder.clone()));
        }
        self
    }

    /// The filter that the message called `name` configures.
    pub fn get(&self, name: &str) -> Option<&dyn FilterDecoder> {
        self.by_message.get(name).map(|(_, decoder)| &**decoder)
    }

    /// The table of the message called `name`: a filter's, or one that a filter's can hold.
    pub(super) fn message(&self, name: &str) -> Option<&'static Message> {
        match self.by_message.get(name) {
            Some(&(message, _)) => Some(message),
            None => self
                .by_message
                .values()
                .find_map(|(_, decoder)| decoder.extension(name)),
        }
    }
}

impl Default for FilterRegistry {
    /// As [`standard`](Self::standard).
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;

    use super::*;
    use crate::{
        control::xds::decode::Field,
        filter::{Filter, FilterSpec, RequestHead, Verdict},
    };

    /// A filter of a user's own: nothing but this is needed for one.
    #[derive(Debug, PartialEq)]
    struct AddHeader {
        value: String,
    }

    #[derive(Debug)]
    struct AddHeaderDecoder;

    const ADD_HEADER: Message = Message {
        name: "test.AddHeader",
        fields: &[Field::enforced(1, "value")],
    };

    impl FilterDecoder for AddHeaderDecoder {
        fn messages(&self) -> &'static [&'static Message] {
            &[&ADD_HEADER]
        }

        fn accepts_struct(&self) -> bool {
            true
        }

        fn decode(&self, _: &str, config: &Extension) -> Result<FilterConfig, FieldError> {
            let Extension::Struct(fields) = config else {
                return Err(FieldError::new("must be JSON"));
            };
            match fields.get("value").and_then(|value| value.as_str()) {
                Some(value) => Ok(FilterConfig(Arc::new(AddHeader {
                    value: value.to_owned(),
                }))),
                None => Err(FieldError::new("must be a string").field("value")),
            }
        }
    }

    impl FilterSpec for AddHeader {
        fn build(&self, over: Option<&FilterConfig>) -> Option<Arc<dyn Filter>> {
            let AddHeader { value } = crate::filter::replaced(self, over);
            Some(Arc::new(Add(value.parse().ok()?)))
        }

        fn equals(&self, other: &dyn FilterSpec) -> bool {
            (other as &dyn Any).downcast_ref() == Some(self)
        }
    }

    #[derive(Debug)]
    struct Add(http::HeaderValue);

    impl Filter for Add {
        fn request(&self, head: &mut RequestHead<'_>) -> Verdict {
            head.headers.insert("x-added", self.0.clone());
            Verdict::Continue
        }
    }

    fn json(value: serde_json::Value) -> Extension {
        match value {
            serde_json::Value::Object(fields) => Extension::Struct(fields),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_registered_filter_is_found_decoded_and_built() {
        let filters = FilterRegistry::standard().register(AddHeaderDecoder);
        let decoder = filters.get(ADD_HEADER.name).unwrap();
        assert!(filters.message(ADD_HEADER.name).is_some());
        let decode = |value| decoder.decode(ADD_HEADER.name, &json(value));
        let config = decode(serde_json::json!({"value": "a"})).unwrap();
        let over = decode(serde_json::json!({"value": "b"})).unwrap();
        for (over, expected) in [(None, "a"), (Some(&over), "b")] {
            let mut headers = http::HeaderMap::new();
            let mut head = RequestHead {
                method: &http::Method::GET,
                authority: "",
                path: "/",
                query: None,
                headers: &mut headers,
                peer: None,
            };
            let filter = config.build(over).unwrap();
            assert!(matches!(filter.request(&mut head), Verdict::Continue));
            assert_eq!(headers["x-added"], expected);
        }
        let error = decode(serde_json::json!({})).unwrap_err();
        assert_eq!(error.to_string(), "value: must be a string");
    }

    #[test]
    fn a_later_registration_takes_the_place_of_an_earlier_one() {
        #[derive(Debug)]
        struct Other;

        impl FilterDecoder for Other {
            fn messages(&self) -> &'static [&'static Message] {
                &[&ADD_HEADER]
            }

            fn is_terminal(&self) -> bool {
                true
            }

            fn decode(&self, _: &str, _: &Extension) -> Result<FilterConfig, FieldError> {
                Err(FieldError::new("never"))
            }
        }

        let filters = FilterRegistry::empty()
            .register(AddHeaderDecoder)
            .register(Other);
        assert!(filters.get(ADD_HEADER.name).unwrap().is_terminal());
        assert!(filters.get("test.Unknown").is_none());
    }
}
