use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::Guard;
use mesh_core::{
    Mesh, Semantics,
    config::DownstreamTls,
    control::SourceErrorKind,
    identity::Peer,
    resolve::{Ends, Inbound, InboundChain, InboundSpec, InboundState, Readiness, TargetStatus},
};
use tokio::sync::Notify;

use super::{
    LocalAddress, OnMissing, ServeError, ServerTls, ServingMode,
    record::{Methods, Recording},
};
use crate::plane::HyperPlane;

/// What the connections of a server follow: its listener, or what was said in code.
pub(super) struct Follow {
    listener: Option<Inbound>,
    /// In force without a listener.
    fixed: Option<Inbound>,
    use_fixed: AtomicBool,
    /// Protocols that requests may upgrade to while `fixed` is in force, in lower case.
    upgrades: Box<[String]>,
    /// The listener was there once.
    arrived: AtomicBool,
    /// Told when `use_fixed` changes.
    switched: Notify,
    /// Those that its services have.
    methods: Arc<Methods>,
}

// === impl Follow ===

impl Follow {
    /// For a server bound to `at`. A Unix domain socket has no listener.
    ///
    /// # Errors
    /// If nothing says how its connections are secured.
    pub(super) fn new(
        mesh: &Mesh,
        at: &LocalAddress,
        semantics: Semantics,
        tls: Option<&ServerTls>,
        on_missing: &OnMissing,
        upgrades: &[String],
    ) -> Result<Self, ServeError> {
        let name = at
            .tcp()
            .and_then(|address| mesh.bootstrap().server_listener_name(address));
        let spec = |listener| InboundSpec {
            listener,
            address: at.tcp().unwrap_or(Ends::UNNAMED.local),
            semantics,
        };
        let fixed = |tls: &ServerTls| {
            let name: Arc<str> = at.to_string().into();
            Inbound::fixed(spec(name), tls.setting(), Some(&**mesh.recorder()))
        };
        let Some(name) = name else {
            let tls = tls.ok_or_else(|| match at {
                LocalAddress::Tcp(address) => ServeError::NoSecurity { address: *address },
                LocalAddress::Unix(path) => ServeError::UnixNoSecurity { path: path.clone() },
            })?;
            if *on_missing != OnMissing::NotServing {
                tracing::warn!(
                    address = %at,
                    "Server::on_missing has no effect: the bootstrap has no \
                     server_listener_resource_name_template, or the address is no IP address, \
                     and Server::tls is in force"
                );
            }
            return Ok(Self::of(None, Some(fixed(tls)), upgrades));
        };
        if tls.is_some() {
            tracing::warn!(
                address = %at, listener = %name,
                "Server::tls has no effect: the bootstrap has a \
                 server_listener_resource_name_template, and the listener says how connections \
                 are secured; Server::on_missing says what is done without one"
            );
        }
        let source = mesh.source(&*HyperPlane::of(mesh));
        let recorder = Some(Arc::clone(mesh.recorder()));
        let listener = mesh.enter(|| Inbound::open(spec(name), source, recorder));
        let fixed = match on_missing {
            OnMissing::NotServing => None,
            OnMissing::Use(tls) => Some(fixed(tls)),
        };
        Ok(Self::of(Some(listener), fixed, upgrades))
    }

    fn of(listener: Option<Inbound>, fixed: Option<Inbound>, upgrades: &[String]) -> Self {
        let upgrades = upgrades
            .iter()
            .map(|protocol| protocol.to_ascii_lowercase());
        Self {
            upgrades: upgrades.collect(),
            use_fixed: AtomicBool::new(listener.is_none()),
            listener,
            fixed,
            arrived: AtomicBool::new(false),
            switched: Notify::new(),
            methods: Arc::default(),
        }
    }

    /// What the requests of a connection of `peer` are recorded with.
    pub(super) fn recording(&self, semantics: Semantics, peer: &Peer) -> Recording {
        Recording::new(semantics, peer, &self.methods)
    }

    /// What is in force now. The guard must not be kept across an await.
    #[inline]
    pub(super) fn load(&self) -> Guard<Arc<InboundState>> {
        self.in_force().load()
    }

    /// Another number whenever there is something else to [load](Self::load).
    #[inline]
    pub(super) fn version(&self) -> u64 {
        let use_fixed = self.use_fixed.load(Ordering::Acquire);
        self.in_force().changes() << 1 | u64::from(use_fixed)
    }

    #[inline]
    fn in_force(&self) -> &Inbound {
        let inbound = match self.use_fixed.load(Ordering::Acquire) {
            true => self.fixed.as_ref(),
            false => self.listener.as_ref(),
        };
        // `use_fixed` follows what is there.
        inbound.expect("a server follows a listener, or what was said in code")
    }

    /// Whether requests may upgrade to this protocol, in lower case.
    pub(super) fn allows_upgrade(&self, protocol: &str) -> bool {
        let is_fixed = self.use_fixed.load(Ordering::Acquire);
        is_fixed && self.upgrades.iter().any(|allowed| allowed == protocol)
    }

    /// The treatment of a connection; `None`: it is closed without a byte.
    pub(super) fn chain(&self, ends: Ends) -> Option<Arc<InboundChain>> {
        match &**self.load() {
            InboundState::Serving(snapshot) => snapshot.chain(ends).cloned(),
            InboundState::Waiting | InboundState::NotServing(_) => None,
        }
    }

    /// The TLS that connections may be under.
    pub(super) fn tls(&self) -> Vec<Arc<DownstreamTls>> {
        match &**self.load() {
            InboundState::Serving(snapshot) => snapshot.tls().cloned().collect(),
            InboundState::Waiting | InboundState::NotServing(_) => Vec::new(),
        }
    }

    pub(super) fn mode(&self) -> ServingMode {
        match &**self.load() {
            InboundState::Waiting => ServingMode::Starting,
            InboundState::NotServing(error) => ServingMode::NotServing(error.clone()),
            InboundState::Serving(_) => ServingMode::Serving,
        }
    }

    /// Waits until it is known whether connections are to be taken.
    pub(super) async fn settled(&self) {
        loop {
            let changed = self.changed();
            if !matches!(&**self.load(), InboundState::Waiting) {
                return;
            }
            changed.await;
        }
    }

    /// Resolves at the next change after this call.
    pub(super) fn changed(&self) -> impl Future<Output = ()> {
        let switched = self.switched.notified();
        let listener = self.listener.as_ref().map(Inbound::changed);
        async move {
            match listener {
                Some(listener) => tokio::select! {
                    () = switched => {}
                    () = listener => {}
                },
                None => switched.await,
            }
        }
    }

    /// Decides what is in force. `overdue`: the time is over in which the listener should have
    /// arrived.
    pub(super) fn decide(&self, overdue: bool) {
        let (Some(listener), Some(_)) = (&self.listener, &self.fixed) else {
            return;
        };
        let use_fixed = match &**listener.load() {
            InboundState::Serving(_) => {
                self.arrived.store(true, Ordering::Relaxed);
                false
            }
            _ if self.arrived.load(Ordering::Relaxed) => false,
            InboundState::Waiting => overdue,
            InboundState::NotServing(error) => match error.kind {
                SourceErrorKind::DoesNotExist | SourceErrorKind::NotSent => true,
                SourceErrorKind::Unreachable | SourceErrorKind::Transient => overdue,
                SourceErrorKind::Invalid | SourceErrorKind::Lost => false,
            },
        };
        if self.use_fixed.swap(use_fixed, Ordering::AcqRel) != use_fixed {
            self.switched.notify_waiters();
        }
    }
}

impl Readiness for Follow {
    fn status(&self) -> TargetStatus {
        self.in_force().status()
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.settled())
    }
}
