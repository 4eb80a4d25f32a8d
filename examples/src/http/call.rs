//! A client that makes requests and tells what became of each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use mesh_core::{Mesh, telemetry::Cause};
use mesh_hyper::{Client, NoRetry};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::echo::Echo;
use crate::flags::{self, Flag, FlagError, number};

/// What the client is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// The URL.
    pub url: String,
    /// How many requests; default 1.
    pub requests: u64,
    /// How many at a time; default 1.
    pub concurrency: u64,
    /// The headers of each.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The method; default GET, with data POST.
    pub method: Option<Method>,
    /// The body.
    pub data: String,
    /// How long each may take; default: as the route says.
    pub timeout: Option<Duration>,
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The status of the response, or the one that the failure stands for.
    pub status: u16,
    /// What the server calls itself, if it is an `http_echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// The endpoint: that of the response, or the last that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// From the request to the end of the response, in milliseconds.
    pub milliseconds: f64,
    /// Envoy's response flags, separated by commas: of a failure, of a fault that was injected, and of a
    /// response that was not tried again although its route would have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// Why there is no response, or not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that were made.
    pub requests: u64,
    /// Of these, answered with a status below 500.
    pub ok: u64,
    /// Of these, without a whole response.
    pub failed: u64,
    /// Half took no longer, in milliseconds.
    pub p50: f64,
    /// 99 of 100 took no longer, in milliseconds.
    pub p99: f64,
}

static FLAGS: [Flag<Flags>; 7] = [
    Flag {
        name: "url",
        value: "URL",
        help: "What to request, such as http://catalog.shop:8080/items. Required.",
        set: |flags, value| {
            flags.url = value.to_owned();
            Ok(())
        },
    },
    Flag {
        name: "n",
        value: "COUNT",
        help: "How many requests; also -n COUNT. Default: 1.",
        set: |flags, value| number(value, 1, u64::MAX).map(|count| flags.requests = count),
    },
    Flag {
        name: "concurrency",
        value: "COUNT",
        help: "How many at a time. Default: 1.",
        set: |flags, value| number(value, 1, 10_000).map(|count| flags.concurrency = count),
    },
    Flag {
        name: "header",
        value: "NAME:VALUE",
        help: "A header of each; also -H NAME:VALUE. May be repeated.",
        set: |flags, value| {
            let header = value.split_once(':').and_then(|(name, value)| {
                let name = name.trim().parse().ok()?;
                Some((name, value.trim().parse().ok()?))
            });
            flags.headers.push(header.ok_or("use NAME:VALUE")?);
            Ok(())
        },
    },
    Flag {
        name: "method",
        value: "METHOD",
        help: "The method. Default: GET, with --data POST.",
        set: |flags, value| {
            let method = value.parse().map_err(|_| "is no method".to_owned())?;
            flags.method = Some(method);
            Ok(())
        },
    },
    Flag {
        name: "data",
        value: "TEXT",
        help: "The body. Default: none.",
        set: |flags, value| {
            flags.data = value.to_owned();
            Ok(())
        },
    },
    Flag {
        name: "timeout",
        value: "SECONDS",
        help: "How long each may take, from the end of the request; 0: for ever. Default: as the \
               route says.",
        set: |flags, value| {
            let seconds = value
                .parse()
                .ok()
                .filter(|&s: &f64| (0.0..1e9).contains(&s));
            let seconds = seconds.ok_or("use a number of seconds")?;
            flags.timeout = Some(Duration::from_secs_f64(seconds));
            Ok(())
        },
    },
];

/// Reads the command line without the program's name; `None`: it asks for help.
///
/// # Errors
/// If a flag is unknown, without its value or not valid, or there is no URL.
pub fn parse<A: Into<String>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<Option<Flags>, FlagError> {
    let arguments = arguments.into_iter().map(|argument| match argument.into() {
        short if short == "-n" => "--n".to_owned(),
        short if short == "-H" => "--header".to_owned(),
        other => other,
    });
    match flags::read::<Flags>(&FLAGS, arguments)? {
        Some(flags) if flags.url.is_empty() => Err(FlagError::Missing("url")),
        other => Ok(other),
    }
}

/// What there is to say about the flags.
pub fn help() -> String {
    let text = "Makes HTTP requests through the mesh. Writes a line of JSON for each, then a summary.\n\
                Routes, endpoints and TLS are the control plane's, which the bootstrap names:\n\
                GRPC_XDS_BOOTSTRAP (a file) or GRPC_XDS_BOOTSTRAP_CONFIG (JSON).\n\n\
                Usage: http_call --url=URL [--FLAG=VALUE]...\n\n";
    text.to_owned() + &flags::list(&FLAGS)
}

/// Makes the requests, and tells `each` as it ends.
pub async fn run(mesh: &Mesh, flags: Flags, mut each: impl FnMut(&Line)) -> Summary {
    let client = Client::new(mesh);
    let flags = Arc::new(flags);
    let left = Arc::new(AtomicU64::new(flags.requests));
    let (lines, mut ended) = mpsc::unbounded_channel();
    let mut callers = JoinSet::new();
    for _ in 0..flags.concurrency.min(flags.requests) {
        let (client, flags) = (client.clone(), Arc::clone(&flags));
        let (left, lines) = (Arc::clone(&left), lines.clone());
        callers.spawn(async move {
            let one_less = |left: u64| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
            {
                if lines.send(call(&client, &flags).await).is_err() {
                    return;
                }
            }
        });
    }
    drop(lines);
    let (mut summary, mut times) = (Summary::default(), Vec::new());
    while let Some(line) = ended.recv().await {
        each(&line);
        summary.requests += 1;
        summary.ok += u64::from(line.error.is_none() && line.status < 500);
        summary.failed += u64::from(line.error.is_some());
        times.push(line.milliseconds);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        let last = times.len().saturating_sub(1);
        times.get(index.min(last)).copied().unwrap_or_default()
    };
    (summary.p50, summary.p99) = (at(0.5), at(0.99));
    summary
}

async fn call(client: &Client, flags: &Flags) -> Line {
    let start = Instant::now();
    let method = match (&flags.method, flags.data.is_empty()) {
        (Some(method), _) => method.clone(),
        (None, true) => Method::GET,
        (None, false) => Method::POST,
    };
    let body = Full::new(Bytes::copy_from_slice(flags.data.as_bytes()));
    let request = Request::builder().method(method).uri(&flags.url).body(body);
    let failed = |error: String, start: Instant| Line {
        status: 400,
        server_id: None,
        upstream: None,
        milliseconds: start.elapsed().as_secs_f64() * 1e3,
        flag: None,
        error: Some(error),
    };
    let mut request = match request {
        Ok(request) => request,
        Err(error) => return failed(error.to_string(), start),
    };
    for (name, value) in &flags.headers {
        request.headers_mut().append(name, value.clone());
    }
    if let Some(timeout) = flags.timeout {
        let options = mesh_hyper::CallOptions::default().timeout(timeout);
        request.extensions_mut().insert(options);
    }
    let told = |error: &mesh_hyper::Error, status: u16| Line {
        status,
        upstream: error.endpoints_tried().last().map(ToString::to_string),
        flag: flags_of(error.response_flags()),
        ..failed(error.to_string(), start)
    };
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return told(&error, error.status().as_u16()),
    };
    let status = response.status().as_u16();
    let extensions = response.extensions();
    // Of what our own side answered, such as a fault.
    let cause = extensions
        .get::<Cause>()
        .and_then(|cause| cause.response_flag());
    let no_retry = extensions.get::<NoRetry>().map(|why| why.response_flag());
    let flag = flags_of(cause.into_iter().chain(no_retry));
    let body = response.into_body();
    let upstream = body.endpoint().map(|address| address.to_string());
    match body.collect().await {
        Err(error) => Line {
            upstream,
            ..told(&error, status)
        },
        Ok(body) => {
            let echo = serde_json::from_slice::<Echo>(&body.to_bytes()).ok();
            Line {
                status,
                server_id: echo.map(|echo| echo.server_id),
                upstream,
                milliseconds: start.elapsed().as_secs_f64() * 1e3,
                flag,
                error: None,
            }
        }
    }
}

/// All of them; `None`: there are none.
fn flags_of(flags: impl IntoIterator<Item = &'static str>) -> Option<String> {
    let flags: Vec<_> = flags.into_iter().collect();
    (!flags.is_empty()).then(|| flags.join(","))
}

// === impl Flags ===

impl Default for Flags {
    fn default() -> Self {
        Self {
            url: String::new(),
            requests: 1,
            concurrency: 1,
            headers: Vec::new(),
            method: None,
            data: String::new(),
            timeout: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_defaults_and_values() {
        let line = "--url=http://a/ -n 3 --concurrency=2 -H x-a:1 --header=x-b:2 --method=PUT \
                    --data=hi --timeout=0.5";
        let flags = parse(line.split_whitespace()).unwrap().unwrap();
        assert_eq!((flags.requests, flags.concurrency), (3, 2));
        assert_eq!(flags.headers.len(), 2);
        assert_eq!(flags.method, Some(Method::PUT));
        assert_eq!(flags.timeout, Some(Duration::from_millis(500)));
        assert_eq!(parse(["-n", "1"]), Err(FlagError::Missing("url")));
        assert!(parse(["--url=a", "-H", "x"]).is_err());
        assert_eq!(parse(["--help"]), Ok(None));
    }
}
