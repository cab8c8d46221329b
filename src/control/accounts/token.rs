//! Access tokens as we make them (RFC 9068), and refresh tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::SecureRandom,
};
use serde_json::{Value, json};

use super::{
    keys::{KeyFault, Keys, SigningKey},
    store::Digest,
};

/// What an access token is to say.
#[derive(Clone, Debug)]
pub struct Claims<'a> {
    pub iss: &'a str,
    /// Left out when empty.
    pub audience: &'a [String],
    pub sub: &'a str,
    pub roles: &'a [String],
    pub jti: &'a str,
    /// Unix time, in seconds.
    pub now: u64,
    pub expires: u64,
}

/// A signed access token.
pub fn mint(key: &SigningKey, claims: &Claims<'_>) -> Result<String, KeyFault> {
    // RFC 9068 §2.1.
    let header = json!({ "alg": key.facts.alg, "typ": "at+jwt", "kid": key.facts.kid });
    let Claims { iss, audience, sub, roles, jti, now, expires } = claims;
    let mut payload = json!({
        "iss": iss, "sub": sub, "iat": now, "nbf": now, "exp": expires, "jti": jti, "roles": roles,
    });
    match audience {
        [] => {}
        [one] => payload["aud"] = one.as_str().into(),
        several => payload["aud"] = (*several).into(),
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(&payload));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    Ok(format!("{message}.{signature}"))
}

/// A token of our own, for its end: good or expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub sub: String,
    pub jti: String,
    pub expires: u64,
}

/// What a token says that one of `keys` has signed for `iss`. `None` for everything else.
pub fn read_own(token: &str, keys: &Keys, iss: &str) -> Option<Own> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let decoded =
        |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    let header = decoded(header)?;
    let key = keys.find(header["kid"].as_str()?)?;
    // The algorithm is the key's, whatever the header says (RFC 8725 §3.1).
    let is_ours = header["alg"] == key.facts.alg.as_str() && header.get("crit").is_none();
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !is_ours || !key.verify(message.as_bytes(), &signature) {
        return None;
    }
    let payload = decoded(payload).filter(|payload| payload["iss"] == iss)?;
    Some(Own {
        sub: payload["sub"].as_str()?.to_owned(),
        jti: payload["jti"].as_str()?.to_owned(),
        expires: payload["exp"].as_u64()?,
    })
}

/// A `jti`: 128 random bits.
pub fn new_jti(random: &dyn SecureRandom) -> Result<String, KeyFault> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes::<16>(random)?))
}

/// A refresh token, 256 random bits, and what is kept of it.
pub fn new_refresh(random: &dyn SecureRandom) -> Result<(String, Digest), KeyFault> {
    let token = URL_SAFE_NO_PAD.encode(random_bytes::<32>(random)?);
    let digest = refresh_digest(&token);
    Ok((token, digest))
}

/// What is kept of a refresh token. It has all the entropy it needs, so nothing slower than one hash.
pub fn refresh_digest(token: &str) -> Digest {
    let mut out = Digest::default();
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

pub fn random_bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], KeyFault> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| KeyFault("the system gives no random numbers".to_owned()))?;
    Ok(bytes)
}
