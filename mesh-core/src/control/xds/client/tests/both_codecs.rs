//! Both variants of the protocol through the same random history: watchers see the same, and the
//! same is known.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{any, *};
use crate::{
    bootstrap::ServerConfig,
    control::{SourceError, xds::dump::ResourceDump},
    runtime::{Limits, SideCall, SideCallFuture},
    testing::{ControlPlane, Corruption},
};
use http::HeaderMap;

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
    /// The stream breaks in the middle of what it says.
    Break,
    /// The control plane that is asked first is gone.
    Stop,
    /// And back.
    Start,
    /// Everything comes to rest.
    Settle,
}

/// A client under one variant, and its control planes.
struct Side {
    control_plane: ControlPlane,
    backup: Option<ControlPlane>,
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

/// What the control plane that is asked second has in place of a content, so that it shows.
const OF_BACKUP: u8 = 100;

/// Reaches the one that is asked first, or the other.
#[derive(Debug)]
struct Either([Arc<dyn SideCall>; 2]);

impl SideCall for Either {
    fn stream(
        &self,
        server: &ServerConfig,
        path: &'static str,
        metadata: HeaderMap,
        limits: Limits,
    ) -> SideCallFuture {
        let [first, second] = &self.0;
        let of = if server.uri == BACKUP { second } else { first };
        of.stream(server, path, metadata, limits)
    }
}

const BACKUP: &str = "backup.test:1";

impl Side {
    fn new(delta: bool, fail_on_data_errors: bool, has_backup: bool) -> Self {
        let plane = || {
            let plane = ControlPlane::in_memory();
            plane.set_delta(delta);
            plane
        };
        let control_plane = plane();
        let backup = has_backup.then(plane);
        let mut bootstrap = control_plane.bootstrap("node");
        bootstrap.servers[0].features.fail_on_data_errors = fail_on_data_errors;
        let mut side_call = control_plane.side_call();
        if let Some(backup) = &backup {
            let mut second = bootstrap.servers[0].clone();
            second.uri = BACKUP.into();
            bootstrap.servers.push(second);
            side_call = Arc::new(Either([side_call, backup.side_call()]));
        }
        let client = XdsClient::new(
            Arc::new(bootstrap),
            Arc::new(FakeDecode),
            side_call,
            XdsOptions::default(),
        );
        Self {
            control_plane,
            backup,
            client,
            watches: BTreeMap::new(),
            begun: 0,
            seen: BTreeMap::new(),
        }
    }

    async fn step(&mut self, step: &Step) {
        let put = |kind: Kind, name: u8, content: String| {
            let name = name.to_string();
            let resource = any(kind, &name, &content);
            self.control_plane.set_any(kind, &name, resource);
            if let Some(backup) = &self.backup {
                let resource = any(kind, &name, &format!("{content}{OF_BACKUP}"));
                backup.set_any(kind, &name, resource);
            }
        };
        match step {
            Step::Watch(kind, name) => {
                // Whether what was just put comes before the watch is chance where streams of two
                // servers bring it.
                if self.backup.is_some() {
                    self.settle(Duration::from_secs(60)).await;
                }
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
                for plane in [Some(&self.control_plane), self.backup.as_ref()] {
                    plane.map(|plane| plane.remove(*kind, &name.to_string()));
                }
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
            Step::Break => self.control_plane.drop_streams(),
            Step::Stop => {
                self.settle(Duration::from_secs(60)).await;
                self.control_plane.stop().await;
                self.settle(Duration::from_secs(300)).await;
            }
            Step::Start => {
                self.settle(Duration::from_secs(60)).await;
                self.control_plane.restart().await;
                // Longer than any pause between attempts.
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
                        Event::Ambient(error) => Told::Ambient(told_of(error)),
                        Event::Gone(error) => Told::Gone(told_of(error)),
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

/// That there is no such resource is said under delta, and is what silence means under state of the
/// world.
fn told_of(error: &SourceError) -> SourceErrorKind {
    match error.kind {
        SourceErrorKind::NotSent => SourceErrorKind::DoesNotExist,
        kind => kind,
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    let name = || 0..NAMES;
    prop_oneof![
        4 => (kind(), name()).prop_map(|(kind, name)| Step::Watch(kind, name)),
        2 => (0..8_u8).prop_map(Step::Unwatch),
        5 => (kind(), name(), 0..3_u8).prop_map(|(kind, name, to)| Step::Put(kind, name, to)),
        2 => (kind(), name(), 0..2_u8).prop_map(|(kind, name, to)| Step::PutBad(kind, name, to)),
        2 => (kind(), name()).prop_map(|(kind, name)| Step::Remove(kind, name)),
        1 => (kind(), name()).prop_map(|(kind, name)| Step::Duplicate(kind, name)),
        2 => Just(Step::Disconnect),
        1 => Just(Step::Stop),
        2 => Just(Step::Start),
        6 => Just(Step::Settle),
    ]
}

/// As [`step`], with streams that break while something is on its way.
fn broken_step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => step(), 1 => Just(Step::Break)]
}

const NAMES: u8 = 3;

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future);
}

/// At the same time: each side has its own, but time is one.
async fn both([sotw, delta]: &mut [Side; 2], step: &Step) {
    tokio::join!(sotw.step(step), delta.step(step));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_has_the_same_end(
        fail_on_data_errors: bool,
        has_backup: bool,
        steps in prop::collection::vec(step(), 1..50),
    ) {
        run(async {
            let side = |delta| Side::new(delta, fail_on_data_errors, has_backup);
            let mut sides = [false, true].map(side);
            for step in steps.iter().chain([&Step::Settle]) {
                both(&mut sides, step).await;
                use Step::*;
                if matches!(step, Settle | Stop | Start | Disconnect) {
                    let [sotw, delta] = &sides;
                    assert_eq!(sotw.known().await, delta.known().await);
                    assert_eq!(sotw.seen, delta.seen);
                }
            }
        });
    }

    /// What arrives of a stream that breaks is chance, and so is what is known of what was deleted
    /// meanwhile. Once everything is there and well, everybody has it.
    #[test]
    fn whatever_breaks_the_end_is_the_same(
        fail_on_data_errors: bool,
        has_backup: bool,
        steps in prop::collection::vec(broken_step(), 1..50),
    ) {
        run(async {
            let side = |delta| Side::new(delta, fail_on_data_errors, has_backup);
            let mut sides = [false, true].map(side);
            for step in &steps {
                both(&mut sides, step).await;
            }
            let all = Kind::ALL.into_iter().flat_map(|kind| (0..NAMES).map(move |name| (kind, name)));
            for (kind, name) in all {
                both(&mut sides, &Step::Put(kind, name, 9)).await;
            }
            both(&mut sides, &Step::Start).await;
            let [sotw, delta] = &sides;
            assert_eq!(sotw.known().await, delta.known().await);
            for side in &sides {
                for watch in side.watches.keys() {
                    let seen = side.seen.get(watch).and_then(|seen| seen.last());
                    assert_eq!(seen, Some(&Told::Update("9".into())));
                }
            }
        });
    }
}
