//! A response, from its bytes to what watchers are told: for fuzzing.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    ads::{Ads, Input, Output, Timeouts, WatcherId},
    decode::Decode,
};
use crate::{
    bootstrap::{Node, ServerConfig, ServerFeatures},
    config::ResourceId,
};

/// Receives `message` on a stream of either variant where these resources are watched.
pub(crate) fn receive(
    message: &[u8],
    delta: bool,
    watched: &[ResourceId],
    decode: &Arc<dyn Decode>,
) {
    let features = ServerFeatures {
        delta,
        ..ServerFeatures::default()
    };
    let server = ServerConfig::insecure("xds.test:1").features(features);
    let server = server.build().expect("a valid address");
    let timeouts = Timeouts {
        resource: Duration::from_secs(15),
        connect: Duration::from_secs(20),
    };
    let now = Instant::now();
    let mut ads = Ads::new(&server, &Node::default(), Arc::clone(decode), timeouts, now);
    for (number, id) in watched.iter().enumerate() {
        let watcher = WatcherId(number as u64);
        ads.handle(
            Input::Watch {
                watcher,
                id: id.clone(),
            },
            now,
        );
    }
    let mut unread = Some(Bytes::copy_from_slice(message));
    while let Some(output) = ads.poll() {
        let input = match output {
            Output::Connect => Input::Connected,
            Output::Send(_) => Input::Sent,
            Output::AwaitProcessed => Input::Processed,
            Output::Read => match unread.take() {
                Some(message) => Input::Received {
                    message,
                    at: SystemTime::UNIX_EPOCH,
                },
                // It was answered.
                None => break,
            },
            Output::Close | Output::Deliver { .. } | Output::Notice(_) => continue,
        };
        ads.handle(input, now);
    }
    let _ = ads.dump();
}
