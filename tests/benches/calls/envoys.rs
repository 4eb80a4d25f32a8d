//! An Envoy beside the client and one beside the server.

use std::net::SocketAddr;

use mesh_tests::bench::{
    BoxError, Folder,
    envoy::{Envoy, Mtls, PROGRAM, Side, Sidecars},
};

use crate::{
    contestants::{CLIENT_ID, SERVER_ID},
    server::Ready,
};

pub(crate) struct Envoys {
    outer: Envoy,
    inner: Envoy,
    _files: [Folder; 2],
}

impl Envoys {
    pub(crate) fn start(server: &Ready, mtls: bool) -> Result<Self, BoxError> {
        let program = std::env::var_os(PROGRAM).ok_or("there is no Envoy")?;
        let files = [Folder::new("calls-outer")?, Folder::new("calls-inner")?];
        server.client.write(&files[0])?;
        server.server.write(&files[1])?;
        let side = |folder: usize, id| Side {
            files: files[folder].path(),
            id,
        };
        let sidecars = Sidecars {
            program: &program,
            // Streams are of another path.
            path: None,
            http2: true,
            grpc: true,
            mtls: mtls.then(|| Mtls {
                client: side(0, CLIENT_ID),
                server: side(1, SERVER_ID),
            }),
        };
        let inner = sidecars.beside_server(server.address)?;
        let outer = sidecars.beside_client(inner.address)?;
        Ok(Self {
            outer,
            inner,
            _files: files,
        })
    }

    /// Where clients send their calls.
    pub(crate) fn address(&self) -> SocketAddr {
        self.outer.address
    }

    /// The CPU time that both have had.
    pub(crate) fn cpu_ns(&self) -> Result<u64, BoxError> {
        Ok(self.outer.process.cpu_ns()? + self.inner.process.cpu_ns()?)
    }
}
