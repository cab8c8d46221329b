//! How services are spoken to over TLS.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Version, fingerprint, hex};

/// Whose certificates are believed.
#[derive(Clone)]
pub enum Verify {
    /// Those of the authorities that this machine trusts.
    BySystem,
    /// Those of these authorities.
    By(Arc<[CertificateDer<'static>]>),
    /// Anyone's: the connection is encrypted, but nobody knows with whom.
    Not,
}

/// Two that show the same are the same.
impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BySystem => f.write_str("BySystem"),
            Self::By(authorities) => {
                f.debug_list().entries(authorities.iter().map(|der| hex(&fingerprint(der)[..8]))).finish()
            }
            Self::Not => f.write_str("Not"),
        }
    }
}

/// A client configuration; `system` are the authorities this machine trusts. Those that cannot be used are left out, as some of a
/// system's often are; fails when none is left.
pub fn client_config(
    verify: &Verify,
    system: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(super::provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(Version::Tls12.and_later())?;
    let authorities = match verify {
        Verify::BySystem => Some(system),
        Verify::By(authorities) => Some(&**authorities),
        Verify::Not => None,
    };
    let mut config = match authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            let (used, _) = roots.add_parsable_certificates(authorities.iter().cloned());
            if used == 0 {
                return Err(rustls::Error::General("no authority can be used".to_owned()));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Its cache has a lock, and connections to services are kept.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Believes every certificate; that its holder has its key is still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
