//! Policy at the door: what cannot be read lets nobody in, and no way of writing a path or a header
//! gets around a rule.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use envoy_types::pb::envoy::config::rbac::v3::{
    Permission as WirePermission, Policy, permission::Rule,
};
use http::{Request, Response};
use http_body_util::Full;
use mesh_core::{
    Mesh,
    testing::{ControlPlane, Permission, Principal, Rbac},
};
use mesh_hyper::{RequestBody, ServingMode};
use mesh_tests::{fixture::within, running::port};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};
use tonic::codegen::Service;

/// An HTTP server that remembers the paths it has served.
struct World {
    control_plane: ControlPlane,
    address: SocketAddr,
    served: Served,
    modes: watch::Receiver<Option<ServingMode>>,
    _mesh: Mesh,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Served(Arc<Mutex<Vec<String>>>);

impl World {
    async fn start(rbac: Rbac) -> Self {
        let control_plane = ControlPlane::start().await;
        let listener = port().await;
        let address = listener.local_addr().unwrap();
        control_plane.server(address).rbac(rbac).apply();
        let mesh = control_plane.mesh("server").await;
        let (told, modes) = watch::channel(None);
        let server = mesh_hyper::Server::new(&mesh).on_serving(move |state| {
            told.send_replace(Some(state.mode.clone()));
        });
        let served = Served::default();
        let serve = server.serve(listener, served.clone());
        let task = tokio::spawn(async { serve.await.expect("it is bound") });
        let mut world = Self {
            control_plane,
            address,
            served,
            modes,
            _mesh: mesh,
            task,
        };
        world.until(|mode| *mode != ServingMode::Starting).await;
        world
    }

    async fn until(&mut self, wanted: impl Fn(&ServingMode) -> bool) {
        let wanted = |mode: &Option<ServingMode>| mode.as_ref().is_some_and(&wanted);
        within(self.modes.wait_for(wanted)).await.expect("it runs");
    }

    /// Sends an HTTP/1.1 request as it is written: the status of the answer, and whether the
    /// service has seen it.
    async fn http1(&self, head: &str) -> (u16, bool) {
        let before = self.served.count();
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{head}\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(io.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).expect("a status line");
        (status.parse().unwrap(), self.served.count() > before)
    }

    async fn get(&self, path: &str) -> (u16, bool) {
        self.http1(&format!("GET {path} HTTP/1.1\r\nhost: door.test"))
            .await
    }

    /// Sends a request over HTTP/2 with these fields, which no library would send: whether the
    /// service has seen it by the time it is answered.
    async fn http2(&self, fields: &[(&str, &str)]) -> bool {
        let before = self.served.count();
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal that is not indexed, without Huffman coding (RFC 7541 section 6.2.2).
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short") & 0x7f);
                block.extend(text.as_bytes());
            }
        }
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        io.write_all(&bytes).await.unwrap();
        // Until the stream is answered or reset, or the connection ends.
        let answered = async {
            let mut head = [0; 9];
            while io.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                io.read_exact(&mut payload).await.unwrap();
                if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) {
                    return;
                }
            }
        };
        within(answered).await;
        self.served.count() > before
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

impl Served {
    fn count(&self) -> usize {
        self.0.lock().len()
    }
}

impl Service<Request<RequestBody>> for Served {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.0.lock().push(request.uri().path().to_owned());
        std::future::ready(Ok(Response::new(Full::default())))
    }
}

/// Nobody may see what is under `/admin`.
fn no_admin() -> Rbac {
    let admin = Permission::path_prefix("/admin");
    Rbac::deny().policy("admin", admin, Principal::any())
}

/// Rules with an expression that is none.
fn unreadable() -> Rbac {
    let permission = Permission::path_regex("(");
    Rbac::deny().policy("bad", permission, Principal::any())
}

#[tokio::test]
async fn rules_that_cannot_be_read_let_nobody_in() {
    let mut world = World::start(unreadable()).await;
    world
        .until(|mode| matches!(mode, ServingMode::NotServing(_)))
        .await;
    let mut io = TcpStream::connect(world.address).await.unwrap();
    let mut got = Vec::new();
    let _ = within(io.read_to_end(&mut got)).await;
    assert!(got.is_empty());

    world
        .control_plane
        .server(world.address)
        .rbac(no_admin())
        .apply();
    world.until(|mode| *mode == ServingMode::Serving).await;
    assert_eq!(world.get("/open").await, (200, true));
    assert_eq!(world.get("/admin").await, (403, false));

    // From here on there are good ones.
    let empty = Rbac::deny().given(
        "bad",
        Policy {
            permissions: vec![WirePermission { rule: None }],
            ..Policy::default()
        },
    );
    let unknown = Rbac::deny().given(
        "bad",
        Policy {
            permissions: vec![WirePermission {
                rule: Some(Rule::Any(true)),
            }],
            principals: Vec::new(),
            ..Policy::default()
        },
    );
    for bad in [unreadable(), empty, unknown] {
        let push = world.control_plane.server(world.address).rbac(bad).apply();
        push.nacked().await;
        assert_eq!(world.get("/open").await, (200, true));
        assert_eq!(world.get("/admin").await, (403, false));
    }
}

#[tokio::test]
async fn no_way_to_write_a_path_gets_around_a_rule() {
    let world = World::start(no_admin()).await;
    assert_eq!(world.get("/open/x?y=/admin").await, (200, true));
    assert_eq!(world.get("/admin").await, (403, false));
    assert_eq!(world.get("/admin/x?open").await, (403, false));
    assert_eq!(world.get("http://door.test/admin").await, (403, false));
    for path in [
        "//admin",
        "/./admin",
        "/x/../admin",
        "/open/..;/admin",
        "/;x/admin",
        "/%61dmin",
        "/%2e/admin",
        "/%2fadmin",
        "/open%2f..%2fadmin",
        "/open%5c..%5cadmin",
        "/open\\..\\admin",
        "/%00/admin",
        "/open/%2e%2e/admin",
        "http://door.test//admin",
    ] {
        assert_eq!(world.get(path).await, (400, false), "{path}");
    }
    // What begins with the words that are denied is denied, however it goes on.
    for path in ["/admin;x", "/admin%2fx", "/admin/../open"] {
        let (status, served) = world.get(path).await;
        assert!(status == 400 || status == 403, "{path}: {status}");
        assert!(!served, "{path}");
    }
    // No path at all, for what is not OPTIONS.
    assert!(!world.http1("GET * HTTP/1.1\r\nhost: door.test").await.1);
    assert!(!world.http1("GET admin HTTP/1.1\r\nhost: door.test").await.1);
}

#[tokio::test]
async fn nor_does_any_request_of_http2() {
    let world = World::start(no_admin()).await;
    let with = |path: &'static str| {
        vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "door.test"),
            (":path", path),
        ]
    };
    assert!(
        world.http2(&with("/open")).await,
        "or the test says nothing"
    );
    assert!(!world.http2(&with("/admin")).await);
    for path in [
        "admin",
        "admin/x",
        "",
        "*",
        "//admin",
        "/x/../admin",
        "/%61dmin",
    ] {
        assert!(!world.http2(&with(path)).await, "{path}");
    }
    // Twice, in both orders (RFC 9113 section 8.3).
    for paths in [["/open", "/admin"], ["/admin", "/open"], ["/open", "/open"]] {
        let mut fields = with(paths[0]);
        fields.push((":path", paths[1]));
        assert!(!world.http2(&fields).await, "{paths:?}");
    }
    let mut two_hosts = with("/open");
    two_hosts.push(("host", "other.test"));
    assert!(!world.http2(&two_hosts).await);
    let connect = vec![(":method", "CONNECT"), (":authority", "door.test")];
    assert!(!world.http2(&connect).await);
    assert_eq!(*world.served.0.lock(), ["/open"]);
}

/// A header that occurs more than once helps nobody, whichever of its values a rule looks for.
#[tokio::test]
async fn repeated_headers() {
    let admin = || Permission::header("x-role", "admin");
    let request = |roles: &[&str]| {
        let roles = roles.iter().map(|role| format!("\r\nx-role: {role}"));
        let roles: String = roles.collect();
        format!("GET /open HTTP/1.1\r\nhost: door.test{roles}")
    };
    let deny = Rbac::deny().policy("admin", admin(), Principal::any());
    let world = World::start(deny).await;
    assert_eq!(world.http1(&request(&[])).await, (200, true));
    assert_eq!(world.http1(&request(&["guest"])).await, (200, true));
    for roles in [&["admin"][..], &["guest", "admin"], &["admin", "guest"]] {
        assert_eq!(
            world.http1(&request(roles)).await,
            (403, false),
            "{roles:?}"
        );
    }

    let allow = Rbac::allow().policy("admin", admin(), Principal::any());
    let push = world
        .control_plane
        .server(world.address)
        .rbac(allow)
        .apply();
    push.acked().await;
    assert_eq!(world.http1(&request(&["admin"])).await, (200, true));
    for roles in [
        &[][..],
        &["guest"],
        &["guest", "admin"],
        &["admin", "guest"],
    ] {
        assert_eq!(
            world.http1(&request(roles)).await,
            (403, false),
            "{roles:?}"
        );
    }
}
