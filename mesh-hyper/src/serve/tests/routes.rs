//! What routes do to requests beside handing them to the service.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use http_body_util::Empty;
use mesh_core::config::{
    AppendAction, FormatOperator, FormatPart, HeaderFormat, HeaderMutation, PathMatcher, Redirect,
    Route, RouteAction, RouteConfig, RouteSource, ServerListener, StripPort,
};

use super::{
    harness::*,
    policy::{gate, listener, mesh_with, started},
};
use crate::Server;

/// The listener with its gate open for 10.0.0.`from`, and with these routes.
fn changed(from: u8, change: impl FnOnce(&mut RouteConfig)) -> ServerListener {
    let mut listener = listener(Some(&gate(from)));
    let RouteSource::Inline(routes) = &listener.chains[0].http.routes else {
        unreachable!("made so");
    };
    let mut routes = RouteConfig::clone(routes);
    change(&mut routes);
    listener.chains[0].http.routes = RouteSource::Inline(routes.into());
    listener
}

fn redirect(routes: &mut RouteConfig) {
    let host = &mut routes.virtual_hosts[0];
    let mut moved = Route::clone(&host.routes[0]);
    moved.matcher.path = PathMatcher::Prefix {
        prefix: "/wait".to_owned(),
        ignore_case: false,
    };
    moved.action = RouteAction::Redirect(Redirect {
        scheme: None,
        host: Some("new.test".to_owned()),
        port: None,
        path: None,
        status: StatusCode::FOUND,
        strip_query: false,
    });
    let mut at_once = moved.clone();
    at_once.matcher.path = PathMatcher::Prefix {
        prefix: "/moved".to_owned(),
        ignore_case: false,
    };
    host.routes.splice(0..0, [moved, at_once].map(Arc::new));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_sent_to_those_whom_the_filters_let_pass() {
    let (running, told) = started(|server| server).await;
    told.serve(changed(2, redirect));
    let mut client = running.h2().await;
    // At `/wait` the filter takes its time.
    for path in ["/moved?q", "/wait"] {
        let response = client.send_request(get(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        let location = format!("http://new.test{path}");
        assert_eq!(response.headers()["location"], location);
        assert_eq!(text(response).await, "");
    }
    let response = client.send_request(get("/elsewhere")).await.unwrap();
    assert_eq!(text(response).await, "served");
    // A gRPC client could not follow it.
    let response = client.send_request(grpc("/moved", "1S")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");

    told.serve(changed(9, redirect));
    for path in ["/moved", "/wait"] {
        loop {
            let response = client.send_request(get(path)).await.unwrap();
            if response.status() == StatusCode::FORBIDDEN {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_headers_of_requests_change_before_the_service_sees_them() {
    let (mesh, told) = mesh_with(|builder| builder).await;
    let running = Running::start(&mesh, Server::new(&mesh), |request| {
        let seen = request.headers().get("x-seen").cloned();
        assert!(!request.headers().contains_key("x-secret"));
        say(seen.map_or(Bytes::new(), |seen| Bytes::copy_from_slice(seen.as_bytes())))
    });
    while !told.is_watched() {
        tokio::task::yield_now().await;
    }
    told.serve(changed(2, |routes| {
        let operators = [":authority", ":scheme"].map(|name| {
            FormatPart::Operator(FormatOperator::Request {
                name: name.into(),
                alternative: None,
                max_length: None,
            })
        });
        let remote = FormatPart::Operator(FormatOperator::DownstreamRemoteAddressWithoutPort);
        let [authority, scheme] = operators;
        let space = || FormatPart::Text(" ".into());
        let value = [authority, space(), scheme, space(), remote];
        routes.headers.request = vec![
            HeaderMutation::Remove(HeaderName::from_static("x-secret")),
            HeaderMutation::Put {
                name: HeaderName::from_static("x-seen"),
                value: HeaderFormat(value.into()),
                append: AppendAction::OverwriteIfExistsOrAdd,
                keep_empty: false,
            },
        ];
    }));
    let mut client = running.h2().await;
    for path in ["/", "/wait"] {
        let mut request = get(path);
        request
            .headers_mut()
            .insert("x-secret", http::HeaderValue::from_static("1"));
        let response = client.send_request(request).await.unwrap();
        assert_eq!(text(response).await, "server.test http 10.0.0.2", "{path}");
    }
}

/// Also where a filter kept the request waiting; what a route answers by itself is changed as it is
/// compiled.
#[tokio::test(start_paused = true)]
async fn the_headers_of_responses_change_after_the_service_made_them() {
    let (mesh, told) = mesh_with(|builder| builder).await;
    let running = Running::start(&mesh, Server::new(&mesh), |request| {
        // What is to become of the response is none of the service's business.
        let carried = request.extensions().len();
        Box::pin(async move {
            let mut response = say(Bytes::from(carried.to_string())).await?;
            let headers = response.headers_mut();
            headers.insert("x-internal", http::HeaderValue::from_static("1"));
            headers.insert("x-path", http::HeaderValue::from_static("the service's"));
            Ok(response)
        })
    });
    while !told.is_watched() {
        tokio::task::yield_now().await;
    }
    told.serve(changed(2, |routes| {
        let path = FormatPart::Operator(FormatOperator::Request {
            name: ":path".into(),
            alternative: None,
            max_length: None,
        });
        routes.headers.response = vec![
            HeaderMutation::Remove(HeaderName::from_static("x-internal")),
            HeaderMutation::Put {
                name: HeaderName::from_static("x-path"),
                value: HeaderFormat(vec![path].into()),
                append: AppendAction::OverwriteIfExistsOrAdd,
                keep_empty: false,
            },
        ];
    }));
    let mut client = running.h2().await;
    // The peer alone.
    let carried = "1";
    for path in ["/", "/wait"] {
        let response = client.send_request(get(path)).await.unwrap();
        assert_eq!(response.headers()["x-path"], path);
        assert!(!response.headers().contains_key("x-internal"), "{path}");
        assert_eq!(text(response).await, carried, "{path}");
    }
}

/// Before routes and filters look at it, and before the service does.
#[tokio::test(start_paused = true)]
async fn ports_of_authorities_are_stripped_or_do_not_count() {
    let listener = |strip, ignore_port| {
        let mut listener = changed(2, |routes| routes.ignore_port = ignore_port);
        listener.chains[0].http.strip_port = strip;
        listener
    };
    let port = local().port();
    for (strip, ignore_port, sent, h2_seen, h1_seen) in [
        (
            StripPort::Never,
            false,
            String::from("server.test:1"),
            None,
            None,
        ),
        (
            StripPort::Never,
            true,
            "server.test:1".into(),
            Some("server.test:1"),
            Some("\"server.test:1\""),
        ),
        (
            StripPort::Any,
            false,
            "server.test:1".into(),
            Some("server.test"),
            Some("\"server.test\""),
        ),
        (
            StripPort::Matching,
            false,
            format!("server.test:{port}"),
            Some("server.test"),
            Some("\"server.test\""),
        ),
        (
            StripPort::Matching,
            false,
            "server.test:1".into(),
            None,
            None,
        ),
    ] {
        let (mesh, told) = mesh_with(|builder| builder).await;
        let running = Running::start(&mesh, Server::new(&mesh), |request| {
            let authority = request
                .uri()
                .authority()
                .map(|authority| authority.to_string());
            let host = request
                .headers()
                .get("host")
                .map(|host| format!("{host:?}"));
            say(Bytes::from(authority.or(host).unwrap_or_default()))
        });
        while !told.is_watched() {
            tokio::task::yield_now().await;
        }
        told.serve(listener(strip, ignore_port));
        let mut h2 = running.h2().await;
        let request = http::Request::get(format!("http://{sent}/")).body(Empty::new());
        let response = h2.send_request(request.unwrap()).await.unwrap();
        let found = response.status() == StatusCode::OK;
        let seen = text(response).await;
        assert_eq!(found.then_some(&*seen), h2_seen, "{strip:?} {sent}");

        let mut h1 = h1(running.connect()).await;
        let request = http::Request::get("/")
            .header("host", &sent)
            .body(Empty::new());
        let response = h1.send_request(request.unwrap()).await.unwrap();
        let found = response.status() == StatusCode::OK;
        let seen = text(response).await;
        assert_eq!(found.then_some(&*seen), h1_seen, "{strip:?} {sent}");
    }
}
