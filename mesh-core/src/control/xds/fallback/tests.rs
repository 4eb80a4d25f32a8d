//! What is asked of whom, and what the target is told.

use super::*;
use crate::{
    config::Kind,
    control::xds::testing::{content, value},
};

/// A target that watches through a [`Fallback`]; records what comes of it.
struct Target {
    fallback: Fallback,
    asked: std::collections::BTreeSet<(usize, ResourceId)>,
    told: Vec<(String, String)>,
}

impl Target {
    fn of(servers: usize) -> Self {
        Self::new(Fallback::new(servers, false))
    }

    fn new(fallback: Fallback) -> Self {
        Self {
            fallback,
            asked: Default::default(),
            told: Vec::new(),
        }
    }

    fn watch(&mut self, name: &str) {
        let actions = self.fallback.watch(&id(name));
        self.act(actions);
    }

    fn unwatch(&mut self, name: &str) {
        let actions = self.fallback.unwatch(&id(name));
        self.act(actions);
    }

    fn news(&mut self, server: usize, name: &str, event: Event) {
        let actions = self.fallback.news(server, &id(name), event);
        self.act(actions);
    }

    fn sends(&mut self, server: usize, name: &str, text: &str) {
        self.news(server, name, update(name, text));
    }

    fn is_down(&mut self, server: usize, names: &[&str]) {
        for name in names {
            self.news(server, name, unreachable(server));
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Ask(server, id) => {
                    assert!(self.asked.insert((server, id.clone())), "{id} asked twice");
                }
                Action::Leave(server, id) => {
                    assert!(self.asked.remove(&(server, id.clone())), "{id} not asked");
                }
                Action::Tell(id, event) => {
                    let text = match event {
                        Event::Update(value) => content(&value),
                        Event::Ambient(error) => format!("ambient: {}", error.text),
                        Event::Gone(error) => format!("gone: {}", error.text),
                    };
                    self.told.push((id.name.to_string(), text));
                }
            }
        }
    }

    /// What the target was told since this was asked last.
    #[track_caller]
    fn expect(&mut self, told: &[(&str, &str)]) {
        let are: Vec<_> = self.told.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(are, told);
        self.told.clear();
    }

    /// The names asked of `server`.
    fn asked_of(&self, server: usize) -> Vec<&str> {
        let of = |(at, id): &'_ (usize, ResourceId)| *at == server && !id.name.is_empty();
        let asked = self.asked.iter().filter(|asked| of(asked));
        asked.map(|(_, id)| &*id.name).collect()
    }
}

fn id(name: &str) -> ResourceId {
    ResourceId::new(Kind::Cluster, name)
}

fn update(name: &str, text: &str) -> Event {
    Event::Update(value(Kind::Cluster, name, text))
}

fn unreachable(server: usize) -> Event {
    Event::Ambient(SourceError {
        kind: SourceErrorKind::Unreachable,
        text: format!("server {server} is down").into(),
    })
}

/// The server is within reach, and was silent about it for too long (gRFC A88).
fn silent() -> Event {
    Event::Ambient(SourceError {
        kind: SourceErrorKind::Transient,
        text: "not sent".into(),
    })
}

fn absent() -> Event {
    Event::Gone(SourceError {
        kind: SourceErrorKind::DoesNotExist,
        text: "none".into(),
    })
}

fn refused() -> Event {
    Event::Ambient(SourceError {
        kind: SourceErrorKind::Invalid,
        text: "bad".into(),
    })
}

#[test]
fn one_server_is_passed_through() {
    let mut target = Target::of(1);
    target.watch("a");
    target.is_down(0, &["a"]);
    target.sends(0, "a", "1");
    target.news(0, "a", refused());
    target.news(0, "a", absent());
    target.expect(&[
        ("a", "ambient: server 0 is down"),
        ("a", "1"),
        ("a", "ambient: bad"),
        ("a", "gone: none"),
    ]);
    target.unwatch("a");
    assert!(target.asked.is_empty());
}

#[test]
fn on_startup_the_second_server_is_asked_once_the_first_is_out_of_reach() {
    let mut target = Target::of(2);
    target.watch("a");
    target.watch("b");
    assert_eq!(target.asked_of(1), [""; 0]);
    target.is_down(0, &["a", "b"]);
    assert_eq!(target.asked_of(0), ["a", "b"]);
    assert_eq!(target.asked_of(1), ["a", "b"]);
    target.expect(&[]);
    target.sends(1, "a", "1");
    target.watch("c");
    assert_eq!(target.asked_of(1), ["a", "b", "c"]);
    target.expect(&[("a", "1")]);
}

#[test]
fn nothing_is_asked_of_the_second_server_while_all_is_cached() {
    let mut target = Target::of(2);
    target.watch("a");
    target.watch("b");
    target.sends(0, "a", "1");
    // What does not exist is known, too.
    target.news(0, "b", absent());
    target.is_down(0, &["a"]);
    assert_eq!(target.asked_of(1), [""; 0]);
    target.expect(&[
        ("a", "1"),
        ("b", "gone: none"),
        ("a", "ambient: server 0 is down"),
    ]);
    // Something new is not.
    target.watch("c");
    target.is_down(0, &["c"]);
    assert_eq!(target.asked_of(1), ["a", "b", "c"]);
    target.expect(&[]);
}

#[test]
fn reachability_alone_is_enough_where_the_authority_says_so() {
    let mut target = Target::new(Fallback::new(2, true));
    target.watch("a");
    target.sends(0, "a", "1");
    target.is_down(0, &["a"]);
    assert_eq!(target.asked_of(1), ["a"]);
    target.sends(1, "a", "2");
    target.expect(&[("a", "1"), ("a", "2")]);
}

#[test]
fn what_the_second_server_does_not_have_stays_as_the_first_sent_it() {
    let mut target = Target::of(2);
    target.watch("a");
    target.watch("b");
    target.sends(0, "a", "1");
    target.is_down(0, &["a", "b"]);
    target.news(1, "a", absent());
    target.news(1, "b", absent());
    target.expect(&[("a", "1"), ("a", "ambient: none"), ("b", "gone: none")]);
    // What it sent itself it may take away.
    target.sends(1, "a", "2");
    target.news(1, "a", absent());
    target.expect(&[("a", "2"), ("a", "gone: none")]);
}

#[test]
fn a_server_that_answers_again_speaks_for_everything() {
    let mut target = Target::of(2);
    for name in ["a", "b", "c"] {
        target.watch(name);
    }
    target.sends(0, "a", "1");
    target.sends(0, "b", "1");
    target.is_down(0, &["a", "b", "c"]);
    target.sends(1, "a", "2");
    target.sends(1, "c", "2");
    target.told.clear();

    target.sends(0, "b", "3");
    assert_eq!(target.asked_of(1), [""; 0]);
    assert_eq!(target.asked_of(0), ["a", "b", "c"]);
    // `c` keeps what the second server sent until the first one sends its own.
    target.expect(&[("a", "1"), ("b", "3")]);
    target.sends(0, "c", "3");
    target.expect(&[("c", "3")]);
    // What was under way from the second server comes too late.
    target.sends(1, "a", "4");
    target.expect(&[]);
}

#[test]
fn what_the_first_server_refuses_to_exist_does_not_take_away_what_works() {
    let mut target = Target::of(2);
    target.watch("a");
    target.is_down(0, &["a"]);
    target.sends(1, "a", "2");
    target.news(0, "a", absent());
    assert_eq!(target.asked_of(1), [""; 0]);
    target.expect(&[("a", "2"), ("a", "ambient: none")]);
}

#[test]
fn a_refused_resource_is_an_answer() {
    let mut target = Target::of(2);
    target.watch("a");
    target.sends(0, "a", "1");
    target.watch("b");
    target.is_down(0, &["b", "a"]);
    target.sends(1, "b", "2");
    target.told.clear();
    target.news(0, "a", refused());
    assert_eq!(target.asked_of(1), [""; 0]);
    target.expect(&[("a", "ambient: bad")]);
}

#[test]
fn three_servers_are_promoted_one_by_one_and_left_at_once() {
    let mut target = Target::of(3);
    target.watch("a");
    target.is_down(0, &["a"]);
    assert_eq!(target.asked_of(2), [""; 0]);
    target.is_down(1, &["a"]);
    assert_eq!(target.asked_of(2), ["a"]);
    target.sends(2, "a", "3");
    target.sends(1, "a", "2");
    assert_eq!(
        (target.asked_of(1), target.asked_of(2)),
        (vec!["a"], vec![])
    );
    target.sends(0, "a", "1");
    assert_eq!(target.asked.len(), 1);
    target.expect(&[("a", "3"), ("a", "2"), ("a", "1")]);
}

#[test]
fn when_all_are_out_of_reach_the_error_names_all() {
    let mut target = Target::of(2);
    target.watch("a");
    target.is_down(0, &["a"]);
    target.expect(&[]);
    target.is_down(1, &["a"]);
    target.expect(&[("a", "ambient: server 0 is down; server 1 is down")]);
}

#[test]
fn a_second_watch_is_told_what_is_in_force() {
    let mut target = Target::of(2);
    target.watch("a");
    target.sends(0, "a", "1");
    target.watch("a");
    target.expect(&[("a", "1"), ("a", "1")]);
    target.unwatch("a");
    assert_eq!(target.asked.len(), 1);
    target.unwatch("a");
    assert!(target.asked.is_empty());
}

#[test]
fn silence_about_one_resource_is_no_outage() {
    let mut target = Target::of(2);
    target.watch("a");
    target.watch("b");
    target.sends(0, "a", "1");
    target.news(0, "b", silent());
    target.expect(&[("a", "1"), ("b", "ambient: not sent")]);
    assert!(target.asked_of(1).is_empty());
    // Nor is it a reason to return.
    target.is_down(0, &["a", "b"]);
    assert_eq!(target.asked_of(1), ["a", "b"]);
    target.news(0, "b", silent());
    assert_eq!(target.asked_of(1), ["a", "b"]);
    target.sends(1, "b", "2");
    target.expect(&[("b", "2")]);
    // The primary's value is, and `b`, of which it was silent, stays what the backup has sent.
    target.sends(0, "a", "3");
    target.expect(&[("a", "3"), ("b", "ambient: not sent")]);
    assert!(target.asked_of(1).is_empty());
}
