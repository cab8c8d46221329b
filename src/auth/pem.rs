//! Public keys in PEM (RFC 7468).

use rustls::pki_types::pem::{PemObject, SectionKind};
use x509_cert::{
    Certificate,
    der::{Decode, Reader, SliceReader, asn1::UintRef, oid::ObjectIdentifier},
    spki::SubjectPublicKeyInfoOwned,
};

use super::{
    Algs, BadKeys,
    key::{BadKey, Key},
};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The keys of every `PUBLIC KEY` and `CERTIFICATE` of a text.
pub(super) fn keys(text: &[u8], only: Algs) -> Result<Vec<Key>, BadKeys> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|_| BadKeys::NotPem)?;
        let info = if kind == SectionKind::PublicKey {
            SubjectPublicKeyInfoOwned::from_der(&der).map_err(|_| BadKeys::NotPem)?
        } else if kind == SectionKind::Certificate {
            let certificate = Certificate::from_der(&der).map_err(|_| BadKeys::NotPem)?;
            certificate.tbs_certificate.subject_public_key_info
        } else {
            continue;
        };
        keys.push(from_info(&info, only)?);
    }
    if keys.is_empty() { Err(BadKeys::NotPem) } else { Ok(keys) }
}

fn from_info(info: &SubjectPublicKeyInfoOwned, only: Algs) -> Result<Key, BadKeys> {
    let bits = info.subject_public_key.as_bytes().ok_or(BadKeys::NotPem)?;
    let key = match info.algorithm.oid {
        RSA => {
            let (n, e) = rsa_numbers(bits).ok_or(BadKeys::NotPem)?;
            Key::rsa(&n, &e, None, only)
        }
        // The point's length says which curve it is on; ring checks that it is.
        EC => Key::point(bits, None, only),
        ED25519 => Key::ed25519(bits, None, only),
        _ => Err(BadKey::Curve),
    };
    key.map_err(BadKeys::Key)
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 §A.1.1).
fn rsa_numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(der).ok()?;
    let numbers = reader.sequence(|reader| {
        let (n, e): (UintRef<'_>, UintRef<'_>) = (reader.decode()?, reader.decode()?);
        Ok((n.as_bytes().to_vec(), e.as_bytes().to_vec()))
    });
    numbers.ok()
}
