//! What it costs to ask whether a token is revoked, and to revoke one, among a million.

use std::{hint::black_box, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use coregate::auth::revocation::{Revocation, Revocations};
use divan::Bencher;
use ring::digest::{SHA256, digest};

const ISS: &str = "https://api.example.com/";

fn main() {
    divan::main();
}

fn jti(number: u64) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, &number.to_le_bytes()).as_ref()[..16])
}

static MILLION: LazyLock<Revocations> = LazyLock::new(|| {
    let texts: Vec<String> = (0..1_000_000).map(jti).collect();
    let revoked: Vec<_> = texts.iter().map(|jti| Revocation::Token { jti, until: u64::MAX }).collect();
    Revocations::default().with(ISS, &revoked, 0)
});

/// Tokens that are not revoked, each another one, as they come without a cache in front.
#[divan::bench(args = [0, 1_000_000])]
fn look_up(bencher: Bencher<'_, '_>, revoked: u64) {
    let set = if revoked == 0 { Revocations::default() } else { MILLION.clone() };
    let texts: Vec<String> = (2_000_000..2_010_000).map(jti).collect();
    let mut next = texts.iter().cycle();
    bencher.bench_local(|| {
        let jti = next.next().map(String::as_str);
        assert!(!black_box(&set).is_revoked(ISS, jti, Some("ann"), Some(1)));
    });
}

/// One log-out after the other.
#[divan::bench]
fn revoke(bencher: Bencher<'_, '_>) {
    let mut set = MILLION.clone();
    let mut number = 3_000_000;
    bencher.bench_local(|| {
        number += 1;
        set = set.with(ISS, &[Revocation::Token { jti: &jti(number), until: u64::MAX }], 0);
    });
}
