//! From what a cluster says of its endpoints, and what names were looked up as, to endpoints.

use std::{collections::HashSet, net::SocketAddr};

use super::LookedUp;
use crate::{
    config::{Address, Dns, EndpointConfig, Endpoints, Locality, Lookup},
    control::SourceError,
};

/// The endpoints of `dns`, and what trouble there is with a name. `None`: one was not looked up yet.
pub(super) fn endpoints_of<'a>(
    dns: &Dns,
    answer: impl Fn(&Lookup) -> Option<&'a LookedUp>,
) -> Option<(Endpoints, Option<SourceError>)> {
    let mut trouble = None;
    let mut seen = HashSet::new();
    let mut localities = Vec::with_capacity(dns.endpoints.localities.len());
    for locality in &dns.endpoints.localities {
        let mut endpoints = Vec::with_capacity(locality.endpoints.len());
        for endpoint in &locality.endpoints {
            let Address::Name(name, port) = &endpoint.address else {
                if seen.insert(endpoint.address.clone()) {
                    endpoints.push(endpoint.clone());
                }
                continue;
            };
            let answer = answer(&dns.lookup(name))?;
            trouble = trouble.or_else(|| answer.trouble.clone());
            let ips = answer.addresses.iter();
            let addresses = ips.map(|&ip| Address::Socket(SocketAddr::new(ip, *port)));
            if !dns.is_logical {
                // Two names may have an address in common.
                let addresses = addresses.filter(|address| seen.insert(address.clone()));
                endpoints.extend(addresses.map(|address| EndpointConfig {
                    address,
                    ..endpoint.clone()
                }));
            } else if !answer.addresses.is_empty() {
                // It stays the one it is when the name's addresses change.
                endpoints.push(EndpointConfig {
                    more: addresses.collect(),
                    ..endpoint.clone()
                });
            }
        }
        localities.push(Locality {
            endpoints,
            ..locality.clone()
        });
    }
    let endpoints = Endpoints {
        localities,
        ..dns.endpoints.clone()
    };
    Some((endpoints, trouble))
}
