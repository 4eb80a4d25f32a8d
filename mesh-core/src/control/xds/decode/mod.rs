//! From wire messages to [`config`](crate::config) values: the one place where they are checked.

mod action;
mod audit;
mod bounds;
mod chain;
mod cluster;
mod cluster_fields;
mod connections;
mod connections_fields;
mod context;
mod decoder;
mod direct_response;
mod discovery;
mod downstream_tls;
mod endpoints;
mod endpoints_fields;
mod error;
mod extension;
mod fault;
mod fields;
mod filter;
#[cfg(test)]
mod fixtures;
mod header_format;
mod header_mutation;
mod least_request;
mod limits;
mod listener;
mod load_report;
mod matcher;
mod policy;
mod rbac;
mod rbac_fields;
mod redirect;
mod regex;
mod retry;
mod rewrite;
mod round_robin;
mod route;
mod route_fields;
mod route_reuse;
mod secret;
mod server_listener;
#[cfg(test)]
mod test_support;
mod tls;
mod tls_fields;
mod upgrade;
mod wire;
pub(crate) mod workload;

pub use audit::{AuditLoggerDecoder, SharedLogger};
pub(super) use decoder::WRAPPER_URL;
pub use decoder::{Decoder, type_url};

pub use error::{FieldError, ResultExt};
pub use extension::Extension;
pub use fields::{ANY, Field, Message, Treat};
pub use policy::{PolicyDecoder, PolicyRegistry};
pub use rbac::RbacDecoder;

pub(super) use bounds::duration;
use context::Context;
pub(super) use fault::FaultDecoder;
pub(super) use filter::RouterDecoder;

use std::{fmt, sync::Arc};

use envoy_types::pb::google::protobuf::Any;

use crate::{
    bootstrap::ServerConfig,
    config::{Finding, Kind, Resource},
};

/// Turns a resource on the wire into a value, or says why not.
pub trait Decode: fmt::Debug + Send + Sync + 'static {
    /// Decodes a resource of `kind`.
    ///
    /// # Errors
    /// If it cannot be accepted; says the resource's name where it could be read.
    fn decode(&self, kind: Kind, raw: &Any) -> Result<Decoded, Rejected>;

    /// As [`decode`](Self::decode), and with the same result, where `earlier` gives the resource that
    /// is in force under a name: what has not changed since may be shared with it. It must have come
    /// from the same decoder.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_next<'a>(
        &self,
        kind: Kind,
        raw: &Any,
        earlier: &dyn Fn(&str) -> Option<Earlier<'a>>,
    ) -> Result<Decoded, Rejected> {
        let _ = earlier;
        self.decode(kind, raw)
    }
}

/// A resource that was accepted earlier.
#[derive(Debug, Clone, Copy)]
pub struct Earlier<'a> {
    /// As it was received.
    pub raw: &'a Any,
    /// What it means.
    pub value: &'a Resource,
    /// As [`Decoded::tally`].
    pub tally: Option<&'a Tally>,
}

/// How much of each limit a resource uses up at most: parts of it then count in another one without
/// being decoded again.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    used: [usize; limits::Limit::COUNT],
    /// How many fields it has, if there is nothing to report of any.
    fields: Option<usize>,
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
    /// What it takes to share parts of it with the resource that comes next. `None` if none can be.
    pub tally: Option<Arc<Tally>>,
}

impl Decoded {
    /// It was sent by this control plane. A cluster whose load is to be reported to where it came
    /// from knows then where that is.
    pub(crate) fn sent_by(mut self, server: &Arc<ServerConfig>) -> Self {
        if let Resource::Cluster(cluster) = &mut self.value
            && cluster.report_load.is_some()
            && let Some(report) = &mut Arc::make_mut(cluster).report_load
        {
            report.server = Some(Arc::clone(server));
        }
        self
    }
}

/// A refused resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{problem}", if .path.is_empty() { "" } else { ": " })]
pub struct Rejected {
    /// Its name, if that could be read.
    pub name: Option<Arc<str>>,
    /// The field at fault, such as `virtual_hosts[0].routes[2].match.path_specifier`. Empty if it
    /// is the resource itself.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}
