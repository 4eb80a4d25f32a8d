//! Resources that are easy to write down, and the decoder that reads them.

use std::{any::Any as StdAny, sync::Arc};

use envoy_types::pb::{envoy::service::discovery::v3::Resource as Wrapper, google::protobuf::Any};
use prost::Message;

use super::{
    decode::{Decode, Decoded, Rejected, WRAPPER_URL},
    type_url::type_url,
};
use crate::{
    balance::{Group, Policy, PolicySpec},
    bootstrap::{Bootstrap, Node, ServerConfig, ServerFeatures},
    config::{
        Breakers, Cluster, Connections, Discovery, Drop, Endpoints, Fraction, HttpManager, Kind,
        LbPolicy, Listener, LoadReport, PolicyConfig, Resource, RouteConfig, RouteSource, Secret,
        SecretMaterial, VirtualHost,
    },
};

/// Reads `name=content`, wrapped or not. Content that starts with `!` is refused, as is anything without a name;
/// spaces at the end are other bytes of the same meaning.
#[derive(Debug)]
pub(super) struct FakeDecode;

impl Decode for FakeDecode {
    fn decode(&self, kind: Kind, raw: &Any) -> Result<Decoded, Rejected> {
        let reject = |name: Option<&str>, path: &str, problem: &str| Rejected {
            name: name.map(Arc::from),
            path: path.into(),
            problem: problem.into(),
        };
        if raw.type_url == WRAPPER_URL {
            let wrapper = Wrapper::decode(raw.value.as_slice())
                .map_err(|_| reject(None, "wrapper", "not a message"))?;
            let name = (!wrapper.name.is_empty()).then_some(&*wrapper.name);
            let inner = wrapper
                .resource
                .ok_or_else(|| reject(name, "resource", "must be set"))?;
            return self.decode(kind, &inner);
        }
        if raw.type_url != type_url(kind) {
            return Err(reject(None, "type_url", "of another type"));
        }
        let text =
            std::str::from_utf8(&raw.value).map_err(|_| reject(None, "value", "not a message"))?;
        let (name, content) = text
            .split_once('=')
            .ok_or_else(|| reject(None, "name", "missing"))?;
        if let Some(problem) = content.strip_prefix('!') {
            return Err(reject(Some(name), "some.field", problem));
        }
        Ok(Decoded {
            tally: None,
            name: name.into(),
            value: value(kind, name, content.trim_end()),
            findings: Arc::new([]),
            raw: raw.clone(),
        })
    }
}

/// The content of a cluster whose load is to be reported.
pub(super) const REPORTED: &str = "reported";

/// `name=content` on the wire.
pub(super) fn any(kind: Kind, name: &str, content: &str) -> Any {
    Any {
        type_url: type_url(kind).into(),
        value: format!("{name}={content}").into_bytes(),
    }
}

/// What [`FakeDecode`] makes of `name=content`.
pub(super) fn value(kind: Kind, name: &str, content: &str) -> Resource {
    let (name, content): (Arc<str>, Arc<str>) = (name.into(), content.into());
    match kind {
        Kind::Listener => Resource::Listener(Arc::new(Listener {
            name,
            http: HttpManager {
                routes: RouteSource::Named(content),
                filters: Arc::new([]),
                max_stream_duration: None,
                stream_idle_timeout: None,
                upgrades: Vec::new(),
                strip_port: Default::default(),
            },
        })),
        Kind::Route => Resource::Route(Arc::new(RouteConfig {
            name,
            virtual_hosts: vec![VirtualHost {
                name: content,
                domains: Vec::new(),
                routes: Vec::new(),
                overrides: Default::default(),
                headers: Default::default(),
            }],
            headers: Default::default(),
            most_specific_wins: false,
            ignore_port: false,
        })),
        Kind::Cluster => Resource::Cluster(Arc::new(Cluster {
            name,
            // Its load is, if that is its content.
            report_load: (*content == *REPORTED).then(LoadReport::default),
            discovery: Discovery::Eds(content),
            lb: LbPolicy::Endpoints(PolicyConfig(Arc::new(NoPolicy))),
            breakers: Breakers::default(),
            connections: Connections::default(),
            tls: None,
            panic_threshold: 50.0,
            service: None,
        })),
        Kind::Endpoints => Resource::Endpoints(Arc::new(Endpoints {
            name,
            localities: Vec::new(),
            drops: vec![Drop {
                category: content,
                share: Fraction::per_million(1),
            }],
            overprovisioning_factor: 140,
        })),
        Kind::Secret => {
            let certificate = content.as_bytes().to_vec().into();
            Resource::Secret(Arc::new(Secret {
                name,
                material: SecretMaterial::Trust([certificate].into()),
            }))
        }
    }
}

/// What [`FakeDecode`] read.
pub(super) fn content(resource: &Resource) -> String {
    let content = match resource {
        Resource::Listener(listener) => match &listener.http.routes {
            RouteSource::Named(content) => content,
            RouteSource::Inline(_) => unreachable!("no fake listener has routes"),
        },
        Resource::ServerListener(_) => unreachable!("no fake listener is for servers"),
        Resource::Route(route) => &route.virtual_hosts[0].name,
        Resource::Cluster(cluster) => match &cluster.discovery {
            Discovery::Eds(content) => content,
            other => unreachable!("no fake cluster is of {other}"),
        },
        Resource::Endpoints(endpoints) => &endpoints.drops[0].category,
        Resource::Secret(secret) => match &secret.material {
            SecretMaterial::Trust(content) => {
                return String::from_utf8_lossy(&content[0]).into_owned();
            }
            SecretMaterial::Certificate { .. } => unreachable!("no fake secret has a key"),
        },
    };
    content.to_string()
}

#[derive(Debug)]
struct NoPolicy;

impl PolicySpec for NoPolicy {
    fn name(&self) -> &'static str {
        "none"
    }

    fn build(&self, _: &Arc<Group>) -> Box<dyn Policy> {
        unreachable!("nothing is balanced here")
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn StdAny).is::<Self>()
    }
}

/// A control plane called `xds.test:1`.
pub(super) fn server(features: ServerFeatures) -> ServerConfig {
    ServerConfig::insecure("xds.test:1")
        .features(features)
        .build()
        .expect("a valid address")
}

/// A node called `node-7`.
pub(super) fn node() -> Node {
    Node {
        id: "node-7".into(),
        ..Node::default()
    }
}

/// A bootstrap of the two.
pub(super) fn bootstrap() -> Arc<Bootstrap> {
    Arc::new(Bootstrap {
        servers: vec![server(ServerFeatures::default())],
        node: node(),
        certificate_providers: Default::default(),
        client_listener_template: "%s".into(),
        server_listener_template: None,
        authorities: Default::default(),
    })
}
