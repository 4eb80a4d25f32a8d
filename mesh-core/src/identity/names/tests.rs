use super::*;
use crate::{
    config::Regex,
    testing::{CertificateAuthority, Leaf},
};

fn certificate(leaf: Leaf) -> PeerCertificate {
    CertificateAuthority::new("root")
        .issue(leaf)
        .identity()
        .leaf
}

fn san(kind: SanKind, pattern: StringMatch) -> San {
    San {
        kind,
        matcher: StringMatcher::new(pattern, false),
    }
}

fn exact(kind: SanKind, name: &str) -> San {
    san(kind, StringMatch::Exact(name.to_owned()))
}

fn passes(sans: &[San], certificate: &PeerCertificate) -> bool {
    Wanted::Matchers(sans).check(certificate).is_ok()
}

fn of_each_kind() -> PeerCertificate {
    let v6: std::net::Ipv6Addr = "2001:db8:0:0:0:0:0:1".parse().expect("an address");
    certificate(
        Leaf::spiffe("spiffe://shop/a")
            .dns("a.shop")
            .email("a@shop")
            .ip([10, 0, 0, 1])
            .ip(v6),
    )
}

#[test]
fn each_kind_of_name_is_tested_as_itself() {
    let certificate = of_each_kind();
    let kinds = [SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::Ip];
    for (of, name) in [
        (SanKind::Uri, "spiffe://shop/a"),
        (SanKind::Dns, "a.shop"),
        (SanKind::Email, "a@shop"),
        (SanKind::Ip, "10.0.0.1"),
        (SanKind::Ip, "2001:db8::1"),
    ] {
        for kind in kinds {
            let passed = passes(&[exact(kind, name)], &certificate);
            assert_eq!(passed, kind == of, "{kind:?} {name}");
        }
        assert!(passes(&[exact(SanKind::Any, name)], &certificate), "{name}");
    }
    assert!(
        !passes(&[exact(SanKind::Any, "2001:db8:0:0:0:0:0:1")], &certificate),
        "addresses are in the form of RFC 5952"
    );
}

#[test]
fn any_matcher_is_enough_and_none_lets_all_pass() {
    let certificate = of_each_kind();
    let wrong = || exact(SanKind::Any, "b.shop");
    assert!(passes(&[], &certificate));
    assert!(!passes(&[wrong()], &certificate));
    assert!(passes(
        &[wrong(), exact(SanKind::Dns, "a.shop")],
        &certificate
    ));
    for pattern in [
        StringMatch::Prefix("spiffe://shop/".to_owned()),
        StringMatch::Suffix("/a".to_owned()),
        StringMatch::Contains("shop/".to_owned()),
        StringMatch::Regex(Regex::new("spiffe://[a-z]+/a").expect("an expression")),
    ] {
        assert!(passes(&[san(SanKind::Uri, pattern)], &certificate));
    }
}

#[test]
fn no_names_fail_where_one_is_wanted() {
    let unnamed = certificate(Leaf::unnamed().subject("a.shop"));
    assert!(passes(&[], &unnamed));
    // The common name is no name.
    assert!(!passes(&[exact(SanKind::Any, "a.shop")], &unnamed));
    assert!(!passes(
        &[san(SanKind::Any, StringMatch::Prefix(String::new()))],
        &unnamed
    ));
}

#[test]
fn an_empty_name_never_passes() {
    let mut empty = certificate(Leaf::unnamed());
    empty.uris.push("".into());
    empty.dns_names.push("".into());
    empty.emails.push("".into());
    for pattern in [
        StringMatch::Exact(String::new()),
        StringMatch::Prefix(String::new()),
        StringMatch::Suffix(String::new()),
    ] {
        assert!(!passes(&[san(SanKind::Any, pattern)], &empty));
    }
}

#[test]
fn a_wildcard_stands_for_one_label_of_exact_dns_names() {
    let wild = certificate(Leaf::dns_name("*.Shop.example").uri("*.shop.example"));
    for (name, expected) in [
        ("a.shop.example", true),
        ("A.SHOP.EXAMPLE", true),
        ("a.shop.example.", true),
        ("*.shop.example", true),
        ("a.b.shop.example", false),
        (".shop.example", false),
        ("shop.example", false),
        ("ashop.example", false),
        ("a.shop.example.org", false),
    ] {
        for kind in [SanKind::Dns, SanKind::Any] {
            let passed = passes(&[exact(kind, name)], &wild);
            // As a URI it is what it is.
            let expected = expected || kind == SanKind::Any && name == "*.shop.example";
            assert_eq!(passed, expected, "{kind:?} {name}");
        }
        assert_eq!(
            Wanted::ServerName(name).check(&wild).is_ok(),
            expected,
            "{name}"
        );
    }
    assert!(!passes(&[exact(SanKind::Uri, "a.shop.example")], &wild));
    // Only whole labels, only the first, and only exact matchers know them.
    for offered in ["*", "*.", "a*.shop", "a.*.shop"] {
        assert!(
            !is_host(offered, "ab.b.shop") && !is_host(offered, "ab.shop"),
            "{offered}"
        );
    }
    let suffix = StringMatch::Suffix("a.shop.example".to_owned());
    assert!(!passes(&[san(SanKind::Dns, suffix)], &wild));
}

#[test]
fn the_server_name_must_be_a_dns_name() {
    let certificate = of_each_kind();
    let check = |name| Wanted::ServerName(name).check(&certificate);
    assert!(check("a.shop").is_ok());
    for wrong in ["b.shop", "spiffe://shop/a", "10.0.0.1", ""] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_error_says_what_is_offered_and_what_is_wanted() {
    let certificate = certificate(Leaf::spiffe("spiffe://shop/a").dns("a.shop"));
    let sans = [
        exact(SanKind::Uri, "spiffe://shop/b"),
        san(SanKind::Any, StringMatch::Prefix("b".to_owned())),
    ];
    assert_eq!(
        Wanted::Matchers(&sans)
            .check(&certificate)
            .expect_err("neither"),
        "wrong SAN: the certificate offers URI \"spiffe://shop/a\" or DNS \"a.shop\"; wanted is \
         URI \"spiffe://shop/b\" or any name starting with \"b\""
    );
    assert_eq!(
        Wanted::ServerName("b.shop")
            .check(&certificate)
            .expect_err("another"),
        "wrong SAN: the certificate offers URI \"spiffe://shop/a\" or DNS \"a.shop\"; wanted is \
         DNS \"b.shop\", the server name that was sent"
    );
}
