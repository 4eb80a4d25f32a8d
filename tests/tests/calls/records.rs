//! What is recorded: each call once, with the code and the cause of its end.

mod ways;

use std::{sync::Arc, time::Duration};

use mesh_core::{
    Code, Mesh,
    telemetry::{
        Attempt, CallRecord, Cause, Instruments, Metrics, Recorder, Series,
        dialect::{self, Reading},
    },
    testing::{ControlPlane, Retry, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    fixture::{SERVICE, echo, within},
    pb::echo_client::EchoClient,
};
use mesh_tonic::Channel;
use parking_lot::Mutex;
use tonic::{Request, Status};

use self::ways::{WAYS, Way};

/// Keeps all that it is told.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<Entry>>);

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Started(Series),
    Attempt(Code, Cause, bool),
    Finished(Finished),
}

#[derive(Debug, Clone, PartialEq)]
struct Finished {
    code: Code,
    cause: Cause,
    drop_category: Option<String>,
    retries: u32,
    /// It has an endpoint.
    endpoint: bool,
    duration: Duration,
}

#[derive(Debug)]
struct Bound(Arc<Log>, Series, Arc<dyn Instruments>);

/// Writes down what it is told, and tells it to `Metrics`.
#[derive(Debug)]
struct LogRecorder(Arc<Log>, Arc<Metrics>);

impl Recorder for LogRecorder {
    fn bind(&self, series: &Series) -> Arc<dyn Instruments> {
        let counted = self.1.bind(series);
        Arc::new(Bound(Arc::clone(&self.0), series.clone(), counted))
    }
}

impl Instruments for Bound {
    fn started(&self) {
        self.0.0.lock().push(Entry::Started(self.1.clone()));
        self.2.started();
    }

    fn attempt(&self, attempt: &Attempt<'_>) {
        let entry = Entry::Attempt(attempt.code, attempt.cause, attempt.endpoint.is_some());
        self.0.0.lock().push(entry);
        self.2.attempt(attempt);
    }

    fn attempt_started(&self) {
        self.2.attempt_started();
    }

    fn finished(&self, call: &CallRecord<'_>) {
        self.0.0.lock().push(Entry::Finished(Finished {
            code: call.code,
            cause: call.cause,
            drop_category: call.drop_category.map(str::to_owned),
            retries: call.retries,
            endpoint: call.endpoint.is_some(),
            duration: call.duration,
        }));
        self.2.finished(call);
    }
}

/// What one way to end a call needs.
struct Case {
    control_plane: ControlPlane,
    mesh: Mesh,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    backend: Backend,
}

impl Case {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        let log = Arc::new(Log::default());
        let metrics = Metrics::new();
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("test"))
            .options(|options| options.resource_timeout = Duration::from_millis(200))
            .recorder(Arc::new(LogRecorder(
                Arc::clone(&log),
                Arc::clone(&metrics),
            )))
            .build()
            .await
            .unwrap();
        let backend = Backend::start("a").await;
        control_plane
            .service(SERVICE)
            .version("v1")
            .endpoint(backend.address())
            .apply();
        Self {
            control_plane,
            mesh,
            log,
            metrics,
            backend,
        }
    }

    fn service(&self) -> mesh_core::testing::Service {
        self.control_plane.service(SERVICE)
    }

    fn client(&self) -> EchoClient<Channel> {
        EchoClient::new(mesh_tonic::channel(&self.mesh, SERVICE).unwrap())
    }

    async fn unary(&self) -> Result<(), Status> {
        within(self.client().unary(echo("hi"))).await.map(drop)
    }

    async fn timed(&self) -> Result<(), Status> {
        let mut request = Request::new(echo("hi"));
        request.set_timeout(Duration::from_millis(150));
        within(self.client().unary(request)).await.map(drop)
    }

    /// The one call, once in each dialect: its status, its flag and its attempts.
    fn told_in_every_dialect(&self, what: &str, code: Code, cause: Cause, attempts: usize) {
        let reading = Reading::new(self.metrics.snapshot(), Arc::clone(self.mesh.workload()));
        let families = reading.families(&dialect::all());
        let sum = |name: &str, labels: &[(&str, &str)]| {
            let family = families.iter().find(|family| family.name == name);
            let family = family.unwrap_or_else(|| panic!("{what}: there is no {name}"));
            family.sum_of(labels)
        };
        let flag = match what {
            // By the server; in the other case the connection broke.
            "reset" => "UR",
            _ => cause.response_flag().unwrap_or("-"),
        };
        let number = (code as u8).to_string();
        let istio = [("grpc_response_status", &*number), ("response_flags", flag)];
        let status = [("grpc.status", code.name())];
        let rpc = [("rpc.response.status_code", code.name())];
        for (name, labels) in [
            ("istio_requests_total", &istio[..]),
            ("istio_request_duration_milliseconds", &istio),
            ("grpc.client.call.duration", &status),
            ("rpc.client.call.duration", &rpc),
        ] {
            assert_eq!(sum(name, labels), 1.0, "{what}: {name} {labels:?}");
            assert_eq!(sum(name, &[]), 1.0, "{what}: {name}");
        }
        for name in [
            "grpc.client.attempt.started",
            "grpc.client.attempt.duration",
        ] {
            assert_eq!(sum(name, &[]), attempts as f64, "{what}: {name}");
        }
    }

    /// The one end in the log. There is no other entry but those of attempts.
    fn only_end(&self, what: &str) -> (Series, Vec<Entry>, Finished) {
        let mut log = self.log.0.lock().clone();
        let Some(Entry::Finished(finished)) = log.pop() else {
            panic!("{what}: the end is not last: {:?}", self.log);
        };
        let Entry::Started(series) = log.remove(0) else {
            panic!("{what}: the start is not first: {:?}", self.log);
        };
        let attempts = log.iter().all(|entry| matches!(entry, Entry::Attempt(..)));
        assert!(attempts, "{what}: {:?}", self.log);
        (series, log, finished)
    }
}

#[tokio::test]
async fn every_way_to_end_is_recorded_once() {
    for Way {
        what,
        run,
        code,
        cause,
        routed,
        endpoint,
    } in WAYS
    {
        let case = Case::start().await;
        run(&case).await;
        let (series, attempts, finished) = case.only_end(what);
        assert_eq!((finished.code, finished.cause), (code, cause), "{what}");
        assert_eq!(finished.endpoint, endpoint, "{what}: {finished:?}");
        assert_eq!(finished.retries, 0, "{what}");
        assert!(finished.duration < Duration::from_secs(20), "{what}");
        let category = (cause == Cause::Drop).then(|| "overload".to_owned());
        assert_eq!(finished.drop_category, category, "{what}");
        assert_eq!(&*series.target, SERVICE, "{what}");
        let (route, cluster) = match routed {
            true => ("#0", cluster_name(SERVICE, "v1")),
            false => ("", String::new()),
        };
        assert_eq!(
            (&*series.route, &*series.cluster),
            (route, &*cluster),
            "{what}"
        );
        assert!(attempts.len() <= 1, "{what}: {attempts:?}");
        case.told_in_every_dialect(what, code, cause, attempts.len());
        if let Some(Entry::Attempt(attempt, ..)) = attempts.first() {
            // The attempt before the pause has an end of its own.
            let pausing = what == "deadline between attempts";
            let expected = if pausing { Code::Unavailable } else { code };
            assert_eq!(*attempt, expected, "{what}");
        }
    }
}

/// Retries are attempts of one call.
#[tokio::test]
async fn attempts_are_recorded_one_by_one() {
    let case = Case::start().await;
    let quick = Duration::from_millis(1);
    let retry = Retry::on([Code::Unavailable, Code::Internal]).times(3);
    case.service().retry(retry.backoff(quick, quick)).apply();
    case.backend.answer(|call| async move {
        match call.number {
            1 => call.fail(Status::unavailable("no")).await,
            2 => call.reset(h2::Reason::INTERNAL_ERROR).await,
            _ => call.echo().await,
        }
    });
    case.unary().await.unwrap();
    let (_, attempts, finished) = case.only_end("retries");
    assert_eq!(
        attempts,
        [
            Entry::Attempt(Code::Unavailable, Cause::Response, true),
            Entry::Attempt(Code::Internal, Cause::Reset, true),
            Entry::Attempt(Code::Ok, Cause::Response, true),
        ]
    );
    assert_eq!((finished.code, finished.retries), (Code::Ok, 2));
}
