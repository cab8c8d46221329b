//! Tokens (JWT, RFC 7519) that the requests of a scenario carry, and the keys with which servers check them; made for one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use ring::{hmac, rand};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Who made the tokens, and for whom.
const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "https://api.example/";

/// How long they are good, in seconds.
const LIFETIME: u64 = 24 * 3600;

/// What `load.toml` says about tokens.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    pub alg: Alg,
    /// Different ones, carried in turn.
    pub count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Alg {
    HS256,
    RS256,
    ES256,
}

/// What servers need, and the tokens.
#[derive(Debug, Clone)]
pub struct Made {
    /// Shared with the servers (HS256).
    pub secret: String,
    /// File with the public key (PEM); with the secret for HS256.
    pub public: PathBuf,
    pub tokens: Vec<String>,
}

enum Key {
    Secret(hmac::Key),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Made {
    /// Makes keys and tokens, and the file for the servers in `folder`.
    pub fn new(tokens: Tokens, folder: &Path) -> Result<Self, Failure> {
        let random = SystemRandom::new();
        let broken = |what: &str| Failure(format!("no key for tokens could be made: {what}"));
        let mut secret = String::new();
        let (key, text) = match tokens.alg {
            Alg::HS256 => {
                let bytes: [u8; 32] =
                    rand::generate(&random).map_err(|_| broken("no random numbers"))?.expose();
                secret = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                (Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())), secret.clone())
            }
            Alg::ES256 => {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                    .map_err(|error| broken(&error.to_string()))?;
                let key = EcdsaKeyPair::from_pkcs8(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    pair.serialized_der(),
                    &random,
                )
                .map_err(|error| broken(&error.to_string()))?;
                (Key::Ec(key), pair.public_key_pem())
            }
            Alg::RS256 => {
                let der = rsa_key()?;
                let key = RsaKeyPair::from_pkcs8(&der).map_err(|error| broken(&error.to_string()))?;
                let pair =
                    rcgen::KeyPair::try_from(der.as_slice()).map_err(|error| broken(&error.to_string()))?;
                (Key::Rsa(key), pair.public_key_pem())
            }
        };
        let public = folder.join("token-key.pem");
        fs::write(&public, &text).map_err(|error| Failure::io(&public, &error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let made: Result<Vec<String>, Failure> =
            (0..tokens.count.max(1)).map(|number| key.token(number, now, &random)).collect();
        Ok(Self { secret, public, tokens: made? })
    }
}

impl Key {
    fn token(&self, number: usize, now: u64, random: &SystemRandom) -> Result<String, Failure> {
        let alg = match self {
            Self::Secret(_) => Alg::HS256,
            Self::Rsa(_) => Alg::RS256,
            Self::Ec(_) => Alg::ES256,
        };
        let header = format!(r#"{{"alg":"{alg:?}","typ":"JWT"}}"#);
        let claims = format!(
            r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"user-{number}","iat":{now},"exp":{},"jti":"{now:x}-{number:x}","roles":["customer","beta"]}}"#,
            now + LIFETIME
        );
        let text = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let broken = |_| Failure("a token could not be signed".to_owned());
        let signature = match self {
            Self::Secret(key) => hmac::sign(key, text.as_bytes()).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, random, text.as_bytes(), &mut signature).map_err(broken)?;
                signature
            }
            Self::Ec(key) => key.sign(random, text.as_bytes()).map_err(broken)?.as_ref().to_vec(),
        };
        Ok(format!("{text}.{}", base64url(&signature)))
    }
}

/// A private key of 2048 bits, in PKCS #8: made by OpenSSL's program, as ring makes none.
fn rsa_key() -> Result<Vec<u8>, Failure> {
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let output = command.output().map_err(|error| {
        Failure(format!("openssl, which makes the key for RS256, cannot be run: {error}"))
    })?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&output.stdout);
    key.map(|key| key.secret_pkcs8_der().to_vec())
        .map_err(|_| Failure(format!("openssl genpkey: {}", String::from_utf8_lossy(&output.stderr))))
}

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=group.len() {
            let place = usize::try_from(bits >> (18 - 6 * digit) & 63).expect("six bits");
            text.push(char::from(DIGITS[place]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64url(text.as_bytes()), expected);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn tokens_differ_and_their_signatures_fit_the_key() {
        let random = SystemRandom::new();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der(), &random)
            .unwrap();
        let rsa = RsaKeyPair::from_pkcs8(&rsa_key().unwrap()).unwrap();
        let public = rsa.public().as_ref().to_vec();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        for key in [Key::Secret(secret), Key::Ec(ec), Key::Rsa(rsa)] {
            let token = key.token(1, 1000, &random).unwrap();
            assert_ne!(token, key.token(2, 1000, &random).unwrap());
            let (text, signature) = token.rsplit_once('.').unwrap();
            let mut bits = signature.bytes().flat_map(|byte| {
                let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
                let place = digits.iter().position(|digit| *digit == byte).unwrap();
                (0..6).rev().map(move |bit| place >> bit & 1)
            });
            let signature: Vec<u8> = std::iter::from_fn(|| {
                let byte: Vec<usize> = bits.by_ref().take(8).collect();
                (byte.len() == 8)
                    .then(|| byte.iter().fold(0, |byte, bit| byte << 1 | u8::try_from(*bit).unwrap()))
            })
            .collect();
            match &key {
                Key::Secret(key) => hmac::verify(key, text.as_bytes(), &signature).unwrap(),
                Key::Ec(_) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key_raw())
                    .verify(text.as_bytes(), &signature)
                    .unwrap(),
                Key::Rsa(_) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public)
                    .verify(text.as_bytes(), &signature)
                    .unwrap(),
            }
        }
    }
}
