//! What one call has of its own: `CallOptions`, and the idle times of routes and listeners.

use std::any::Any;

use mesh_core::{
    Context,
    balance::{Group, Pick, PickCx, Policy, PolicySpec},
    config::PolicyConfig,
    control::xds::{
        PolicyDecoder, PolicyRegistry,
        decode::{Extension, FieldError, Message},
    },
    identity::Peer,
};
use prost::Name;
use tokio::time::Instant;

use super::*;

const URL: &str = "http://catalog.shop/";

#[tokio::test]
async fn one_that_waits_for_an_endpoint_gets_it_when_it_comes() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().clear_endpoints().apply();
        let error = within(world.client.get(URL).send()).await.unwrap_err();
        assert!(error.is_no_endpoint(), "{protocol:?}: {error}");
        let waits = tokio::spawn(world.client.get(URL).wait_for_ready().send());
        tokio::task::yield_now().await;
        world.service().apply();
        let response = within(waits).await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{protocol:?}");
    }
}

#[tokio::test]
async fn one_that_is_detached_outlives_the_request_that_is_being_handled() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let handled = Context::new(Arc::new(Peer::default()), Some(Instant::now()));
        let late = async { world.client.get(URL).send().await };
        let late = handled.clone().scope(late);
        assert!(within(late).await.unwrap_err().is_timeout(), "{protocol:?}");
        let calls = async { world.client.get(URL).detached().send().await };
        let response = within(handled.scope(calls)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{protocol:?}");
    }
}

#[tokio::test]
async fn nothing_may_happen_for_no_longer_than_the_idle_time() {
    let short = Duration::from_millis(60);
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        let service = world.service().timeout(Duration::ZERO);
        service.idle_timeout(short).apply();
        let error = world.get("/hang/9").await.unwrap_err();
        assert!(
            error.message().contains("idle timeout"),
            "{protocol:?}: {error}"
        );
        assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(error.response_flag(), Some("SI"));
        // Zero: there is no such time, and the other one ends the call.
        let rule = Route::prefix("/")
            .idle_timeout(Duration::ZERO)
            .timeout(short);
        world.service().route(rule).apply().acked().await;
        let error = world.get("/hang/9").await.unwrap_err();
        assert!(
            error.message().contains("deadline"),
            "{protocol:?}: {error}"
        );
    }
}

/// On the wire: `mesh.test.ByHash`.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {}

impl Name for Wire {
    const PACKAGE: &'static str = "mesh.test";
    const NAME: &'static str = "ByHash";
}

static BY_HASH: Message = Message {
    name: "mesh.test.ByHash",
    fields: &[],
};

/// Picks by the key of a call alone.
#[derive(Debug)]
struct ByHash;

#[derive(Debug)]
struct Picker(Arc<Group>);

impl PolicyDecoder for ByHash {
    fn messages(&self) -> &'static [&'static Message] {
        const { &[&BY_HASH] }
    }

    fn decode(&self, _: &str, _: &Extension) -> Result<PolicyConfig, FieldError> {
        Ok(PolicyConfig(Arc::new(ByHash)))
    }
}

impl PolicySpec for ByHash {
    fn name(&self) -> &'static str {
        "by_hash"
    }

    fn build(&self, group: &Arc<Group>) -> Box<dyn Policy> {
        Box::new(Picker(Arc::clone(group)))
    }

    fn equals(&self, other: &dyn PolicySpec) -> bool {
        (other as &dyn Any).is::<Self>()
    }
}

impl Policy for Picker {
    fn pick(&self, cx: &PickCx<'_>) -> Pick {
        let members = self.0.links().len() as u64;
        let wanted = cx
            .hash
            .and_then(|hash| usize::try_from(hash % members).ok());
        match wanted.filter(|&index| self.0.ready().contains(index)) {
            Some(index) => Pick::Endpoint(index),
            None => Pick::None,
        }
    }
}

#[tokio::test]
async fn the_key_of_a_hash_reaches_the_policy_that_asks_for_it() {
    for protocol in PROTOCOLS {
        let (one, two) = (World::start(protocol).await, World::start(protocol).await);
        let service = one.service().endpoint(two.address).lb_policy(&Wire {});
        service.apply();
        let mesh = Mesh::builder()
            .bootstrap(one.control_plane.bootstrap("hashes"))
            .policies(PolicyRegistry::standard().register(ByHash))
            .build()
            .await
            .unwrap();
        let client = Client::new(&mesh);
        let served = async |key| {
            let call = client.get(URL).hash_key(key).wait_for_ready().send();
            within(call).await.unwrap();
            (one.seen(), two.seen())
        };
        let of_zero = served(0).await;
        assert!(matches!(of_zero, (1, 0) | (0, 1)), "{of_zero:?}");
        for key in 1..7 {
            let same = key % 2 == 0;
            assert_eq!(served(key).await == of_zero, same, "{protocol:?} {key}");
        }
    }
}
