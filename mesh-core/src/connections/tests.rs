use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn connection(registry: &Connections, server: ServerId) -> Live {
    registry.open(NewConnection {
        server,
        peer: Arc::new(Peer {
            address: Some(([127, 0, 0, 1], 4000).into()),
            local: Some(([127, 0, 0, 1], 80).into()),
            tls: None,
        }),
        tls: None,
    })
}

async fn ordered(live: &mut Live) -> Order {
    poll_fn(|cx| live.poll_order(cx)).await
}

#[test]
fn connections_are_listed_while_they_live() {
    let registry = Connections::new();
    let (one, other) = (registry.server(), registry.server());
    let first = connection(&registry, one);
    let second = connection(&registry, other);
    let request = first.handle().begin();

    let seen = registry.list();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].in_flight, seen[0].requests), (1, 1));
    assert_eq!(seen[0].state, ConnectionState::Open);
    assert_eq!(seen[1].in_flight, 0);
    assert_eq!(registry.of(other)[0].id(), second.handle().id());

    drop(request);
    let seen = registry.list();
    assert_eq!((seen[0].in_flight, seen[0].requests), (0, 1));
    drop(first);
    drop(second);
    assert!(registry.is_empty());
}

#[tokio::test]
async fn an_order_wakes_the_connection_and_shows_in_its_state() {
    let registry = Connections::new();
    let mut live = connection(&registry, registry.server());
    let handle = live.handle().clone();
    assert!(ordered(&mut live).now_or_never().is_none());

    let task = tokio::spawn(async move {
        let first = ordered(&mut live).await;
        (first, live)
    });
    tokio::task::yield_now().await;
    let drain = Order::Drain(Ending::Age, SECOND);
    handle.order(drain);
    let (first, mut live) = task.await.unwrap();
    assert_eq!(first, drain);
    assert_eq!(
        handle.status().state,
        ConnectionState::Draining(Ending::Age)
    );
    assert!(
        poll_fn(|cx| Poll::Ready(live.poll_order(cx).is_pending())).await,
        "an order is given once"
    );

    handle.order(Order::Close(Ending::Untrusted));
    handle.order(drain);
    assert_eq!(ordered(&mut live).await, Order::Close(Ending::Untrusted));
    assert_eq!(
        handle.status().state,
        ConnectionState::Closing(Ending::Untrusted)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_finishes_and_cuts_the_rest_at_its_deadline() {
    let registry = Connections::new();
    let server = registry.server();
    let mut quick = connection(&registry, server);
    let mut slow = connection(&registry, server);
    let request = slow.handle().begin();
    tokio::spawn(async move {
        assert_eq!(
            ordered(&mut quick).await,
            Order::Drain(Ending::Drain, 10 * SECOND)
        );
    });
    tokio::spawn(async move {
        let _request = request;
        while !matches!(ordered(&mut slow).await, Order::Close(Ending::Drain)) {}
    });

    let start = Instant::now();
    let report = registry.drain(10 * SECOND).await;
    assert_eq!(start.elapsed(), 10 * SECOND);
    assert_eq!((report.finished, report.cut), (1, 1));
    assert_eq!(report.requests_cut, 1);
    assert!(registry.is_empty() && registry.is_draining());

    let mut late = connection(&registry, server);
    assert!(matches!(
        ordered(&mut late).await,
        Order::Drain(Ending::Drain, left) if left.is_zero()
    ));
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_nothing_is_over_at_once() {
    let registry = Connections::new();
    let start = Instant::now();
    assert_eq!(registry.drain(10 * SECOND).await, DrainReport::default());
    assert_eq!(start.elapsed(), Duration::ZERO);
}
