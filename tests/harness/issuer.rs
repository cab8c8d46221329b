//! Tokens for tests: signed here, or by a real program of somebody else.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};

use super::{
    program::command,
    wait::{now_unix, wait_until},
};

/// Long enough for every hash.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A token under [`SECRET`] of the issuer `test` that is good for an hour, with `more` claims (`,"sub":"alice"`).
pub fn token(more: &str) -> String {
    token_with(&format!(r#""iss":"test","exp":{}{more}"#, now_unix() + 3600))
}

/// A token with exactly these claims.
pub fn token_with(claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims, |signed| hmac::sign(&key, signed).as_ref().to_vec())
}

fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(format!("{{{claims}}}").as_bytes()));
    let signature = encode(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A key that signs with ES256.
pub struct Signer {
    key: EcdsaKeyPair,
    kid: String,
}

impl Signer {
    pub fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("random numbers");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self { key: key.expect("just made"), kid: kid.to_owned() }
    }

    /// A token of `iss` that is good for an hour.
    pub fn token(&self, iss: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.kid);
        let claims = format!(r#""iss":"{iss}","exp":{},"sub":"{}""#, now_unix() + 3600, self.kid);
        let random = SystemRandom::new();
        signed(&header, &claims, |signed| {
            self.key.sign(&random, signed).expect("random numbers").as_ref().to_vec()
        })
    }

    /// As in a JWK Set.
    pub fn jwk(&self) -> String {
        let point = &self.key.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        format!(r#"{{"kty":"EC","crv":"P-256","use":"sig","kid":"{}","x":"{x}","y":"{y}"}}"#, self.kid)
    }
}

/// A JWK Set of these keys.
pub fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A foreign issuer: Python's authlib behind an HTTP server of its own.
pub struct Authlib {
    address: SocketAddr,
    child: Child,
}

impl Authlib {
    #[track_caller]
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/issuer.py");
        let mut child = command("python3", "python3-authlib")
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is part of every Debian");
        let mut line = String::new();
        let mut out = child.stdout.take().expect("it is piped");
        wait_until("the issuer to say where it listens", || {
            let mut byte = [0];
            while !line.ends_with('\n') && out.read(&mut byte).is_ok_and(|count| count == 1) {
                line.push(char::from(byte[0]));
            }
            line.ends_with('\n')
                || panic!("python3-authlib is missing, or too old: apt-get install -y python3-authlib")
        });
        let port: u16 = line.trim().parse().expect("a port");
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), child }
    }

    /// What its `iss` is.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The body of the answer to a GET.
    #[track_caller]
    pub fn get(&self, target: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        let request = format!("GET {target} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole answer");
        assert!(head.contains(" 200 "), "{head}");
        body.to_owned()
    }
}

impl fmt::Display for Authlib {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl Drop for Authlib {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
