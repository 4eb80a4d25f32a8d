use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tonic::metadata::{BinaryMetadataKey, MetadataKey, MetadataMap, MetadataValue};

use super::{Flags, Method, PerMethod};
use crate::testing::{ClientConfigureRequest, client_configure_request::RpcType};

/// Which calls are made at each tick; changes while the client runs.
#[derive(Debug)]
pub struct Plan {
    calls: Mutex<Arc<[Arc<Call>]>>,
    default_timeout: Duration,
}

/// A call to make.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which method is called.
    pub method: Method,
    /// What goes with the request.
    pub metadata: MetadataMap,
    /// How long the call may take, to the end of the response.
    pub timeout: Duration,
}

/// Request metadata of each method.
pub type MethodMetadata = PerMethod<MetadataMap>;

/// Metadata from text, as drivers give it.
pub(super) trait AppendText {
    /// Adds a value. A key that ends in `-bin` takes the text's bytes.
    fn append_text(&mut self, key: &str, value: &str) -> Result<(), InvalidPlan>;
}

/// A change of plan that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPlan {
    /// A metadata key is no header name.
    #[error("metadata key {0:?} is no header name: use letters, digits, '-', '_' and '.'")]
    Key(String),
    /// A metadata value has characters that a header cannot carry.
    #[error("the value {value:?} of metadata key {key:?} is no header value: use printable ASCII")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A call type has no meaning.
    #[error("unknown call type {0}: use EMPTY_CALL (0) or UNARY_CALL (1)")]
    Type(i32),
    /// The timeout is negative.
    #[error("timeout_sec is {0}: use a positive number, or 0 for the default")]
    Timeout(i32),
}

// === impl Plan ===

impl Plan {
    /// The plan that the command line gives.
    pub fn new(flags: &Flags) -> Self {
        let calls = calls(
            flags.rpc.iter().copied(),
            &flags.metadata,
            flags.rpc_timeout,
        );
        Self {
            calls: Mutex::new(calls),
            default_timeout: flags.rpc_timeout,
        }
    }

    /// What to call at the next tick, in this order.
    pub fn calls(&self) -> Arc<[Arc<Call>]> {
        Arc::clone(&self.calls.lock())
    }

    /// Replaces the plan: methods, metadata and timeout. No method is a plan to call nothing.
    ///
    /// # Errors
    /// If the request is not valid; the plan stays as it was.
    pub fn configure(&self, request: &ClientConfigureRequest) -> Result<(), InvalidPlan> {
        let methods = request
            .types
            .iter()
            .map(|&value| method(value))
            .collect::<Result<Vec<_>, _>>()?;
        let mut metadata = MethodMetadata::default();
        for entry in &request.metadata {
            metadata[method(entry.r#type)?].append_text(&entry.key, &entry.value)?;
        }
        let timeout = match u64::try_from(request.timeout_sec) {
            Ok(0) => self.default_timeout,
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => return Err(InvalidPlan::Timeout(request.timeout_sec)),
        };
        *self.calls.lock() = calls(methods, &metadata, timeout);
        Ok(())
    }
}

// === impl MetadataMap ===

impl AppendText for MetadataMap {
    fn append_text(&mut self, key: &str, value: &str) -> Result<(), InvalidPlan> {
        let bad_key = || InvalidPlan::Key(key.to_owned());
        if key.to_ascii_lowercase().ends_with("-bin") {
            let name = BinaryMetadataKey::from_bytes(key.as_bytes()).map_err(|_| bad_key())?;
            self.append_bin(name, MetadataValue::from_bytes(value.as_bytes()));
            return Ok(());
        }
        let name = MetadataKey::from_bytes(key.as_bytes()).map_err(|_| bad_key())?;
        let value = value.parse().map_err(|_| InvalidPlan::Value {
            key: key.to_owned(),
            value: value.to_owned(),
        })?;
        self.append(name, value);
        Ok(())
    }
}

/// One call for each of the methods, however often it is named.
fn calls(
    methods: impl IntoIterator<Item = Method>,
    metadata: &MethodMetadata,
    timeout: Duration,
) -> Arc<[Arc<Call>]> {
    let mut calls: Vec<Arc<Call>> = Vec::new();
    for method in methods {
        if calls.iter().all(|call| call.method != method) {
            calls.push(Arc::new(Call {
                method,
                metadata: metadata[method].clone(),
                timeout,
            }));
        }
    }
    calls.into()
}

fn method(value: i32) -> Result<Method, InvalidPlan> {
    RpcType::try_from(value)
        .map(Method::from)
        .map_err(|_| InvalidPlan::Type(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::client_configure_request::Metadata;

    fn plan() -> Plan {
        Plan::new(&Flags {
            rpc_timeout: Duration::from_secs(7),
            ..Flags::default()
        })
    }

    fn metadata(rpc_type: RpcType, key: &str, value: &str) -> Metadata {
        Metadata {
            r#type: rpc_type.into(),
            key: key.into(),
            value: value.into(),
        }
    }

    #[test]
    fn a_request_replaces_methods_metadata_and_timeout() {
        let plan = plan();
        let (empty, unary) = (RpcType::EmptyCall, RpcType::UnaryCall);
        let request = ClientConfigureRequest {
            types: vec![empty.into(), unary.into(), empty.into()],
            metadata: vec![
                metadata(unary, "X-Env", "blue"),
                metadata(unary, "x-env", "green"),
                metadata(unary, "x-raw-bin", "bytes"),
            ],
            timeout_sec: 3,
        };
        plan.configure(&request).unwrap();

        let calls = plan.calls();
        let methods: Vec<_> = calls.iter().map(|call| call.method).collect();
        assert_eq!(methods, [Method::EmptyCall, Method::UnaryCall]);
        assert!(calls[0].metadata.is_empty());
        let values: Vec<_> = calls[1].metadata.get_all("x-env").iter().collect();
        assert_eq!(values, ["blue", "green"]);
        assert_eq!(
            calls[1].metadata.get_bin("x-raw-bin").unwrap(),
            b"bytes".as_slice()
        );
        assert!(
            calls
                .iter()
                .all(|call| call.timeout == Duration::from_secs(3))
        );
    }

    #[test]
    fn no_timeout_is_the_default_and_no_type_is_no_call() {
        let plan = plan();
        let types = vec![RpcType::UnaryCall.into()];
        plan.configure(&ClientConfigureRequest {
            types,
            ..Default::default()
        })
        .unwrap();
        assert_eq!(plan.calls()[0].timeout, Duration::from_secs(7));
        plan.configure(&ClientConfigureRequest::default()).unwrap();
        assert!(plan.calls().is_empty());
    }

    #[test]
    fn a_request_that_is_not_valid_changes_nothing() {
        let unary = RpcType::UnaryCall;
        let with = |metadata| ClientConfigureRequest {
            types: vec![unary.into()],
            metadata: vec![metadata],
            timeout_sec: 0,
        };
        let cases = [
            (
                ClientConfigureRequest {
                    types: vec![0, 5],
                    ..Default::default()
                },
                InvalidPlan::Type(5),
            ),
            (
                ClientConfigureRequest {
                    timeout_sec: -1,
                    ..Default::default()
                },
                InvalidPlan::Timeout(-1),
            ),
            (
                with(metadata(unary, "a b", "c")),
                InvalidPlan::Key("a b".into()),
            ),
            (
                with(metadata(unary, "key", "line\n")),
                InvalidPlan::Value {
                    key: "key".into(),
                    value: "line\n".into(),
                },
            ),
            (
                with(Metadata {
                    r#type: 9,
                    key: "key".into(),
                    value: String::new(),
                }),
                InvalidPlan::Type(9),
            ),
        ];
        for (request, error) in cases {
            let plan = plan();
            assert_eq!(plan.configure(&request), Err(error));
            assert_eq!(plan.calls()[0].method, Method::UnaryCall);
        }
    }
}
