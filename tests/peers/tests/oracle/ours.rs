//! Our client: a listener for each configuration, and a target for each authority.

use std::collections::BTreeMap;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::config::{
        listener::v3::{ApiListener, Listener},
        route::v3::RouteConfiguration,
    },
    google::protobuf::Any,
};
use http::{Request, uri::Scheme};
use http_body_util::{BodyExt, Empty};
use mesh_core::{Mesh, config::Kind, testing::ControlPlane};
use mesh_hyper::{CallOptions, Caller};
use prost::Message;

use crate::{
    backend::Backends,
    generate::Asked,
    outcome::Outcome,
    theirs::{MANAGER, manager, pack},
};

/// A mesh of ours that has all configurations of a batch.
pub(crate) struct Ours {
    callers: BTreeMap<(usize, String), Caller>,
    _mesh: Mesh,
    _control_plane: ControlPlane,
}

impl Ours {
    /// With targets for the authorities of these requests.
    ///
    /// # Panics
    /// If it rejects a configuration.
    pub(crate) async fn start(
        backends: &Backends,
        batch: &[RouteConfiguration],
        requests: &[Vec<Asked>],
    ) -> Self {
        let control_plane = ControlPlane::start().await;
        // All goes out at once, when all has been asked for.
        control_plane.hold();
        for cluster in backends.clusters() {
            let any = resource("cluster.v3.Cluster", cluster);
            control_plane.set_any(Kind::Cluster, &cluster.name, any);
        }
        for (number, routes) in batch.iter().enumerate() {
            let listener = listener(number, routes.clone());
            let any = resource("listener.v3.Listener", &listener);
            control_plane.set_any(Kind::Listener, listener.name, any);
        }
        let mesh = control_plane.mesh("ours").await;
        let mut callers = BTreeMap::new();
        for (number, requests) in requests.iter().enumerate() {
            for asked in requests {
                let key = (number, asked.authority.clone());
                callers.entry(key).or_insert_with(|| {
                    let authority = asked.authority.parse().expect("it is an authority");
                    Caller::http(&mesh, &name(number), Scheme::HTTP, authority)
                });
            }
        }
        control_plane.release();
        control_plane.acked(Kind::Listener).await;
        Self {
            callers,
            _mesh: mesh,
            _control_plane: control_plane,
        }
    }

    pub(crate) async fn ask(&self, number: usize, asked: &Asked) -> Outcome {
        let uri = format!("http://{}{}", asked.authority, asked.path);
        let mut request = Request::builder().method(&*asked.method).uri(uri);
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .unwrap_or_else(|error| panic!("{error}: {asked:?}"));
        let caller = &self.callers[&(number, asked.authority.clone())];
        match caller.call(request, CallOptions::default()).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = body.collect().await.expect("a body ends").to_bytes();
                Outcome::new(head.status, &head.headers, &body)
            }
            Err(error) => Outcome::refused(error.status()),
        }
    }
}

fn name(number: usize) -> String {
    format!("configuration-{number}")
}

/// A resource of this type.
pub(crate) fn resource(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/envoy.config.{name}"),
        value: message.encode_to_vec(),
    }
}

fn listener(number: usize, routes: RouteConfiguration) -> Listener {
    Listener {
        name: name(number),
        api_listener: Some(ApiListener {
            api_listener: Some(pack(MANAGER, &manager(routes))),
        }),
        ..Listener::default()
    }
}
