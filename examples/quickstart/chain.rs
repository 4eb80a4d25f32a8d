//! One request that crosses both worlds: gRPC from the web to a greeter, HTTP from there to the
//! catalog, with one deadline and the identity of each.

use std::{error::Error, time::Duration};

use mesh_core::Context;
use mesh_examples::greeter::{GreetRequest, Hop, greeter_client::GreeterClient};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request};

use crate::{GREETER, WEB, catalog::Catalog};

/// What the web gives a call whose way is shown.
const ENOUGH: Duration = Duration::from_secs(2);
/// What it gives one that the catalog does not answer.
const SHORT: Duration = Duration::from_millis(300);
/// Longer than this nothing is waited for here.
const STALLED: Duration = Duration::from_secs(10);

/// What `service` sees of the request whose handler this is called in.
pub(crate) fn hop(service: &str) -> Hop {
    let context = Context::current();
    let caller = context.peer().and_then(|peer| peer.id());
    let left = context.deadline().map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    });
    Hop {
        service: service.to_owned(),
        caller: caller
            .unwrap_or("somebody without a certificate")
            .to_owned(),
        left,
    }
}

/// Shows the way of a call that is answered, and of one whose time ends at the catalog.
pub(crate) async fn act(
    channel: mesh_tonic::Channel,
    catalog: &mut Catalog,
) -> Result<(), Box<dyn Error>> {
    let mut greeter = GreeterClient::new(channel);
    let request = |limit: Duration| {
        let mut request = Request::new(GreetRequest {
            name: "mesh".to_owned(),
        });
        request.set_timeout(limit);
        request
    };

    let reply = greeter.greet(request(ENOUGH)).await?.into_inner();
    let (title, limit) = ("web -> greeter -> catalog", ENOUGH.as_millis());
    println!("{title:34}  {:?}, web waits {limit} ms", reply.offer);
    for hop in &reply.hops {
        print(hop);
    }
    let callers: Vec<_> = reply.hops.iter().map(|hop| &*hop.caller).collect();
    if callers != [WEB, GREETER] {
        return Err(format!("the callers were {callers:?}").into());
    }
    shrinks(ENOUGH, &reply.hops)?;

    catalog.hang(true);
    let start = Instant::now();
    let refused = timeout(STALLED, greeter.greet(request(SHORT))).await?;
    let took = start.elapsed();
    let given_up = timeout(STALLED, catalog.given_up()).await??;
    catalog.hang(false);
    let status = refused.err().ok_or("a catalog that hangs answered")?;
    if status.code() != Code::DeadlineExceeded {
        return Err(format!("the call ended with {status}").into());
    }
    let code = mesh_core::Code::from_i32(status.code() as i32);
    let (title, limit) = ("the catalog hangs", SHORT.as_millis());
    println!(
        "{title:34}  {} after {} ms, web waits {limit} ms",
        code.name(),
        took.as_millis()
    );
    let hop = Hop::from(given_up.seen);
    print(&hop);
    println!(
        "{:34}  which gave the request up after {} ms",
        "",
        given_up.after.as_millis()
    );
    shrinks(SHORT, &[hop])
}

fn print(hop: &Hop) {
    let left = match hop.left {
        Some(left) => format!("{left} ms left"),
        None => "no limit".to_owned(),
    };
    println!(
        "{:34}  {}: called by {}, {left}",
        "", hop.service, hop.caller
    );
}

/// Fails unless each had no more time than the one before, and the first no more than `limit`.
fn shrinks(limit: Duration, hops: &[Hop]) -> Result<(), Box<dyn Error>> {
    let mut before = u64::try_from(limit.as_millis())?;
    for hop in hops {
        let left = hop
            .left
            .ok_or_else(|| format!("{} had no deadline", hop.service))?;
        if left > before {
            return Err(format!("{} had {left} ms, of {before} ms", hop.service).into());
        }
        before = left;
    }
    Ok(())
}
