//! The directory `files`: a service with a weighted split and mTLS, and no control plane.

use std::{fs, net::SocketAddr, path::PathBuf};

use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, FileWatcherConfig},
    control::files::{Checker, check},
    testing::{CertificateAuthority, Leaf},
};
use mesh_examples::greeter::{
    GreetReply, GreetRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use mesh_tonic::{Channel, Server, ServerTls};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/files");
const GREETER: &str = "spiffe://shop.example/ns/shop/sa/greeter";

#[test]
fn the_example_is_good_where_its_certificate_provider_is() {
    let checker = Checker::new().certificate_provider("default");
    let report = checker.check(DIRECTORY).unwrap();
    assert!(report.is_good(), "{report:#?}");
    assert_eq!(report.findings, []);
    let resources = report.files.iter().map(|file| file.resources.len());
    assert_eq!(resources.collect::<Vec<_>>(), [2, 2, 1]);

    let report = check(DIRECTORY).unwrap();
    let errors: Vec<_> = report.errors().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("clusters.yaml:13:"), "{errors:#?}");
    assert!(
        errors[0].contains("cluster \"greeter-v1\": "),
        "{errors:#?}"
    );
}

struct Version(&'static str);

#[tonic::async_trait]
impl Greeter for Version {
    async fn greet(&self, _: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        Ok(Response::new(GreetReply {
            version: self.0.to_owned(),
            ..GreetReply::default()
        }))
    }
}

/// A directory that is removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("mesh-example-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("certificates")).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: &str) {
        let beside = self.0.join(format!("{name}.tmp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.0.join(name)).unwrap();
    }

    /// Certificates as an agent would write them.
    fn certificates(&self, ca: &CertificateAuthority, name: &str, id: &str) -> FileWatcherConfig {
        let issued = ca.issue(Leaf::spiffe(id));
        let file = |what: &str| {
            self.0
                .join("certificates")
                .join(format!("{name}-{what}.pem"))
        };
        fs::write(file("chain"), issued.chain_pem()).unwrap();
        fs::write(file("key"), issued.key_pem()).unwrap();
        fs::write(file("roots"), ca.root_pem()).unwrap();
        FileWatcherConfig::new()
            .identity_files(file("chain"), file("key"))
            .ca_certificate_file(file("roots"))
    }

    /// A mesh of this directory alone.
    async fn mesh(&self, certificates: FileWatcherConfig) -> Mesh {
        let bootstrap = Bootstrap::builder()
            .without_servers()
            .certificate_provider("default", certificates)
            .build()
            .unwrap();
        let mesh = Mesh::builder().bootstrap(bootstrap).files(&self.0);
        mesh.build().await.unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Serves one version of the greeter over mTLS.
async fn greeter(mesh: &Mesh, version: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(mesh)
        .tls(ServerTls::mtls("default"))
        .add_service(GreeterServer::new(Version(version)));
    tokio::spawn(server.serve(listener));
    address
}

/// How many of `calls` the second version answered.
async fn second(greeter: &mut GreeterClient<Channel>, calls: usize) -> usize {
    let mut second = 0;
    for _ in 0..calls {
        let reply = greeter.greet(GreetRequest::default()).await.unwrap();
        second += usize::from(reply.into_inner().version == "v2");
    }
    second
}

#[tokio::test]
async fn calls_are_split_over_mtls_as_the_files_say_and_follow_their_change() {
    let directory = Scratch::new();
    let ca = CertificateAuthority::new("root");
    let servers = directory
        .mesh(directory.certificates(&ca, "greeter", GREETER))
        .await;
    let (v1, v2) = (greeter(&servers, "v1").await, greeter(&servers, "v2").await);
    for name in ["listener.yaml", "clusters.yaml", "endpoints.json"] {
        let text = fs::read_to_string(PathBuf::from(DIRECTORY).join(name)).unwrap();
        let text = text.replace("50051", &v1.port().to_string());
        directory.put(name, &text.replace("50052", &v2.port().to_string()));
    }
    let web = "spiffe://shop.example/ns/shop/sa/web";
    let mesh = directory
        .mesh(directory.certificates(&ca, "web", web))
        .await;
    let channel = mesh_tonic::channel(&mesh, "greeter.shop:8080").unwrap();
    let mut greeter = GreeterClient::new(channel);
    let share = second(&mut greeter, 500).await;
    assert!((15..=100).contains(&share), "{share} of 500");

    let files = mesh.files().unwrap();
    let mut changes = files.changes();
    let listener = fs::read_to_string(directory.0.join("listener.yaml")).unwrap();
    let all = listener.replace("weight: 90", "weight: 0");
    directory.put("listener.yaml", &all);
    changes.changed().await.unwrap();
    // It is in force once the target has followed it.
    while second(&mut greeter, 20).await < 20 {}

    // A mistake changes nothing, and is told with its place.
    directory.put(
        "listener.yaml",
        &all.replace("num_retries", "number_of_retries"),
    );
    changes.changed().await.unwrap();
    let errors = files.status().into_iter().flat_map(|file| file.errors);
    let errors: Vec<_> = errors.map(|error| error.to_string()).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].starts_with("listener.yaml:18:11: listener \"greeter.shop:8080\": "),
        "{errors:#?}"
    );
    assert_eq!(second(&mut greeter, 20).await, 20);
    assert!(mesh.targets()[0].trouble.is_some());
}
