use super::*;

#[test]
fn server_side_listener_received_on_client() {
    let of_a_server = || {
        Resource::ServerListener(Arc::new(crate::config::ServerListener {
            name: TARGET.into(),
            address: "10.0.0.1:80".parse().unwrap(),
            chains: vec![],
            default_chain: None,
        }))
    };
    let mut deps = Fixture::new();
    let outcome = deps.update(Kind::Listener, TARGET, of_a_server());
    let error = outcome.unwrap().unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Invalid);
    assert!(error.text.contains("GENERATOR=grpc"), "{error}");
    // What worked before goes on.
    let mut deps = Fixture::settled(&["a"]);
    let before = deps.config();
    let outcome = deps.update(Kind::Listener, TARGET, of_a_server());
    let config = outcome.unwrap().unwrap();
    assert_eq!(config.clusters, before.clusters);
    assert_eq!(config.ambient, Some(error));
}
