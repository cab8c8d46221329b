//! Certificates and names → rustls configuration. Bytes of files come in, and so do the time and random numbers.

mod certificate;
mod client;
mod names;
mod tickets;

use std::{fmt, sync::Arc};

use ring::digest;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

#[cfg(test)]
pub(crate) use self::certificate::testing;
pub use self::{
    certificate::{BadPem, Certificate, authorities, fingerprint, subject},
    client::{Verify, client_config},
    tickets::{TicketKeys, TicketSeed},
};
use self::{names::Names, tickets::Ticketer};

/// Oldest protocol version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Tls12 => &ALL,
            Self::Tls13 => &ALL[..1],
        }
    }
}

/// What a client gets that asks for a name nobody has a certificate for, or for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownName {
    /// The first certificate.
    Default,
    /// An alert.
    Reject,
}

/// Which client certificates are asked for.
#[derive(Clone)]
pub struct Clients {
    /// Certificates of the authorities that may have signed them.
    pub authorities: Arc<[CertificateDer<'static>]>,
    /// A client without a certificate is turned away.
    pub require: bool,
}

impl Clients {
    /// A number for these rules: a ticket resumes under none but those it was made under (CVE-2025-23419).
    fn digest(rules: Option<&Self>) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        if let Some(rules) = rules {
            context.update(&[1, u8::from(rules.require)]);
            for authority in &*rules.authorities {
                context.update(fingerprint(authority).as_ref());
            }
        }
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities: Vec<_> = self.authorities.iter().map(|der| hex(&fingerprint(der)[..8])).collect();
        f.debug_struct("Clients").field("authorities", &authorities).field("require", &self.require).finish()
    }
}

/// What listeners offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The first is the default.
    pub certificates: Vec<Arc<Certificate>>,
    pub min: Version,
    pub unknown: UnknownName,
    pub clients: Option<Clients>,
}

/// The cryptography in use: ring or, with the feature `aws-lc`, aws-lc-rs.
pub fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc"))]
    return rustls::crypto::ring::default_provider();
}

/// One server configuration for each of `count` shards. They have nothing in common that a connection writes to, not even a
/// reference count: keys are loaded for each. No session is kept in memory; tickets are made with `keys`, which all share.
///
/// Fails where a key or the authorities cannot be used after all.
pub fn server_configs(
    offer: &Offer,
    keys: &Arc<TicketKeys>,
    count: usize,
) -> Result<Vec<Arc<ServerConfig>>, rustls::Error> {
    (0..count).map(|_| server_config(offer, keys)).collect()
}

fn server_config(offer: &Offer, keys: &Arc<TicketKeys>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(provider());
    let names = Names::new(offer, &provider)?;
    let verifier: Arc<dyn ClientCertVerifier> = match &offer.clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(clients) => client_verifier(clients, &provider)?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(offer.min.and_later())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Ticketer::new(Arc::clone(keys), Clients::digest(offer.clients.as_ref())));
    // One is enough for the next connection, which gets the next one.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The same for a connection on which these protocols are offered, the preferred one first.
pub fn offering(config: &ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// The same for a listener that does not speak HTTP/2.
pub fn without_http2(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols.retain(|protocol| protocol != b"h2");
    Arc::new(config)
}

fn client_verifier(
    clients: &Clients,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in &*clients.authorities {
        roots.add(authority.clone())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if clients.require { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| rustls::Error::General(error.to_string()))
}

/// Hexadecimal digits, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
