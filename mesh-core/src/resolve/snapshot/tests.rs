use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};

use super::*;
use crate::{
    balance::LinkState,
    config::{
        AppendAction, DirectResponse, Domain, FormatPart, HeaderFormat, HeaderMutation,
        HttpForward, HttpManager, Listener, PathMatcher, Redirect, RouteConfig, RouteMatch,
        RouteSource, VirtualHost, WeightedCluster,
    },
    control::SourceErrorKind,
    telemetry::Metrics,
};

/// There is no endpoint to connect to.
#[derive(Debug)]
struct Nowhere;

impl Transport for Nowhere {
    type Conn = ();

    fn open(&self, _: &Arc<LinkState>) {}

    fn connect(&self, (): &(), _: &Arc<LinkState>) {}

    fn retire(&self, (): &()) {}
}

fn route(path: &str, action: RouteAction) -> Route {
    Route {
        name: path.trim_start_matches('/').into(),
        matcher: RouteMatch {
            path: PathMatcher::Exact {
                path: path.into(),
                ignore_case: false,
            },
            headers: vec![],
            query: vec![],
            fraction: None,
        },
        action,
        overrides: Default::default(),
        headers: Default::default(),
    }
}

fn forward(status: StatusCode) -> RouteAction {
    RouteAction::Forward(Forward {
        clusters: vec![WeightedCluster {
            name: "gone".into(),
            weight: 1,
            overrides: Default::default(),
            headers: Default::default(),
            host_rewrite: None,
        }],
        retry: None,
        max_stream_duration: None,
        grpc_timeout_header_max: None,
        http: HttpForward {
            cluster_not_found: status,
            ..Default::default()
        },
    })
}

fn config() -> TargetConfig {
    let redirect = Redirect {
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: None,
        status: StatusCode::FOUND,
        strip_query: false,
    };
    let direct = DirectResponse {
        status: StatusCode::IM_A_TEAPOT,
        body: Bytes::from_static(b"short and stout"),
    };
    let mut host = VirtualHost {
        name: "all".into(),
        domains: vec![Domain::Any],
        routes: vec![
            route("/redirect", RouteAction::Redirect(redirect)).into(),
            route("/direct", RouteAction::DirectResponse(direct)).into(),
            route("/gone", forward(StatusCode::BAD_GATEWAY)).into(),
            route("/other", RouteAction::Unsupported("filter_action")).into(),
        ],
        overrides: Default::default(),
        headers: Default::default(),
    };
    host.headers.response = vec![HeaderMutation::Put {
        name: HeaderName::from_static("x-by"),
        value: HeaderFormat([FormatPart::Text("mesh".into())].into()),
        append: AppendAction::default(),
        keep_empty: false,
    }];
    let routes = Arc::new(RouteConfig {
        name: "routes".into(),
        virtual_hosts: vec![host],
        headers: Default::default(),
        most_specific_wins: false,
        ignore_port: false,
    });
    let error = SourceError {
        kind: SourceErrorKind::DoesNotExist,
        text: "no such cluster".into(),
    };
    TargetConfig {
        listener: Arc::new(Listener {
            name: "listener".into(),
            http: HttpManager {
                routes: RouteSource::Inline(Arc::clone(&routes)),
                filters: Arc::new([]),
                max_stream_duration: None,
                stream_idle_timeout: None,
                upgrades: vec![],
                strip_port: Default::default(),
            },
        }),
        routes,
        virtual_host: 0,
        clusters: [("gone".into(), Err(error))].into(),
        aggregates: std::collections::BTreeMap::new(),
        ambient: None,
    }
}

fn compile(semantics: Semantics, recorder: &Metrics) -> Snapshot<Nowhere> {
    compile_after(None, semantics, config(), recorder)
}

fn compile_after(
    previous: Option<&Snapshot<Nowhere>>,
    semantics: Semantics,
    config: TargetConfig,
    recorder: &Metrics,
) -> Snapshot<Nowhere> {
    let spec = TargetSpec {
        listener: "listener".into(),
        authority: "a.test".into(),
        semantics,
    };
    let balancers = Balancers::new(Arc::new(Nowhere));
    Snapshot::compile(
        &spec,
        Arc::new(config),
        previous,
        &balancers,
        Some(recorder),
    )
}

fn ask(snapshot: &Snapshot<Nowhere>, path: &str) -> NoPlan {
    ask_by(&Method::GET, snapshot, path)
}

fn ask_by(method: &Method, snapshot: &Snapshot<Nowhere>, path: &str) -> NoPlan {
    let head = Head {
        method,
        scheme: "http",
        authority: "a.test:80",
        path,
        query: Some("q"),
        headers: &HeaderMap::new(),
    };
    let planned = snapshot.plan(&head, &mut ());
    planned.expect_err("there is no cluster")
}

#[test]
fn under_http_semantics_routes_answer() {
    let recorder = Metrics::with_limit(8);
    let snapshot = compile(Semantics::Http, &recorder);
    let answer = |path| match ask(&snapshot, path) {
        NoPlan::Answer(answer) => answer,
        NoPlan::Reject(reject) => panic!("{reject}"),
    };
    let redirect = answer("/redirect");
    assert_eq!(&*redirect.route, "redirect");
    assert_eq!(redirect.status, StatusCode::FOUND);
    assert_eq!(redirect.headers["location"], "https://a.test/redirect?q");
    assert_eq!(redirect.headers["x-by"], "mesh");
    assert!(redirect.body.is_empty() && redirect.instruments.is_some());

    let direct = answer("/direct");
    assert_eq!(direct.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(direct.headers["content-type"], "text/plain");
    assert_eq!(direct.headers["x-by"], "mesh");
    assert_eq!(direct.body, "short and stout");
    let NoPlan::Answer(head) = ask_by(&Method::HEAD, &snapshot, "/direct") else {
        panic!("the route answers");
    };
    assert_eq!(head.headers, direct.headers);
    assert!(head.body.is_empty(), "a response to HEAD has no content");

    let series = recorder.snapshot().into_iter().map(|of| of.series);
    let mut bound: Vec<_> = series
        .map(|of| (of.route.to_string(), of.cluster.to_string()))
        .collect();
    bound.sort();
    let expected = [("direct", ""), ("gone", "gone"), ("redirect", "")];
    let expected = expected.map(|(route, cluster)| (route.to_owned(), cluster.to_owned()));
    assert_eq!(bound, expected);
}

#[test]
fn a_reject_says_its_status_and_cause() {
    use StatusCode as S;
    let unavailable = S::SERVICE_UNAVAILABLE;
    for (semantics, path, http, cause) in [
        (Semantics::Http, "/none", S::NOT_FOUND, Cause::NoRoute),
        (Semantics::Http, "/gone", S::BAD_GATEWAY, Cause::NoCluster),
        (Semantics::Http, "/other", unavailable, Cause::NoRoute),
        (Semantics::Grpc, "/none", S::NOT_FOUND, Cause::NoRoute),
        (Semantics::Grpc, "/gone", unavailable, Cause::NoCluster),
        (Semantics::Grpc, "/redirect", unavailable, Cause::NoRoute),
        (Semantics::Grpc, "/direct", unavailable, Cause::NoRoute),
    ] {
        let snapshot = compile(semantics, &Metrics::with_limit(8));
        let NoPlan::Reject(reject) = ask(&snapshot, path) else {
            panic!("{path} is answered");
        };
        assert_eq!(
            (reject.http, reject.cause),
            (http, cause),
            "{semantics:?} {path}"
        );
        assert_eq!(reject.code, Code::Unavailable);
        let gone = reject
            .destination
            .as_ref()
            .map(|(route, cluster)| (&**route, &**cluster));
        assert_eq!(gone, (path == "/gone").then_some(("gone", "gone")));
    }
}

/// What became of a request: where it went, its status, its headers.
fn outcome(snapshot: &Snapshot<Nowhere>, path: &str) -> String {
    match ask(snapshot, path) {
        NoPlan::Answer(answer) => {
            let Answer {
                route,
                status,
                headers,
                body,
                ..
            } = *answer;
            format!("{route} {status} {headers:?} {body:?}")
        }
        NoPlan::Reject(reject) => format!("{reject:?}"),
    }
}

/// A change of a configuration that shares its routes with the one before.
type Change = fn(&mut TargetConfig);

#[test]
fn what_is_shared_is_compiled_once_and_means_the_same() {
    fn routes(config: &mut TargetConfig) -> &mut RouteConfig {
        Arc::make_mut(&mut config.routes)
    }
    fn host(config: &mut TargetConfig) -> &mut VirtualHost {
        &mut routes(config).virtual_hosts[0]
    }
    // And how many of the four routes are compiled as they were, and whether the matches are.
    let changes: [(Change, usize, bool); 8] = [
        (|config| host(config).name = "other".into(), 4, true),
        (
            |config| Arc::make_mut(&mut host(config).routes[2]).action = forward(StatusCode::GONE),
            3,
            true,
        ),
        (
            |config| {
                let gone = Arc::make_mut(&mut host(config).routes[2]);
                *gone = route("/elsewhere", forward(StatusCode::GONE));
            },
            3,
            false,
        ),
        (|config| host(config).routes.swap(0, 1), 2, false),
        (|config| drop(host(config).routes.remove(0)), 0, false),
        (|config| host(config).headers.response.clear(), 0, true),
        (
            |config| {
                let headers = host(config).headers.clone();
                routes(config).headers = headers;
            },
            0,
            true,
        ),
        (
            |config| {
                let listener = Arc::make_mut(&mut config.listener);
                listener.http.max_stream_duration = Some(Duration::from_secs(1));
            },
            0,
            true,
        ),
    ];
    for (number, (change, actions, table)) in changes.into_iter().enumerate() {
        for semantics in [Semantics::Http, Semantics::Grpc] {
            let recorder = Metrics::with_limit(8);
            let base = config();
            let first = compile_after(None, semantics, base.clone(), &recorder);
            let mut changed = base;
            change(&mut changed);
            let next = compile_after(Some(&first), semantics, changed.clone(), &recorder);
            let alone = compile_after(None, semantics, changed, &recorder);
            for path in [
                "/redirect",
                "/direct",
                "/gone",
                "/elsewhere",
                "/other",
                "/none",
            ] {
                let expected = outcome(&alone, path);
                assert_eq!(
                    outcome(&next, path),
                    expected,
                    "{number} {semantics:?} {path}"
                );
            }
            let (a, b) = (&first.routing, &next.routing);
            assert_eq!(Arc::ptr_eq(&a.table, &b.table), table, "{number}");
            if semantics == Semantics::Http {
                let pairs = a.actions.iter().zip(&b.actions);
                let shared = pairs.filter(|(a, b)| match (a, b) {
                    (Action::Answer(a), Action::Answer(b)) => Arc::ptr_eq(a, b),
                    (
                        Action::Forward {
                            destinations: a, ..
                        },
                        Action::Forward {
                            destinations: b, ..
                        },
                    ) => Arc::ptr_eq(a, b),
                    // What is refused has nothing that costs anything.
                    (Action::Refuse(a), Action::Refuse(b)) => a == b && actions > 0,
                    _ => false,
                });
                assert_eq!(shared.count(), actions, "{number}");
            }
        }
    }
}
