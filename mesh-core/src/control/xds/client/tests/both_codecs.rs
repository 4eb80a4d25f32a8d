//! Both variants of the protocol through the same random history: watchers see the same, and the
//! same is known.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{any, *};
use crate::{
    control::xds::dump::ResourceDump,
    testing::{ControlPlane, Corruption},
};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Watch(Kind, u8),
    /// Ends one of the running watches.
    Unwatch(u8),
    Put(Kind, u8, u8),
    /// Something that is refused.
    PutBad(Kind, u8, u8),
    Remove(Kind, u8),
    /// The same resource twice.
    Duplicate(Kind, u8),
    Disconnect,
    /// The control plane is gone for a while.
    Stop,
    /// Everything comes to rest.
    Settle,
}

/// A client under one variant, and its control plane.
struct Side {
    control_plane: ControlPlane,
    client: Arc<XdsClient>,
    watches: BTreeMap<usize, Watching>,
    begun: usize,
    /// What each watcher was told, without repetitions.
    seen: BTreeMap<usize, Vec<Told>>,
}

struct Watching {
    _watch: Watch,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Update(String),
    Ambient(SourceErrorKind),
    Gone(SourceErrorKind),
}

impl Side {
    fn new(delta: bool, fail_on_data_errors: bool) -> Self {
        let control_plane = ControlPlane::in_memory();
        control_plane.set_delta(delta);
        let mut bootstrap = control_plane.bootstrap("node");
        bootstrap.servers[0].features.fail_on_data_errors = fail_on_data_errors;
        let client = XdsClient::new(
            Arc::new(bootstrap),
            Arc::new(FakeDecode),
            control_plane.side_call(),
            XdsOptions::default(),
        );
        Self {
            control_plane,
            client,
            watches: BTreeMap::new(),
            begun: 0,
            seen: BTreeMap::new(),
        }
    }

    async fn step(&mut self, step: &Step) {
        let put = |kind: Kind, name: u8, content: String| {
            let name = name.to_string();
            let any = any(kind, &name, &content);
            self.control_plane.set_any(kind, name, any);
        };
        match step {
            Step::Watch(kind, name) => {
                let (inbox, deliveries) = mpsc::unbounded_channel();
                let id = ResourceId::new(*kind, name.to_string());
                let watching = Watching {
                    _watch: self.client.watch(id, inbox),
                    deliveries,
                };
                self.watches.insert(self.begun, watching);
                self.begun += 1;
            }
            Step::Unwatch(index) => {
                let key = self.watches.keys().nth(usize::from(*index)).copied();
                if let Some(key) = key {
                    self.watches.remove(&key);
                }
            }
            Step::Put(kind, name, content) => put(*kind, *name, content.to_string()),
            Step::PutBad(kind, name, content) => put(*kind, *name, format!("!{content}")),
            Step::Remove(kind, name) => {
                self.control_plane.remove(*kind, &name.to_string());
            }
            Step::Duplicate(kind, name) => {
                put(*kind, *name, "twice".into());
                let name = name.to_string();
                self.control_plane
                    .corrupt(*kind, &name, Corruption::Duplicated);
            }
            Step::Disconnect => {
                // What is on its way when a stream ends arrives or not, by chance.
                self.settle(Duration::from_secs(60)).await;
                self.control_plane.drop_streams();
                self.settle(Duration::from_secs(600)).await;
            }
            Step::Stop => {
                self.settle(Duration::from_secs(60)).await;
                self.control_plane.stop().await;
                // Longer than any pause between attempts.
                self.settle(Duration::from_secs(300)).await;
                self.control_plane.restart().await;
                self.settle(Duration::from_secs(600)).await;
            }
            Step::Settle => self.settle(Duration::from_secs(60)).await,
        }
    }

    /// Lets everything come to rest, while watchers process at once what they are told.
    async fn settle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for (key, watching) in &mut self.watches {
                while let Ok(delivery) = watching.deliveries.try_recv() {
                    let told = match &delivery.event {
                        Event::Update(resource) => Told::Update(content(resource)),
                        Event::Ambient(error) => Told::Ambient(error.kind),
                        Event::Gone(error) => Told::Gone(error.kind),
                    };
                    let seen = self.seen.entry(*key).or_default();
                    if seen.last() != Some(&told) {
                        seen.push(told);
                    }
                }
            }
        }
    }

    /// What is known, without versions, times and texts.
    async fn known(&self) -> Vec<(ResourceId, ResourceStatus, Option<Vec<u8>>, bool)> {
        let resources = self.client.dump().await.resources.into_iter();
        resources
            .map(|resource| {
                let ResourceDump {
                    id,
                    status,
                    accepted,
                    failure,
                    ..
                } = resource;
                let value = accepted.map(|accepted| accepted.raw.value.clone());
                (id, status, value, failure.is_some())
            })
            .collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    let name = || 0..3_u8;
    prop_oneof![
        4 => (kind(), name()).prop_map(|(kind, name)| Step::Watch(kind, name)),
        2 => (0..8_u8).prop_map(Step::Unwatch),
        5 => (kind(), name(), 0..3_u8).prop_map(|(kind, name, to)| Step::Put(kind, name, to)),
        2 => (kind(), name(), 0..2_u8).prop_map(|(kind, name, to)| Step::PutBad(kind, name, to)),
        2 => (kind(), name()).prop_map(|(kind, name)| Step::Remove(kind, name)),
        1 => (kind(), name()).prop_map(|(kind, name)| Step::Duplicate(kind, name)),
        2 => Just(Step::Disconnect),
        1 => Just(Step::Stop),
        6 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_has_the_same_end(
        fail_on_data_errors: bool,
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut sides = [false, true].map(|delta| Side::new(delta, fail_on_data_errors));
            for step in steps.iter().chain([&Step::Settle]) {
                // At the same time: each has its own, but time is one.
                let [sotw, delta] = &mut sides;
                tokio::join!(sotw.step(step), delta.step(step));
                if matches!(step, Step::Settle | Step::Stop | Step::Disconnect) {
                    let [sotw, delta] = &sides;
                    assert_eq!(sotw.known().await, delta.known().await);
                    assert_eq!(sotw.seen, delta.seen);
                }
            }
        });
    }
}
