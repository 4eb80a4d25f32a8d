//! Decides about requests of connections that are not carried here.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use http::{Request, StatusCode, request::Parts};
use mesh_core::{
    Code, Mesh, Semantics,
    filter::Reply,
    identity::Peer,
    resolve::{Ends, InboundChain, InboundState, Readiness},
    telemetry::Cause,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Form, Handover, LocalAddress, OnMissing, Recorded, Said, ServeError, ServingMode, deadline,
    dispatch::{Decision, Known, carrying},
    follow::Follow,
    handling::NotServed,
    upgrade::{self, Asked},
};
use crate::wrap::PeerInfo;

/// What a layer follows: the listener of an address.
pub(crate) struct Inspector {
    number: u64,
    follow: Arc<Follow>,
    address: SocketAddr,
    semantics: Semantics,
    _registration: Option<mesh_core::Registration>,
}

/// What an inspector has found out for one connection.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Option<(u64, Known)>>);

/// What becomes of a request.
pub(crate) enum Ruling<B> {
    Admit(Request<B>),
    NotServed(NotServed),
    /// It is not understood, so that the next one on an HTTP/1.1 connection would not be either.
    Refuse(Reply),
    Wait(BoxFuture<'static, Result<Request<B>, NotServed>>),
}

// === impl Inspector ===

impl Inspector {
    /// Follows the listener of `address`.
    pub(crate) fn open(
        mesh: &Mesh,
        address: SocketAddr,
        semantics: Semantics,
    ) -> Result<Self, ServeError> {
        if mesh.bootstrap().server_listener_name(address).is_none() {
            return Err(ServeError::NoListener { address });
        }
        let missing = OnMissing::NotServing;
        let at = LocalAddress::Tcp(address);
        let follow = Arc::new(Follow::new(mesh, &at, semantics, None, &missing, &[])?);
        let registration = mesh.register(Arc::downgrade(&follow) as _);
        Ok(Self::new(follow, address, semantics, Some(registration)))
    }

    /// Follows what the connections of `handover` do.
    pub(crate) fn of(handover: &Handover, semantics: Semantics) -> Self {
        let follow = Arc::clone(handover.follow());
        Self::new(follow, handover.address(), semantics, None)
    }

    fn new(
        follow: Arc<Follow>,
        address: SocketAddr,
        semantics: Semantics,
        registration: Option<mesh_core::Registration>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            follow,
            address,
            semantics,
            _registration: registration,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn mode(&self) -> ServingMode {
        self.follow.mode()
    }

    /// Waits until there is something to follow, or it is known that there is not.
    pub(crate) async fn settled(&self) {
        Readiness::settled(&*self.follow).await;
    }

    /// Until when the sender of a request waits.
    pub(crate) fn deadline(&self, form: Form, said: &Said<'_>) -> Result<Option<Instant>, Reply> {
        deadline::read(self.semantics, form, said)
    }

    /// What becomes of a request of `info`'s connection, whose peer is in its extensions.
    pub(crate) fn rule<B: Send + 'static>(
        self: &Arc<Self>,
        request: Request<B>,
        info: &PeerInfo,
        recorded: &mut Recorded,
    ) -> Ruling<B> {
        let (mut head, body) = request.into_parts();
        let asked = upgrade::asked(&mut head);
        match self.decide(&mut head, &asked, info, recorded) {
            Some(decision) => rest(decision, head, body),
            None => {
                let (me, info) = (Arc::clone(self), info.clone());
                Ruling::Wait(Box::pin(async move {
                    me.follow.settled().await;
                    let unsettled = || Decision::Reply(not_serving());
                    // A request that comes before there is a listener is not recorded.
                    let decision = me
                        .decide(&mut head, &asked, &info, &mut Recorded::default())
                        .unwrap_or_else(unsettled);
                    match rest(decision, head, body) {
                        Ruling::Admit(request) => Ok(request),
                        Ruling::NotServed(why) => Err(why),
                        Ruling::Refuse(reply) => Err(NotServed::Reply(reply)),
                        Ruling::Wait(rest) => rest.await,
                    }
                }))
            }
        }
    }

    /// `None`: there is no configuration yet.
    fn decide(
        &self,
        head: &mut Parts,
        asked: &Asked,
        info: &PeerInfo,
        recorded: &mut Recorded,
    ) -> Option<Decision> {
        let peer = info.peer();
        let ends = self.ends(peer);
        let mut slot = info.slot().0.lock();
        let known = match &mut *slot {
            Some((number, known)) if *number == self.number => {
                known.refresh(&self.follow, ends);
                // Only a connection that was told to go is treated as it was before.
                if !info.is_registered() && self.follow.chain(ends).is_none() {
                    return Some(Decision::Reply(not_serving()));
                }
                known
            }
            other => {
                let state = Arc::clone(&self.follow.load());
                let chain = match &*state {
                    InboundState::Waiting => return None,
                    InboundState::NotServing(_) => None,
                    InboundState::Serving(snapshot) => snapshot.chain(ends).cloned(),
                };
                let Some(chain) = chain else {
                    return Some(Decision::Reply(not_serving()));
                };
                let (_, known) = other.insert((
                    self.number,
                    Known::new(state, chain, self.follow.recording(self.semantics, peer)),
                ));
                known
            }
        };
        if let Some(lack) = lack(known.chain(), peer) {
            return Some(Decision::Reply(insecure(lack)));
        }
        let read = known.read(head, &Said::by(&head.headers));
        Some(known.decide(head, asked, read, peer, &self.follow, recorded))
    }

    /// The ends of a peer's connection. What is not known of them is nobody's address: it is in no
    /// range but that of all.
    fn ends(&self, peer: &Peer) -> Ends {
        let local = peer.local.unwrap_or(self.address);
        let nobody: IpAddr = match local {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let peer = peer.address.unwrap_or(SocketAddr::new(nobody, 0));
        Ends { peer, local }
    }
}

fn rest<B: Send + 'static>(decision: Decision, head: Parts, body: B) -> Ruling<B> {
    match decision {
        Decision::Admit(change) => Ruling::Admit(carrying(change, head, body)),
        Decision::Reply(reply) => Ruling::NotServed(NotServed::Reply(reply)),
        Decision::Answer(answer) => Ruling::NotServed(NotServed::Answer(answer)),
        Decision::Refuse(reply) => Ruling::Refuse(reply),
        Decision::Wait(waiting) => Ruling::Wait(Box::pin(waiting.rest(head, body))),
    }
}

/// What the listener wants of connections, and this peer's lacks.
fn lack(chain: &InboundChain, peer: &Peer) -> Option<&'static str> {
    let wanted = chain.tls()?;
    match &peer.tls {
        None => Some("the listener wants TLS, and nothing says that the connection has it"),
        Some(tls) if wanted.require_client_certificate && tls.certificate.is_none() => {
            Some("the listener wants a certificate, and nothing says that the peer has one")
        }
        Some(_) => None,
    }
}

fn insecure(lack: &'static str) -> Reply {
    tracing::debug!("a request was refused: {lack}; is it a connection of MeshListener?");
    Reply {
        http: StatusCode::FORBIDDEN,
        grpc: Code::PermissionDenied,
        message: Cow::Borrowed(lack),
        cause: Cause::Denied,
    }
}

/// No listener, or no filter chain, is there for the connection.
fn not_serving() -> Reply {
    Reply {
        http: StatusCode::SERVICE_UNAVAILABLE,
        grpc: Code::Unavailable,
        message: Cow::Borrowed("no listener or filter chain takes the connection"),
        cause: Cause::NoRoute,
    }
}
