//! The key that snapshots are authenticated with.

use std::{fmt, sync::Arc};

use rustls::crypto::{
    CryptoProvider, hash::HashAlgorithm, hmac::Tag, tls13::Hkdf, tls13::OkmBlock,
};

use super::error::{SnapshotError, SnapshotErrorKind};

/// Bytes of an authentication code.
pub(super) const CODE_LENGTH: usize = 32;

/// Bytes that a key may have: fewer are no secret, more are hashed first (RFC 2104 section 3).
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=OkmBlock::MAX_LEN;

/// A key for HMAC-SHA256 (RFC 2104), and who computes it.
pub(super) struct Key {
    hmac: &'static dyn Hkdf,
    secret: OkmBlock,
}

// === impl Key ===

impl Key {
    /// The key `secret`, computed with by `crypto`.
    ///
    /// # Errors
    /// If no key has that length, or `crypto` has no SHA-256.
    pub(super) fn new(
        secret: &[u8],
        crypto: Option<&Arc<CryptoProvider>>,
    ) -> Result<Self, SnapshotError> {
        let problem = |problem: String| SnapshotError::new(SnapshotErrorKind::Options, problem);
        if !LENGTHS.contains(&secret.len()) {
            let (least, most) = (LENGTHS.start(), LENGTHS.end());
            return Err(problem(format!(
                "a key of {} bytes: it must have {least} to {most}",
                secret.len()
            )));
        }
        let suites = crypto.into_iter().flat_map(|crypto| &crypto.cipher_suites);
        let hmac = suites
            .filter_map(|suite| suite.tls13())
            .find(|suite| suite.common.hash_provider.algorithm() == HashAlgorithm::SHA256)
            .map(|suite| suite.hkdf_provider)
            .ok_or_else(|| {
                problem("a key needs cryptography that has HMAC-SHA256, and there is none".into())
            })?;
        Ok(Self {
            hmac,
            secret: OkmBlock::new(secret),
        })
    }

    /// The authentication code of `content`.
    pub(super) fn code(&self, content: &[u8]) -> Tag {
        self.hmac.hmac_sign(&self.secret, content)
    }

    /// Whether `code` is that of `content`. Takes as long for a code that is almost right.
    pub(super) fn made(&self, code: &[u8], content: &[u8]) -> bool {
        let ours = self.code(content);
        let ours = ours.as_ref();
        let differences = ours.iter().zip(code).fold(0, |all, (a, b)| all | (a ^ b));
        ours.len() == code.len() && std::hint::black_box(differences) == 0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(all(test, feature = "aws-lc-rs"))]
mod tests {
    use super::*;
    use crate::identity::default_crypto_provider;

    /// RFC 4231 section 4.2, test case 1.
    #[test]
    fn hmac_sha256() {
        let crypto = default_crypto_provider();
        let key = Key::new(&[0x0b; 20], crypto.as_ref()).unwrap();
        let code = [
            0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b,
            0xf1, 0x2b, 0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83, 0x3d, 0xa7, 0x26, 0xe9, 0x37, 0x6c,
            0x2e, 0x32, 0xcf, 0xf7,
        ];
        assert_eq!(key.code(b"Hi There").as_ref(), code);
        assert!(key.made(&code, b"Hi There"));
        assert!(!key.made(&code, b"Hi there"));
        assert!(!key.made(&code[..31], b"Hi There"));
        assert!(!key.made(&[], b"Hi There"));
        for length in [0, 15, 65] {
            let error = Key::new(&vec![1; length], crypto.as_ref()).unwrap_err();
            assert_eq!(error.kind(), SnapshotErrorKind::Options);
            assert!(error.to_string().contains("16 to 64"), "{error}");
        }
        let error = Key::new(&[1; 32], None).unwrap_err();
        assert!(error.to_string().contains("HMAC-SHA256"), "{error}");
    }
}
