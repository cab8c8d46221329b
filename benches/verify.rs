//! What a token costs a request: known, new, and wrong (DESIGN §10).

use std::{hint::black_box, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coregate::auth::{
    Algs, Audience, ClaimName, Desk, Issuer, KeyCell, KeySet, Onward, Source, revocation::Revocations,
};
use divan::Bencher;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = &[7; 64];

fn main() {
    divan::main();
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn issuer(keys: KeySet) -> [Arc<Issuer>; 1] {
    [Arc::new(Issuer {
        name: "main".into(),
        metric: 1,
        revision: 1,
        iss: Some("https://tenant.example.com/".into()),
        audience: Audience::OneOf(vec!["https://api.example.com".into()]),
        algs: keys.algs(),
        leeway_s: 5,
        from: vec![Source::Authorization],
        roles_claim: ClaimName::new("roles"),
        headers: vec![("X-User".into(), ClaimName::new("sub"))],
        identity: None,
        token: Onward::Pass,
        keys: Arc::new(KeyCell::fixed(Arc::new(keys))),
    })]
}

/// A token of about 400 bytes, as issuers make them.
fn token(alg: &str, number: usize, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let header = format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#);
    let claims = format!(
        r#"{{"iss":"https://tenant.example.com/","aud":"https://api.example.com","sub":"user-{number}","exp":{},"iat":{},"jti":"0199c0de-0000-7000-8000-{number:012}","roles":["customer","editor"],"scope":"read write"}}"#,
        NOW + 600,
        NOW - 60
    );
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hs256(number: usize) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    token("HS256", number, |signed| hmac::sign(&key, signed).as_ref().to_vec())
}

fn secret() -> KeySet {
    KeySet::from_secret(SECRET, Algs::SYMMETRIC).expect("a long secret")
}

/// Tokens that were seen before, by turns in an order that no prefetcher follows.
#[divan::bench(args = [1, 100, 10_000])]
fn known(bencher: Bencher<'_, '_>, count: usize) {
    let (mut desk, issuers, revocations) = (Desk::new(3), issuer(secret()), Revocations::default());
    let tokens: Vec<String> = (0..count).map(hs256).collect();
    for token in &tokens {
        desk.check(token.as_bytes(), &issuers, NOW, &revocations).expect("a good token");
    }
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 7919) % count;
        desk.check(black_box(tokens[at].as_bytes()), &issuers, NOW, &revocations).is_ok()
    });
}

/// A new token each time: `desks` that know nothing are too many to keep, so what is known is of another issuer.
fn new(bencher: Bencher<'_, '_>, keys: KeySet, token: &str) {
    let (issuers, revocations) = (issuer(keys), Revocations::default());
    let mut desk = Desk::new(3);
    let mut revision = 1;
    let template = &issuers[0];
    bencher
        .with_inputs(|| {
            revision += 1;
            [Arc::new(Issuer {
                name: Arc::clone(&template.name),
                revision,
                iss: template.iss.clone(),
                audience: template.audience.clone(),
                from: template.from.clone(),
                roles_claim: template.roles_claim.clone(),
                headers: template.headers.clone(),
                identity: None,
                keys: Arc::clone(&template.keys),
                ..**template
            })]
        })
        .bench_local_refs(|issuers| {
            desk.check(black_box(token.as_bytes()), issuers, NOW, &revocations).is_ok()
        });
}

#[divan::bench]
fn new_hs256(bencher: Bencher<'_, '_>) {
    new(bencher, secret(), &hs256(1));
}

#[divan::bench]
fn new_es256(bencher: Bencher<'_, '_>) {
    let random = SystemRandom::new();
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("random numbers");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .expect("just made");
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = (encode(&point[..32]), encode(&point[32..]));
    let jwks = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#);
    let keys = KeySet::from_jwks(jwks.as_bytes(), Algs::ASYMMETRIC).expect("a good set");
    let token =
        token("ES256", 1, |signed| key.sign(&random, signed).expect("random numbers").as_ref().to_vec());
    new(bencher, keys, &token);
}

#[divan::bench]
fn new_eddsa(bencher: Bencher<'_, '_>) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{}"}}]}}"#, encode(key.public_key()));
    let keys = KeySet::from_jwks(jwks.as_bytes(), Algs::ASYMMETRIC).expect("a good set");
    let token = token("EdDSA", 1, |signed| key.sign(signed).as_ref().to_vec());
    new(bencher, keys, &token);
}

/// Refused without a look at the signature.
#[divan::bench(args = ["garbage", "expired", "other_issuer"])]
fn refused_early(bencher: Bencher<'_, '_>, what: &str) {
    let (mut desk, issuers, revocations) = (Desk::new(3), issuer(secret()), Revocations::default());
    let (token, now) = match what {
        "garbage" => ("x".repeat(400), NOW),
        "expired" => (hs256(1), NOW + 10_000),
        _ => (hs256(1).replacen("eyJpc3Mi", "eyJpc3Mj", 1), NOW),
    };
    bencher.bench_local(|| desk.check(black_box(token.as_bytes()), &issuers, now, &revocations).is_err());
}
