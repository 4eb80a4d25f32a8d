//! A response, whatever the variant of the protocol, and the judgement of it.

use std::{collections::HashSet, fmt::Write as _, sync::Arc, time::SystemTime};

use envoy_types::pb::google::protobuf::Any;

use super::{
    Identity,
    cache::{Bad, Cache},
};
use crate::{
    Code,
    config::{Kind, ResourceId},
    control::{
        Event, SourceErrorKind,
        xds::{
            decode::{Decode, Decoded},
            dump::{FailureDump, ResourceStatus},
        },
    },
};

/// Bytes that the text of a NACK may have; what does not fit is counted.
const NACK_LIMIT: usize = 64 << 10;

/// What a control plane has sent.
#[derive(Debug)]
pub(super) enum Received {
    /// Resources that were asked for.
    Response(Response),
    /// Resources of a kind that was not asked for.
    Unasked(Kind),
    /// Resources of a type that no decoder knows.
    UnknownType(String),
    /// Not a message of the protocol.
    Unreadable(String),
}

/// Resources of one kind.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) kind: Kind,
    pub(super) version: Arc<str>,
    pub(super) nonce: String,
    pub(super) resources: Vec<Any>,
    pub(super) errors: Vec<ReportedError>,
    /// A resource that is not in it does not exist.
    pub(super) whole: bool,
}

/// An error that the control plane reports in place of a resource (xRFC TP3).
#[derive(Debug)]
pub(super) struct ReportedError {
    pub(super) name: String,
    pub(super) code: Code,
    pub(super) message: String,
}

/// What became of a response.
#[derive(Debug)]
pub(super) struct Judgement {
    /// What to tell whom.
    pub(super) news: Vec<(ResourceId, Event)>,
    /// How many watched resources are in force as they were sent.
    pub(super) accepted: usize,
    /// The text of the NACK, if there is to be one.
    pub(super) refusal: Option<String>,
    /// Resources that a whole response left out for the first time.
    pub(super) deleted: Vec<ResourceId>,
    /// Resources that are back after they were left out.
    pub(super) returned: Vec<ResourceId>,
}

/// The response after decoding, before any of it is applied: what is accepted depends on nothing
/// else, but what version it then has depends on all of it.
#[derive(Debug, Default)]
struct Sorted {
    /// Watched, and good: the value, or `None` if it has the bytes that are in force.
    good: Vec<(Arc<str>, Option<Decoded>)>,
    /// Watched, and refused.
    bad: Vec<(Arc<str>, String, Any)>,
    /// Reported by the control plane.
    reported: Vec<(Arc<str>, ReportedError)>,
    /// Lines of the NACK.
    problems: Vec<String>,
    /// Names of all of the above.
    seen: HashSet<Arc<str>>,
    /// Something could not be given a name: it may be any resource that is missing.
    unnamed: bool,
}

/// Applies `response` to `cache`: every good resource, whatever is wrong with others (gRFC A46).
pub(super) fn apply(
    cache: &mut Cache,
    decode: &dyn Decode,
    identity: &Identity,
    fail_on_data_errors: bool,
    response: Response,
    at: SystemTime,
) -> (String, Judgement) {
    let Response {
        kind,
        version,
        nonce,
        resources,
        errors,
        whole,
    } = response;
    let mut sorted = Sorted::default();
    for (index, raw) in resources.into_iter().enumerate() {
        sorted.add(cache, decode, kind, index, raw);
    }
    for (index, error) in errors.into_iter().enumerate() {
        sorted.add_reported(cache, kind, index, error);
    }
    let refused = !sorted.problems.is_empty();
    let mut judgement = Judgement {
        news: Vec::new(),
        accepted: sorted.good.len(),
        refusal: refused.then(|| refusal(&sorted.problems)),
        deleted: Vec::new(),
        returned: Vec::new(),
    };
    let mut tell = |name: &Arc<str>, event: Option<Event>| {
        let id = ResourceId::new(kind, Arc::clone(name));
        judgement.news.extend(event.map(|event| (id, event)));
    };

    for (name, decoded) in sorted.good {
        if cache.get(kind, &name).is_some_and(|entry| {
            entry.status() == ResourceStatus::DoesNotExist && entry.has_value()
        }) {
            let id = ResourceId::new(kind, Arc::clone(&name));
            judgement.returned.push(id);
        }
        let event = cache.accept(kind, &name, decoded, &version, at, refused);
        tell(&name, event);
    }
    for (name, details, raw) in sorted.bad {
        let id = ResourceId::new(kind, Arc::clone(&name));
        let event = cache.reject(
            kind,
            &name,
            Bad {
                status: ResourceStatus::Nacked,
                error: identity.error(
                    SourceErrorKind::Invalid,
                    &format!("{id}: rejected: {details}"),
                ),
                failure: Some(FailureDump {
                    version: Arc::clone(&version),
                    at,
                    details: details.into(),
                    raw: Some(Arc::new(raw)),
                }),
                drop_value: fail_on_data_errors,
            },
        );
        tell(&name, event);
    }
    for (name, ReportedError { code, message, .. }) in sorted.reported {
        let id = ResourceId::new(kind, Arc::clone(&name));
        // These two are about the resource; any other is about the server (gRFC A88).
        let is_data_error = matches!(code, Code::NotFound | Code::PermissionDenied);
        let details = format!("{code}: {message}");
        let event = cache.reject(
            kind,
            &name,
            Bad {
                status: ResourceStatus::ReceivedError,
                error: identity.error(
                    if is_data_error {
                        SourceErrorKind::DoesNotExist
                    } else {
                        SourceErrorKind::Unreachable
                    },
                    &format!("{id}: the control plane reports {details}"),
                ),
                failure: Some(FailureDump {
                    version: Arc::clone(&version),
                    at,
                    details: details.into(),
                    raw: None,
                }),
                drop_value: is_data_error && fail_on_data_errors,
            },
        );
        tell(&name, event);
    }
    if whole && !sorted.unnamed {
        for name in missing(cache, kind, &sorted.seen) {
            let id = ResourceId::new(kind, Arc::clone(&name));
            let error = identity.error(
                SourceErrorKind::DoesNotExist,
                &format!("{id}: deleted by the control plane"),
            );
            let event = cache.reject(
                kind,
                &name,
                Bad {
                    status: ResourceStatus::DoesNotExist,
                    error,
                    failure: None,
                    drop_value: fail_on_data_errors,
                },
            );
            tell(&name, event);
            judgement.deleted.push(id);
        }
    }
    (nonce, judgement)
}

// === impl Sorted ===

impl Sorted {
    fn add(&mut self, cache: &Cache, decode: &dyn Decode, kind: Kind, index: usize, raw: Any) {
        if let Some(name) = cache.find_identical(kind, &raw) {
            let name = Arc::clone(name);
            if self.see(kind, &name, index) {
                self.good.push((name, None));
            }
            return;
        }
        match decode.decode(kind, &raw) {
            // What nobody asked for is none of our business, good or bad (gRFC A27).
            Ok(decoded) if cache.get(kind, &decoded.name).is_none() => {}
            Ok(decoded) => {
                let name = Arc::clone(&decoded.name);
                if self.see(kind, &name, index) {
                    self.good.push((name, Some(decoded)));
                }
            }
            Err(rejected) => match &rejected.name {
                Some(name) if cache.get(kind, name).is_none() => {}
                Some(name) => {
                    if self.see(kind, name, index) {
                        let details = rejected.to_string();
                        let id = ResourceId::new(kind, Arc::clone(name));
                        self.problems.push(format!("{id}: {details}"));
                        self.bad.push((Arc::clone(name), details, raw));
                    }
                }
                None => {
                    self.unnamed = true;
                    self.problems.push(format!("resource {index}: {rejected}"));
                }
            },
        }
    }

    fn add_reported(&mut self, cache: &Cache, kind: Kind, index: usize, error: ReportedError) {
        if error.name.is_empty() || error.code == Code::Ok {
            let what = if error.name.is_empty() {
                "resource_name: missing"
            } else {
                "error_detail.code: must not be OK"
            };
            self.problems
                .push(format!("resource_errors[{index}].{what}"));
        } else if let Some(name) = cache.name(kind, &error.name) {
            let name = Arc::clone(name);
            if self.see(kind, &name, index) {
                self.reported.push((name, error));
            }
        }
    }

    /// Whether this is the first resource of that name; the first one counts.
    fn see(&mut self, kind: Kind, name: &Arc<str>, index: usize) -> bool {
        let first = self.seen.insert(Arc::clone(name));
        if !first {
            let id = ResourceId::new(kind, Arc::clone(name));
            self.problems
                .push(format!("{id}: resource {index}: duplicate resource name"));
        }
        first
    }
}

/// What a response without these names takes away: never what has only just been asked for, since
/// the response may have been on its way already.
fn missing(cache: &Cache, kind: Kind, seen: &HashSet<Arc<str>>) -> Vec<Arc<str>> {
    cache
        .of_kind(kind)
        .filter(|(name, entry)| {
            let news = !matches!(
                entry.status(),
                ResourceStatus::Requested | ResourceStatus::DoesNotExist | ResourceStatus::Timeout
            );
            news && !seen.contains(*name)
        })
        .map(|(name, _)| Arc::clone(name))
        .collect()
}

/// One text of all problems.
fn refusal(problems: &[String]) -> String {
    let mut text = String::new();
    for (index, problem) in problems.iter().enumerate() {
        if !text.is_empty() && text.len() + problem.len() > NACK_LIMIT {
            let left = problems.len() - index;
            write!(text, "; and {left} more").expect("a string takes any text");
            break;
        }
        if index > 0 {
            text.push_str("; ");
        }
        text.push_str(problem);
    }
    text
}
