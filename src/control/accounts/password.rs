//! Passwords: argon2id for new ones; bcrypt, scrypt and PBKDF2 for those that were hashed elsewhere.
//!
//! A hash is kept as a text that says how it was made: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` (the PHC string format),
//! `$2b$…` (bcrypt), `$scrypt$ln=16,r=8,p=1$…`, `$pbkdf2-sha256$i=600000$…`, and Django's `pbkdf2_sha256$600000$…`.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::{pbkdf2, rand::SecureRandom};

use crate::config::issuing::Hashing;

/// Longest password: hashing costs time for each byte.
pub const PASSWORD_BYTES_MAX: usize = 1024;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// No hash in a database makes us take more memory than this, in KiB.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// PHC strings have no padding; others do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What came of comparing a password with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Right, and to be hashed again: the hash is weaker than what is configured, or of another kind.
    RightButOld,
    Wrong,
    /// The text is no hash that we know.
    NoHash,
}

/// Hashes a password with a new salt. Fails where the system has no random numbers or too little memory.
pub fn hash(password: &str, hashing: &Hashing, random: &dyn SecureRandom) -> Result<String, String> {
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt).map_err(|_| "the system gives no random numbers".to_owned())?;
    let mut out = [0; HASH_BYTES];
    let Hashing { memory_kib, passes, lanes, .. } = *hashing;
    argon2(Algorithm::Argon2id, [memory_kib, passes, lanes], password, &salt, &mut out)?;
    let (salt, out) = (BASE64.encode(salt), BASE64.encode(out));
    Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${out}"))
}

/// Compares a password with a hash, which takes what the hash says it takes.
pub fn verify(password: &str, hash: &str, hashing: &Hashing) -> Verdict {
    let right = match Kind::of(hash) {
        Some(Kind::Argon2(algorithm, rest)) => {
            return argon2_verdict(password, algorithm, rest, hashing).unwrap_or(Verdict::NoHash);
        }
        Some(Kind::Bcrypt) => bcrypt::verify(password, hash).ok(),
        Some(Kind::Scrypt(rest)) => scrypt_is_right(password, rest),
        Some(Kind::Pbkdf2(algorithm, rest)) => pbkdf2_is_right(password, algorithm, rest),
        None => None,
    };
    match right {
        Some(true) => Verdict::RightButOld,
        Some(false) => Verdict::Wrong,
        None => Verdict::NoHash,
    }
}

/// Whether a text is a hash of a kind we know. What its parameters say is seen when it is compared.
pub fn is_hash(text: &str) -> bool {
    Kind::of(text).is_some()
}

enum Kind<'h> {
    Argon2(Algorithm, &'h str),
    Bcrypt,
    Scrypt(&'h str),
    Pbkdf2(pbkdf2::Algorithm, &'h str),
}

impl<'h> Kind<'h> {
    fn of(hash: &'h str) -> Option<Self> {
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|start| hash.starts_with(start)) {
            return Some(Self::Bcrypt);
        }
        let (name, rest) = hash.strip_prefix('$').unwrap_or(hash).split_once('$')?;
        Some(match name {
            "argon2id" => Self::Argon2(Algorithm::Argon2id, rest),
            "argon2i" => Self::Argon2(Algorithm::Argon2i, rest),
            "argon2d" => Self::Argon2(Algorithm::Argon2d, rest),
            "scrypt" => Self::Scrypt(rest),
            "pbkdf2" | "pbkdf2_sha1" => Self::Pbkdf2(pbkdf2::PBKDF2_HMAC_SHA1, rest),
            "pbkdf2-sha256" | "pbkdf2_sha256" => Self::Pbkdf2(pbkdf2::PBKDF2_HMAC_SHA256, rest),
            "pbkdf2-sha512" | "pbkdf2_sha512" => Self::Pbkdf2(pbkdf2::PBKDF2_HMAC_SHA512, rest),
            _ => return None,
        })
    }
}

fn argon2(
    algorithm: Algorithm,
    [memory_kib, passes, lanes]: [u32; 3],
    password: &str,
    salt: &[u8],
    out: &mut [u8],
) -> Result<(), String> {
    if memory_kib > MEMORY_KIB_MAX {
        return Err(format!("{memory_kib} KiB are more than a hash may take"));
    }
    let text = |error: argon2::Error| error.to_string();
    let params = Params::new(memory_kib, passes, lanes, Some(out.len())).map_err(text)?;
    Argon2::new(algorithm, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, out)
        .map_err(text)
}

/// `v=19$m=…,t=…,p=…$salt$hash`.
fn argon2_verdict(password: &str, algorithm: Algorithm, rest: &str, hashing: &Hashing) -> Option<Verdict> {
    let [parameters, salt, expected] = fields(rest.strip_prefix("v=19$")?)?;
    let cost = [parameter(parameters, "m")?, parameter(parameters, "t")?, parameter(parameters, "p")?];
    let (salt, expected) = (BASE64.decode(salt).ok()?, BASE64.decode(expected).ok()?);
    let mut out = vec![0; expected.len()];
    argon2(algorithm, cost, password, &salt, &mut out).ok()?;
    if !is_same(&out, &expected) {
        return Some(Verdict::Wrong);
    }
    let is_current = algorithm == Algorithm::Argon2id
        && cost == [hashing.memory_kib, hashing.passes, hashing.lanes]
        && out.len() == HASH_BYTES;
    Some(if is_current { Verdict::Right } else { Verdict::RightButOld })
}

/// `ln=…,r=…,p=…$salt$hash`.
fn scrypt_is_right(password: &str, rest: &str) -> Option<bool> {
    let [parameters, salt, expected] = fields(rest)?;
    let log_n = u8::try_from(parameter(parameters, "ln")?).ok()?;
    let (r, p) = (parameter(parameters, "r")?, parameter(parameters, "p")?);
    // 128 bytes for each of N times r.
    let memory_kib = 1_u32.checked_shl(u32::from(log_n))?.checked_mul(r)? / 8;
    if log_n >= 31 || memory_kib > MEMORY_KIB_MAX {
        return None;
    }
    let (salt, expected) = (BASE64.decode(salt).ok()?, BASE64.decode(expected).ok()?);
    let mut out = vec![0; expected.len()];
    let params = scrypt::Params::new(log_n, r, p).ok()?;
    scrypt::scrypt(password.as_bytes(), &salt, &params, &mut out).ok()?;
    Some(is_same(&out, &expected))
}

/// `i=…[,l=…]$salt$hash` (PHC), `rounds$salt$hash` (passlib, whose base 64 has `.` for `+`; Django, whose salt is text).
fn pbkdf2_is_right(password: &str, algorithm: pbkdf2::Algorithm, rest: &str) -> Option<bool> {
    let [parameters, salt, expected] = fields(rest)?;
    let rounds = parameter(parameters, "i").or_else(|| parameters.parse().ok())?;
    let rounds = NonZeroU32::new(rounds)?;
    let plain = |text: &str| BASE64.decode(text.replace('.', "+")).ok();
    let expected = plain(expected).filter(|expected| !expected.is_empty())?;
    let salts = [plain(salt), Some(salt.as_bytes().to_vec())];
    let is_right =
        |salt: Vec<u8>| pbkdf2::verify(algorithm, rounds, &salt, password.as_bytes(), &expected).is_ok();
    Some(salts.into_iter().flatten().any(is_right))
}

fn fields(text: &str) -> Option<[&str; 3]> {
    let mut fields = text.split('$');
    let three = [fields.next()?, fields.next()?, fields.next()?];
    fields.next().is_none().then_some(three)
}

/// The number of `name=` in a list with commas.
fn parameter(list: &str, name: &str) -> Option<u32> {
    list.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// In a time that does not say where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && !one.is_empty()
        && one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    /// Little work: these tests are about what is compared, not what it costs.
    const CHEAP: Hashing = Hashing { memory_kib: 8, passes: 1, lanes: 1, threads: 1, queue: 1 };

    #[track_caller]
    fn check(password: &str, hash: &str, expected: Verdict) {
        assert_eq!(verify(password, hash, &CHEAP), expected, "{hash}");
    }

    #[test]
    fn what_was_hashed_is_recognised_and_nothing_else() {
        let hash = hash("correct horse", &CHEAP, &SystemRandom::new()).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        check("correct horse", &hash, Verdict::Right);
        check("correct horsf", &hash, Verdict::Wrong);
        check("", &hash, Verdict::Wrong);
    }

    #[test]
    fn two_hashes_of_a_password_differ() {
        let hash = || hash("same", &CHEAP, &SystemRandom::new()).unwrap();
        assert_ne!(hash(), hash());
    }

    #[test]
    fn a_hash_with_other_parameters_is_right_but_old() {
        let dearer = Hashing { memory_kib: 16, ..CHEAP };
        let hash = hash("p", &dearer, &SystemRandom::new()).unwrap();
        check("p", &hash, Verdict::RightButOld);
        check("q", &hash, Verdict::Wrong);
    }

    #[test]
    fn hashes_of_other_programs_are_recognised() {
        // argon2: phc-winner-argon2, test.c. bcrypt: the test vectors of jBCrypt and Python's bcrypt. The others were made by Python's hashlib.
        for (password, hash) in [
            (
                "password",
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            ),
            (
                "password",
                "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
            ),
            ("allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"),
            (
                "pleaseletmein",
                "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw",
            ),
            (
                "passwd",
                "$pbkdf2-sha256$i=1,l=64$c2FsdA$VawEblbjCJ/sFpHCJUS2BflBhSFt3gRl5oudV8INrLxJypzM8Xm2RZkWZLOdd+8xfHG4RbHjC9UJESBB06GXgw",
            ),
            ("password", "$pbkdf2$4096$c2FsdA$SwB5AbdlSJq+rUnZJvch0GWkKcE"),
            ("password", "$pbkdf2$4096$c2FsdA$SwB5AbdlSJq.rUnZJvch0GWkKcE"),
            ("lètmein", "pbkdf2_sha256$1000$seasalt2$ABPNVLVV1vRC5OnBCpgwRvsTOJaXds28OSzNig3GR2M="),
        ] {
            check(password, hash, Verdict::RightButOld);
            check("wrong", hash, Verdict::Wrong);
        }
    }

    #[test]
    fn what_is_no_hash_is_never_right() {
        for text in [
            "",
            "secret",
            "$argon2id$",
            "$argon2id$v=19$m=8,t=1,p=1$$",
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$",
            "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHQ",
            "$scrypt$ln=40,r=8,p=1$YQ$YQ",
            "$pbkdf2-sha256$i=0$YQ$YQ",
            "$pbkdf2-sha256$i=1$YQ$",
            "$2b$10$short",
        ] {
            check("", text, Verdict::NoHash);
            check(text, text, Verdict::NoHash);
        }
    }
}
