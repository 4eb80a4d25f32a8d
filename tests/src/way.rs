//! The ways of making a call, so that one test can be made of each: gRPC, and plain HTTP over
//! HTTP/1.1 and HTTP/2.
//!
//! Which tests [`every_way!`](crate::every_way) makes for each, and which are of one way alone, and
//! why: `tests/README.md`.

mod ask;
mod chat;

use envoy_types::pb::envoy::{
    config::{cluster::v3::Cluster, core::v3::Http2ProtocolOptions},
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{
            ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
        },
    },
};
use mesh_core::{
    Code, Mesh,
    config::HttpProtocol,
    testing::{Fault, Retry, Service},
};
use mesh_hyper::{CallOptions, Client};
use mesh_tonic::Channel;
use prost::Name;

use crate::xds;

pub use self::{
    ask::{Ask, Call, Reply, cause},
    chat::{Chat, Opening},
};

/// How calls are made, and how servers are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A generated client over [`mesh_tonic::channel`].
    Grpc,
    /// [`mesh_hyper::Client`] over HTTP/1.1.
    Http1,
    /// The same over HTTP/2.
    Http2,
}

/// Whoever makes calls in one of the ways.
#[derive(Debug, Clone)]
pub enum Caller {
    /// [`Way::Grpc`].
    Grpc(Channel),
    /// [`Way::Http1`] or [`Way::Http2`], as the cluster has it.
    Http(Client),
}

/// Makes tests of functions that take a [`Way`]: of each one for every way, named after it. `grpc
/// and http2` leaves HTTP/1.1 out. What comes before a semicolon is the tests' attribute, or `alone`
/// for [`alone`](crate::alone()).
#[macro_export]
macro_rules! every_way {
    (alone; $($test:ident),+ $(,)?) => {
        $(mod $test {
            $crate::every_way!(@alone $test, grpc, Grpc);
            $crate::every_way!(@alone $test, http1, Http1);
            $crate::every_way!(@alone $test, http2, Http2);
        })+
    };
    (grpc and http2, alone; $($test:ident),+ $(,)?) => {
        $(mod $test {
            $crate::every_way!(@alone $test, grpc, Grpc);
            $crate::every_way!(@alone $test, http2, Http2);
        })+
    };
    (@alone $test:ident, $name:ident, $way:ident) => {
        #[test]
        fn $name() {
            $crate::alone(super::$test($crate::way::Way::$way));
        }
    };
    ($flavor:meta; $($test:ident),+ $(,)?) => {
        $(mod $test {
            $crate::every_way!(@one $flavor, $test, grpc, Grpc);
            $crate::every_way!(@one $flavor, $test, http1, Http1);
            $crate::every_way!(@one $flavor, $test, http2, Http2);
        })+
    };
    (grpc and http2, $flavor:meta; $($test:ident),+ $(,)?) => {
        $(mod $test {
            $crate::every_way!(@one $flavor, $test, grpc, Grpc);
            $crate::every_way!(@one $flavor, $test, http2, Http2);
        })+
    };
    (grpc and http2: $($test:ident),+ $(,)?) => {
        $crate::every_way!(grpc and http2, tokio::test; $($test),+);
    };
    (@one $flavor:meta, $test:ident, $name:ident, $way:ident) => {
        #[$flavor]
        async fn $name() {
            super::$test($crate::way::Way::$way).await;
        }
    };
    ($($test:ident),+ $(,)?) => {
        $crate::every_way!(tokio::test; $($test),+);
    };
}

// === impl Way ===

impl Way {
    /// Whoever calls `target`, which has a port, this way.
    ///
    /// # Panics
    /// If the target is not valid.
    pub fn caller(self, mesh: &Mesh, target: &str) -> Caller {
        match self {
            Self::Grpc => {
                Caller::Grpc(mesh_tonic::channel(mesh, target).expect("the target is valid"))
            }
            Self::Http1 | Self::Http2 => {
                let url = format!("http://{target}");
                Caller::Http(Client::to(mesh, &url).expect("the target is valid"))
            }
        }
    }

    /// The same, whose calls wait for configuration and a connected endpoint where they would fail
    /// at once.
    ///
    /// # Panics
    /// If the target is not valid.
    pub fn patient(self, mesh: &Mesh, target: &str) -> Caller {
        match self.caller(mesh, target) {
            Caller::Grpc(channel) => Caller::Grpc(channel.wait_for_ready(true)),
            Caller::Http(_) => {
                let options = CallOptions::default().wait_for_ready(true);
                let builder = Client::builder(mesh).options(options);
                let url = format!("http://{target}");
                Caller::Http(builder.to(&url).expect("the target is valid"))
            }
        }
    }

    /// The service, so that its servers are spoken to this way.
    pub fn of(self, service: Service) -> Service {
        match self {
            Self::Grpc => service,
            Self::Http1 => service.protocol(HttpProtocol::Http1),
            Self::Http2 => service.protocol(HttpProtocol::Http2),
        }
    }

    /// The cluster, whose protocol nothing says yet, so that its servers are spoken to this way.
    pub fn cluster(self, mut cluster: Cluster) -> Cluster {
        // gRPC and HTTP/1.1 are what clients take for granted.
        if self == Self::Http2 {
            let config = ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
            let explicit = ExplicitHttpConfig {
                protocol_config: Some(config),
            };
            let options = HttpProtocolOptions {
                upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
                    explicit,
                )),
                ..HttpProtocolOptions::default()
            };
            let name = HttpProtocolOptions::full_name();
            let all = &mut cluster.typed_extension_protocol_options;
            all.insert(name, xds::pack(&options));
        }
        cluster
    }

    /// How many connections so many calls at a time take at most.
    pub fn connections(self, calls: u64) -> u64 {
        match self {
            Self::Http1 => calls,
            Self::Grpc | Self::Http2 => 1,
        }
    }

    /// A fault that ends this share of calls, in percent, with "unavailable".
    pub fn abort(self, percent: f64) -> Fault {
        match self {
            Self::Grpc => Fault::new().abort(Code::Unavailable, percent),
            Self::Http1 | Self::Http2 => Fault::new().abort_status(503, percent),
        }
    }

    /// A policy for calls that no server has answered, or with "unavailable".
    pub fn retry(self) -> Retry {
        match self {
            Self::Grpc => Retry::on([Code::Unavailable]),
            Self::Http1 | Self::Http2 => {
                Retry::conditions(["gateway-error", "reset", "connect-failure"])
            }
        }
    }
}

// === impl Caller ===

impl Caller {
    /// The channel.
    ///
    /// # Panics
    /// If it is not one: for tests of gRPC alone.
    pub fn grpc(&self) -> &Channel {
        match self {
            Self::Grpc(channel) => channel,
            Self::Http(_) => panic!("this test is of gRPC alone"),
        }
    }
}
