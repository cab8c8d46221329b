//! The keys that sign: files below `state`, readable for their owner only, and when each is used.
//!
//! `keys.json` in a key folder says of each key from when it signs and until when it is published; `KID.pem` is the key (PKCS #8).
//! A key is published before it signs, and for as long after as the last token it signed is good.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::issuing::Signing;

/// How long verifiers may keep our keys without asking again, in seconds: what `/.well-known/jwks.json` says.
pub const JWKS_SECONDS: u64 = 300;
/// Clocks differ: so much longer than the last token a key is published, in seconds.
const SLACK_SECONDS: u64 = 300;

const INDEX: &str = "keys.json";

/// Every key of an issuer that is not over, oldest first.
pub struct Keys(Vec<SigningKey>);

pub struct SigningKey {
    pub facts: Facts,
    pair: Pair,
    /// The public key (RFC 7517).
    jwk: Value,
}

/// What `keys.json` says of a key. Times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub kid: String,
    pub alg: String,
    pub created: u64,
    pub signs_from: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_until: Option<u64>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// Why keys cannot be used: for the operator, with the file.
#[derive(Debug)]
pub struct KeyFault(pub String);

impl Keys {
    /// Reads the keys in `folder`. None when there is no folder yet.
    pub fn read(folder: &Path, now: u64) -> Result<Self, KeyFault> {
        let mut keys = Vec::new();
        for facts in read_index(folder)? {
            if facts.published_until.is_some_and(|until| until <= now) {
                continue;
            }
            let path = folder.join(format!("{}.pem", facts.kid));
            let pem = fs::read(&path).map_err(|error| KeyFault(format!("{}: {error}", path.display())))?;
            let pair =
                Pair::of(&pem, &facts.alg).map_err(|why| KeyFault(format!("{}: {why}", path.display())))?;
            let jwk = pair.jwk();
            keys.push(SigningKey { facts, pair, jwk });
        }
        keys.sort_by_key(|key| key.facts.signs_from);
        Ok(Self(keys))
    }

    /// The same, with a key for `signing` made first where there is none that signs.
    pub fn read_or_make(folder: &Path, signing: Signing, access: u64, now: u64) -> Result<Self, KeyFault> {
        let keys = Self::read(folder, now)?;
        if keys.signer(signing, now).is_some() {
            return Ok(keys);
        }
        if signing == Signing::Rs256 {
            return Err(KeyFault(format!(
                "{}: RS256 signs with keys made elsewhere: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem, \
                 then coregate keys import key.pem",
                folder.display()
            )));
        }
        let _locked = lock(folder)?;
        // Another process may have been faster.
        let keys = Self::read(folder, now)?;
        if keys.signer(signing, now).is_none() {
            add(folder, &generate(signing)?, signing, access, now, now)?;
        }
        Self::read(folder, now)
    }

    /// The key that signs now: the newest whose time has come.
    pub fn signer(&self, signing: Signing, now: u64) -> Option<&SigningKey> {
        let fits = |key: &&SigningKey| key.facts.alg == signing.name() && key.facts.signs_from <= now;
        self.0.iter().rev().find(fits)
    }

    pub fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.0.iter().find(|key| key.facts.kid == kid)
    }

    pub fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.0.iter().map(|key| &key.facts)
    }

    /// The public keys as a JWK Set (RFC 7517 §5), those included that will sign later.
    pub fn jwks(&self) -> String {
        json!({ "keys": self.0.iter().map(|key| &key.jwk).collect::<Vec<_>>() }).to_string()
    }
}

impl SigningKey {
    /// Signs as JWS wants it (RFC 7518 §3.3, §3.4; RFC 8037 §3.1).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let random = SystemRandom::new();
        let failed = |_| KeyFault(format!("key {} does not sign", self.facts.kid));
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut out).map_err(failed)?;
                Ok(out)
            }
        }
    }

    /// Whether this key made the signature.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        use ring::signature::{
            ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        };
        let (algorithm, public): (&dyn ring::signature::VerificationAlgorithm, &[u8]) = match &self.pair {
            Pair::Ed25519(pair) => (&ED25519, pair.public_key().as_ref()),
            Pair::P256(pair) => (&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
            Pair::Rsa(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref()),
        };
        UnparsedPublicKey::new(algorithm, public).verify(message, signature).is_ok()
    }
}

/// Makes a key that signs after `lead` seconds, while the others sign until then and stay published until what they signed has
/// expired. Returns its id.
pub fn rotate(folder: &Path, signing: Signing, access: u64, lead: u64, now: u64) -> Result<String, KeyFault> {
    if signing == Signing::Rs256 {
        return Err(KeyFault("RS256 keys are made elsewhere: coregate keys import key.pem".to_owned()));
    }
    let _locked = lock(folder)?;
    add(folder, &generate(signing)?, signing, access, now + lead, now)
}

/// The same with a key that was made elsewhere, in PKCS #8.
pub fn import(
    folder: &Path,
    pem: &[u8],
    signing: Signing,
    access: u64,
    lead: u64,
    now: u64,
) -> Result<String, KeyFault> {
    let _locked = lock(folder)?;
    add(folder, pem, signing, access, now + lead, now)
}

fn add(
    folder: &Path,
    pem: &[u8],
    signing: Signing,
    access: u64,
    signs_from: u64,
    now: u64,
) -> Result<String, KeyFault> {
    let pair = Pair::of(pem, signing.name()).map_err(KeyFault)?;
    let kid = thumbprint(&pair.jwk());
    let mut index = read_index(folder)?;
    if index.iter().any(|facts| facts.kid == kid) {
        return Err(KeyFault(format!("key {kid} is here already")));
    }
    let over = |facts: &Facts| facts.published_until.is_some_and(|until| until <= now);
    let (gone, mut kept): (Vec<Facts>, Vec<Facts>) = index.drain(..).partition(over);
    for facts in &mut kept {
        facts.published_until.get_or_insert(signs_from + access + SLACK_SECONDS);
    }
    kept.push(Facts {
        kid: kid.clone(),
        alg: signing.name().to_owned(),
        created: now,
        signs_from,
        published_until: None,
    });
    write(&folder.join(format!("{kid}.pem")), pem)?;
    let text = serde_json::to_string_pretty(&kept).expect("facts are JSON");
    write(&folder.join(INDEX), text.as_bytes())?;
    for facts in gone {
        // One that stays is not read any more.
        let _ = fs::remove_file(folder.join(format!("{}.pem", facts.kid)));
    }
    Ok(kid)
}

fn read_index(folder: &Path) -> Result<Vec<Facts>, KeyFault> {
    let path = folder.join(INDEX);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(KeyFault(format!("{}: {error}", path.display()))),
    };
    let index: Vec<Facts> =
        serde_json::from_str(&text).map_err(|error| KeyFault(format!("{}: {error}", path.display())))?;
    // It becomes part of a path.
    let is_kid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match index.iter().find(|facts| !facts.kid.chars().all(is_kid)) {
        Some(facts) => Err(KeyFault(format!("{}: `{}` is no id of a key", path.display(), facts.kid))),
        None => Ok(index),
    }
}

/// Makes the folder, and holds it against other processes until the file is dropped.
fn lock(folder: &Path) -> Result<File, KeyFault> {
    let at = |error: io::Error| KeyFault(format!("{}: {error}", folder.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at)?;
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(folder.join("lock")).map_err(at)?;
    file.lock().map_err(at)?;
    Ok(file)
}

/// Whole or not at all, and readable for nobody else at any time.
fn write(path: &Path, content: &[u8]) -> Result<(), KeyFault> {
    let at = |error: io::Error| KeyFault(format!("{}: {error}", path.display()));
    let fresh = path.with_extension("new");
    // Left by one that was interrupted.
    let _ = fs::remove_file(&fresh);
    let mut options = OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(&fresh).map_err(at)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at)?;
    fs::rename(&fresh, path).map_err(at)
}

fn generate(signing: Signing) -> Result<Vec<u8>, KeyFault> {
    let random = SystemRandom::new();
    let failed = |_| KeyFault("the system gives no random numbers".to_owned());
    let der = match signing {
        Signing::EdDsa => Ed25519KeyPair::generate_pkcs8(&random).map_err(failed)?,
        Signing::Es256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?
        }
        Signing::Rs256 => unreachable!("callers import these"),
    };
    Ok(pem(der.as_ref()))
}

fn pem(der: &[u8]) -> Vec<u8> {
    let mut text = b"-----BEGIN PRIVATE KEY-----\n".to_vec();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    text
}

/// The id of a key (RFC 7638): SHA-256 of the members that every key of its kind must have, in their order.
fn thumbprint(jwk: &Value) -> String {
    let needed: BTreeMap<_, _> = jwk
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| ["crv", "e", "kty", "n", "x", "y"].contains(&name.as_str()))
        .collect();
    let text = serde_json::to_vec(&needed).expect("texts are JSON");
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &text))
}

impl Pair {
    fn of(pem: &[u8], alg: &str) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| "not a private key in PKCS #8 (-----BEGIN PRIVATE KEY-----)".to_owned())?;
        let der = der.secret_pkcs8_der();
        let rejected = |error: ring::error::KeyRejected| format!("no key for {alg}: {error}");
        match alg {
            "EdDSA" => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519).map_err(rejected),
            "ES256" => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
                .map(|pair| Self::P256(Box::new(pair)))
                .map_err(rejected),
            // ring refuses keys of less than 2048 bits, as RFC 7518 §3.3 does.
            "RS256" => RsaKeyPair::from_pkcs8(der).map(|pair| Self::Rsa(Box::new(pair))).map_err(rejected),
            _ => Err(format!("`{alg}` is not signed with")),
        }
    }

    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": text(pair.public_key().as_ref()) })
            }
            Self::P256(pair) => {
                // 4, then both coordinates (SEC 1 §2.3.3).
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": text(x), "y": text(y) })
            }
            Self::Rsa(pair) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "alg": "RS256", "n": text(&public.n), "e": text(&public.e) })
            }
        };
        let kid = thumbprint(&jwk);
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_790_000_000;
    const ACCESS: u64 = 900;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("coregate-keys-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_key_is_made_once_and_signs() {
        for signing in [Signing::EdDsa, Signing::Es256] {
            let folder = folder(signing.name());
            let keys = Keys::read_or_make(&folder, signing, ACCESS, NOW).unwrap();
            let again = Keys::read_or_make(&folder, signing, ACCESS, NOW).unwrap();
            let (one, other) = (keys.signer(signing, NOW).unwrap(), again.signer(signing, NOW).unwrap());
            assert_eq!(one.facts, other.facts);
            let signature = one.sign(b"message").unwrap();
            assert_eq!(signature.len(), 64);
            assert!(other.verify(b"message", &signature) && !other.verify(b"massage", &signature));
            for file in fs::read_dir(&folder).unwrap().flatten() {
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
            }
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn a_rotated_key_is_published_before_it_signs_and_the_old_one_as_long_as_its_tokens_live() {
        let folder = folder("rotated");
        let kid = |now| {
            let keys = Keys::read(&folder, now).unwrap();
            let signer = keys.signer(Signing::EdDsa, now).unwrap().facts.kid.clone();
            (signer, keys.facts().count())
        };
        Keys::read_or_make(&folder, Signing::EdDsa, ACCESS, NOW).unwrap();
        let (old, _) = kid(NOW);
        let new = rotate(&folder, Signing::EdDsa, ACCESS, 300, NOW).unwrap();
        assert_eq!(kid(NOW + 299), (old, 2));
        assert_eq!(kid(NOW + 300), (new.clone(), 2));
        assert_eq!(kid(NOW + 300 + ACCESS + SLACK_SECONDS - 1), (new.clone(), 2));
        assert_eq!(kid(NOW + 300 + ACCESS + SLACK_SECONDS), (new, 1));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_example_of_rfc_7638_has_its_thumbprint() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
                 SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
        assert_eq!(thumbprint(&jwk), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = folder("refused");
        let check = |pem: &[u8], signing, expected: &str| {
            let error = import(&folder, pem, signing, ACCESS, 0, NOW).unwrap_err();
            assert!(error.0.contains(expected), "{}", error.0);
        };
        check(b"", Signing::EdDsa, "not a private key in PKCS #8");
        check(&generate(Signing::EdDsa).unwrap(), Signing::Es256, "no key for ES256");
        check(&generate(Signing::Es256).unwrap(), Signing::Rs256, "no key for RS256");
        assert!(Keys::read_or_make(&folder, Signing::Rs256, ACCESS, NOW).is_err());
        let good = generate(Signing::Es256).unwrap();
        assert!(import(&folder, &good, Signing::Es256, ACCESS, 0, NOW).is_ok());
        check(&good, Signing::Es256, "is here already");
        fs::write(folder.join(INDEX), r#"[{"kid":"../x","alg":"EdDSA","created":0,"signs_from":0}]"#)
            .unwrap();
        assert!(Keys::read(&folder, NOW).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
