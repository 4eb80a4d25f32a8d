//! What routes do with calls of plain HTTP, over each protocol.

mod asked;
mod flags;
mod hosts;
mod items;
mod options;
mod raw;
mod routes;
mod times;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::Response, routing::any};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use mesh_core::{
    Mesh,
    config::HttpProtocol,
    telemetry::Cause,
    testing::{
        ControlPlane, Retry, Route, Service,
        envoy_types::pb::envoy::{
            config::route::v3::RedirectAction,
            extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
            r#type::v3::FractionalPercent,
        },
    },
};
use mesh_hyper::{Client, Error, NoRetry};
use mesh_tests::fixture::within;
use tokio::{net::TcpListener, task::JoinHandle};

const TARGET: &str = "catalog.shop:80";
const PROTOCOLS: [HttpProtocol; 2] = [HttpProtocol::Http1, HttpProtocol::Http2];

/// A server, a control plane that knows of it, and a client.
struct World {
    control_plane: ControlPlane,
    mesh: Mesh,
    client: Client,
    /// Requests that the server has seen.
    seen: Arc<AtomicU32>,
    address: SocketAddr,
    protocol: HttpProtocol,
    serving: JoinHandle<()>,
}

impl World {
    /// The server answers the nth request, counted from 1, by its path: `/fail/N/STATUS` fails the
    /// first N, `/with/N/STATUS/HEADER` does so with this header, `/hang/N` never answers the first N,
    /// `/large/N` answers with headers of N KiB;
    /// all else is told what was seen of it.
    async fn start(protocol: HttpProtocol) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&seen);
        let router = Router::new().fallback(any(move |request: Request<Body>| {
            answer(request, counter.fetch_add(1, Ordering::SeqCst) + 1)
        }));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        let control_plane = ControlPlane::start().await;
        let mesh = control_plane.mesh("web").await;
        Self {
            client: Client::new(&mesh),
            mesh,
            control_plane,
            seen,
            address,
            protocol,
            serving,
        }
    }

    fn service(&self) -> Service {
        let service = self.control_plane.service(TARGET);
        service.endpoint(self.address).protocol(self.protocol)
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, HeaderMap, String), Error> {
        let request = self.client.get(format!("http://catalog.shop{path}"));
        let (head, body) = within(request.send()).await?.into_parts();
        let body = within(body.collect()).await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok((head.status, head.headers, text))
    }

    fn seen(&self) -> u32 {
        self.seen.swap(0, Ordering::SeqCst)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(request: Request<Body>, number: u32) -> Response {
    let path = request.uri().path().to_owned();
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let mut response = Response::builder().header("x-served", "yes");
    match parts[..] {
        ["fail", first, status] if number <= first.parse().unwrap() => {
            response = response.status(status.parse::<u16>().unwrap());
        }
        ["with", first, status, name] if number <= first.parse().unwrap() => {
            response = response.status(status.parse::<u16>().unwrap());
            response = response.header(name, "true");
        }
        ["large", kib] => {
            for number in 0..kib.parse().unwrap() {
                response = response.header(format!("x-large-{number}"), "a".repeat(1 << 10));
            }
        }
        ["hang", first] if number <= first.parse().unwrap() => std::future::pending().await,
        _ => {}
    }
    let header = |name: &str| {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        match values[..] {
            [] => "-".to_owned(),
            _ => values.join(","),
        }
    };
    let authority = match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => header("host"),
    };
    // Told of the headers that are for the client alone.
    let asked = (request.headers().keys()).any(|name| {
        name.as_str() != "x-envoy-expected-rq-timeout-ms" && name.as_str().starts_with("x-envoy-")
    });
    response = response.header("x-asked", asked.to_string());
    let text = format!(
        "{} {authority} {} added={} expected={}",
        request.method(),
        request.uri().path_and_query().unwrap(),
        header("x-added"),
        header("x-envoy-expected-rq-timeout-ms"),
    );
    response.body(text.into()).unwrap()
}

#[tokio::test]
async fn a_route_changes_the_request_and_the_response() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let rule = Route::segments("/api")
            .rewrite_prefix("/v2")
            .rewrite_host("inner.shop")
            .add_request_header("x-added", "%REQ(:method)%")
            .add_response_header("x-more", "%RESPONSE_CODE%")
            .remove_response_header("x-served")
            .timeout(Duration::from_secs(7));
        world.service().route(rule).apply();
        let (status, headers, text) = world.get("/api/items?n=1").await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let rewritten = "GET inner.shop /v2/items?n=1 added=GET expected=";
        assert!(text.starts_with(rewritten), "{protocol:?}: {text}");
        let expected: u64 = text[rewritten.len()..].parse().unwrap();
        assert!((1..=7000).contains(&expected), "{expected}");
        assert_eq!(headers["x-more"], "200");
        assert!(!headers.contains_key("x-served"));
        let (_, _, text) = world.get("/apis").await.unwrap();
        assert!(text.starts_with("GET catalog.shop /apis "), "{text}");
    }
}

#[tokio::test]
async fn a_route_answers_by_itself() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let redirect = RedirectAction {
            host_redirect: "elsewhere.shop".into(),
            ..RedirectAction::default()
        };
        let service = world
            .service()
            .route(Route::path("/old").redirect(redirect));
        service
            .route(Route::path("/gone").respond(410, "no more"))
            .apply();
        let (status, headers, _) = world.get("/old?n=1").await.unwrap();
        assert_eq!(status, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(headers["location"], "http://elsewhere.shop/old?n=1");
        let (status, _, text) = world.get("/gone").await.unwrap();
        assert_eq!((status, &*text), (StatusCode::GONE, "no more"));
        assert_eq!(world.seen(), 0);
    }
}

#[tokio::test]
async fn what_a_policy_covers_is_tried_again() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let quick = Duration::from_millis(1);
        let retry = Retry::conditions(["5xx", "retriable-4xx"]).statuses([429]);
        let retry = retry.times(2).backoff(quick, quick);
        world.service().retry(retry).apply();
        for (path, status, attempts) in [
            ("/fail/2/503", 200, 3),
            ("/fail/9/503", 503, 3),
            ("/fail/1/409", 200, 2),
            ("/fail/1/429", 200, 2),
            ("/fail/1/404", 404, 1),
            ("/fail/0/503", 200, 1),
        ] {
            let (answered, ..) = world.get(path).await.unwrap();
            assert_eq!(answered.as_u16(), status, "{protocol:?} {path}");
            assert_eq!(world.seen(), attempts, "{protocol:?} {path}");
        }
        let url = "http://catalog.shop/fail/2/503";
        let response = within(world.client.get(url).no_retries().send())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(world.seen(), 1);
    }
}

#[tokio::test]
async fn the_headers_of_a_request_ask_for_retries_where_they_may() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let get = |path: &str, headers: &[(&'static str, &'static str)]| {
            let request = world.client.get(format!("http://catalog.shop{path}"));
            let on = request.header("x-envoy-retry-on", "5xx,retriable-status-codes");
            let headers = headers.iter();
            headers.fold(on, |request, &(name, value)| request.header(name, value))
        };
        for (path, headers, status, attempts) in [
            ("/fail/1/503", &[][..], 200, 2),
            // One retry, if nothing says otherwise.
            ("/fail/2/503", &[], 503, 2),
            ("/fail/2/503", &[("x-envoy-max-retries", "2")], 200, 3),
            ("/fail/1/503", &[("x-envoy-max-retries", "0")], 503, 1),
            ("/fail/1/418", &[], 418, 1),
            (
                "/fail/1/418",
                &[("x-envoy-retriable-status-codes", "418")],
                200,
                2,
            ),
        ] {
            // What is not allowed is taken away all the same.
            let response = within(get(path, headers).send()).await.unwrap();
            assert_eq!(world.seen(), 1, "{protocol:?} {path}");
            assert_ne!(response.headers()["x-asked"], "true");
            let request = get(path, headers).retry_headers();
            let response = within(request.send()).await.unwrap();
            assert_eq!(response.status(), status, "{protocol:?} {path}");
            assert_eq!(world.seen(), attempts, "{protocol:?} {path}");
            assert_eq!(response.headers()["x-asked"], "false");
            let request = get(path, headers).retry_headers().no_retries();
            within(request.send()).await.unwrap();
            assert_eq!(world.seen(), 1, "{protocol:?} {path}");
        }
    }
}

#[tokio::test]
async fn why_a_failure_was_not_tried_again_is_told() {
    let quick = Duration::from_millis(1);
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let retry = Retry::conditions(["5xx"]).backoff(quick, quick);
        world.service().retry(retry.clone()).apply();
        let told = |path: &str| {
            let request = world.client.get(format!("http://catalog.shop{path}"));
            async {
                let response = within(request.send()).await.unwrap();
                response.extensions().get::<NoRetry>().copied()
            }
        };
        assert_eq!(told("/fail/9/503").await, Some(NoRetry::LimitExceeded));
        assert_eq!(world.seen(), 2);
        assert_eq!(told("/fail/1/503").await, None);
        assert_eq!(world.seen(), 2);
        assert_eq!(told("/fail/1/404").await, None);
        assert_eq!(world.seen(), 1);

        let service = world.service().retry(retry.clone());
        service.max_retries(0).apply().acked().await;
        assert_eq!(told("/fail/9/503").await, Some(NoRetry::Overflow));
        assert_eq!(world.seen(), 1);

        // The same where there is no response.
        let retry = retry.per_try_timeout(Duration::from_millis(50));
        let service = world.service().retry(retry).max_retries(3);
        service.apply().acked().await;
        let error = world.get("/hang/9").await.unwrap_err();
        assert_eq!(error.no_retry(), Some(NoRetry::LimitExceeded));
        assert_eq!(Vec::from_iter(error.response_flags()), ["UT", "URX"]);
        assert_eq!(world.seen(), 2);
    }
}

#[tokio::test]
async fn times_end_calls_and_attempts() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let short = Duration::from_millis(50);
        world.service().timeout(short).apply();
        let error = world.get("/hang/9").await.unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(error.response_flag(), Some("UT"));
        assert_eq!(world.seen(), 1);

        let retry = Retry::conditions(["reset"]).per_try_timeout(short);
        let push = world
            .service()
            .timeout(Duration::from_secs(20))
            .retry(retry)
            .apply();
        push.acked().await;
        let (status, ..) = world.get("/hang/1").await.unwrap();
        assert_eq!((status, world.seen()), (StatusCode::OK, 2));
        let error = world.get("/hang/9").await.unwrap_err();
        assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(world.seen(), 2);

        world.service().retry(None).apply().acked().await;
        let hang = world
            .client
            .get("http://catalog.shop/hang/9")
            .timeout(short);
        assert!(within(hang.send()).await.unwrap_err().is_timeout());
        let hang = world.client.get("http://catalog.shop/hang/9");
        let hang = hang.header("x-envoy-upstream-rq-timeout-ms", "50");
        assert!(within(hang.send()).await.unwrap_err().is_timeout());
    }
}

#[tokio::test]
async fn failures_have_a_status_and_a_flag() {
    let failure = |error: Error| {
        (
            error.status().as_u16(),
            error.response_flag(),
            error.cause(),
        )
    };
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().clear_endpoints().apply();
        let error = world.get("/").await.unwrap_err();
        assert_eq!(failure(error), (503, Some("UH"), Cause::NoEndpoint));

        // Nobody listens there.
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nowhere = closed.local_addr().unwrap();
        drop(closed);
        let service = world.service().clear_endpoints();
        service.endpoint(nowhere).apply().acked().await;
        let error = world.get("/").await.unwrap_err();
        assert_eq!(failure(error), (503, Some("UF"), Cause::ConnectFailed));

        world.service().clear_endpoints().apply().acked().await;
        let service = world.service().endpoint(world.address);
        service.max_requests(0).apply().acked().await;
        let error = world.get("/").await.unwrap_err();
        assert_eq!(failure(error), (503, Some("UO"), Cause::CircuitBreaker));

        let url = "https://catalog.shop:80/";
        let error = within(world.client.get(url).send()).await.unwrap_err();
        assert!(error.to_string().contains("plaintext"), "{error}");

        let connect = Request::builder()
            .method(Method::CONNECT)
            .uri("http://catalog.shop/");
        let connect = connect.body(Empty::<Bytes>::new()).unwrap();
        let error = within(world.client.request(connect)).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(error.response_flag(), None, "no route was looked for");
        let upgrade = world.client.get("http://catalog.shop/");
        let upgrade = upgrade
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        let error = within(upgrade.send()).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::FORBIDDEN);
        assert_eq!(error.into_response().status(), StatusCode::FORBIDDEN);

        // A proxy's caller gets what Envoy's would.
        let proxy = Client::builder(&world.mesh).error_responses(true).build();
        let upgrade = proxy
            .get("http://catalog.shop/")
            .header("upgrade", "websocket");
        let upgrade = upgrade.header("connection", "upgrade");
        let response = within(upgrade.send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "denied");
    }
}

/// All requests are answered with 503.
fn unavailable() -> HttpFault {
    HttpFault {
        abort: Some(FaultAbort {
            percentage: Some(FractionalPercent {
                numerator: 100,
                ..FractionalPercent::default()
            }),
            error_type: Some(ErrorType::HttpStatus(503)),
            ..FaultAbort::default()
        }),
        ..HttpFault::default()
    }
}

#[tokio::test]
async fn an_injected_fault_is_a_response() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().http_filter("fault", &unavailable()).apply();
        let (status, ..) = world.get("/").await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(world.seen(), 0);
    }
}

/// Cargo sets it for tests.
#[tokio::test]
async fn a_control_plane_reads_the_variables_of_the_process_that_it_may() {
    for protocol in PROTOCOLS {
        let mut world = World::start(protocol).await;
        let variable = "%ENVIRONMENT(CARGO_PKG_NAME)%";
        let rule = Route::prefix("/").add_request_header("x-added", variable);
        world.service().route(rule).apply();
        let (_, _, text) = world.get("/").await.unwrap();
        assert!(text.contains(" added=- "), "{text}");
        let allowed = Mesh::builder().bootstrap(world.control_plane.bootstrap("web"));
        let allowed =
            allowed.options(|options| options.environment = vec!["CARGO_PKG_NAME".into()]);
        world.client = Client::new(&allowed.build().await.unwrap());
        let (_, _, text) = world.get("/").await.unwrap();
        assert!(text.contains(" added=mesh-tests "), "{text}");
    }
}

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
