use std::{
    fmt,
    net::IpAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use crate::identity::{Identity, Roots, default_crypto_provider};

const HOUR: Duration = Duration::from_secs(3600);

/// An in-memory certificate authority: a root, and what it signs.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use mesh_core::testing::{CertificateAuthority, Leaf};
///
/// let ca = CertificateAuthority::new("test root");
/// let greeter = ca.issue(Leaf::spiffe("spiffe://shop/greeter").dns("greeter.shop"));
///
/// // As a service uses it...
/// let identity = greeter.identity();
/// assert_eq!(identity.leaf().spiffe_id(), Some("spiffe://shop/greeter"));
/// let trust = ca.roots();
/// // ...or in files.
/// assert!(greeter.chain_pem().starts_with("-----BEGIN CERTIFICATE"));
/// assert!(ca.root_pem().starts_with("-----BEGIN CERTIFICATE"));
///
/// // One that has expired, one of another issuer, one with an issuer in between.
/// let now = SystemTime::now();
/// let hour = Duration::from_secs(3600);
/// let expired = ca.issue(Leaf::dns_name("a.shop").valid(now - 2 * hour..now - hour));
/// let foreign = CertificateAuthority::new("another").issue(Leaf::dns_name("a.shop"));
/// let chained = ca.intermediate("issuing").issue(Leaf::dns_name("a.shop"));
/// assert_eq!(chained.chain().pems().len(), 2);
/// ```
///
/// Keys are ECDSA P-256, made afresh each time. Cheap to clone. Needs one of the features
/// `aws-lc-rs` and `ring`.
#[derive(Clone)]
pub struct CertificateAuthority(Arc<Authority>);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    name: String,
    root: Certificate,
    /// What stands between a leaf and the root, the nearest to the leaf first.
    intermediates: Vec<Certificate>,
}

/// What a certificate is to say. Valid from an hour ago for a day, for servers and clients, if
/// nothing else is said.
#[derive(Debug, Clone)]
#[must_use = "does nothing unless a certificate authority issues it"]
pub struct Leaf {
    names: Vec<SanType>,
    subject: Option<String>,
    valid: Option<Range<SystemTime>>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Issued {
    chain: Chain,
    key: Arc<KeyPair>,
}

/// A certificate and those that lead from it to the root, without the root.
#[derive(Clone)]
pub struct Chain(Vec<Certificate>);

/// The public key of somebody else.
struct ForeignKey {
    algorithm: &'static SignatureAlgorithm,
    bits: Vec<u8>,
}

// === impl CertificateAuthority ===

impl CertificateAuthority {
    /// A new root of this name, valid from a day ago for ten years.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let (params, key) = authority(&name);
        let root = params.self_signed(&key).expect("a root signs itself");
        Self(Arc::new(Authority {
            issuer: Issuer::new(params, key),
            name,
            root,
            intermediates: Vec::new(),
        }))
    }

    /// An authority of this name whose certificate this one signs. What it issues carries that
    /// certificate in its chain, and is trusted by who trusts [`roots`](Self::roots).
    pub fn intermediate(&self, name: impl Into<String>) -> Self {
        let name = name.into();
        let (params, key) = authority(&name);
        let certificate = params
            .signed_by(&key, &self.0.issuer)
            .expect("an authority signs another");
        Self(Arc::new(Authority {
            issuer: Issuer::new(params, key),
            name,
            root: self.0.root.clone(),
            intermediates: std::iter::once(certificate)
                .chain(self.0.intermediates.iter().cloned())
                .collect(),
        }))
    }

    /// A certificate that says this, with a new key.
    ///
    /// # Panics
    /// If a name cannot stand in a certificate: it is not ASCII.
    pub fn issue(&self, leaf: Leaf) -> Issued {
        let key = KeyPair::generate().expect("there is randomness");
        let chain = self.sign(leaf, &key);
        Issued {
            chain,
            key: Arc::new(key),
        }
    }

    /// A certificate that says this, for the public key of somebody else: a
    /// `SubjectPublicKeyInfo` in DER, such as a signing request contains.
    ///
    /// # Panics
    /// If the key is not one of ECDSA P-256, ECDSA P-384 or Ed25519.
    pub fn issue_for(&self, leaf: Leaf, public_key: &[u8]) -> Chain {
        self.sign(leaf, &ForeignKey::parse(public_key))
    }

    /// [`issue`](Self::issue) of a certificate with this SPIFFE identity, ready for use.
    pub fn identity(&self, spiffe_id: impl AsRef<str>) -> Identity {
        self.issue(Leaf::spiffe(spiffe_id)).identity()
    }

    /// The root, to be trusted.
    pub fn roots(&self) -> Roots {
        Roots::from_der([self.0.root.der().clone()]).expect("a root of our own is one")
    }

    /// The root, in DER.
    pub fn root_der(&self) -> &CertificateDer<'static> {
        self.0.root.der()
    }

    /// The root, in PEM.
    pub fn root_pem(&self) -> String {
        self.0.root.pem()
    }

    fn sign(&self, leaf: Leaf, key: &impl PublicKeyData) -> Chain {
        let certificate = leaf
            .params()
            .signed_by(key, &self.0.issuer)
            .expect("an authority signs a leaf");
        let intermediates = self.0.intermediates.iter().cloned();
        Chain(std::iter::once(certificate).chain(intermediates).collect())
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateAuthority")
            .field(&self.0.name)
            .finish()
    }
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.serial_number = Some(serial());
    let now = SystemTime::now();
    params.not_before = (now - 24 * HOUR).into();
    params.not_after = (now + 10 * 365 * 24 * HOUR).into();
    (params, KeyPair::generate().expect("there is randomness"))
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// A number of its own for each certificate, so that two of them can be told apart.
fn serial() -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SerialNumber::from_slice(&number.to_be_bytes())
}

// === impl Leaf ===

impl Leaf {
    /// With no name at all.
    pub fn unnamed() -> Self {
        Self {
            names: Vec::new(),
            subject: None,
            valid: None,
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    /// With this SPIFFE identity, such as `spiffe://shop/greeter`.
    pub fn spiffe(id: impl AsRef<str>) -> Self {
        Self::unnamed().uri(id)
    }

    /// With this DNS name.
    pub fn dns_name(name: impl AsRef<str>) -> Self {
        Self::unnamed().dns(name)
    }

    /// Adds a URI name.
    pub fn uri(self, uri: impl AsRef<str>) -> Self {
        self.name(SanType::URI(ascii(uri.as_ref())))
    }

    /// Adds a DNS name, which may be a wildcard such as `*.shop`.
    pub fn dns(self, name: impl AsRef<str>) -> Self {
        self.name(SanType::DnsName(ascii(name.as_ref())))
    }

    /// Adds an email address.
    pub fn email(self, address: impl AsRef<str>) -> Self {
        self.name(SanType::Rfc822Name(ascii(address.as_ref())))
    }

    /// Adds an IP address.
    pub fn ip(self, address: impl Into<IpAddr>) -> Self {
        self.name(SanType::IpAddress(address.into()))
    }

    /// Sets the common name of the subject. It has none otherwise.
    pub fn subject(mut self, common_name: impl Into<String>) -> Self {
        self.subject = Some(common_name.into());
        self
    }

    /// From when to when it is valid; to the second.
    pub fn valid(mut self, period: Range<SystemTime>) -> Self {
        self.valid = Some(period);
        self
    }

    /// Makes it one for servers alone.
    pub fn server_only(mut self) -> Self {
        self.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// Makes it one for clients alone.
    pub fn client_only(mut self) -> Self {
        self.usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    fn name(mut self, name: SanType) -> Self {
        self.names.push(name);
        self
    }

    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = match self.subject {
            Some(name) => subject(&name),
            None => DistinguishedName::new(),
        };
        params.subject_alt_names = self.names;
        params.extended_key_usages = self.usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Said aloud, as SPIRE does: clients of a Workload API insist on it.
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        let valid = self.valid.unwrap_or_else(|| {
            let now = SystemTime::now();
            now - HOUR..now + 24 * HOUR
        });
        params.not_before = valid.start.into();
        params.not_after = valid.end.into();
        params
    }
}

fn ascii<T: for<'a> TryFrom<&'a str>>(name: &str) -> T {
    match T::try_from(name) {
        Ok(name) => name,
        Err(_) => panic!("{name:?} cannot stand in a certificate: it is not ASCII"),
    }
}

// === impl Issued ===

impl Issued {
    /// Ready for use, with the cryptography of this crate's features.
    ///
    /// # Panics
    /// If neither `aws-lc-rs` nor `ring` is on.
    pub fn identity(&self) -> Identity {
        let crypto = default_crypto_provider().expect("feature aws-lc-rs or ring");
        Identity::from_der(self.chain.der(), self.key_der(), &crypto)
            .expect("a certificate is issued with its key")
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The chain in PEM, the leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain.pem()
    }

    /// The private key, PKCS #8 in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The private key, PKCS #8 in DER.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

// === impl Chain ===

impl Chain {
    /// In DER, the leaf first.
    pub fn der(&self) -> Vec<CertificateDer<'static>> {
        self.0.iter().map(|signed| signed.der().clone()).collect()
    }

    /// In PEM, the leaf first.
    pub fn pem(&self) -> String {
        self.0.iter().map(Certificate::pem).collect()
    }

    /// Each certificate in PEM, the leaf first.
    pub fn pems(&self) -> Vec<String> {
        self.0.iter().map(Certificate::pem).collect()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({})", self.0.len())
    }
}

// === impl ForeignKey ===

impl ForeignKey {
    fn parse(der: &[u8]) -> Self {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).expect("a SubjectPublicKeyInfo");
        let curve = info.algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string());
        let kind = info.algorithm.algorithm.to_id_string();
        let algorithm = match (kind.as_str(), curve.as_deref()) {
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => &PKCS_ECDSA_P256_SHA256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => &PKCS_ECDSA_P384_SHA384,
            ("1.3.101.112", None) => &PKCS_ED25519,
            _ => panic!("no key of ECDSA P-256, ECDSA P-384 or Ed25519: {kind} {curve:?}"),
        };
        Self {
            algorithm,
            bits: info.subject_public_key.data.to_vec(),
        }
    }
}

impl PublicKeyData for ForeignKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_what_it_was_to_say() {
        let start = SystemTime::UNIX_EPOCH + 400_000 * HOUR;
        let leaf = Leaf::spiffe("spiffe://shop/a")
            .dns("*.shop")
            .email("a@shop")
            .ip([10, 0, 0, 1])
            .subject("a")
            .valid(start..start + HOUR);
        let identity = CertificateAuthority::new("root").issue(leaf).identity();
        let leaf = &identity.leaf;
        assert_eq!(leaf.spiffe_id(), Some("spiffe://shop/a"));
        assert_eq!(&*leaf.dns_names[0], "*.shop");
        assert_eq!(&*leaf.emails[0], "a@shop");
        assert_eq!(leaf.addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(&*leaf.subject, "CN=a");
        assert_eq!(identity.validity(), (start, start + HOUR));
    }

    #[test]
    fn a_foreign_key_is_certified() {
        let ca = CertificateAuthority::new("root").intermediate("issuing");
        let key = KeyPair::generate().expect("there is randomness");
        let chain = ca.issue_for(
            Leaf::spiffe("spiffe://shop/a"),
            &key.subject_public_key_info(),
        );
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let crypto = default_crypto_provider().expect("tests have cryptography");
        let identity = Identity::from_der(chain.der(), key.into(), &crypto)
            .expect("the certificate is for this key");
        assert_eq!(identity.leaf.chain.len(), 2);
        assert_eq!(chain.pems().len(), 2);
    }

    #[test]
    fn each_certificate_has_its_own_serial() {
        let ca = CertificateAuthority::new("root");
        let [a, b] = [(); 2].map(|()| ca.identity("spiffe://shop/a").leaf.serial);
        assert_ne!(a, b);
    }
}
