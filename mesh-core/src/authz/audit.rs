use std::{
    fmt,
    io::Write,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// What an audit logger hears of a decision (gRFC A59). One for the test of a logger begins with
/// `AuditEvent::default()`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEvent<'a> {
    /// The method called, such as `/package.Service/Method`; a request's path.
    pub rpc_method: &'a str,
    /// Who called: the first URI name of its certificate, else the first DNS name, else the
    /// subject. Empty without a certificate.
    pub principal: &'a str,
    /// The name of the filter that decided.
    pub policy_name: &'a str,
    /// The policy that matched; empty if none did.
    pub matched_rule: &'a str,
    /// Whether the filter lets the request pass. Later filters, and the service, may still refuse.
    pub authorized: bool,
}

/// Hears of decisions. Called on the way of a request: it must not block.
///
/// Any `Fn(&AuditEvent<'_>)` is one.
pub trait AuditLogger: Send + Sync {
    /// Takes note of a decision, which it cannot change.
    fn log(&self, event: &AuditEvent<'_>);
}

/// When audit loggers are told. Which filter's decision is meant, not what its rules' action is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditCondition {
    /// Never.
    #[default]
    Never,
    /// When a request is denied.
    OnDeny,
    /// When a request is allowed.
    OnAllow,
    /// Always.
    OnDenyAndAllow,
}

/// The audit loggers of [`Rules`](super::Rules), all of which are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditLoggers {
    /// When.
    pub condition: AuditCondition,
    /// Whom.
    pub loggers: Vec<NamedLogger>,
}

/// A logger, and the configuration that it was made from: of the same configuration, it is the
/// same logger.
#[derive(Clone)]
pub struct NamedLogger {
    /// The type of its configuration.
    pub kind: Arc<str>,
    /// Its configuration, as received.
    pub config: Arc<str>,
    /// The logger.
    pub logger: Arc<dyn AuditLogger>,
}

/// Writes a line of JSON to the standard output for each event (`stdout_logger`, gRFC A59).
///
/// A thread of its own writes, so that a reader who does not keep up holds up no request. Up to 4096
/// lines wait for it; more are dropped, and `tracing` tells how many. Those that wait when the
/// process ends are lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdoutLogger;

/// Lines on their way to the standard output, which the whole process shares.
struct Lines {
    queue: SyncSender<String>,
    dropped: AtomicU64,
}

/// Lines that may wait.
const WAITING: usize = 4096;

// === impl AuditLogger ===

impl<F: Fn(&AuditEvent<'_>) + Send + Sync> AuditLogger for F {
    fn log(&self, event: &AuditEvent<'_>) {
        self(event);
    }
}

// === impl AuditLoggers ===

impl AuditLoggers {
    /// Whether anybody hears of a request that is `allowed`, or is not.
    pub fn wants(&self, allowed: bool) -> bool {
        let wanted = match self.condition {
            AuditCondition::Never => false,
            AuditCondition::OnDeny => !allowed,
            AuditCondition::OnAllow => allowed,
            AuditCondition::OnDenyAndAllow => true,
        };
        wanted && !self.loggers.is_empty()
    }

    /// Tells all loggers, whatever the condition.
    pub fn log(&self, event: &AuditEvent<'_>) {
        for NamedLogger { logger, .. } in &self.loggers {
            logger.log(event);
        }
    }
}

// === impl NamedLogger ===

impl PartialEq for NamedLogger {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.config == other.config
    }
}

impl fmt::Debug for NamedLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedLogger")
            .field("kind", &self.kind)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

// === impl StdoutLogger ===

impl AuditLogger for StdoutLogger {
    fn log(&self, event: &AuditEvent<'_>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = line(event, since.map_or(0, |since| since.as_secs()));
        let lines = Lines::shared();
        if lines.queue.try_send(line).is_err() {
            lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Lines ===

impl Lines {
    fn shared() -> &'static Self {
        static LINES: LazyLock<Lines> = LazyLock::new(|| {
            let (queue, lines) = sync_channel(WAITING);
            let writer = thread::Builder::new().name("mesh-audit".to_owned());
            if let Err(error) = writer.spawn(move || write(&lines, &mut std::io::stdout())) {
                // Nobody takes the lines: all count as dropped.
                tracing::error!(%error, "audit lines cannot be written");
            }
            let dropped = AtomicU64::new(0);
            Lines { queue, dropped }
        });
        &LINES
    }
}

/// Writes lines as they come.
fn write(lines: &Receiver<String>, out: &mut dyn Write) {
    for line in lines {
        // A closed standard output ends nothing.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        let dropped = Lines::shared().dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "audit lines were dropped: standard output is not read"
            );
        }
    }
}

/// The event as a line, `seconds` after 1970.
fn line(event: &AuditEvent<'_>, seconds: u64) -> String {
    let text = |text: &str| serde_json::Value::from(text);
    format!(
        "{{\"timestamp\":\"{seconds}\",\"rpc_method\":{},\"principal\":{},\"policy_name\":{},\
         \"matched_rule\":{},\"authorized\":{}}}\n",
        text(event.rpc_method),
        text(event.principal),
        text(event.policy_name),
        text(event.matched_rule),
        event.authorized
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(rpc_method: &str) -> AuditEvent<'_> {
        AuditEvent {
            rpc_method,
            principal: "spiffe://foo/user1",
            policy_name: "example_policy",
            matched_rule: "admin_access",
            authorized: true,
        }
    }

    #[test]
    fn lines_are_written_in_order() {
        let (queue, lines) = sync_channel(2);
        queue.send("a\n".to_owned()).unwrap();
        queue.send("b\n".to_owned()).unwrap();
        assert!(queue.try_send("c\n".to_owned()).is_err(), "no more wait");
        drop(queue);
        let mut out = Vec::new();
        write(&lines, &mut out);
        assert_eq!(out, b"a\nb\n");
    }

    #[test]
    fn a_line_is_as_the_grfc_gives_it() {
        assert_eq!(
            line(&event("/pkg.Service/Foo"), 1_649_376_211),
            "{\"timestamp\":\"1649376211\",\"rpc_method\":\"/pkg.Service/Foo\",\
             \"principal\":\"spiffe://foo/user1\",\"policy_name\":\"example_policy\",\
             \"matched_rule\":\"admin_access\",\"authorized\":true}\n"
        );
    }

    #[test]
    fn no_request_can_forge_a_line() {
        let line = line(&event("/a\"}\n{\"authorized\":true"), 0);
        assert_eq!(line.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["rpc_method"], "/a\"}\n{\"authorized\":true");
    }

    #[test]
    fn conditions_are_about_decisions() {
        use AuditCondition::*;
        for (condition, denied, allowed) in [
            (Never, false, false),
            (OnDeny, true, false),
            (OnAllow, false, true),
            (OnDenyAndAllow, true, true),
        ] {
            let mut loggers = AuditLoggers {
                condition,
                loggers: Vec::new(),
            };
            assert!(
                !loggers.wants(true) && !loggers.wants(false),
                "nobody to tell"
            );
            loggers.loggers.push(NamedLogger {
                kind: "k".into(),
                config: "c".into(),
                logger: Arc::new(|_: &AuditEvent<'_>| {}),
            });
            assert_eq!(loggers.wants(false), denied, "{condition:?}");
            assert_eq!(loggers.wants(true), allowed, "{condition:?}");
        }
    }
}
