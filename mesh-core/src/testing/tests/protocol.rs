//! The state-of-the-world protocol, without IO.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::google::protobuf::Any;
use proptest::prelude::*;

use super::{NODE, ack as wire_ack, nack as wire_nack, request as wire_request};
use crate::{
    config::Kind,
    testing::{
        Request,
        codec::Answer,
        render::type_url,
        sotw::{Response, Sotw},
        store::{Names, Store},
    },
};

/// A stream between a store and a client that is played by the test.
#[derive(Default)]
struct Stream {
    store: Store,
    codec: Sotw,
}

impl Stream {
    fn put(&mut self, kind: Kind, name: &str, value: u8) {
        let any = Any {
            type_url: type_url(kind).to_owned(),
            value: vec![value],
        };
        self.store.put(&None, type_url(kind), name.to_owned(), any);
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.store.remove(&None, type_url(kind), name);
    }

    fn subscribe(&mut self, kind: Kind, names: &[&str]) {
        let request = Request::new(1, NODE, wire_request(kind, names));
        assert_eq!(self.codec.request(&request), Answer::None);
    }

    fn ack(&mut self, response: &Response, names: &[&str]) -> Answer {
        let request = wire_ack(&on_wire(response), names);
        self.codec.request(&Request::new(1, NODE, request))
    }

    fn nack(&mut self, response: &Response, names: &[&str]) -> Answer {
        let request = wire_nack(&on_wire(response), names, "no");
        self.codec.request(&Request::new(1, NODE, request))
    }

    fn next(&mut self) -> Option<Response> {
        let due = self.codec.is_due(&self.store, NODE);
        let response = self.codec.respond(&self.store, NODE);
        assert_eq!(due, response.is_some());
        response
    }

    /// The values that the next response carries.
    fn values(&mut self) -> Vec<u8> {
        let response = self.next().expect("a response is due");
        response.resources.iter().map(|any| any.value[0]).collect()
    }
}

fn on_wire(response: &Response) -> super::DiscoveryResponse {
    super::DiscoveryResponse {
        version_info: response.version.to_string(),
        type_url: response.type_url.clone(),
        nonce: response.nonce.clone(),
        ..Default::default()
    }
}

#[test]
fn a_new_name_is_fresh_until_the_client_has_answered() {
    let mut stream = Stream::default();
    stream.put(Kind::Endpoints, "a", 1);
    let is_fresh = |stream: &Stream| {
        let subscription = stream.codec.subscription(type_url(Kind::Endpoints));
        subscription.expect("is subscribed").is_fresh()
    };
    stream.subscribe(Kind::Endpoints, &["a"]);
    let first = stream.next().unwrap();
    assert!(is_fresh(&stream));
    stream.ack(&first, &["a"]);
    assert!(!is_fresh(&stream));
    // The version is the same as before: only the nonce tells that this one is accepted.
    stream.ack(&first, &["a", "b"]);
    assert!(is_fresh(&stream));
    let second = stream.next().unwrap();
    assert_eq!(second.version, first.version);
    assert!(is_fresh(&stream));
    stream.nack(&second, &["a", "b"]);
    assert!(!is_fresh(&stream));
}

#[test]
fn answers_a_new_name_and_not_one_less() {
    let mut stream = Stream::default();
    stream.put(Kind::Endpoints, "a", 1);
    stream.put(Kind::Endpoints, "b", 2);
    stream.subscribe(Kind::Endpoints, &["a"]);
    let response = stream.next().unwrap();
    assert_eq!(response.resources.len(), 1);
    assert_eq!(stream.ack(&response, &["a"]), Answer::Ack);
    assert!(stream.next().is_none());

    assert_eq!(stream.ack(&response, &["a", "b"]), Answer::Ack);
    let response = stream.next().unwrap();
    assert_eq!(response.resources.len(), 2);
    stream.ack(&response, &["b"]);
    assert!(stream.next().is_none());
    // Subscribed to anew, it is sent anew.
    stream.ack(&response, &["a", "b"]);
    assert_eq!(stream.values(), [1, 2]);
}

#[test]
fn a_name_that_does_not_exist_is_absent_and_arrives_once_it_does() {
    let mut stream = Stream::default();
    stream.subscribe(Kind::Route, &["a"]);
    let response = stream.next().unwrap();
    assert_eq!(response.resources, []);
    stream.ack(&response, &["a"]);
    stream.put(Kind::Route, "a", 1);
    assert_eq!(stream.values(), [1]);
}

#[test]
fn an_empty_first_request_means_all_and_a_later_one_none() {
    for kind in [Kind::Listener, Kind::Cluster] {
        let mut stream = Stream::default();
        stream.put(kind, "a", 1);
        stream.put(kind, "b", 2);
        stream.subscribe(kind, &[]);
        let response = stream.next().unwrap();
        assert_eq!(response.resources.len(), 2);
        stream.ack(&response, &[]);
        assert!(stream.next().is_none());
        stream.put(kind, "c", 3);
        assert_eq!(stream.values(), [1, 2, 3]);

        stream.subscribe(kind, &["c"]);
        assert_eq!(stream.values(), [3]);
        stream.subscribe(kind, &[]);
        stream.put(kind, "d", 4);
        assert!(stream.next().is_none());
        stream.subscribe(kind, &["*"]);
        assert_eq!(stream.values(), [1, 2, 3, 4]);
    }
    let mut stream = Stream::default();
    stream.put(Kind::Route, "a", 1);
    stream.subscribe(Kind::Route, &[]);
    assert!(stream.next().is_none());
}

#[test]
fn a_stale_nonce_has_no_effect() {
    let mut stream = Stream::default();
    stream.put(Kind::Cluster, "a", 1);
    stream.subscribe(Kind::Cluster, &["a"]);
    let old = stream.next().unwrap();
    stream.put(Kind::Cluster, "a", 2);
    let new = stream.next().unwrap();
    assert_ne!(old.nonce, new.nonce);
    assert_eq!(stream.ack(&old, &["a", "b"]), Answer::None);
    assert_eq!(stream.nack(&old, &["a"]), Answer::None);
    assert!(stream.next().is_none());
    let url = type_url(Kind::Cluster);
    assert_eq!(stream.codec.subscription(url).unwrap().acked(), None);
    assert_eq!(stream.ack(&new, &["a"]), Answer::Ack);
    let acked = stream.codec.subscription(url).unwrap().acked();
    assert_eq!(acked, Some(new.version));
}

#[test]
fn what_was_rejected_is_not_sent_again() {
    let mut stream = Stream::default();
    stream.put(Kind::Cluster, "a", 1);
    stream.subscribe(Kind::Cluster, &["a"]);
    let response = stream.next().unwrap();
    let version = response.version;
    assert_eq!(stream.nack(&response, &["a"]), Answer::Nack { version });
    assert!(stream.next().is_none());
    stream.put(Kind::Cluster, "a", 2);
    assert_eq!(stream.values(), [2]);
}

#[test]
fn a_response_that_only_takes_away_comes_last() {
    let mut stream = Stream::default();
    for kind in Kind::ALL {
        stream.put(kind, "a", 1);
        stream.put(kind, "b", 1);
        stream.subscribe(kind, &["a", "b"]);
    }
    let order = |stream: &mut Stream| -> Vec<_> {
        std::iter::from_fn(|| stream.next().map(|response| response.type_url)).collect()
    };
    use Kind::*;
    let make = [Cluster, Endpoints, Listener, Route, Secret].map(type_url);
    assert_eq!(order(&mut stream), make);
    for kind in Kind::ALL {
        stream.put(kind, "a", 2);
    }
    assert_eq!(order(&mut stream), make);
    for kind in Kind::ALL {
        stream.remove(kind, "a");
    }
    let broken = [Endpoints, Route, Secret, Listener, Cluster].map(type_url);
    assert_eq!(order(&mut stream), broken);
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8),
    Remove(u8),
    Subscribe(BTreeSet<u8>),
    Deliver { accept: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..4_u8;
    prop_oneof![
        (name.clone(), any::<u8>()).prop_map(|(name, value)| Op::Put(name, value)),
        name.clone().prop_map(Op::Remove),
        prop::collection::btree_set(name, 1..4).prop_map(Op::Subscribe),
        any::<bool>().prop_map(|accept| Op::Deliver { accept }),
    ]
}

proptest! {
    /// Whatever happens, a client that reads everything ends up with what the store has.
    #[test]
    fn a_client_converges(ops in prop::collection::vec(op(), 1..60)) {
        const KIND: Kind = Kind::Cluster;
        let mut stream = Stream::default();
        let mut names: Vec<String> = Vec::new();
        let mut last: Option<Response> = None;
        let mut seen: BTreeMap<String, u8> = BTreeMap::new();
        let asks = |stream: &mut Stream, last: &Option<Response>, names: &[String]| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            match last {
                Some(response) => { stream.ack(response, &names); }
                None => stream.subscribe(KIND, &names),
            }
        };
        for op in ops {
            match op {
                // The value says the name, so that a response's content can be told apart.
                Op::Put(name, value) => {
                    stream.put(KIND, &name.to_string(), name * 64 + value % 64);
                }
                Op::Remove(name) => stream.remove(KIND, &name.to_string()),
                Op::Subscribe(new) => {
                    names = new.iter().map(u8::to_string).collect();
                    asks(&mut stream, &last, &names);
                }
                Op::Deliver { accept } => if let Some(response) = stream.next() {
                    seen = content(&response);
                    if accept {
                        last = Some(response);
                        asks(&mut stream, &last, &names);
                    } else {
                        let names: Vec<_> = names.iter().map(String::as_str).collect();
                        stream.nack(&response, &names);
                        last = Some(response);
                    }
                },
            }
        }
        while let Some(response) = stream.next() {
            seen = content(&response);
        }
        let names: BTreeSet<_> = names.into_iter().collect();
        // One less name is not a reason to send.
        seen.retain(|name, _| names.contains(name));
        let expected = stream.store.served(NODE, type_url(KIND), Names::These(&names));
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|any| ((any.value[0] / 64).to_string(), any.value[0]))
            .collect();
        prop_assert_eq!(seen, expected);
    }
}

fn content(response: &Response) -> BTreeMap<String, u8> {
    let resources = response.resources.iter();
    resources
        .map(|any| ((any.value[0] / 64).to_string(), any.value[0]))
        .collect()
}
