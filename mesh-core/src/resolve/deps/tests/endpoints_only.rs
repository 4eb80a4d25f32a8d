//! Where endpoints alone have changed, the rest is taken over: to the same end as if all had been
//! looked at.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Something that happens to one of a few resources.
#[derive(Debug, Clone)]
enum Step {
    Routes(Vec<&'static str>),
    /// A cluster with endpoints of this name.
    Eds(&'static str, &'static str),
    Aggregate(&'static str, Vec<&'static str>),
    Endpoints(&'static str, usize),
    Trouble(Kind, &'static str),
    Gone(Kind, &'static str),
    Settle,
}

const CLUSTERS: [&str; 3] = ["a", "b", "c"];

fn with_discovery(name: &str, discovery: Discovery) -> Resource {
    let Resource::Cluster(cluster) = cluster(name) else {
        unreachable!("it is one");
    };
    let cluster = Cluster::clone(&cluster);
    Resource::Cluster(Arc::new(Cluster {
        discovery,
        ..cluster
    }))
}

impl Step {
    /// `None`: all news so far is to be judged.
    fn news(&self) -> Option<(ResourceId, Event)> {
        let name_of = |kind: Kind, name: &str| match kind {
            Kind::Listener => TARGET.to_owned(),
            Kind::Route => "r".to_owned(),
            Kind::Endpoints => format!("eds-{name}"),
            Kind::Cluster | Kind::Secret => name.to_owned(),
        };
        let update = |kind, name: &str, value| Some((id(kind, name), Event::Update(value)));
        match self {
            Self::Routes(clusters) => update(Kind::Route, "r", routes("r", clusters)),
            Self::Eds(name, endpoints) => {
                let eds = Discovery::Eds(format!("eds-{endpoints}").into());
                update(Kind::Cluster, name, with_discovery(name, eds))
            }
            Self::Aggregate(name, leaves) => {
                let leaves = leaves.iter().map(|&leaf| leaf.into()).collect();
                let aggregate = with_discovery(name, Discovery::Aggregate(leaves));
                update(Kind::Cluster, name, aggregate)
            }
            Self::Endpoints(name, drops) => {
                let eds = name_of(Kind::Endpoints, name);
                update(Kind::Endpoints, &eds, endpoints(name, *drops))
            }
            Self::Trouble(kind, name) => {
                let id = id(*kind, &name_of(*kind, name));
                Some((id, Event::Ambient(unreachable())))
            }
            Self::Gone(kind, name) => {
                let id = id(*kind, &name_of(*kind, name));
                Some((id, Event::Gone(missing())))
            }
            Self::Settle => None,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let name = || select(&CLUSTERS[..]);
    let names = || vec(name(), 1..4);
    let kind = || {
        select(vec![
            Kind::Listener,
            Kind::Route,
            Kind::Cluster,
            Kind::Endpoints,
        ])
    };
    prop_oneof![
        2 => names().prop_map(Step::Routes),
        2 => (name(), name()).prop_map(|(cluster, of)| Step::Eds(cluster, of)),
        1 => (name(), names()).prop_map(|(cluster, of)| Step::Aggregate(cluster, of)),
        6 => (name(), 0..3_usize).prop_map(|(of, drops)| Step::Endpoints(of, drops)),
        1 => (kind(), name()).prop_map(|(kind, name)| Step::Trouble(kind, name)),
        1 => (kind(), name()).prop_map(|(kind, name)| Step::Gone(kind, name)),
        4 => Just(Step::Settle),
    ]
}

proptest! {
    #[test]
    fn the_end_is_as_if_all_had_been_looked_at(steps in vec(step(), 1..60)) {
        let all = || Fixture::settled(&CLUSTERS).0;
        let (mut ours, mut thorough) = (all(), all());
        for step in steps {
            if let Some((id, event)) = step.news() {
                ours.handle(&id, event.clone());
                thorough.handle(&id, event);
                continue;
            }
            thorough.news = News::Any;
            prop_assert_eq!(ours.settle(), thorough.settle());
            let wanted = |deps: &Dependencies| deps.wanted().cloned().collect::<Vec<_>>();
            prop_assert_eq!(wanted(&ours), wanted(&thorough));
        }
    }
}

#[test]
fn what_has_not_changed_is_the_same() {
    let mut deps = Fixture::settled(&["a", "b"]);
    let before = deps.config();
    let revision = deps.0.slots.revision();
    let after = deps.update(Kind::Endpoints, "eds-a", endpoints("a", 1));
    let after = after.expect("a configuration").expect("not an error");
    let endpoints_of = |config: &TargetConfig, name: &str| {
        let cluster = config.clusters[name].as_ref().expect("it is known");
        Arc::clone(&cluster.endpoints)
    };
    assert_eq!(endpoints_of(&after, "a").drops.len(), 1);
    assert!(Arc::ptr_eq(
        &endpoints_of(&after, "b"),
        &endpoints_of(&before, "b")
    ));
    assert!(Arc::ptr_eq(&after.routes, &before.routes));
    assert_eq!(
        deps.0.slots.revision(),
        revision,
        "nothing else was looked at"
    );
    // The same once more is no news.
    let again = deps.update(Kind::Endpoints, "eds-a", endpoints("a", 1));
    assert!(Arc::ptr_eq(
        &again.expect("a configuration").expect("not an error"),
        &after
    ));
}
