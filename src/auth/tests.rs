//! Whole tokens: vectors of the RFCs, and what RFC 8725 warns of, one by one.

use std::{rc::Rc, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair,
    },
};

use super::{jws::Room, revocation::Revocations, *};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer of `name` with these keys and no other rules: `iss` is its name, and nobody asks for `aud`.
fn issuer(name: &str, keys: KeySet) -> Issuer {
    Issuer {
        name: name.into(),
        metric: 1,
        revision: name.bytes().map(u64::from).sum(),
        iss: Some(name.into()),
        audience: Audience::Nobody,
        algs: Algs::SYMMETRIC.or(Algs::ASYMMETRIC),
        leeway_s: 5,
        from: vec![Source::Authorization],
        roles_claim: ClaimName::new("roles"),
        headers: Vec::new(),
        identity: None,
        token: Onward::Pass,
        keys: Arc::new(KeyCell::fixed(Arc::new(keys))),
    }
}

fn secret() -> KeySet {
    KeySet::from_secret(SECRET, Algs::SYMMETRIC).unwrap()
}

fn hs256(header: &str, claims: &str) -> String {
    signed(header, claims, |signed| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed).as_ref().to_vec()
    })
}

fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Claims of the issuer `a` that are good at [`NOW`], with `more`.
fn claims(more: &str) -> String {
    format!(r#"{{"iss":"a","exp":{}{more}}}"#, NOW + 60)
}

fn check_at(token: &str, issuers: &[Arc<Issuer>], now: u64) -> Result<Rc<Verified>, Reject> {
    let denied = |denied: Denied<'_>| denied.reject;
    Desk::new(1).check(token.as_bytes(), issuers, now, &Revocations::default()).map_err(denied)
}

/// What some token of the issuer `a` says.
pub(super) fn verified() -> Rc<Verified> {
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(""));
    check_at(&token, &[Arc::new(issuer("a", secret()))], NOW).unwrap()
}

#[track_caller]
fn check(token: &str, issuer: Issuer, expected: Result<(), Reject>) {
    let found = check_at(token, &[Arc::new(issuer)], NOW).map(|_| ());
    assert_eq!(found, expected, "{token}");
}

/// Whether the signature is that of a key of the set, whatever the payload is.
fn verifies(jwks: &str, token: &str) -> Result<(), Reject> {
    let keys = KeySet::from_jwks(jwks.as_bytes(), Algs::SYMMETRIC.or(Algs::ASYMMETRIC)).unwrap();
    let mut room = Room::new(1);
    let jws = jws::Jws::parse(token.as_bytes(), &mut room)?;
    keys.verify(&jws, &mut room).map(|_| ())
}

#[track_caller]
fn check_vector(key: &str, token: &str) {
    let jwks = format!(r#"{{"keys":[{key}]}}"#);
    assert_eq!(verifies(&jwks, token), Ok(()));
    // A signature for something else, and something else under the signature.
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    assert_eq!(verifies(&jwks, &format!("{signed}.{other}{}", &signature[1..])), Err(Reject::Signature));
    let (header, payload) = signed.split_once('.').unwrap();
    let other = if payload.starts_with('R') { "S" } else { "R" };
    assert_eq!(
        verifies(&jwks, &format!("{header}.{other}{}.{signature}", &payload[1..])),
        Err(Reject::Signature)
    );
}

/// RFC 7515 §A.1 to §A.3: payload of all three.
const JOE: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn rfc_7515_a_1_hs256() {
    let key = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let token =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    check_vector(key, &token);
}

#[test]
fn rfc_7515_a_2_rs256() {
    let key = concat!(
        r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddx"#,
        "HmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs",
        "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSH",
        "SXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV",
        "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8",
        r#"NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#
    );
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{JOE}.{}",
        concat!(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7",
            "AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4",
            "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K",
            "0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv",
            "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB",
            "p0igcN_IoypGlUPQGe77Rw"
        )
    );
    check_vector(key, &token);
}

#[test]
fn rfc_7515_a_3_es256() {
    let key = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{JOE}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    check_vector(key, &token);
}

#[test]
fn rfc_8037_a_4_ed25519() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    check_vector(key, token);
}

/// RFC 7520 §4: payload of all of its signatures.
const FRODO: &str = concat!(
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IH",
    "lvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBk",
    "b24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcm",
    "UgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4"
);
/// RFC 7520 §3.3.
const BILBO: &str = concat!(
    r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","e":"AQAB","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT"#,
    "-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-",
    "oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuC",
    r#"LqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"}"#
);

#[test]
fn rfc_7520_4_1_rs256() {
    let signature = concat!(
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmK",
        "ZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4J",
        "IwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8w",
        "W1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluP",
        "xUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_f",
        "cIe8u9ipH84ogoree7vjbU5y18kDquDg"
    );
    let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
    check_vector(BILBO, &format!("{header}.{FRODO}.{signature}"));
}

#[test]
fn rfc_7520_4_2_ps384() {
    let signature = concat!(
        "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2I",
        "pN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXU",
        "vdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRX",
        "e8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT",
        "0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a",
        "6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"
    );
    let header = "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
    check_vector(BILBO, &format!("{header}.{FRODO}.{signature}"));
}

#[test]
fn rfc_7520_4_4_hs256() {
    let key = r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#;
    let header = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
    check_vector(key, &format!("{header}.{FRODO}.s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0"));
}

proptest::proptest! {
    /// Only what was signed is taken: a good token with any bytes put anywhere into it is another one, or none.
    #[test]
    fn whatever_is_put_into_a_token_it_is_not_taken(
        at in 0_usize..1000,
        taken in 0_usize..4,
        put in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..4),
    ) {
        let good = hs256(r#"{"alg":"HS256"}"#, &claims(r#","sub":"alice""#)).into_bytes();
        let at = at % good.len();
        let mut token = good.clone();
        token.splice(at..(at + taken).min(good.len()), put);
        let issuers = [Arc::new(issuer("a", secret()))];
        let found = Desk::new(1).check(&token, &issuers, NOW, &Revocations::default());
        proptest::prop_assert_eq!(found.is_ok(), token == good);
    }

    #[test]
    fn bytes_are_no_token(token in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200)) {
        let issuers = [Arc::new(issuer("a", secret()))];
        proptest::prop_assert!(Desk::new(1).check(&token, &issuers, NOW, &Revocations::default()).is_err());
    }

    #[test]
    fn a_header_and_claims_of_any_kind_do_no_harm(header in ".{0,60}", claims in ".{0,80}") {
        let token = hs256(&header, &claims);
        let issuers = [Arc::new(Issuer { iss: None, ..issuer("a", secret()) })];
        proptest::prop_assert!(Desk::new(1).check(token.as_bytes(), &issuers, NOW, &Revocations::default()).is_err());
    }
}

#[test]
fn an_alg_of_none_is_refused_with_and_without_a_signature() {
    for alg in ["none", "None", "NONE", "nOnE"] {
        for signature in ["", "AA"] {
            let token =
                format!("{}.{}.{signature}", encode(format!(r#"{{"alg":"{alg}"}}"#)), encode(claims("")));
            check(&token, issuer("a", secret()), Err(Reject::Algorithm));
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let (key, _) = es256(pair.as_ref());
    let public = ec_jwk(&key, "");
    // HMAC over the public key in every form somebody may take for a secret (RFC 8725 §2.1).
    for secret in [public.as_bytes(), key.public_key().as_ref()] {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let token =
            signed(r#"{"alg":"HS256"}"#, &claims(""), |signed| hmac::sign(&hmac, signed).as_ref().to_vec());
        check(&token, issuer("a", keys_again(&public)), Err(Reject::Algorithm));
    }
}

fn keys_again(jwk: &str) -> KeySet {
    KeySet::from_jwks(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes(), Algs::ASYMMETRIC).unwrap()
}

fn es256(pkcs8: &[u8]) -> (EcdsaKeyPair, SystemRandom) {
    let random = SystemRandom::new();
    (EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).unwrap(), random)
}

fn ec_jwk(key: &EcdsaKeyPair, more: &str) -> String {
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let curve = if x.len() == 32 { "P-256" } else { "P-384" };
    format!(r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"{more}}}"#, encode(x), encode(y))
}

fn es256_token(key: &EcdsaKeyPair, header: &str) -> String {
    signed(header, &claims(""), |signed| key.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec())
}

#[test]
fn a_token_does_not_bring_its_own_key() {
    let theirs =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let ours = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let (theirs, ours) = (es256(theirs.as_ref()).0, es256(ours.as_ref()).0);
    let jwk = ec_jwk(&theirs, "");
    for header in [
        format!(r#"{{"alg":"ES256","jwk":{jwk}}}"#),
        r#"{"alg":"ES256","jku":"https://evil.example/jwks"}"#.to_owned(),
        r#"{"alg":"ES256","x5u":"https://evil.example/cert"}"#.to_owned(),
        r#"{"alg":"ES256","x5c":["MIIB"]}"#.to_owned(),
    ] {
        let token = es256_token(&theirs, &header);
        check(&token, issuer("a", keys_again(&ec_jwk(&ours, ""))), Err(Reject::Signature));
    }
    let token = es256_token(&ours, &format!(r#"{{"alg":"ES256","jwk":{jwk}}}"#));
    check(&token, issuer("a", keys_again(&ec_jwk(&ours, ""))), Ok(()));
}

#[test]
fn a_kid_is_compared_and_nothing_else() {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let key = es256(pair.as_ref()).0;
    let keys = || keys_again(&ec_jwk(&key, r#","kid":"k1""#));
    for kid in ["../../dev/null", "k1' OR '1'='1", "K1", "k1\\u0000", "", "k", "k11"] {
        let token = es256_token(&key, &format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#));
        check(&token, issuer("a", keys()), Err(Reject::Key));
    }
    check(&es256_token(&key, r#"{"alg":"ES256","kid":"k1"}"#), issuer("a", keys()), Ok(()));
    check(&es256_token(&key, r#"{"alg":"ES256"}"#), issuer("a", keys()), Ok(()));
    // A key of that name that is for something else.
    check(&es256_token(&key, r#"{"alg":"ES384","kid":"k1"}"#), issuer("a", keys()), Err(Reject::Algorithm));
}

#[test]
fn an_ecdsa_signature_of_zeros_or_of_another_size_is_none() {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let key = es256(pair.as_ref()).0;
    let keys = || keys_again(&ec_jwk(&key, ""));
    let good = es256_token(&key, r#"{"alg":"ES256"}"#);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    for wrong in [
        [zero, zero].concat(),
        [r, &zero].concat(),
        [&zero, s].concat(),
        signature[..63].to_vec(),
        [&signature[..], &[0]].concat(),
        Vec::new(),
    ] {
        check(&format!("{signed}.{}", encode(wrong)), issuer("a", keys()), Err(Reject::Signature));
    }
    // s may be on either side of the curve's half: RFC 7518 §3.4 says nothing of it.
    check(&format!("{signed}.{}", encode([r, &negated(s)[..]].concat())), issuer("a", keys()), Ok(()));
}

/// The order of P-256 less `s`.
fn negated(s: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut borrow = 0;
    let mut out: Vec<u8> = ORDER
        .iter()
        .zip(s)
        .rev()
        .map(|(order, s)| {
            let difference = i16::from(*order) - i16::from(*s) - borrow;
            borrow = i16::from(difference < 0);
            u8::try_from(difference.rem_euclid(256)).unwrap()
        })
        .collect();
    out.reverse();
    out
}

#[test]
fn a_key_of_another_curve_or_type_is_not_for_the_alg() {
    let random = SystemRandom::new();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
    let p384 = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, p384.as_ref(), &random).unwrap();
    let sign = |signed: &[u8]| p384.sign(&random, signed).unwrap().as_ref().to_vec();
    let keys = || keys_again(&ec_jwk(&p384, ""));
    check(&signed(r#"{"alg":"ES384"}"#, &claims(""), sign), issuer("a", keys()), Ok(()));
    check(&signed(r#"{"alg":"ES256"}"#, &claims(""), sign), issuer("a", keys()), Err(Reject::Algorithm));

    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let sign = |signed: &[u8]| pair.sign(signed).as_ref().to_vec();
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encode(pair.public_key()));
    for (alg, expected) in [("EdDSA", Ok(())), ("Ed25519", Ok(())), ("ES256", Err(Reject::Algorithm))] {
        let token = signed(&format!(r#"{{"alg":"{alg}"}}"#), &claims(""), sign);
        check(&token, issuer("a", keys_again(&jwk)), expected);
    }
}

#[test]
fn times_are_kept_with_a_leeway() {
    let with = |claims: String| hs256(r#"{"alg":"HS256"}"#, &claims);
    let exp = |exp: &str| with(format!(r#"{{"iss":"a","exp":{exp}}}"#));
    let at = |offset: i64| NOW.checked_add_signed(offset).unwrap();
    check(&exp(&at(1).to_string()), issuer("a", secret()), Ok(()));
    check(&exp(&at(-4).to_string()), issuer("a", secret()), Ok(()));
    check(&exp(&at(-5).to_string()), issuer("a", secret()), Err(Reject::Expired));
    check(&exp(&format!("{}.9", at(-5))), issuer("a", secret()), Err(Reject::Expired));
    check(&exp("1.8e9"), issuer("a", secret()), Ok(()));
    check(&exp("-1"), issuer("a", secret()), Err(Reject::Expired));
    for wrong in ["\"1900000000\"", "null", "true", "[1900000000]", "1e400", "1e30"] {
        check(&exp(wrong), issuer("a", secret()), Err(Reject::Claims));
    }
    check(&with(r#"{"iss":"a"}"#.into()), issuer("a", secret()), Err(Reject::Claims));
    for name in ["nbf", "iat"] {
        let from = |offset: i64| with(claims(&format!(r#","{name}":{}"#, at(offset))));
        check(&from(5), issuer("a", secret()), Ok(()));
        check(&from(6), issuer("a", secret()), Err(Reject::NotYet));
        check(&with(claims(&format!(r#","{name}":"soon""#))), issuer("a", secret()), Err(Reject::Claims));
    }
}

#[test]
fn an_audience_is_one_of_ours_or_the_token_is_not_for_us() {
    let ours = Audience::OneOf(vec!["gw".into(), "api".into()]);
    for (aud, one_of, any, nobody) in [
        ("", Err(Reject::Audience), Ok(()), Ok(())),
        (r#","aud":"gw""#, Ok(()), Ok(()), Err(Reject::Audience)),
        (r#","aud":["x","api"]"#, Ok(()), Ok(()), Err(Reject::Audience)),
        (r#","aud":"g\u0077""#, Ok(()), Ok(()), Err(Reject::Audience)),
        (r#","aud":"gw2""#, Err(Reject::Audience), Ok(()), Err(Reject::Audience)),
        (r#","aud":[]"#, Err(Reject::Audience), Ok(()), Err(Reject::Audience)),
        (r#","aud":["gw",1]"#, Err(Reject::Claims), Err(Reject::Claims), Err(Reject::Claims)),
        (r#","aud":{"gw":1}"#, Err(Reject::Claims), Err(Reject::Claims), Err(Reject::Claims)),
        (r#","aud":null"#, Err(Reject::Claims), Err(Reject::Claims), Err(Reject::Claims)),
    ] {
        let token = hs256(r#"{"alg":"HS256"}"#, &claims(aud));
        for (audience, expected) in [(ours.clone(), one_of), (Audience::Any, any), (Audience::Nobody, nobody)]
        {
            check(&token, Issuer { audience, ..issuer("a", secret()) }, expected);
        }
    }
}

#[test]
fn the_issuer_decides_which_keys_there_are() {
    let other = KeySet::from_secret(&[9; 64], Algs::SYMMETRIC).unwrap();
    let both = [Arc::new(issuer("b", other)), Arc::new(issuer("a", secret()))];
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(""));
    assert_eq!(&*check_at(&token, &both, NOW).unwrap().issuer.name, "a");
    // Signed by a, and says it is of b.
    let token = hs256(r#"{"alg":"HS256"}"#, &claims("").replace("\"a\"", "\"b\""));
    assert_eq!(check_at(&token, &both, NOW).err(), Some(Reject::Signature));
    for iss in ["c", "", "a "] {
        let token = hs256(r#"{"alg":"HS256"}"#, &claims("").replace("\"a\"", &format!("{iss:?}")));
        assert_eq!(check_at(&token, &both, NOW).err(), Some(Reject::Issuer));
    }
    let token = hs256(r#"{"alg":"HS256"}"#, &claims("").replace("\"a\"", "[\"a\"]"));
    assert_eq!(check_at(&token, &both, NOW).err(), Some(Reject::Claims));
    // Without a name, an issuer takes what its key has signed.
    let nameless = [Arc::new(Issuer { iss: None, ..issuer("a", secret()) })];
    let token = hs256(r#"{"alg":"HS256"}"#, &format!(r#"{{"exp":{}}}"#, NOW + 9));
    assert!(check_at(&token, &nameless, NOW).is_ok());
}

#[test]
fn claims_in_doubt_are_refused() {
    for (payload, expected) in [
        (claims(r#","sub":1"#), Reject::Claims),
        (claims(r#","jti":null"#), Reject::Claims),
        (claims(r#","iss":"b""#), Reject::Malformed),
        (claims(r#","\u0065xp":1"#), Reject::Malformed),
        ("[]".into(), Reject::Malformed),
        ("\"a.b.c\"".into(), Reject::Malformed),
        ("eyJhbGciOiJIUzI1NiJ9.e30.AA".into(), Reject::Malformed),
        (String::new(), Reject::Malformed),
        ("\u{0}".into(), Reject::Malformed),
    ] {
        check(&hs256(r#"{"alg":"HS256"}"#, &payload), issuer("a", secret()), Err(expected));
    }
    for header in [r#"{"alg":"HS256","cty":"JWT"}"#, r#"{"alg":"HS256","typ":"logout+jwt"}"#] {
        check(&hs256(header, &claims("")), issuer("a", secret()), Err(Reject::Malformed));
    }
}

#[test]
fn only_the_issuers_algorithms_are_taken() {
    let only = Issuer { algs: Algs::NONE.with(Alg::Hs512), ..issuer("a", secret()) };
    check(&hs256(r#"{"alg":"HS256"}"#, &claims("")), only, Err(Reject::Algorithm));
    // A short secret is for short hashes only.
    let short = KeySet::from_secret(&[1; 32], Algs::SYMMETRIC).unwrap();
    assert_eq!(short.algs(), Algs::NONE.with(Alg::Hs256));
    assert_eq!(
        KeySet::from_secret(&[1; 31], Algs::SYMMETRIC).err(),
        Some(BadKeys::Key(key::BadKey::ShortSecret))
    );
}

#[test]
fn a_set_keeps_what_it_can_use() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
    let weak = encode([0xff; 128]);
    let jwks = format!(
        r#"{{"keys":[{key},"kid":"good","x5t":"?"}},
            {key},"use":"enc"}},
            {key},"key_ops":["sign"]}},
            {key},"alg":"RSA-OAEP"}},
            {{"kty":"RSA","n":"{weak}","e":"AQAB","kid":"weak"}},
            {{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}},
            {{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}},
            {{"kty":"oct","k":"{weak}"}},
            {{"kty":"OKP","crv":"X25519","x":"AA"}},
            {{"kty":"AKP"}},
            7]}}"#
    );
    let set = KeySet::from_jwks(jwks.as_bytes(), Algs::ASYMMETRIC).unwrap();
    assert_eq!(set.len(), 1);
    assert_eq!(
        set.left_out(),
        [
            "key 2 (kid -): it is not for signatures",
            "key 3 (kid -): its `key_ops` have no \"verify\"",
            "key 4 (kid -): algorithm RSA-OAEP is not supported",
            "key 5 (kid weak): the RSA key has fewer than 2048 bits",
            "key 6 (kid -): the curve is none of P-256, P-384 and Ed25519",
            "key 7 (kid -): the key is no point of its curve",
            "key 8 (kid -): none of its algorithms is allowed",
            "key 9 (kid -): the curve is none of P-256, P-384 and Ed25519",
            "key 10 (kid -): type AKP is not supported",
            "key 11 (kid -): it is no object",
        ]
    );
}

#[test]
fn a_document_that_is_no_set_is_refused() {
    let check = |document: &str, expected: BadKeys| {
        assert_eq!(KeySet::from_jwks(document.as_bytes(), Algs::ASYMMETRIC).err(), Some(expected));
    };
    check("", BadKeys::NotJwks);
    check("<html>", BadKeys::NotJwks);
    check("[]", BadKeys::NotJwks);
    check(r#"{"keys":{}}"#, BadKeys::NotJwks);
    check(r#"{"keys":[]}"#, BadKeys::NoneUsable(Vec::new()));
    check(&format!(r#"{{"keys":[{}7]}}"#, "7,".repeat(100)), BadKeys::TooMany(101));
    check(&" ".repeat(DOCUMENT_BYTES_MAX + 1), BadKeys::TooLarge);
}

#[test]
fn a_token_without_a_kid_costs_a_few_signatures_at_most() {
    // The fifth key of five that fit is not tried.
    let seeds = [1, 2, 3, 4, 5].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap());
    let jwks: Vec<String> = seeds
        .iter()
        .map(|pair| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encode(pair.public_key())))
        .collect();
    let keys = || keys_again(&jwks.join(","));
    for (index, pair) in seeds.iter().enumerate() {
        let token = signed(r#"{"alg":"EdDSA"}"#, &claims(""), |signed| pair.sign(signed).as_ref().to_vec());
        let expected = if index < 4 { Ok(()) } else { Err(Reject::Signature) };
        check(&token, issuer("a", keys()), expected);
    }
}

#[test]
fn claims_are_found_and_passed_on() {
    let issuer = Issuer {
        roles_claim: ClaimName::new("realm.roles"),
        headers: vec![
            ("X-User".into(), ClaimName::new("sub")),
            ("X-Roles".into(), ClaimName::new("roles")),
            ("X-Tenant".into(), ClaimName::new("https://a.example/tenant")),
            ("X-Level".into(), ClaimName::new("level")),
            ("X-Nothing".into(), ClaimName::new("nothing")),
        ],
        identity: Some("X-Identity".into()),
        ..issuer("a", secret())
    };
    let more = r#","sub":"al\u0069ce\r\n","level":3,"realm":{"roles":["a,admin","é"]},"https://a.example/tenant":"t 1","scope":"read write""#;
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(more));
    let verified = check_at(&token, &[Arc::new(issuer)], NOW).unwrap();
    assert_eq!((verified.sub(), verified.jti()), (Some("alice\r\n"), None));
    assert_eq!(verified.roles().iter().map(|role| &**role).collect::<Vec<_>>(), ["a,admin", "é"]);
    assert_eq!(verified.scopes().iter().map(|scope| &**scope).collect::<Vec<_>>(), ["read", "write"]);
    let expected = format!(
        "X-User: alice%0D%0A\r\nX-Roles: a%2Cadmin,%C3%A9\r\nX-Tenant: t 1\r\nX-Level: 3\r\nX-Identity: {}\r\n",
        encode(claims(more))
    );
    assert_eq!(String::from_utf8_lossy(verified.fields()), expected);
}

#[test]
fn a_route_says_what_a_token_must_allow() {
    let more = r#","roles":["user","editor"],"scope":"read write","tenant":"acme","level":3,"groups":["x","y"],"ok":true"#;
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(more));
    let verified = check_at(&token, &[Arc::new(issuer("a", secret()))], NOW).unwrap();
    let list = |words: &[&str]| words.iter().map(|word| Arc::from(*word)).collect::<Vec<Arc<str>>>();
    let allows = |wanted: Wanted| {
        Guard { issuers: Box::new([]), sources: Box::new([]), wanted, optional: false }.allows(&verified)
    };
    let check_roles = |roles: &[&str], any: &[&str], expected| {
        let wanted = Wanted { roles: list(roles), any_role: list(any), ..Wanted::default() };
        assert_eq!(allows(wanted), expected, "{roles:?} {any:?}");
    };
    check_roles(&[], &[], Ok(()));
    check_roles(&["user", "editor"], &[], Ok(()));
    check_roles(&["user", "admin"], &[], Err(Reject::Role));
    check_roles(&["User"], &[], Err(Reject::Role));
    check_roles(&[], &["admin", "user"], Ok(()));
    check_roles(&[], &["admin"], Err(Reject::Role));
    let scopes = |scopes: &[&str]| allows(Wanted { scopes: list(scopes), ..Wanted::default() });
    assert_eq!(scopes(&["write", "read"]), Ok(()));
    assert_eq!(scopes(&["read", "delete"]), Err(Reject::Scope));
    let check_claim = |name: &str, values: &[&str], expected| {
        let wanted = Wanted { claims: vec![(ClaimName::new(name), list(values))], ..Wanted::default() };
        assert_eq!(allows(wanted), expected, "{name} {values:?}");
    };
    check_claim("tenant", &["\"acme\""], Ok(()));
    check_claim("tenant", &["\"a\"", "\"acme\""], Ok(()));
    check_claim("tenant", &["\"acm\""], Err(Reject::Claim));
    check_claim("level", &["3"], Ok(()));
    check_claim("level", &["\"3\""], Err(Reject::Claim));
    check_claim("groups", &["\"y\""], Ok(()));
    check_claim("groups", &["\"z\""], Err(Reject::Claim));
    check_claim("ok", &["true"], Ok(()));
    check_claim("nothing", &["true"], Err(Reject::Claim));
}

#[test]
fn a_challenge_says_what_is_wanted() {
    let wanted = Wanted { scopes: vec!["read".into(), "write".into()], ..Wanted::default() };
    let issuers: Box<[_]> = Box::new([Arc::new(issuer("main", secret()))]);
    let guard = Guard { issuers, sources: Box::new([]), wanted, optional: false };
    let check = |reject, expected: Option<&str>| assert_eq!(guard.challenge(reject).as_deref(), expected);
    check(Reject::Missing, Some(r#"Bearer realm="main", scope="read write""#));
    check(
        Reject::Expired,
        Some(r#"Bearer realm="main", error="invalid_token", error_description="The token has expired""#),
    );
    check(
        Reject::Scope,
        Some(
            r#"Bearer realm="main", error="insufficient_scope", error_description="The token's scope does not allow this", scope="read write""#,
        ),
    );
    check(Reject::NoKeys, None);
}

#[test]
fn a_known_token_is_looked_up_again_when_something_was_revoked() {
    let issuers = [Arc::new(issuer("a", secret()))];
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(r#","jti":"t1","sub":"alice","iat":1700000000"#));
    let other = hs256(r#"{"alg":"HS256"}"#, &claims(r#","jti":"t2","sub":"alice","iat":1700000000"#));
    let mut desk = Desk::new(1);
    let none = Revocations::default();
    for token in [&token, &other] {
        assert!(desk.check(token.as_bytes(), &issuers, NOW, &none).is_ok());
    }
    let one = none.with("a", &[revocation::Revocation::Token { jti: "t1", until: NOW + 60 }], NOW);
    let reject = |desk: &mut Desk, token: &str, revocations: &Revocations| {
        desk.check(token.as_bytes(), &issuers, NOW, revocations).map_err(|denied| denied.reject).err()
    };
    assert_eq!(reject(&mut desk, &token, &one), Some(Reject::Revoked));
    assert_eq!(reject(&mut desk, &token, &one), Some(Reject::Revoked));
    assert_eq!(reject(&mut desk, &other, &one), None);
    assert_eq!(
        desk.take_counts(),
        desk::Counts { known: 1, verified: 4 },
        "the other one needed no signature"
    );
    let all =
        one.with("a", &[revocation::Revocation::Subject { sub: "alice", before: NOW, until: NOW + 60 }], NOW);
    assert_eq!(reject(&mut desk, &other, &all), Some(Reject::Revoked));
}

#[test]
fn a_known_token_ends_with_its_time_and_is_known_to_its_issuer_only() {
    let (a, b) = (
        Arc::new(issuer("a", secret())),
        Arc::new(Issuer { name: "b".into(), revision: 7, ..issuer("a", secret()) }),
    );
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(""));
    let mut desk = Desk::new(1);
    let mut check = |issuer: &Arc<Issuer>, now: u64| {
        let issuers = [Arc::clone(issuer)];
        let name = desk
            .check(token.as_bytes(), &issuers, now, &Revocations::default())
            .map(|known| known.issuer.name.to_string());
        (name.map_err(|denied| denied.reject), desk.take_counts().known)
    };
    assert_eq!(check(&a, NOW), (Ok("a".into()), 0));
    assert_eq!(check(&a, NOW + 64), (Ok("a".into()), 1));
    assert_eq!(check(&b, NOW), (Ok("b".into()), 0), "its terms may be others");
    assert_eq!(check(&b, NOW), (Ok("b".into()), 1));
    assert_eq!(check(&a, NOW), (Ok("a".into()), 1), "both are known");
    assert_eq!(check(&a, NOW + 65), (Err(Reject::Expired), 0));
    desk.sweep(NOW + 65);
    (0..64).for_each(|_| desk.sweep(NOW + 65));
    assert_eq!(desk.kept(), (0, 0));
}

#[test]
fn a_known_token_lives_as_long_as_its_key() {
    let a = Arc::new(issuer("a", secret()));
    let token = hs256(r#"{"alg":"HS256"}"#, &claims(""));
    let mut desk = Desk::new(1);
    let issuers = [Arc::clone(&a)];
    let mut check = || {
        desk.check(token.as_bytes(), &issuers, NOW, &Revocations::default())
            .map(|_| ())
            .map_err(|denied| denied.reject)
    };
    assert_eq!(check(), Ok(()));
    let jwk = |secret: &[u8]| format!(r#"{{"kty":"oct","k":"{}"}}"#, encode(secret));
    let set = |keys: &str| {
        KeySet::from_jwks(format!(r#"{{"keys":[{keys}]}}"#).as_bytes(), Algs::SYMMETRIC).unwrap()
    };
    a.keys.store(set(&format!("{},{}", jwk(&[9; 64]), jwk(SECRET))));
    assert_eq!(check(), Ok(()), "a set that has it too");
    a.keys.store(set(&jwk(&[9; 64])));
    assert_eq!(check(), Err(Reject::Signature));
}
