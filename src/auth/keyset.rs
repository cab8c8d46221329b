//! The keys of an issuer: a JWK Set (RFC 7517 §5), a PEM file, a secret.

use std::fmt;

use serde_json::{Map, Value};

use super::{
    Alg, Algs, Reject,
    jws::{self, Jws, Room},
    key::{BadKey, Key, KeyId},
    pem,
};

/// Largest JWK Set, in bytes, and most keys in one (DESIGN §15).
pub const DOCUMENT_BYTES_MAX: usize = 512 * 1024;
const KEYS_MAX: usize = 100;
/// Keys tried for one token: a token without `kid` must not cost a signature for each key of a large set.
const TRIES_MAX: usize = 4;

/// Keys to verify with. None is also a set: that of an issuer whose keys are not here yet.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// The key has no name of its own, so the token's says nothing: a secret or a PEM file.
    ignores_kid: bool,
    /// Keys of the document that are not used, and why.
    left_out: Vec<String>,
}

/// Why a document has no keys for us. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadKeys {
    TooLarge,
    TooMany(usize),
    /// Not JSON, or without `keys`.
    NotJwks,
    NotPem,
    Key(BadKey),
    /// None of the keys can be used; the reasons are those of each.
    NoneUsable(Vec<String>),
}

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "is larger than {} KiB", DOCUMENT_BYTES_MAX / 1024),
            Self::TooMany(count) => write!(f, "has {count} keys; {KEYS_MAX} are allowed"),
            Self::NotJwks => f.write_str("is no JWK Set: {\"keys\": [{\"kty\": …}]}"),
            Self::NotPem => f.write_str("has no public key or certificate in PEM"),
            Self::Key(bad) => write!(f, "cannot be used: {bad}"),
            Self::NoneUsable(why) if why.is_empty() => f.write_str("has no key"),
            Self::NoneUsable(why) => write!(f, "has no key that can be used ({})", why.join("; ")),
        }
    }
}

impl KeySet {
    /// The keys of a JWK Set that fit `allowed`. Keys of other types, for encryption, too short or malformed are left out: the
    /// others of the set still count.
    pub fn from_jwks(document: &[u8], allowed: Algs) -> Result<Self, BadKeys> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(BadKeys::TooLarge);
        }
        let value: Value = serde_json::from_slice(document).map_err(|_| BadKeys::NotJwks)?;
        let Some(Value::Array(list)) = value.get("keys") else { return Err(BadKeys::NotJwks) };
        if list.len() > KEYS_MAX {
            return Err(BadKeys::TooMany(list.len()));
        }
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for (index, value) in list.iter().enumerate() {
            let jwk = value.as_object().ok_or_else(|| "it is no object".to_owned());
            let key = jwk.and_then(|jwk| from_jwk(jwk, allowed));
            match key {
                Ok(key) => keys.push(key),
                Err(why) => {
                    let kid = value.get("kid").and_then(Value::as_str).unwrap_or("-");
                    let kid: String = kid.chars().filter(|c| !c.is_control()).take(64).collect();
                    left_out.push(format!("key {} (kid {kid}): {why}", index + 1));
                }
            }
        }
        if keys.is_empty() {
            return Err(BadKeys::NoneUsable(left_out));
        }
        Ok(Self { keys, ignores_kid: false, left_out })
    }

    /// The public keys of a PEM text: `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`.
    pub fn from_pem(text: &[u8], allowed: Algs) -> Result<Self, BadKeys> {
        let keys = pem::keys(text, allowed.and(Algs::ASYMMETRIC))?;
        Self::fixed(keys)
    }

    /// A secret that the issuer shares with us.
    pub fn from_secret(secret: &[u8], allowed: Algs) -> Result<Self, BadKeys> {
        let key = Key::secret(secret, None, allowed).map_err(BadKeys::Key)?;
        Self::fixed(vec![key])
    }

    fn fixed(keys: Vec<Key>) -> Result<Self, BadKeys> {
        let keys: Vec<_> = keys.into_iter().filter(|key| !key.algs.is_empty()).collect();
        if keys.is_empty() {
            return Err(BadKeys::NoneUsable(Vec::new()));
        }
        Ok(Self { keys, ignores_kid: true, left_out: Vec::new() })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// What the keys can verify.
    pub fn algs(&self) -> Algs {
        Alg::ALL
            .into_iter()
            .filter(|alg| self.keys.iter().any(|key| key.algs.contains(*alg)))
            .fold(Algs::NONE, Algs::with)
    }

    /// Keys of the document that are not used, and why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Whether it has this very key still.
    pub fn contains(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether both are the same keys under the same rules.
    pub fn is_same(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().all(|key| other.contains(key.id))
    }

    /// The key whose signature the token has.
    ///
    /// `Key` if no key has its `kid`: a fresh set may have. A key that has it and is not for the token's `alg` is `Algorithm`.
    pub fn verify(&self, jws: &Jws<'_>, room: &mut Room) -> Result<KeyId, Reject> {
        jws::decode(jws.signature, &mut room.signature)?;
        let kid = jws.kid.as_deref().filter(|_| !self.ignores_kid);
        let mut tried = self.attempt(jws, &room.signature, |key| kid.is_none() || key.kid.as_deref() == kid);
        if tried == Err(Reject::Key) && kid.is_some() {
            // A set may have keys without a name.
            tried = self.attempt(jws, &room.signature, |key| key.kid.is_none()).map_err(|_| Reject::Key);
        }
        tried
    }

    fn attempt(
        &self,
        jws: &Jws<'_>,
        signature: &[u8],
        named: impl Fn(&Key) -> bool,
    ) -> Result<KeyId, Reject> {
        let mut reject = Reject::Key;
        let mut left = TRIES_MAX;
        for key in self.keys.iter().filter(|key| named(key)) {
            if !key.algs.contains(jws.alg) {
                if reject == Reject::Key {
                    reject = Reject::Algorithm;
                }
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            if key.verifies(jws.alg, jws.signed, signature) {
                return Ok(key.id);
            }
            reject = Reject::Signature;
        }
        Err(reject)
    }
}

/// One JWK (RFC 7517 §4). What it says about its use must allow verifying; members we do not know mean nothing (§4).
fn from_jwk(jwk: &Map<String, Value>, allowed: Algs) -> Result<Key, String> {
    let text = |name: &str| match jwk.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("`{name}` is no string")),
        None => Err(format!("`{name}` is missing")),
    };
    let bytes = |name: &str| {
        let mut out = Vec::new();
        jws::decode(text(name)?.as_bytes(), &mut out).map_err(|_| format!("`{name}` is no base64url"))?;
        Ok::<_, String>(out)
    };
    if jwk.contains_key("use") && text("use")? != "sig" {
        return Err("it is not for signatures".to_owned());
    }
    if let Some(operations) = jwk.get("key_ops") {
        let verifies = operations.as_array().is_some_and(|list| list.iter().any(|one| one == "verify"));
        if !verifies {
            return Err("its `key_ops` have no \"verify\"".to_owned());
        }
    }
    let only = match jwk.get("alg") {
        None => allowed,
        Some(_) => {
            let name = text("alg")?;
            let alg = Alg::named(name.as_bytes())
                .ok_or_else(|| format!("algorithm {name:.32} is not supported"))?;
            allowed.and(Algs::NONE.with(alg))
        }
    };
    let kid = if jwk.contains_key("kid") { Some(text("kid")?.as_bytes()) } else { None };
    let bad = |bad: BadKey| bad.to_string();
    let key = match text("kty")? {
        "oct" => Key::secret(&bytes("k")?, kid, only).map_err(bad),
        "RSA" => Key::rsa(&bytes("n")?, &bytes("e")?, kid, only).map_err(bad),
        "EC" => {
            let size = match text("crv")? {
                "P-256" => 32,
                "P-384" => 48,
                _ => return Err(BadKey::Curve.to_string()),
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            // Of full size (RFC 7518 §6.2.1.2).
            if x.len() != size || y.len() != size {
                return Err(BadKey::Point.to_string());
            }
            Key::point(&[&[4], &x[..], &y[..]].concat(), kid, only).map_err(bad)
        }
        "OKP" if text("crv")? == "Ed25519" => Key::ed25519(&bytes("x")?, kid, only).map_err(bad),
        "OKP" => Err(BadKey::Curve.to_string()),
        kty => Err(format!("type {kty:.32} is not supported")),
    }?;
    if key.algs.is_empty() {
        return Err("none of its algorithms is allowed".to_owned());
    }
    Ok(key)
}

/// The keys by what they are, never themselves.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}
