use std::net::Ipv4Addr;

use tokio::time::Instant;

use super::*;
use crate::{
    config::{DnsFamily, LookupPolicy},
    testing::Hosts,
};

const SECOND: Duration = Duration::from_secs(1);

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn lookup(edit: impl FnOnce(&mut LookupPolicy)) -> Lookup {
    let mut policy = LookupPolicy::default();
    edit(&mut policy);
    Lookup {
        name: "a.test".into(),
        policy,
    }
}

struct Watching {
    hosts: Hosts,
    names: Names,
    watch: NameWatch,
    answers: mpsc::UnboundedReceiver<(Lookup, LookedUp)>,
    begin: Instant,
}

impl Watching {
    fn new(hosts: Hosts, lookup: &Lookup) -> Self {
        let names = Names::new(Arc::new(hosts.clone()));
        let (answers, receive) = mpsc::unbounded_channel();
        Self {
            watch: names.watch(lookup, answers),
            names,
            hosts,
            answers: receive,
            begin: Instant::now(),
        }
    }

    /// The next answer, and the seconds after which it came.
    async fn next(&mut self) -> (Vec<IpAddr>, String, u64) {
        let (_, answer) = self.answers.recv().await.unwrap();
        let trouble = answer
            .trouble
            .map_or(String::new(), |error| error.to_string());
        (
            answer.addresses.to_vec(),
            trouble,
            self.begin.elapsed().as_secs(),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn looks_up_again_and_tells_what_changes() {
    let hosts = Hosts::new();
    hosts.set("a.test", [ip(1), ip(2)]);
    let mut watching = Watching::new(hosts, &lookup(|_| {}));
    assert_eq!(
        watching.next().await,
        (vec![ip(1), ip(2)], String::new(), 0)
    );
    // Another order is no news.
    watching.hosts.set("a.test", [ip(2), ip(1)]);
    time::sleep(12 * SECOND).await;
    assert_eq!(watching.hosts.lookups("a.test"), 3);
    assert!(watching.answers.try_recv().is_err());
    watching.hosts.set("a.test", [ip(3)]);
    assert_eq!(watching.next().await, (vec![ip(3)], String::new(), 15));
}

#[tokio::test(start_paused = true)]
async fn a_failure_leaves_the_last_addresses() {
    let hosts = Hosts::new();
    let mut watching = Watching::new(
        hosts,
        &lookup(|policy| policy.failure = Some((SECOND, 4 * SECOND))),
    );
    let unknown = "cannot look up \"a.test\": no such host";
    assert_eq!(watching.next().await, (vec![], unknown.into(), 0));
    // 1, 3, 7, 11.
    time::sleep(8 * SECOND).await;
    assert_eq!(watching.hosts.lookups("a.test"), 4);
    watching.hosts.set("a.test", [ip(1)]);
    assert_eq!(watching.next().await, (vec![ip(1)], String::new(), 11));
    watching.hosts.fail("a.test", "SERVFAIL");
    let trouble = "cannot look up \"a.test\": SERVFAIL";
    assert_eq!(watching.next().await, (vec![ip(1)], trouble.into(), 16));
    watching.hosts.set("a.test", [ip(1)]);
    assert_eq!(watching.next().await, (vec![ip(1)], String::new(), 17));
}

#[tokio::test(start_paused = true)]
async fn addresses_of_another_family_are_a_failure() {
    let hosts = Hosts::new();
    hosts.set("a.test", [ip(1)]);
    let mut watching = Watching::new(hosts, &lookup(|policy| policy.family = DnsFamily::V6));
    let (addresses, trouble, _) = watching.next().await;
    assert!(addresses.is_empty());
    assert!(
        trouble.contains("no addresses that are wanted"),
        "{trouble}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_counts_if_it_is_to() {
    for (respects, expected) in [(true, 3), (false, 5)] {
        let hosts = Hosts::new();
        hosts.set("a.test", [ip(1)]);
        hosts.set_ttl(Some(SECOND));
        let lookup = lookup(|policy| {
            policy.respect_ttl = respects;
            policy.min_refresh = 3 * SECOND;
        });
        let mut watching = Watching::new(hosts, &lookup);
        watching.next().await;
        watching.hosts.set("a.test", [ip(2)]);
        assert_eq!(watching.next().await.2, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_failure() {
    let hosts = Hosts::new();
    hosts.hold("a.test");
    let mut watching = Watching::new(hosts, &lookup(|_| {}));
    let (_, trouble, after) = watching.next().await;
    assert_eq!(
        (trouble.as_str(), after),
        ("cannot look up \"a.test\": no answer within 10s", 10)
    );
}

#[tokio::test(start_paused = true)]
async fn one_task_for_all_and_none_after_the_last() {
    let hosts = Hosts::new();
    hosts.set("a.test", [ip(1)]);
    let lookup = lookup(|_| {});
    let mut first = Watching::new(hosts.clone(), &lookup);
    first.next().await;
    let (answers, mut receive) = mpsc::unbounded_channel();
    let second = first.names.watch(&lookup, answers);
    assert_eq!(&*receive.recv().await.unwrap().1.addresses, [ip(1)]);
    assert_eq!((hosts.lookups("a.test"), first.names.len()), (1, 1));
    drop(first.watch);
    time::sleep(6 * SECOND).await;
    assert_eq!(hosts.lookups("a.test"), 2);
    drop(second);
    assert!(first.names.is_empty());
    time::sleep(60 * SECOND).await;
    assert_eq!(hosts.lookups("a.test"), 2);
}
