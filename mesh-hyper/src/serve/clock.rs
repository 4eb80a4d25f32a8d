use std::time::Duration;

use mesh_core::connections::{ConnectionHandle, Ending, Order};
use tokio::time::Instant;

use super::ServerOptions;

/// When a connection has to be looked at, though nothing happens on it. Reads no clock for a
/// request.
pub(super) struct Clock {
    /// Its greatest age.
    age: Option<Instant>,
    idle: Option<Idle>,
    /// When it is shut, and when it is closed, once it drains.
    shut: Option<Instant>,
    end: Option<Instant>,
}

/// Looks twice in an idle timeout whether anything has happened.
struct Idle {
    step: Duration,
    next: Instant,
    activity: u64,
    /// Nothing had, the last time.
    quiet: bool,
}

/// How long a peer may take to hear GOAWAY. It need not answer the PING that tells how long it
/// takes, and without that HTTP/2 goes on to take its requests until the connection is closed.
const LAST_CALL: Duration = Duration::from_secs(5);

/// For how long nothing must have been asked on an HTTP/1.1 connection that drains, and whose peer
/// could not be told, before it is closed: a request that is on its way when the drain begins is
/// answered. It is many times what one takes within a mesh, and little beside a shutdown.
const LAST_REQUEST: Duration = Duration::from_millis(250);

/// About 30 years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

// === impl Clock ===

impl Clock {
    pub(super) fn new(options: &ServerOptions) -> Self {
        let now = Instant::now();
        // So that connections that came together do not leave together (gRFC A9).
        let jitter = 0.9 + 0.2 * fastrand::f64();
        Self {
            age: options
                .max_connection_age
                .map(|age| now + age.min(NEVER).mul_f64(jitter)),
            idle: options
                .idle_timeout
                .map(|timeout| Idle::new(timeout.min(NEVER) / 2, now)),
            shut: None,
            end: None,
        }
    }

    /// When it has to be looked at.
    pub(super) fn next(&self) -> Instant {
        let idle = self.idle.as_ref().map(|idle| idle.next);
        let next = [self.age, idle, self.shut, self.end]
            .into_iter()
            .flatten()
            .min();
        next.unwrap_or_else(|| Instant::now() + NEVER)
    }

    /// It drains, and has this long to finish: never longer than it was told before. A peer that
    /// cannot be `told` by itself is told by the answer to its next request: the connection is
    /// closed without it once nothing was asked for [a while](LAST_REQUEST).
    pub(super) fn drain(&mut self, grace: Duration, told: bool) {
        self.age = None;
        let now = Instant::now();
        if self.end.is_none() {
            self.shut = told.then(|| now + LAST_CALL);
            self.idle = (!told).then(|| Idle::new(LAST_REQUEST / 2, now));
        }
        let end = now + grace.min(NEVER);
        self.end = Some(self.end.map_or(end, |earlier| earlier.min(end)));
    }

    /// What it has to be told now.
    pub(super) fn due(
        &mut self,
        connection: &ConnectionHandle,
        options: &ServerOptions,
    ) -> Option<Order> {
        let now = Instant::now();
        if self.end.is_some_and(|end| end <= now) {
            self.end = None;
            return Some(Order::Close(connection.ending()?));
        }
        if self.shut.is_some_and(|shut| shut <= now) {
            self.shut = None;
            connection.shut();
        }
        if self.age.is_some_and(|age| age <= now) {
            self.age = None;
            return Some(Order::Drain(Ending::Age, options.drain_grace));
        }
        let idle = self.idle.as_mut()?;
        if idle.next > now || !idle.is_over(connection, now) {
            return None;
        }
        match self.end {
            Some(_) => Some(Order::Close(connection.ending()?)),
            None => Some(Order::Drain(Ending::Idle, options.drain_grace)),
        }
    }
}

// === impl Idle ===

impl Idle {
    fn new(step: Duration, now: Instant) -> Self {
        Self {
            step,
            next: now + step,
            activity: 0,
            quiet: false,
        }
    }

    fn is_over(&mut self, connection: &ConnectionHandle, now: Instant) -> bool {
        let activity = connection.activity();
        let quiet = connection.in_flight() == 0 && activity == self.activity;
        let over = quiet && self.quiet;
        self.next = now + self.step;
        self.activity = activity;
        self.quiet = quiet;
        over
    }
}
