//! Happy eyeballs: which of several addresses is connected to (RFC 8305, gRFC A61).

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use mesh_core::{balance::LinkState, config::Address};
use tokio::time::Instant;

use super::ConnectError;

/// The time that an attempt has before the next one begins beside it (RFC 8305 section 5, gRFC
/// A61). One that fails is followed at once.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to an endpoint, at whichever of its addresses `attempt` succeeds first. All attempts have
/// until the same instant: the cluster's `connect_timeout` from now.
///
/// # Errors
/// If all fail: that of the last to fail.
pub(super) async fn connect<T, F>(
    endpoint: &LinkState,
    attempt: impl Fn(Address, Instant) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let addresses = endpoint.addresses().unwrap_or_default();
    let until = Instant::now() + endpoint.cluster().connections.connect_timeout;
    match &**addresses {
        [] => attempt(endpoint.address().clone(), until).await,
        [address] => attempt(address.clone(), until).await,
        several => race(interleave(several), |address| attempt(address, until)).await,
    }
}

/// Puts addresses in the order in which they are tried: those of each family in turn, beginning with
/// that of the first, each in their own order (RFC 8305 section 4). What is no IP address is a
/// family of its own.
fn interleave(addresses: &[Address]) -> Vec<Address> {
    let mut families: Vec<(Family, VecDeque<&Address>)> = Vec::new();
    for address in addresses {
        let family = Family::of(address);
        match families.iter_mut().find(|(other, _)| *other == family) {
            Some((_, members)) => members.push_back(address),
            None => families.push((family, [address].into())),
        }
    }
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        let next = families
            .iter_mut()
            .filter_map(|(_, members)| members.pop_front());
        order.extend(next.cloned());
    }
    order
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Other,
}

impl Family {
    fn of(address: &Address) -> Self {
        match address {
            Address::Socket(address) if address.is_ipv4() => Family::V4,
            Address::Socket(_) => Family::V6,
            Address::Unix(_) | Address::Name(..) => Family::Other,
        }
    }
}

/// Tries `addresses` in turn, each some time after the one before it or when that fails. The first to
/// succeed ends the others.
///
/// # Errors
/// If all fail: that of the last to fail.
async fn race<T, E, F>(addresses: Vec<Address>, connect: impl Fn(Address) -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter();
    let mut trying: Vec<Pin<Box<F>>> = Vec::new();
    let mut delay = Box::pin(tokio::time::sleep(ATTEMPT_DELAY));
    let mut start = |trying: &mut Vec<_>| match waiting.next() {
        Some(address) => {
            trying.push(Box::pin(connect(address)));
            true
        }
        None => false,
    };
    start(&mut trying);
    poll_fn(|cx| {
        loop {
            let mut failed = None;
            let mut at = 0;
            while let Some(attempt) = trying.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(made)) => return Poll::Ready(Ok(made)),
                    Poll::Ready(Err(error)) => {
                        drop(trying.remove(at));
                        failed = Some(error);
                    }
                    Poll::Pending => at += 1,
                }
            }
            let is_late = delay.as_mut().poll(cx).is_ready();
            if (is_late || failed.is_some()) && start(&mut trying) {
                delay
                    .as_mut()
                    .reset(tokio::time::Instant::now() + ATTEMPT_DELAY);
                continue;
            }
            return match failed {
                Some(error) if trying.is_empty() => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            };
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn address(text: &str) -> Address {
        match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Socket(text.parse().unwrap()),
        }
    }

    fn order(of: &[&str]) -> Vec<String> {
        let addresses: Vec<_> = of.iter().map(|text| address(text)).collect();
        interleave(&addresses)
            .iter()
            .map(Address::to_string)
            .collect()
    }

    #[test]
    fn families_take_turns() {
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]
        );
        assert_eq!(
            order(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1", "unix:/s"]),
            ["1.1.1.1:1", "[::1]:1", "unix:/s", "2.2.2.2:1"]
        );
    }

    /// Tries addresses whose ports say what becomes of them: how many milliseconds they take, and odd
    /// ones fail. Tells when each was begun, and the end.
    async fn tried(ports: &[u16]) -> (Vec<(u16, u64)>, Result<u16, u16>, u64) {
        let addresses: Vec<_> = ports
            .iter()
            .map(|port| address(&format!("127.0.0.1:{port}")))
            .collect();
        let (begin, begun) = (Instant::now(), RefCell::new(Vec::new()));
        let passed = || u64::try_from(begin.elapsed().as_millis()).unwrap();
        let end = race(addresses, |address| {
            let Address::Socket(address) = address else {
                unreachable!();
            };
            let port = address.port();
            begun.borrow_mut().push((port, passed()));
            async move {
                tokio::time::sleep(Duration::from_millis(port.into())).await;
                if port % 2 == 0 { Ok(port) } else { Err(port) }
            }
        });
        let end = end.await;
        (begun.take(), end, passed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_one_is_the_only_one() {
        assert_eq!(tried(&[100, 10]).await, (vec![(100, 0)], Ok(100), 100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_is_overtaken() {
        let (begun, end, passed) = tried(&[2_000, 1_000, 40]).await;
        assert_eq!(begun, [(2_000, 0), (1_000, 250), (40, 500)]);
        assert_eq!((end, passed), (Ok(40), 540));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_may_win_yet() {
        let (_, end, passed) = tried(&[400, 1_000]).await;
        assert_eq!((end, passed), (Ok(400), 400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_one_is_followed_at_once() {
        let (begun, end, passed) = tried(&[11, 21, 300, 10]).await;
        assert_eq!(begun, [(11, 0), (21, 11), (300, 32), (10, 282)]);
        assert_eq!((end, passed), (Ok(10), 292));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_error_counts() {
        let (_, end, passed) = tried(&[901, 31, 11]).await;
        assert_eq!((end, passed), (Err(901), 901));
    }
}
