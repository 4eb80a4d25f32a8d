//! SPIFFE trust bundle maps (gRFC A87): roots by trust domain, in JSON.

use std::{collections::BTreeMap, sync::Arc};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use serde_json::Value;

use super::{MaterialError, Roots};

/// Roots by trust domain, and what is wrong with the bundles that are left out.
#[derive(Debug)]
pub(super) struct BundleMap {
    pub(super) bundles: BTreeMap<Arc<str>, Roots>,
    /// By trust domain.
    pub(super) bad: BTreeMap<Arc<str>, String>,
}

#[derive(Deserialize)]
struct File {
    trust_domains: BTreeMap<String, Value>,
}

/// A JSON Web Key Set with what SPIFFE adds (SPIFFE Trust Domain and Bundle section 4).
#[derive(Deserialize)]
struct Bundle {
    keys: Vec<Key>,
}

/// The members of a JSON Web Key that matter for X.509.
#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(rename = "use")]
    usage: String,
    #[serde(default)]
    x5c: Vec<String>,
}

// === impl BundleMap ===

impl BundleMap {
    /// One bad key makes its bundle bad as a whole.
    ///
    /// # Errors
    /// If it is not such a map, or no bundle of it is good.
    pub(super) fn parse(json: &[u8]) -> Result<Self, MaterialError> {
        // serde's own text quotes what it found.
        let File { trust_domains } = serde_json::from_slice(json).map_err(|error| {
            MaterialError::new(format!(
                "not a SPIFFE bundle map, a JSON object with \"trust_domains\" (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        let mut map = Self {
            bundles: BTreeMap::new(),
            bad: BTreeMap::new(),
        };
        for (domain, bundle) in trust_domains {
            let name = Arc::<str>::from(domain.as_str());
            let parsed = if is_trust_domain(&domain) {
                roots(bundle)
            } else {
                Err("no valid name of a trust domain".to_owned())
            };
            match parsed {
                Ok(roots) => drop(map.bundles.insert(name, roots)),
                Err(problem) => drop(map.bad.insert(name, problem)),
            }
        }
        if map.bundles.is_empty() {
            return Err(MaterialError::new(match map.trouble() {
                Some(trouble) => trouble,
                None => "the bundle map has no trust domain".to_owned(),
            }));
        }
        Ok(map)
    }

    /// What is wrong with its bad bundles.
    pub(super) fn trouble(&self) -> Option<String> {
        let (domain, problem) = self.bad.first_key_value()?;
        let more = match self.bad.len() {
            1 => String::new(),
            bad => format!(", and {} more", bad - 1),
        };
        Some(format!(
            "bad bundle of trust domain {domain:?}: {problem}{more}"
        ))
    }
}

/// The trust domain of a SPIFFE identity; `None`: `uri` is none (SPIFFE-ID section 2). No two
/// identities are written in different ways, so they can be compared as text.
pub(super) fn trust_domain(uri: &str) -> Option<&str> {
    const MAX: usize = 2048;
    let rest = uri.strip_prefix("spiffe://").filter(|_| uri.len() <= MAX)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(legal);
    let (domain, sound) = match rest.split_once('/') {
        Some((domain, path)) => (domain, path.split('/').all(is_segment)),
        None => (rest, true),
    };
    (sound && is_trust_domain(domain)).then_some(domain)
}

/// SPIFFE-ID section 2.1.
fn is_trust_domain(name: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= 255 && name.bytes().all(legal)
}

fn roots(bundle: Value) -> Result<Roots, String> {
    let Bundle { keys } = serde_json::from_value(bundle)
        .map_err(|_| "not a JWK set whose keys have \"kty\" and \"use\"".to_owned())?;
    let mut certificates = Vec::new();
    for (index, key) in keys.into_iter().enumerate() {
        let bad = |problem: &str| format!("keys[{index}]: {problem}");
        match key.usage.as_str() {
            "x509-svid" => {}
            // For tokens.
            "jwt-svid" => continue,
            _ => return Err(bad("\"use\" is neither x509-svid nor jwt-svid")),
        }
        if !matches!(key.kty.as_str(), "RSA" | "EC") {
            return Err(bad("\"kty\" is neither RSA nor EC"));
        }
        let [certificate] = &*key.x5c else {
            return Err(bad("\"x5c\" must have one certificate"));
        };
        let certificate =
            decode(certificate).ok_or_else(|| bad("\"x5c\" is not a certificate in base64"))?;
        certificates.push(certificate);
    }
    Roots::from_der(certificates).map_err(|error| error.to_string())
}

fn decode(base64: &str) -> Option<CertificateDer<'static>> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if !base64.bytes().all(legal) {
        return None;
    }
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::CertificateAuthority;

    fn x5c(ca: &CertificateAuthority) -> String {
        let pem = ca.root_pem();
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    fn key(ca: &CertificateAuthority) -> Value {
        json!({"kty": "EC", "use": "x509-svid", "x5c": [x5c(ca)]})
    }

    fn parse(domains: Value) -> Result<BundleMap, MaterialError> {
        BundleMap::parse(json!({ "trust_domains": domains }).to_string().as_bytes())
    }

    #[test]
    fn roots_by_trust_domain() {
        let [a, b] = ["a", "b"].map(CertificateAuthority::new);
        let map = parse(json!({
            "a.org": {"spiffe_sequence": 1, "keys": [
                key(&a), key(&b), {"kty": "EC", "use": "jwt-svid", "kid": "x"},
            ]},
            "b.org": {"keys": [key(&b)]},
        }))
        .expect("both are good");
        assert_eq!(map.bundles["a.org"].0.len(), 2);
        assert_eq!(map.bundles["b.org"].0.len(), 1);
        assert_eq!(map.trouble(), None);
    }

    #[test]
    fn one_bad_key_makes_its_bundle_bad() {
        let ca = CertificateAuthority::new("a");
        let good = || key(&ca);
        for (bad, why) in [
            (
                json!({"kty": "oct", "use": "x509-svid", "x5c": [x5c(&ca)]}),
                "kty",
            ),
            (json!({"kty": "EC", "use": "sig", "x5c": [x5c(&ca)]}), "use"),
            (json!({"kty": "EC", "x5c": [x5c(&ca)]}), "use"),
            (json!({"kty": "EC", "use": "x509-svid"}), "one certificate"),
            (
                json!({"kty": "EC", "use": "x509-svid", "x5c": [x5c(&ca), x5c(&ca)]}),
                "one",
            ),
            (
                json!({"kty": "EC", "use": "x509-svid", "x5c": ["!"]}),
                "base64",
            ),
            (
                json!({"kty": "EC", "use": "x509-svid", "x5c": ["AAAA"]}),
                "root",
            ),
        ] {
            let map = parse(json!({
                "a.org": {"keys": [good(), bad]},
                "b.org": {"keys": [good()]},
            }))
            .expect("b.org is good");
            assert_eq!(
                map.bundles.keys().map(|k| &**k).collect::<Vec<_>>(),
                ["b.org"]
            );
            let trouble = map.trouble().expect("a.org is bad");
            assert!(
                trouble.contains("a.org") && trouble.contains(why),
                "{trouble}"
            );
        }
    }

    #[test]
    fn a_spiffe_identity_has_one_form() {
        assert_eq!(trust_domain("spiffe://a.org"), Some("a.org"));
        assert_eq!(trust_domain("spiffe://a.org/Ns/b_c-d.e"), Some("a.org"));
        for bad in [
            "",
            "https://a.org/b",
            "Spiffe://a.org/b",
            "spiffe://A.org/b",
            "spiffe:///b",
            "spiffe://a.org/",
            "spiffe://a.org//b",
            "spiffe://a.org/b/",
            "spiffe://a.org/./b",
            "spiffe://a.org/b/..",
            "spiffe://a.org/%62",
            "spiffe://a.org/b?c",
            "spiffe://a.org/b#c",
            "spiffe://a.org:1/b",
            "spiffe://b@a.org/b",
            "spiffe://a.org/\u{e9}",
        ] {
            assert_eq!(trust_domain(bad), None, "{bad}");
        }
        assert_eq!(
            trust_domain(&format!("spiffe://a/{}", "b".repeat(2048))),
            None
        );
    }

    #[test]
    fn a_map_without_a_good_bundle_is_an_error() {
        for bad in [
            json!({}),
            json!({"a.org": {"keys": []}}),
            json!({"A b": {"keys": []}}),
        ] {
            parse(bad).expect_err("nothing to trust");
        }
        let secret = br#"{"trust_domains": "hunter2"}"#;
        let error = BundleMap::parse(secret).expect_err("no map").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
