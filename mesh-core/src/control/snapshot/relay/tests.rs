use std::{sync::Arc, time::SystemTime};

use super::*;
use crate::config::{Endpoints, Kind, Resource};

const RELAY: u64 = 1;

fn id() -> ResourceId {
    ResourceId::new(Kind::Endpoints, "c")
}

fn value() -> Event {
    Event::Update(Resource::Endpoints(Arc::new(Endpoints {
        name: "c".into(),
        localities: Vec::new(),
        drops: Vec::new(),
        overprovisioning_factor: 140,
    })))
}

fn error(kind: SourceErrorKind) -> SourceError {
    SourceError {
        kind,
        text: "why".into(),
    }
}

/// What an earlier process left.
fn saved() -> RestsOn {
    RestsOn::Saved(Saved {
        raw: Arc::default(),
        version: "1".into(),
        server: "xds.test:1".into(),
        updated: SystemTime::UNIX_EPOCH,
        confirmed: SystemTime::UNIX_EPOCH,
    })
}

fn resting_on(rests_on: RestsOn) -> Watches {
    let watches = Watches::default();
    watches.enter(RELAY, &id(), rests_on);
    watches
}

const ALL: [SourceErrorKind; 4] = [
    SourceErrorKind::DoesNotExist,
    SourceErrorKind::NotSent,
    SourceErrorKind::Invalid,
    SourceErrorKind::Unreachable,
];

#[test]
fn a_saved_value_outlives_every_trouble_by_default() {
    for kind in ALL {
        for event in [Event::Gone(error(kind)), Event::Ambient(error(kind))] {
            let watches = resting_on(saved());
            let (event, effect) = watches.pass(RELAY, &id(), event, false);
            let Event::Ambient(told) = event else {
                panic!("{event:?}");
            };
            assert_eq!(told.kind, kind);
            assert!(told.text.contains("why; in force is what"), "{told}");
            // The next process does not begin with what the control plane says is not there.
            let expected = match kind {
                SourceErrorKind::DoesNotExist => Effect::Removed,
                _ => Effect::None,
            };
            assert_eq!(effect, expected);
            assert_eq!(watches.rests_on(&id()), saved());
        }
    }
}

#[test]
fn a_strict_control_plane_takes_it_away_if_it_has_spoken() {
    for kind in ALL {
        let watches = resting_on(saved());
        let (event, effect) = watches.pass(RELAY, &id(), Event::Gone(error(kind)), true);
        if kind == SourceErrorKind::Unreachable {
            assert!(matches!(event, Event::Ambient(_)));
            assert_eq!(effect, Effect::None);
            continue;
        }
        assert!(matches!(&event, Event::Gone(told) if *told == error(kind)));
        assert_eq!(effect, Effect::Removed);
        assert_eq!(watches.rests_on(&id()), RestsOn::Nothing);
        // An ambient trouble is none that takes away.
        let watches = resting_on(saved());
        let (event, _) = watches.pass(RELAY, &id(), Event::Ambient(error(kind)), true);
        assert!(matches!(event, Event::Ambient(_)));
        assert_eq!(watches.rests_on(&id()), saved());
    }
}

#[test]
fn what_is_sent_takes_its_place() {
    for before in [saved(), RestsOn::Nothing, RestsOn::Sent] {
        let watches = resting_on(before.clone());
        let (event, effect) = watches.pass(RELAY, &id(), value(), false);
        assert!(matches!(event, Event::Update(_)));
        assert_eq!(effect, Effect::Changed);
        assert_eq!(watches.rests_on(&id()), RestsOn::Sent);
        // From now on, all is as without it.
        for (kind, expected) in [
            (SourceErrorKind::DoesNotExist, Effect::Removed),
            (SourceErrorKind::NotSent, Effect::None),
            (SourceErrorKind::Invalid, Effect::None),
            (SourceErrorKind::Unreachable, Effect::None),
        ] {
            let (event, effect) = watches.pass(RELAY, &id(), Event::Ambient(error(kind)), false);
            assert!(matches!(&event, Event::Ambient(told) if *told == error(kind)));
            assert_eq!(effect, expected);
        }
        let gone = Event::Gone(error(SourceErrorKind::Invalid));
        let (event, effect) = watches.pass(RELAY, &id(), gone, false);
        assert!(matches!(event, Event::Gone(_)));
        assert_eq!(effect, Effect::Removed);
    }
}

#[test]
fn without_a_value_nothing_is_changed() {
    for kind in ALL {
        for event in [Event::Gone(error(kind)), Event::Ambient(error(kind))] {
            let watches = resting_on(RestsOn::Nothing);
            let (after, effect) = watches.pass(RELAY, &id(), event.clone(), true);
            assert_eq!(format!("{after:?}"), format!("{event:?}"));
            assert_eq!(effect, Effect::None);
        }
    }
}

#[test]
fn relays_stand_on_their_own_and_end_with_their_watches() {
    let watches = resting_on(saved());
    watches.enter(2, &id(), saved());
    watches.enter(2, &id(), RestsOn::Nothing);
    let _ = watches.pass(RELAY, &id(), value(), false);
    assert_eq!(watches.rests_on(&id()), RestsOn::Sent);
    let gone = Event::Gone(error(SourceErrorKind::DoesNotExist));
    let (event, _) = watches.pass(2, &id(), gone, false);
    assert!(
        matches!(event, Event::Ambient(_)),
        "the other one rests on what is saved"
    );
    watches.leave(RELAY, &id());
    assert_eq!(watches.rests_on(&id()), saved());
    watches.leave(2, &id());
    assert_eq!(watches.ids(), [id()]);
    watches.leave(2, &id());
    assert!(watches.ids().is_empty());
    // What was under way when the last watch ended changes nothing.
    let (_, effect) = watches.pass(2, &id(), value(), false);
    assert_eq!(effect, Effect::None);
    watches.leave(2, &id());
}
