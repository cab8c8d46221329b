//! A certificate, its chain and its key, from PEM files.

use std::{fmt, time::Duration};

use ring::digest;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_cert::{
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::hex;

/// A certificate that can be offered: its key fits.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Names it is for, in lower case, `*.` in front of those with any first label. Without the addresses.
    pub names: Vec<String>,
    /// As RFC 4514 has it.
    pub subject: String,
    /// Unix times.
    pub not_before: Duration,
    pub not_after: Duration,
    /// Nobody else signed it.
    pub is_self_signed: bool,
    fingerprint: [u8; 32],
}

/// What is wrong with a file, in words for the operator: what it is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPem {
    /// Not PEM, or cut off.
    Broken(String),
    NoCertificate,
    /// It has a private key only.
    KeyForCertificate,
    /// DER that is no certificate.
    NotX509,
    NoKey,
    /// It has a certificate only.
    CertificateForKey,
    EncryptedKey,
    /// A kind of key TLS cannot use.
    UnusableKey,
    /// It belongs to another certificate.
    WrongKey,
    /// Since this many seconds.
    Expired(u64),
    /// For this many seconds.
    NotYetValid(u64),
}

impl BadPem {
    /// Whether the key's file is to be mended, as against the certificate's.
    pub const fn is_about_key(&self) -> bool {
        matches!(
            self,
            Self::NoKey | Self::CertificateForKey | Self::EncryptedKey | Self::UnusableKey | Self::WrongKey
        )
    }

    /// What to do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Broken(_) => "PEM has lines of base64 between -----BEGIN …----- and -----END …-----",
            Self::NoCertificate | Self::NotX509 => {
                "write the server's certificate, then those that lead to its authority"
            }
            Self::KeyForCertificate | Self::CertificateForKey => "are `cert` and `key` the wrong way round?",
            Self::NoKey => "write a private key in PKCS#8, PKCS#1 or SEC1 form",
            Self::EncryptedKey => "decrypt it: openssl pkey -in key.pem -out plain.pem",
            Self::UnusableKey => "RSA from 2048 bits, ECDSA P-256 or P-384, and Ed25519 can be used",
            Self::WrongKey => {
                "compare `openssl x509 -pubkey -noout -in CERT` with `openssl pkey -pubout -in KEY`"
            }
            Self::Expired(_) => "renew it",
            Self::NotYetValid(_) => "is the clock of this machine right?",
        }
    }
}

impl fmt::Display for BadPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = |seconds: &u64| match seconds / 86_400 {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        match self {
            Self::Broken(why) => write!(f, "is not PEM ({why})"),
            Self::NoCertificate => f.write_str("has no certificate"),
            Self::KeyForCertificate => f.write_str("has a private key where a certificate is wanted"),
            Self::NotX509 => f.write_str("has a certificate that cannot be read"),
            Self::NoKey => f.write_str("has no private key"),
            Self::CertificateForKey => f.write_str("has a certificate where a private key is wanted"),
            Self::EncryptedKey => f.write_str("has a private key that is encrypted"),
            Self::UnusableKey => f.write_str("has a private key that cannot be used"),
            Self::WrongKey => f.write_str("has the key of another certificate"),
            Self::Expired(since) => write!(f, "has expired {} ago", days(since)),
            Self::NotYetValid(wait) => write!(f, "is not valid yet, in {} it is", days(wait)),
        }
    }
}

impl Certificate {
    /// The certificate and chain in one text and its key in another, which may be the same. `now` is the unix time.
    pub fn new(cert: &str, key: &str, now: Duration, provider: &CryptoProvider) -> Result<Self, BadPem> {
        let chain = certificates(cert)?;
        let leaf = parsed(&chain[0])?;
        let tbs = &leaf.tbs_certificate;
        let key = private_key(key)?;
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), provider) {
            Ok(_) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(BadPem::WrongKey),
            Err(_) => return Err(BadPem::UnusableKey),
        }
        let not_before = tbs.validity.not_before.to_unix_duration();
        let not_after = tbs.validity.not_after.to_unix_duration();
        if now > not_after {
            return Err(BadPem::Expired((now - not_after).as_secs()));
        }
        if now < not_before {
            return Err(BadPem::NotYetValid((not_before - now).as_secs()));
        }
        Ok(Self {
            names: dns_names(&leaf),
            subject: tbs.subject.to_string(),
            not_before,
            not_after,
            is_self_signed: tbs.subject == tbs.issuer,
            fingerprint: fingerprint(&chain[0]),
            chain,
            key,
        })
    }

    /// The certificate alone, where those are missing that lead to its authority: many clients will not trust it.
    pub fn lacks_chain(&self) -> bool {
        self.chain.len() == 1 && !self.is_self_signed
    }

    /// What is offered. Loads the key anew: nothing of it is shared with an earlier one.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, rustls::Error> {
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), provider)
    }
}

/// Two certificates that show the same are the same.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("fingerprint", &hex(&self.fingerprint))
            .field("chain", &self.chain.len())
            .finish()
    }
}

/// The certificates of a text, at least one.
fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Err(error) => Err(BadPem::Broken(error.to_string())),
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if text.contains("PRIVATE KEY-----") => Err(BadPem::KeyForCertificate),
        Ok(_) => Err(BadPem::NoCertificate),
    }
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, BadPem> {
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(_) if text.contains("ENCRYPTED") => Err(BadPem::EncryptedKey),
        Err(rustls::pki_types::pem::Error::NoItemsFound) if text.contains("-----BEGIN CERTIFICATE-----") => {
            Err(BadPem::CertificateForKey)
        }
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(BadPem::NoKey),
        Err(error) => Err(BadPem::Broken(error.to_string())),
    }
}

/// Certificates of authorities, at least one; each can be read.
pub fn authorities(text: &str) -> Result<Vec<CertificateDer<'static>>, BadPem> {
    let found = certificates(text)?;
    found.iter().try_for_each(|der| parsed(der).map(drop))?;
    Ok(found)
}

fn parsed(der: &CertificateDer<'_>) -> Result<x509_cert::Certificate, BadPem> {
    x509_cert::Certificate::from_der(der).map_err(|_| BadPem::NotX509)
}

/// The subject of a certificate (RFC 4514) and when it expires. `None` for what cannot be read.
pub fn subject(der: &CertificateDer<'_>) -> Option<(String, Duration)> {
    let tbs = parsed(der).ok()?.tbs_certificate;
    Some((tbs.subject.to_string(), tbs.validity.not_after.to_unix_duration()))
}

/// SHA-256 of a certificate.
pub fn fingerprint(der: &CertificateDer<'_>) -> [u8; 32] {
    digest::digest(&digest::SHA256, der).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Names from the extension or, where there is none, the common name as of old.
fn dns_names(certificate: &x509_cert::Certificate) -> Vec<String> {
    let tbs = &certificate.tbs_certificate;
    let Ok(Some((_, SubjectAltName(names)))) = tbs.get::<SubjectAltName>() else {
        let subject = tbs.subject.to_string();
        let common = subject.split(',').find_map(|part| part.trim().strip_prefix("CN="));
        return common.map(str::to_ascii_lowercase).into_iter().collect();
    };
    let dns = |name: &GeneralName| {
        if let GeneralName::DnsName(name) = name { Some(name.to_string().to_ascii_lowercase()) } else { None }
    };
    names.iter().filter_map(dns).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    /// A self-signed certificate for `names` and its key, valid in these years.
    pub(crate) fn own(names: &[&str], years: std::ops::Range<i32>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// One that an authority signed.
    pub(crate) fn signed(name: &str) -> (String, String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        leaf.distinguished_name.push(rcgen::DnType::CommonName, name);
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        (leaf.pem(), key.serialize_pem(), authority.pem())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{own, signed},
        *,
    };

    /// 2026-01-01.
    const NOW: Duration = Duration::from_secs(1_767_225_600);

    #[track_caller]
    fn check(cert: &str, key: &str, expected: Result<&[&str], BadPem>) {
        let found = Certificate::new(cert, key, NOW, &super::super::provider());
        match (found, expected) {
            (Ok(found), Ok(names)) => assert_eq!(found.names, names),
            (Err(found), Err(BadPem::Broken(_))) => assert!(matches!(found, BadPem::Broken(_)), "{found:?}"),
            (found, expected) => assert_eq!(found.err(), expected.err()),
        }
    }

    #[test]
    fn a_certificate_and_its_key_are_taken() {
        let (cert, key) = own(&["a.example", "*.B.example"], 2020..2030);
        check(&cert, &key, Ok(&["a.example", "*.b.example"]));
        let both = format!("{key}{cert}");
        check(&both, &both, Ok(&["a.example", "*.b.example"]));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let (cert, key) = own(&["a"], 2020..2030);
        let (_, other) = own(&["a"], 2020..2030);
        check(&cert, &other, Err(BadPem::WrongKey));
        check(&key, &key, Err(BadPem::KeyForCertificate));
        check(&cert, &cert, Err(BadPem::CertificateForKey));
        check("", &key, Err(BadPem::NoCertificate));
        check(&cert, "nothing", Err(BadPem::NoKey));
        check(&cert[..cert.len() / 2], &key, Err(BadPem::Broken(String::new())));
        check(&cert, &key[..key.len() / 2], Err(BadPem::Broken(String::new())));
        check(&cert, &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), Err(BadPem::EncryptedKey));
        let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(wrong, &key, Err(BadPem::NotX509));
    }

    #[test]
    fn a_certificate_has_its_time() {
        let (cert, key) = own(&["a"], 2020..2025);
        check(&cert, &key, Err(BadPem::Expired(365 * 86_400)));
        let (cert, key) = own(&["a"], 2027..2030);
        check(&cert, &key, Err(BadPem::NotYetValid(365 * 86_400)));
        assert_eq!(BadPem::Expired(86_400 * 365).to_string(), "has expired 365 days ago");
    }

    #[test]
    fn a_certificate_that_somebody_signed_wants_its_chain() {
        let lacks = |cert: &str, key: &str| {
            Certificate::new(cert, key, NOW, &super::super::provider()).unwrap().lacks_chain()
        };
        let (cert, key, authority) = signed("a");
        assert!(lacks(&cert, &key));
        assert!(!lacks(&format!("{cert}{authority}"), &key));
        let (cert, key) = own(&["a"], 2020..2030);
        assert!(!lacks(&cert, &key));
    }
}
