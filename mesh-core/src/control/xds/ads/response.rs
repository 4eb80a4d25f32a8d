//! The judgement of a response.

use std::{collections::HashSet, fmt::Write as _, sync::Arc, time::SystemTime};

use envoy_types::pb::google::protobuf::Any;

use super::{
    Identity,
    cache::Cache,
    entry::Bad,
    received::{ReportedError, Response, Sent, is_awaited, is_removed, unchanged},
};
use crate::{
    Code,
    config::{Kind, ResourceId},
    control::{
        Event, SourceErrorKind,
        xds::{
            decode::{Decode, Decoded, Rejected},
            dump::{FailureDump, ResourceStatus},
        },
    },
};

/// Bytes that the text of a NACK may have; what does not fit is counted.
const NACK_LIMIT: usize = 64 << 10;

/// Who judges responses, and how strictly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) decode: &'a dyn Decode,
    pub(super) identity: &'a Identity,
    /// A resource in trouble loses its value (gRFC A88).
    pub(super) fail_on_data_errors: bool,
}

/// What became of a response.
#[derive(Debug, Default)]
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
    /// Watched, and good.
    good: Vec<Good>,
    /// Watched, and in trouble.
    bad: Vec<(Arc<str>, Bad)>,
    /// Watched, and removed as is known already.
    known: Vec<Arc<str>>,
    /// Lines of the NACK.
    problems: Vec<String>,
    /// Names that came more than once.
    repeated: HashSet<Arc<str>>,
    /// Names of all of the above.
    seen: HashSet<Arc<str>>,
    /// Something could not be given a name: it may be any resource that is missing.
    unnamed: bool,
}

/// A watched resource that is good.
#[derive(Debug)]
struct Good {
    name: Arc<str>,
    /// `None` if it has the bytes that are in force.
    decoded: Option<Decoded>,
    /// If it has one of its own.
    version: Option<Arc<str>>,
}

/// The version of a response or a resource, and when it came.
#[derive(Debug, Clone, Copy)]
struct Stamp<'a> {
    version: &'a Arc<str>,
    at: SystemTime,
}

// === impl Judge ===

impl Judge<'_> {
    /// Applies `response` to `cache`: every good resource, whatever is wrong with others (gRFC A46).
    pub(super) fn apply(self, cache: &mut Cache, response: Response, at: SystemTime) -> Judgement {
        let kind = response.kind;
        let stamp = Stamp {
            version: &response.version,
            at,
        };
        let mut sorted = Sorted::default();
        for (index, sent) in response.resources.into_iter().enumerate() {
            self.sort(&mut sorted, cache, kind, index, sent, stamp);
        }
        for (index, error) in response.errors.into_iter().enumerate() {
            self.sort_reported(&mut sorted, cache, kind, index, error, stamp);
        }
        let mut judgement = Judgement {
            accepted: sorted.good.len(),
            refusal: refusal(&sorted.problems),
            ..Judgement::default()
        };
        let refused = judgement.refusal.is_some();
        for Good {
            name,
            decoded,
            version,
        } in sorted.good
        {
            let id = ResourceId::new(kind, Arc::clone(&name));
            if cache.get(kind, &name).is_some_and(|entry| {
                entry.status() == ResourceStatus::DoesNotExist && entry.has_value()
            }) {
                judgement.returned.push(id.clone());
            }
            let event = match version {
                // Its version is its own, whatever is wrong with others.
                Some(version) => {
                    let refused = sorted.repeated.contains(&name);
                    cache.accept(kind, &name, decoded, &version, at, refused)
                }
                None => cache.accept(kind, &name, decoded, stamp.version, at, refused),
            };
            judgement.tell(id, event);
        }
        if response.whole && !sorted.unnamed {
            for name in missing(cache, kind, &sorted.seen) {
                let id = ResourceId::new(kind, Arc::clone(&name));
                sorted.bad.push((name, self.deleted(&id)));
                judgement.deleted.push(id);
            }
        }
        for name in response.removed {
            let Some((name, entry)) = cache.watched(kind, &name) else {
                continue;
            };
            if !is_removed(kind, entry) || !sorted.seen.insert(Arc::clone(name)) {
                if entry.status() == ResourceStatus::DoesNotExist {
                    sorted.known.push(Arc::clone(name));
                }
                continue;
            }
            let id = ResourceId::new(kind, Arc::clone(name));
            let bad = if is_awaited(entry) {
                self.absent(&id)
            } else {
                judgement.deleted.push(id.clone());
                self.deleted(&id)
            };
            sorted.bad.push((id.name, bad));
        }
        for name in sorted.known {
            cache.disarm(kind, &name);
        }
        for (name, bad) in sorted.bad {
            let event = cache.reject(kind, &name, bad);
            judgement.tell(ResourceId::new(kind, name), event);
        }
        judgement
    }

    fn sort(
        self,
        sorted: &mut Sorted,
        cache: &Cache,
        kind: Kind,
        index: usize,
        sent: Sent,
        stamp: Stamp<'_>,
    ) {
        let Sent { raw, wrapped } = sent;
        let version = wrapped.as_ref().map(|wrapped| Arc::clone(&wrapped.version));
        let stamp = Stamp {
            version: version.as_ref().unwrap_or(stamp.version),
            ..stamp
        };
        if let Some(name) = unchanged(cache, kind, &raw, wrapped.as_ref()) {
            let name = Arc::clone(name);
            if sorted.see(kind, &name, index) {
                sorted.good.push(Good {
                    name,
                    decoded: None,
                    version,
                });
            }
            return;
        }
        let (names, content) = match wrapped {
            Some(wrapped) => (wrapped.names, wrapped.content),
            None => (Vec::new(), None),
        };
        let watched = |name: &str| cache.name(kind, name).map(Arc::clone);
        let targets: Vec<_> = names.iter().filter_map(|name| watched(name)).collect();
        if targets.is_empty() && !names.is_empty() {
            // What nobody asked for is none of our business, good or bad (gRFC A27).
            return;
        }
        let earlier = |name: &str| cache.watched(kind, name)?.1.earlier();
        let result = self.decode.decode_next(kind, &raw, &earlier);
        let result = result.map(|decoded| decoded.sent_by(&self.identity.config));
        let own_name = match &result {
            Ok(decoded) => Some(Arc::clone(&decoded.name)),
            Err(rejected) => rejected.name.clone(),
        };
        let targets = match own_name {
            _ if !targets.is_empty() => targets,
            Some(name) => watched(&name).into_iter().collect(),
            None => {
                sorted.unnamed = true;
                if let Err(rejected) = result {
                    let problem = format!("resource {index}: {rejected}");
                    sorted.problems.push(problem);
                }
                return;
            }
        };
        for name in targets {
            if !sorted.see(kind, &name, index) {
                continue;
            }
            match &result {
                Ok(decoded) => sorted.good.push(Good {
                    name,
                    decoded: Some(decoded.clone()),
                    version: version.clone(),
                }),
                Err(rejected) => {
                    let id = ResourceId::new(kind, Arc::clone(&name));
                    sorted.problems.push(format!("{id}: {rejected}"));
                    let raw = content.as_ref().unwrap_or(&raw).clone();
                    let bad = self.rejected(&id, rejected, raw, stamp);
                    sorted.bad.push((name, bad));
                }
            }
        }
    }

    fn sort_reported(
        self,
        sorted: &mut Sorted,
        cache: &Cache,
        kind: Kind,
        index: usize,
        error: ReportedError,
        stamp: Stamp<'_>,
    ) {
        let malformed = if error.name.is_empty() {
            "resource_name: missing"
        } else if error.code == Code::Ok {
            "error_detail.code: must not be OK"
        } else {
            if let Some(name) = cache.name(kind, &error.name) {
                let name = Arc::clone(name);
                if sorted.see(kind, &name, index) {
                    let id = ResourceId::new(kind, Arc::clone(&name));
                    sorted.bad.push((name, self.reported(&id, &error, stamp)));
                }
            }
            return;
        };
        let problem = format!("resource_errors[{index}].{malformed}");
        sorted.problems.push(problem);
    }

    fn rejected(self, id: &ResourceId, rejected: &Rejected, raw: Any, stamp: Stamp<'_>) -> Bad {
        Bad {
            status: ResourceStatus::Nacked,
            error: self.identity.error(
                SourceErrorKind::Invalid,
                &format!("{id}: rejected: {rejected}"),
            ),
            failure: Some(stamp.failure(rejected.to_string(), Some(raw))),
            drop_value: self.fail_on_data_errors,
        }
    }

    fn reported(self, id: &ResourceId, error: &ReportedError, stamp: Stamp<'_>) -> Bad {
        let ReportedError { code, message, .. } = error;
        // These two are about the resource; any other is about the server (gRFC A88).
        let is_data_error = matches!(code, Code::NotFound | Code::PermissionDenied);
        let kind = if is_data_error {
            SourceErrorKind::DoesNotExist
        } else {
            SourceErrorKind::Transient
        };
        let details = format!("{code}: {message}");
        Bad {
            status: ResourceStatus::ReceivedError,
            error: self
                .identity
                .error(kind, &format!("{id}: the control plane reports {details}")),
            failure: Some(stamp.failure(details, None)),
            drop_value: is_data_error && self.fail_on_data_errors,
        }
    }

    fn deleted(self, id: &ResourceId) -> Bad {
        self.does_not_exist(&format!("{id}: deleted by the control plane"))
    }

    fn absent(self, id: &ResourceId) -> Bad {
        self.does_not_exist(&format!("{id}: does not exist, says the control plane"))
    }

    fn does_not_exist(self, what: &str) -> Bad {
        Bad {
            status: ResourceStatus::DoesNotExist,
            error: self.identity.error(SourceErrorKind::DoesNotExist, what),
            failure: None,
            drop_value: self.fail_on_data_errors,
        }
    }
}

// === impl Judgement ===

impl Judgement {
    fn tell(&mut self, id: ResourceId, event: Option<Event>) {
        self.news.extend(event.map(|event| (id, event)));
    }
}

// === impl Stamp ===

impl Stamp<'_> {
    fn failure(self, details: String, raw: Option<Any>) -> FailureDump {
        FailureDump {
            version: Arc::clone(self.version),
            at: self.at,
            details: details.into(),
            raw: raw.map(Arc::new),
        }
    }
}

// === impl Sorted ===

impl Sorted {
    /// Whether this is the first resource of that name; the first one counts.
    fn see(&mut self, kind: Kind, name: &Arc<str>, index: usize) -> bool {
        let first = self.seen.insert(Arc::clone(name));
        if !first {
            self.repeated.insert(Arc::clone(name));
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
            let news = !is_awaited(entry) && entry.status() != ResourceStatus::DoesNotExist;
            news && !seen.contains(*name)
        })
        .map(|(name, _)| Arc::clone(name))
        .collect()
}

/// One text of all problems, if there are any.
fn refusal(problems: &[String]) -> Option<String> {
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
    (!problems.is_empty()).then_some(text)
}
