//! What happens, and what watchers are told of it.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use bytes::Bytes;

use super::{
    Ads, Link, Notice, Output, Stream, Unprocessed, WatcherId,
    entry::Bad,
    received::Received,
    response::{Judge, Judgement},
};
use crate::{
    Code,
    config::{Kind, ResourceId},
    control::{Event, SourceErrorKind, xds::dump::ResourceStatus},
    runtime::RpcStatus,
};

impl Ads {
    pub(super) fn watch(&mut self, watcher: WatcherId, id: ResourceId) {
        if matches!(self.link, Link::Idle) && self.retry_at.is_none_or(|at| at <= self.now) {
            // That was long ago: the attempt that this watch begins may well succeed.
            self.outage = None;
        }
        let entry = self.cache.watch(watcher, id.clone());
        let mut news: Vec<Event> = entry.news().collect();
        if let Some(reason) = &self.outage {
            let error = self.identity.unreachable(Some(&id), reason);
            news.push(Event::Ambient(error));
        }
        for event in news {
            self.outputs.push_back(Output::Deliver {
                watcher,
                id: id.clone(),
                event,
                gated: false,
            });
        }
    }

    pub(super) fn connected(&mut self) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        self.codec.open();
        self.cache.unsubscribe_all();
        self.link = Link::Open(Stream {
            heard: false,
            useful: false,
            reading: false,
            sending: None,
            settles_at: self.now + self.timeouts.resource,
        });
    }

    pub(super) fn connect_failed(&mut self, reason: &str) {
        if matches!(self.link, Link::Connecting { .. }) {
            self.fail(reason);
            self.retry();
        }
    }

    pub(super) fn sent(&mut self) {
        if let Link::Open(stream) = &mut self.link
            && let Some((kind, names)) = stream.sending.take()
        {
            for name in &names {
                self.cache
                    .arm(kind, name, self.now + self.timeouts.resource);
            }
        }
    }

    pub(super) fn received(&mut self, message: &Bytes, at: SystemTime) {
        let Link::Open(stream) = &mut self.link else {
            return;
        };
        stream.reading = false;
        let response = match self.codec.read(message) {
            Received::Response(response) => response,
            // What was not asked for is ignored: an ACK would say that it is good, a NACK that it
            // is bad, and neither is known.
            Received::Unasked(kind) => {
                return self.ignore(format!("{kind} resources, which were not asked for"));
            }
            Received::UnknownType(url) => {
                return self.ignore(format!("resources of unknown type {url:?}"));
            }
            Received::Unreadable(reason) => {
                return self.ignore(format!("not a discovery response: {reason}"));
            }
        };
        stream.heard = true;
        let (kind, version) = (response.kind, Arc::clone(&response.version));
        let nonce = response.nonce.clone();
        let judge = Judge {
            decode: &*self.decode,
            identity: &self.identity,
            fail_on_data_errors: self.fail_on_data_errors,
        };
        let judgement = judge.apply(&mut self.cache, response, at);
        stream.useful |=
            judgement.accepted > 0 || (judgement.refusal.is_none() && self.codec.confirms(kind));
        let Judgement {
            news,
            refusal,
            deleted,
            returned,
            ..
        } = judgement;
        for id in deleted {
            let kept = !self.fail_on_data_errors;
            self.notice(Notice::Deleted { id, kept });
        }
        for id in returned {
            self.notice(Notice::Returned { id });
        }
        if let Some(reason) = &refusal {
            self.notice(Notice::Nacked {
                kind,
                version: Arc::clone(&version),
                reason: reason.clone(),
            });
        }
        self.codec
            .answer(kind, &version, nonce, refusal.map_or(Ok(()), Err));
        let told: HashSet<ResourceId> = news.iter().map(|(id, _)| id.clone()).collect();
        let mut gated = false;
        for (id, event) in news {
            gated |= self.deliver(&id, &event, true);
        }
        gated |= self.recover(&told, true);
        if gated {
            self.unprocessed = Unprocessed::Announced;
        }
    }

    pub(super) fn closed(&mut self, status: Option<RpcStatus>) {
        let Link::Open(Stream {
            heard,
            useful,
            settles_at,
            ..
        }) = self.link
        else {
            return;
        };
        // Nothing was new for all that time.
        let silent = settles_at <= self.now && self.codec.may_hear_nothing();
        // A server may end a stream that it has answered on: a restart, an age limit (gRFC A57).
        // But exhaustion comes back with the next stream, be it the server that sheds load or a
        // response too large to be read.
        let exhausted = matches!(&status, Some(status) if status.code == Code::ResourceExhausted);
        if (useful || silent) && !exhausted {
            self.backoff.reset();
        }
        if !(heard || silent) || exhausted {
            let ending = match &status {
                Some(status) => status.to_string(),
                None => "OK".to_owned(),
            };
            self.fail(&if heard {
                format!("the stream ended with {ending}")
            } else {
                format!("the stream ended before the first response, with {ending}")
            });
        }
        self.retry();
    }

    pub(super) fn processed(&mut self) {
        if let Unprocessed::Since(start) = self.unprocessed {
            // What was not read for that time may have been there in time.
            self.cache
                .postpone(self.now.saturating_duration_since(start));
            self.unprocessed = Unprocessed::No;
        }
    }

    pub(super) fn timer(&mut self) {
        match &self.link {
            Link::Connecting { deadline } if *deadline <= self.now => {
                self.outputs.push_back(Output::Close);
                let limit = self.timeouts.connect;
                self.connect_failed(&format!("no connection within {limit:?}"));
            }
            Link::Open(stream) if stream.settles_at <= self.now && !stream.heard => {
                self.recover(&HashSet::new(), false);
            }
            _ => {}
        }
        if self.unprocessed == Unprocessed::No {
            while let Some(id) = self.cache.pop_due(self.now) {
                self.timed_out(&id);
            }
        }
    }

    fn timed_out(&mut self, id: &ResourceId) {
        let limit = self.timeouts.resource;
        let (status, kind) = if self.timeout_is_transient {
            (ResourceStatus::Timeout, SourceErrorKind::Transient)
        } else {
            (ResourceStatus::DoesNotExist, SourceErrorKind::NotSent)
        };
        let what = match kind {
            SourceErrorKind::NotSent => "does not exist: ",
            _ => "",
        };
        let error = self
            .identity
            .error(kind, &format!("{id}: {what}not sent within {limit:?}"));
        let bad = Bad {
            status,
            error,
            failure: None,
            drop_value: false,
        };
        if let Some(event) = self.cache.reject(id.kind, &id.name, bad) {
            self.notice(Notice::TimedOut { id: id.clone() });
            self.deliver(id, &event, false);
        }
    }

    /// The control plane is out of reach: watchers are told once for each reason, and those that
    /// have a value keep it (gRFC A57, A88).
    fn fail(&mut self, reason: &str) {
        self.notice(Notice::Unreachable {
            reason: reason.to_owned(),
        });
        if self.outage.as_deref() == Some(reason) {
            return;
        }
        self.outage = Some(reason.into());
        for id in self.watched() {
            let error = self.identity.unreachable(Some(&id), reason);
            self.deliver(&id, &Event::Ambient(error), false);
        }
    }

    /// The control plane answers: watchers that were told otherwise, and were not `told` better
    /// since, are told what is in force. Says whether there were any.
    fn recover(&mut self, told: &HashSet<ResourceId>, gated: bool) -> bool {
        if self.outage.take().is_none() {
            return false;
        }
        self.notice(Notice::Recovered);
        let mut any = false;
        for id in self.watched() {
            if told.contains(&id) {
                continue;
            }
            let entry = self.cache.get(id.kind, &id.name);
            let news: Vec<Event> = entry.into_iter().flat_map(|entry| entry.news()).collect();
            for event in news {
                any |= self.deliver(&id, &event, gated);
            }
        }
        any
    }

    fn retry(&mut self) {
        self.cache.unsubscribe_all();
        self.retry_at = Some(self.now + self.backoff.next_pause());
        self.link = Link::Waiting;
    }

    fn ignore(&mut self, reason: String) {
        self.notice(Notice::Unusable { reason });
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    /// Tells every watcher of `id`; says whether there are any.
    fn deliver(&mut self, id: &ResourceId, event: &Event, gated: bool) -> bool {
        let mut any = false;
        if let Some(entry) = self.cache.get(id.kind, &id.name) {
            for watcher in entry.watchers() {
                any = true;
                self.outputs.push_back(Output::Deliver {
                    watcher,
                    id: id.clone(),
                    event: event.clone(),
                    gated,
                });
            }
        }
        any
    }

    fn watched(&self) -> Vec<ResourceId> {
        let kinds = Kind::ALL.into_iter();
        kinds
            .flat_map(|kind| {
                let names = self.cache.of_kind(kind);
                names.map(move |(name, _)| ResourceId::new(kind, Arc::clone(name)))
            })
            .collect()
    }
}
