use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use mesh_core::{bootstrap::ChannelCreds, config::Address};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Call, target::Target, tls};
use crate::conn::{Dial, Stream};

/// How long one address has a lead over the next (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

impl Call {
    /// A stream to the server, secured as its credentials say.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Stream, String> {
        let limit = self.connect_timeout;
        let addresses = timeout_at(deadline, resolve(&self.target)).await;
        let addresses = addresses
            .map_err(|_| format!("its name was not resolved within {limit:?}"))?
            .map_err(|error| format!("cannot resolve {}: {error}", self.target.host()))?;
        if addresses.is_empty() {
            return Err(format!("{} has no address", self.target.host()));
        }
        let io = timeout_at(deadline, dial_any(&*self.dial, addresses)).await;
        let io = io.map_err(|_| format!("it accepted no connection within {limit:?}"))??;
        match &self.channel_creds {
            ChannelCreds::Insecure => Ok(io),
            ChannelCreds::Tls {
                ca_certificate_file,
                identity_files,
            } => {
                let host = self.target.host();
                let secured = tls::secure(
                    self.crypto.as_ref(),
                    self.tls13_only,
                    io,
                    &host,
                    ca_certificate_file.as_deref(),
                    identity_files.as_ref(),
                );
                timeout_at(deadline, secured)
                    .await
                    .map_err(|_| format!("it did not finish the TLS handshake within {limit:?}"))?
            }
            other => Err(format!("channel credentials {other:?} are not supported")),
        }
    }
}

async fn resolve(target: &Target) -> io::Result<Vec<Address>> {
    Ok(match target {
        Target::Host { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            let mut addresses: Vec<Address> = Vec::new();
            for address in found.map(|address: SocketAddr| Address::Socket(address)) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses
        }
        Target::Socket(address) => vec![Address::Socket(*address)],
        Target::Unix(path) => vec![Address::Unix(path.clone())],
    })
}

/// The first of several addresses that answers, each tried when the one before failed or has had
/// its lead.
async fn dial_any(dial: &dyn Dial, addresses: Vec<Address>) -> Result<Stream, String> {
    let mut left = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        if let Some(address) = left.next() {
            let attempt = dial.dial(&address);
            attempts.push(async move {
                let io = attempt.await;
                io.map_err(|error| format!("cannot connect to {address}: {error}"))
            });
        }
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some(Ok(io)) => return Ok(io),
                Some(Err(error)) => errors.push(error),
                None => return Err(errors.join("; ")),
            },
            () = sleep(STAGGER), if left.len() > 0 => {}
        }
    }
}
