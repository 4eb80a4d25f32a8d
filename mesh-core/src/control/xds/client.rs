//! The xDS client: a [`Source`] over streams to control planes.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, time::Instant};

use super::{
    ads::{Ads, Timeouts},
    decode::Decode,
    dump::ConfigDump,
    lrs::LoadReporter,
    scope::{self, Scope},
    server::{Server, ServerStatus},
};
use crate::{
    balance::Loads,
    bootstrap::{Bootstrap, ServerConfig, xdstp_authority},
    config::ResourceId,
    control::{Delivery, Event, Inbox, Processed, Source, SourceError, SourceErrorKind, Watch},
    runtime::{Limits, SideCall},
};

/// Limits of an [`XdsClient`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct XdsOptions {
    /// Bytes a message of the control plane may have. Default 64 MiB. A longer one ends the
    /// stream, and what is in force stays.
    pub max_message: usize,
    /// From asking a connected control plane for a resource to the conclusion that there is none.
    /// Default 15 s (gRFC A57), twice that under `resource_timer_is_transient_error` (gRFC A88).
    pub resource_timeout: Duration,
    /// For opening a stream. Default 20 s.
    pub connect_timeout: Duration,
}

impl Default for XdsOptions {
    fn default() -> Self {
        Self {
            max_message: 64 << 20,
            resource_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(20),
        }
    }
}

impl XdsOptions {
    fn limits(&self) -> Limits {
        Limits {
            max_message: self.max_message,
        }
    }
}

/// Watches resources at the control planes that the bootstrap names, over one stream to each for the
/// whole process.
///
/// The top-level servers are asked for plain names, those of an authority for the `xdstp:` names of
/// that authority (gRFC A47). Where there are several, the first is used as long as it can be
/// reached, and the next one when it cannot *and* something is missing (gRFC A71), or whatever is
/// cached if the authority says `fallback_on_reachability_only` (gRFC A95). That is decided for the
/// watches of each inbox apart: a target that waits does not take along those that have what they
/// need.
///
/// A stream is opened for the first watch, closed after the last one, and reopened for the next.
/// What was accepted stays in force whatever happens to the stream. Dropping the client closes the
/// streams, and watches that are left are told nothing more.
pub struct XdsClient {
    bootstrap: Arc<Bootstrap>,
    runtime: Handle,
    /// Every control plane of the bootstrap once, in its order.
    servers: Vec<Arc<Server>>,
    /// Of targets that have more than one server to ask.
    scopes: Mutex<Vec<Scope>>,
}

impl XdsClient {
    /// A client that is not connected yet. `decode` says what resources mean, `calls` opens
    /// streams.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime; or if `bootstrap` names no server, which no bootstrap does that
    /// was parsed or built.
    pub fn new(
        bootstrap: Arc<Bootstrap>,
        decode: Arc<dyn Decode>,
        calls: Arc<dyn SideCall>,
        options: XdsOptions,
    ) -> Arc<Self> {
        assert!(
            !bootstrap.servers.is_empty(),
            "a bootstrap names at least one server"
        );
        let timeouts = Timeouts {
            resource: options.resource_timeout,
            connect: options.connect_timeout,
        };
        let limits = options.limits();
        let authorities = bootstrap.authorities.values();
        let all = authorities.flat_map(|authority| &authority.servers);
        let mut servers: Vec<Arc<Server>> = Vec::new();
        for config in bootstrap.servers.iter().chain(all) {
            if servers.iter().all(|server| server.config() != config) {
                let decode = Arc::clone(&decode);
                let ads = Ads::new(config, &bootstrap.node, decode, timeouts, Instant::now());
                servers.push(Server::new(ads, config, limits, Arc::clone(&calls)));
            }
        }
        Arc::new(Self {
            bootstrap,
            runtime: Handle::current(),
            servers,
            scopes: Mutex::default(),
        })
    }

    /// Reports `loads` to the control planes that want to be told of them, over streams that
    /// `calls` opens: the first client to be told so does.
    pub fn report_loads(&self, loads: &Loads, calls: Arc<dyn SideCall>, options: &XdsOptions) {
        loads.report_by(Box::new(LoadReporter {
            bootstrap: Arc::clone(&self.bootstrap),
            limits: options.limits(),
            connect_timeout: options.connect_timeout,
            calls,
            runtime: self.runtime.clone(),
            loads: loads.downgrade(),
        }));
    }

    /// How it stands with the first control plane, now and from now on.
    pub fn status(&self) -> watch::Receiver<ServerStatus> {
        self.servers[0].status()
    }

    /// How it stands with every control plane of the bootstrap.
    pub fn statuses(&self) -> impl Iterator<Item = (&ServerConfig, ServerStatus)> {
        self.servers
            .iter()
            .map(|server| (server.config(), server.status().borrow().clone()))
    }

    /// What is known of every watched resource: everything that was watched before is in it. One
    /// that several control planes were asked for is in it once for each, in order of preference.
    pub async fn dump(&self) -> ConfigDump {
        self.dump_part(None).await
    }

    /// The same of these resources alone.
    pub(in crate::control) async fn dump_of(&self, of: BTreeSet<ResourceId>) -> ConfigDump {
        self.dump_part(Some(Arc::new(of))).await
    }

    async fn dump_part(&self, of: Option<Arc<BTreeSet<ResourceId>>>) -> ConfigDump {
        let mut whole = ConfigDump::default();
        for server in self.servers.iter().rev() {
            let mut dump = server.dump_of(of.clone()).await;
            dump.resources.append(&mut whole.resources);
            whole = dump;
        }
        whole.resources.sort_by(|a, b| a.id.cmp(&b.id));
        whole
    }

    /// The control planes to ask for `id`.
    fn servers_of(&self, id: &ResourceId) -> Option<Vec<Arc<Server>>> {
        let configs = self.bootstrap.servers_for(&id.name)?;
        let of = |config| {
            let known = self.servers.iter().find(|server| server.config() == config);
            Arc::clone(known.expect("every server of the bootstrap is known"))
        };
        Some(configs.iter().map(of).collect())
    }

    fn watch_at(&self, servers: &[Arc<Server>], id: ResourceId, inbox: Inbox) -> Watch {
        if let [server] = servers {
            return server.watch(id, inbox);
        }
        let authority = xdstp_authority(&id.name);
        let mut scopes = self.scopes.lock();
        let mut found = None;
        scopes.retain(|scope| match scope.find(authority, &inbox) {
            Ok(commands) => {
                found = found.take().or(commands);
                true
            }
            Err(scope::Ended) => false,
        });
        let commands = found.unwrap_or_else(|| {
            let config = authority.and_then(|name| self.bootstrap.authorities.get(name));
            let (scope, commands) = Scope::start(
                authority,
                inbox,
                servers,
                config.is_some_and(|config| config.fallback_on_reachability_only),
                &self.runtime,
            );
            scopes.push(scope);
            commands
        });
        scope::watch(commands, id)
    }
}

impl fmt::Debug for XdsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdsClient")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Source for XdsClient {
    fn watch(&self, id: ResourceId, inbox: Inbox) -> Watch {
        if let Some(servers) = self.servers_of(&id) {
            return self.watch_at(&servers, id, inbox);
        }
        let authority = xdstp_authority(&id.name).unwrap_or_default();
        let problem = self.bootstrap.unknown_authority(authority);
        let node = &self.bootstrap.node.id;
        let event = Event::Gone(SourceError {
            kind: SourceErrorKind::Invalid,
            text: format!("{id}: {problem} (node {node:?})").into(),
        });
        let processed = Processed::default();
        // Who does not listen any more need not know.
        let _ = inbox.send(Delivery {
            id,
            event,
            processed,
        });
        Watch::new(|| ())
    }
}

#[cfg(test)]
mod tests;
