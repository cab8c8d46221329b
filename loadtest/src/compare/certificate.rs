//! The certificate that all servers of a scenario over TLS show: ECDSA P-256, made for one run.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

use crate::Failure;

/// The name in it, for which the generator asks.
pub const NAME: &str = "bench.example";

/// Files of a certificate and its key (PEM).
#[derive(Debug, Clone)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// One behind the other, as HAProxy wants them.
    pub cert_and_key: PathBuf,
}

impl Files {
    /// Makes them in `folder`.
    pub fn make(folder: &Path) -> Result<Self, Failure> {
        let broken = |error: rcgen::Error| Failure(format!("no certificate could be made: {error}"));
        let mut params = CertificateParams::new([NAME.to_owned()]).map_err(broken)?;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(broken)?;
        let (cert_text, key_text) = (params.self_signed(&key).map_err(broken)?.pem(), key.serialize_pem());
        let place = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).map_err(|error| Failure::io(&file, &error))?;
            Ok(file)
        };
        Ok(Self {
            cert: place("cert.pem", &cert_text)?,
            key: place("key.pem", &key_text)?,
            cert_and_key: place("cert-and-key.pem", &format!("{cert_text}{key_text}"))?,
        })
    }
}
