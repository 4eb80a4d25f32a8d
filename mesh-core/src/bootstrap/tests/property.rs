use proptest::{collection, prelude::*};
use serde_json::{Map, Value};

use super::{full, parse};
use crate::bootstrap::{Bootstrap, ServerConfig};

/// Any JSON, with words of the bootstrap among its strings and names.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            collection::vec((text(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        "(xds_servers|server_uri|channel_creds|type|config|node|authorities|metadata)",
        "(tls|insecure|jwt_token_file|file_watcher|600s|%s|xdstp://a/b)",
        "(dns|ipv4|ipv6|unix|passthrough|xds|xdstp|https)?:?/{0,3}[a-z0-9.:%/\\[\\]]{0,12}",
        "[0-9]{0,22}\\.?[0-9]{0,11}s",
    ]
}

/// Replaces the `nth` value of `json`, counted in depth first.
fn replace(json: &mut Value, nth: &mut usize, with: &Value) {
    if *nth == 0 {
        *json = with.clone();
    }
    *nth = nth.wrapping_sub(1);
    let children: Vec<&mut Value> = match json {
        Value::Array(values) => values.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        replace(child, nth, with);
    }
}

proptest! {
    #[test]
    fn arbitrary_json_is_taken_or_refused(json in json()) {
        let _ = parse(&json);
    }

    #[test]
    fn arbitrary_text_is_taken_or_refused(text in ".{0,64}") {
        let _ = Bootstrap::from_json(&text);
    }

    #[test]
    fn a_damaged_bootstrap_is_taken_or_refused_by_a_field(
        nth in 0..120_usize,
        with in json(),
    ) {
        let mut damaged = full();
        replace(&mut damaged, &mut { nth }, &with);
        match parse(&damaged) {
            Ok(bootstrap) => prop_assert!(!bootstrap.servers.is_empty()),
            Err(error) => prop_assert!(nth == 0 || error.field().is_some(), "{error}"),
        }
    }

    #[test]
    fn an_address_is_written_in_a_form_that_is_read(uri in text()) {
        if let Ok(server) = ServerConfig::insecure(uri).build() {
            let written = server.address().to_string();
            let again = ServerConfig::insecure(written.replace('%', "%25")).build().unwrap();
            prop_assert_eq!(again.address(), server.address());
        }
    }

    #[test]
    fn every_target_has_a_legal_authority_or_an_error(target in "(xds:/{0,3})?.{0,12}") {
        let bootstrap = parse(&full()).unwrap();
        if let Ok(name) = bootstrap.listener_name(&target) {
            prop_assert!(!name.resource.is_empty() && !name.authority.is_empty());
            prop_assert!(http::HeaderValue::from_str(&name.authority).is_ok());
        }
    }
}
