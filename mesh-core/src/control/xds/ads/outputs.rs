//! What follows from the state: the stream, requests, reading on.

use super::{Ads, Link, Output, Unprocessed};
use crate::config::Kind;

impl Ads {
    pub(super) fn poll_link(&mut self) -> Option<Output> {
        match &self.link {
            Link::Idle if self.cache.is_idle() => {
                self.cache.clear_unwatched();
                None
            }
            Link::Idle => {
                self.link = Link::Waiting;
                self.poll_link()
            }
            Link::Waiting if self.cache.is_idle() => {
                self.go_idle();
                None
            }
            Link::Waiting if self.retry_at.is_none_or(|at| at <= self.now) => {
                self.retry_at = None;
                self.link = Link::Connecting {
                    deadline: self.now + self.timeouts.connect,
                };
                Some(Output::Connect)
            }
            // A stream for nobody is closed rather than told so.
            Link::Connecting { .. } | Link::Open(_) if self.cache.is_idle() => {
                if matches!(&self.link, Link::Open(stream) if stream.useful) {
                    self.backoff.reset();
                }
                self.go_idle();
                Some(Output::Close)
            }
            _ => None,
        }
    }

    fn go_idle(&mut self) {
        self.link = Link::Idle;
        self.cache.unsubscribe_all();
        self.codec.forget();
    }

    pub(super) fn poll_request(&mut self) -> Option<Output> {
        // Nothing is said while watchers process a response: its ACK means that it is in force, and
        // what it makes them ask for is asked for at once, when they are done.
        if self.unprocessed != Unprocessed::No {
            return None;
        }
        let Link::Open(stream) = &mut self.link else {
            return None;
        };
        if stream.sending.is_some() {
            return None;
        }
        // Answers come last: who reads an ACK knows what the response made the watchers ask for.
        let mut kinds = Kind::ALL;
        kinds.sort_by_key(|&kind| self.codec.owes_answer(kind));
        for kind in kinds {
            if !self.cache.is_touched(kind) && !self.codec.owes_answer(kind) {
                continue;
            }
            let subscription = self.cache.subscribe(kind);
            if let Some(request) = self.codec.request(kind, &subscription, &self.cache) {
                stream.sending = Some((kind, subscription.added));
                return Some(Output::Send(request));
            }
        }
        None
    }

    pub(super) fn poll_read(&mut self) -> Option<Output> {
        if self.unprocessed == Unprocessed::Announced {
            self.unprocessed = Unprocessed::Since(self.now);
            return Some(Output::AwaitProcessed);
        }
        let Link::Open(stream) = &mut self.link else {
            return None;
        };
        // Who sends and does not read is not read from either, before its answers pile up.
        if self.unprocessed != Unprocessed::No || stream.reading || self.codec.is_behind() {
            return None;
        }
        stream.reading = true;
        Some(Output::Read)
    }
}
