//! From wire messages to [`config`](crate::config) values: the one place where they are checked.

mod action;
mod bounds;
mod context;
mod error;
mod extension;
mod fault;
mod fields;
mod filter;
#[cfg(test)]
mod fixtures;
mod limits;
mod listener;
mod matcher;
mod regex;
mod route;
mod wire;

pub use error::{FieldError, ResultExt};
pub use extension::Extension;
pub use fields::{ANY, Field, Message, Treat};

use context::Context;
pub(super) use fault::FaultDecoder;
pub(super) use filter::RouterDecoder;

use std::{fmt, sync::Arc};

use envoy_types::pb::google::protobuf::Any;

use crate::config::{Finding, Kind, Resource};

/// Turns a resource on the wire into a value, or says why not.
pub trait Decode: fmt::Debug + Send + Sync + 'static {
    /// Decodes a resource of `kind`.
    ///
    /// # Errors
    /// If it cannot be accepted; says the resource's name where it could be read.
    fn decode(&self, kind: Kind, raw: &Any) -> Result<Decoded, Rejected>;
}

/// An accepted resource.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Its name.
    pub name: Arc<str>,
    /// What it means.
    pub value: Resource,
    /// Fields that are not fully in force.
    pub findings: Arc<[Finding]>,
    /// As it was received, unwrapped from `Resource`.
    pub raw: Any,
}

/// A refused resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Rejected {
    /// Its name, if that could be read.
    pub name: Option<Arc<str>>,
    /// The field at fault, such as `virtual_hosts[0].routes[2].match.path_specifier`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}
