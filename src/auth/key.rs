//! One key, ready to verify with, and the proof of a signature.

use std::fmt;

use ring::{
    digest, hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};

use super::{Alg, Algs};

/// What a key is, whatever document it came in: equal keys with equal rules have equal ones, over every refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 16]);

/// A key and what it may be used for.
pub struct Key {
    pub id: KeyId,
    pub kid: Option<Box<[u8]>>,
    /// The algorithms that fit its type and what it says itself.
    pub algs: Algs,
    material: Material,
}

/// In the order of a secret's keys.
const HMACS: [(Alg, hmac::Algorithm); 3] =
    [(Alg::Hs256, hmac::HMAC_SHA256), (Alg::Hs384, hmac::HMAC_SHA384), (Alg::Hs512, hmac::HMAC_SHA512)];

enum Material {
    /// For SHA-256, -384 and -512; those that are longer than the secret are not there (RFC 7518 §3.2).
    Hmac(Box<[Option<hmac::Key>; 3]>),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    /// An uncompressed point.
    P256(UnparsedPublicKey<Box<[u8]>>),
    P384(UnparsedPublicKey<Box<[u8]>>),
    Ed25519(UnparsedPublicKey<Box<[u8]>>),
}

/// Why bytes are no key we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// RFC 7518 §3.2: at least as long as the hash, 32 bytes for HS256.
    ShortSecret,
    /// RFC 8725 §3.5, RFC 7518 §3.3.
    ShortRsa,
    LongRsa,
    /// The exponent is even, or 1.
    RsaExponent,
    /// The coordinates are not of the curve's size.
    Point,
    /// Neither P-256, P-384 nor Ed25519.
    Curve,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortSecret => "the secret is shorter than 32 bytes",
            Self::ShortRsa => "the RSA key has fewer than 2048 bits",
            Self::LongRsa => "the RSA key has more than 8192 bits",
            Self::RsaExponent => "the RSA key's exponent is unusable",
            Self::Point => "the key is no point of its curve",
            Self::Curve => "the curve is none of P-256, P-384 and Ed25519",
        })
    }
}

impl Key {
    /// A shared secret.
    pub fn secret(secret: &[u8], kid: Option<&[u8]>, only: Algs) -> Result<Self, BadKey> {
        if secret.len() < 32 {
            return Err(BadKey::ShortSecret);
        }
        let fits = |hash: hmac::Algorithm| secret.len() >= hash.digest_algorithm().output_len();
        let algs =
            HMACS.iter().filter(|(_, hash)| fits(*hash)).fold(Algs::NONE, |all, (alg, _)| all.with(*alg));
        let keys = HMACS.map(|(_, hash)| fits(hash).then(|| hmac::Key::new(hash, secret)));
        Ok(Self::new(Material::Hmac(Box::new(keys)), algs.and(only), kid, &[b"oct", secret]))
    }

    /// An RSA key: modulus and exponent, big-endian.
    pub fn rsa(n: &[u8], e: &[u8], kid: Option<&[u8]>, only: Algs) -> Result<Self, BadKey> {
        let strip = |bytes: &[u8]| -> Box<[u8]> {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].into()
        };
        let (n, e) = (strip(n), strip(e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        match bits {
            ..2048 => return Err(BadKey::ShortRsa),
            8193.. => return Err(BadKey::LongRsa),
            _ => {}
        }
        // What ring accepts: odd, 3 to 33 bits.
        let odd = e.last().is_some_and(|last| last % 2 == 1);
        if !odd || *e == [1] || e.len() > 5 || (e.len() == 5 && e[0] > 1) {
            return Err(BadKey::RsaExponent);
        }
        let parts: [&[u8]; 3] = [b"RSA", &n, &e];
        let id = identity(&parts, Algs::RSA.and(only), kid);
        let material = Material::Rsa(RsaPublicKeyComponents { n, e });
        Ok(Self { id, kid: kid.map(Into::into), algs: Algs::RSA.and(only), material })
    }

    /// A key on an elliptic curve, as an uncompressed point: 0x04, x, y.
    pub fn point(point: &[u8], kid: Option<&[u8]>, only: Algs) -> Result<Self, BadKey> {
        if point.first() != Some(&4) {
            return Err(BadKey::Point);
        }
        let unparsed = |alg: &'static dyn VerificationAlgorithm| UnparsedPublicKey::new(alg, point.into());
        let (material, alg) = match point.len() {
            65 => (Material::P256(unparsed(&ECDSA_P256_SHA256_FIXED)), Alg::Es256),
            97 => (Material::P384(unparsed(&ECDSA_P384_SHA384_FIXED)), Alg::Es384),
            _ => return Err(BadKey::Point),
        };
        Ok(Self::new(material, Algs::NONE.with(alg).and(only), kid, &[b"EC", point]))
    }

    pub fn ed25519(public: &[u8], kid: Option<&[u8]>, only: Algs) -> Result<Self, BadKey> {
        if public.len() != 32 {
            return Err(BadKey::Point);
        }
        let material = Material::Ed25519(UnparsedPublicKey::new(&ED25519, public.into()));
        Ok(Self::new(material, Algs::NONE.with(Alg::EdDsa).and(only), kid, &[b"OKP", public]))
    }

    fn new(material: Material, algs: Algs, kid: Option<&[u8]>, parts: &[&[u8]]) -> Self {
        Self { id: identity(parts, algs, kid), kid: kid.map(Into::into), algs, material }
    }

    /// Whether `signature` is this key's over `signed`. The algorithm is one of the key's own: what a token says about it was
    /// compared before.
    pub fn verifies(&self, alg: Alg, signed: &[u8], signature: &[u8]) -> bool {
        if !self.algs.contains(alg) {
            return false;
        }
        match &self.material {
            Material::Hmac(keys) => {
                let place = HMACS.iter().position(|(hmac, _)| *hmac == alg);
                let key = place.and_then(|place| keys[place].as_ref());
                key.is_some_and(|key| hmac::verify(key, signed, signature).is_ok())
            }
            Material::Rsa(key) => rsa(alg).is_some_and(|rsa| key.verify(rsa, signed, signature).is_ok()),
            // One algorithm each, and that was compared above.
            Material::P256(key) | Material::P384(key) | Material::Ed25519(key) => {
                key.verify(signed, signature).is_ok()
            }
        }
    }
}

const fn rsa(alg: Alg) -> Option<&'static RsaParameters> {
    Some(match alg {
        Alg::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Alg::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Alg::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Alg::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Alg::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Alg::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Alg::Hs256 | Alg::Hs384 | Alg::Hs512 | Alg::Es256 | Alg::Es384 | Alg::EdDsa => return None,
    })
}

fn identity(parts: &[&[u8]], algs: Algs, kid: Option<&[u8]>) -> KeyId {
    let mut hash = digest::Context::new(&digest::SHA256);
    let rules = format!("{algs:?}");
    for part in parts.iter().copied().chain([rules.as_bytes(), kid.unwrap_or_default()]) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finish();
    KeyId(*hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
}

/// Never the key itself.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kid = self.kid.as_deref().map(String::from_utf8_lossy);
        f.debug_struct("Key").field("id", &self.id).field("kid", &kid).field("algs", &self.algs).finish()
    }
}
