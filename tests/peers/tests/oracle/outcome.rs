//! What became of a request.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

/// Headers by name: the values of a name in their order. Names have none among each other.
pub(crate) type Headers = BTreeMap<String, Vec<String>>;

/// What the caller got, and what of the request arrived.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    /// `None`: no backend was asked.
    pub(crate) arrived: Option<Arrived>,
}

/// What a backend saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrived {
    /// Whose backend it is.
    pub(crate) cluster: String,
    pub(crate) method: String,
    pub(crate) path: String,
    /// With the authority as `host`.
    pub(crate) headers: Headers,
}

/// The response header in which a backend tells what arrived.
pub(crate) const ARRIVED: &str = "x-arrived";

/// Request headers that are not compared.
const ADDED_TO_REQUESTS: &[(&str, &str)] = &[
    ("content-length", "framing: each connection has its own"),
    ("transfer-encoding", "framing"),
    (
        "x-envoy-expected-rq-timeout-ms",
        "what is left of the time when the request is sent: ours has waited for its connection",
    ),
    (
        "x-forwarded-proto",
        "a proxy tells how it was spoken to; a client of its own has nobody to tell of",
    ),
];

/// Response headers that are not compared.
const ADDED_TO_RESPONSES: &[(&str, &str)] = &[
    (ARRIVED, "is looked at apart"),
    ("connection", "framing"),
    ("content-length", "framing"),
    ("transfer-encoding", "framing"),
    ("date", "a proxy dates its own answers"),
    ("server", "a proxy names itself"),
    (
        "x-envoy-upstream-service-time",
        "a measurement, by a proxy for its client; ours records it",
    ),
];

impl Outcome {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let arrived = headers.get(ARRIVED).map(|told| {
            let mut arrived: Arrived =
                serde_json::from_slice(told.as_bytes()).expect("a backend tells in JSON");
            for (name, _) in ADDED_TO_REQUESTS {
                arrived.headers.remove(*name);
            }
            arrived
        });
        let mut headers = self::headers(headers);
        for (name, _) in ADDED_TO_RESPONSES {
            headers.remove(*name);
        }
        Self {
            status: status.as_u16(),
            headers,
            body: body.to_vec(),
            arrived,
        }
    }

    /// What fails before it has a response.
    pub(crate) fn refused(status: StatusCode) -> Self {
        Self::new(status, &HeaderMap::new(), &[])
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.status, self.headers)?;
        write!(f, " {:?}", String::from_utf8_lossy(&self.body))?;
        match &self.arrived {
            None => write!(f, " not sent on"),
            Some(arrived) => {
                let Arrived {
                    cluster,
                    method,
                    path,
                    headers,
                } = arrived;
                write!(f, " from {cluster}, which saw {method} {path} {headers:?}")
            }
        }
    }
}

pub(crate) fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let values = headers.entry(name.to_string()).or_default();
        values.push(value);
    }
    headers
}
