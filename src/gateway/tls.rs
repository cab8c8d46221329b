//! The gateway's side of TLS: ticket keys, a certificate of our own making, configurations for the shards.

use std::{
    collections::HashMap, fs, io, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc,
    time::Duration,
};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};

use crate::{
    clock::Clock,
    config::{self, Config},
    control::CertificateFacts,
    snapshot::TlsConfigs,
    tls::{
        Certificate, Offer, TicketKeys, UnknownName, Verify, Version, client_config, provider, server_configs,
    },
};

/// What outlives a snapshot.
pub(super) struct Tls {
    keys: Arc<TicketKeys>,
    shards: usize,
    /// Made once, when a listener wants TLS and nobody said with which certificate.
    own: Option<Arc<Certificate>>,
    made: Made,
    /// By how certificates are judged, as shown.
    clients: HashMap<String, Arc<[Arc<ClientConfig>]>>,
    /// In the order of the configuration's services.
    services: Vec<Arc<[Arc<ClientConfig>]>>,
}

/// What the shards have.
struct Made {
    /// What it was made from, as shown; other files give another text.
    from: String,
    configs: Arc<[Arc<ServerConfig>]>,
    facts: Vec<CertificateFacts>,
}

impl Tls {
    /// Fails when the system has no random numbers.
    pub(super) fn new(shards: usize) -> io::Result<Self> {
        let keys = Arc::new(TicketKeys::new(&seed()?, random));
        let made = Made { from: String::new(), configs: Arc::new([]), facts: Vec::new() };
        Ok(Self { keys, shards, own: None, made, clients: HashMap::new(), services: Vec::new() })
    }

    pub(super) fn keys(&self) -> Arc<TicketKeys> {
        Arc::clone(&self.keys)
    }

    /// What the shards are to have for `config`: what they have, if it says the same. The error is for the operator.
    pub(super) fn prepare(&mut self, config: &Config, warnings: &mut Vec<String>) -> Result<(), String> {
        self.prepare_services(config)?;
        if !config.listen.iter().any(|listen| listen.tls) {
            self.made = Made { from: String::new(), configs: Arc::new([]), facts: Vec::new() };
            return Ok(());
        }
        let own;
        let offer = match &config.tls {
            Some(tls) => &tls.offer,
            None => {
                own = self.own_offer(&config.state, warnings)?;
                &own
            }
        };
        let from = format!("{offer:?}");
        if from == self.made.from {
            return Ok(());
        }
        let configs = server_configs(offer, &self.keys, self.shards)
            .map_err(|error| format!("error: [tls] cannot be used: {error}\n1 error\n"))?;
        let facts = offer.certificates.iter().map(|certificate| CertificateFacts {
            names: certificate.names.join(","),
            subject: certificate.subject.clone(),
            not_after: certificate.not_after.as_secs(),
        });
        self.made = Made { from, configs: configs.into(), facts: facts.collect() };
        Ok(())
    }

    /// What the snapshot is to have.
    pub(super) fn configs(&self) -> TlsConfigs {
        TlsConfigs { listeners: Arc::clone(&self.made.configs), services: self.services.clone() }
    }

    fn prepare_services(&mut self, config: &Config) -> Result<(), String> {
        let mut clients = HashMap::new();
        let mut services = Vec::with_capacity(config.services.len());
        for service in &config.services {
            if service.endpoints.iter().all(|endpoint| endpoint.tls.is_none()) {
                services.push(Arc::from([]));
                continue;
            }
            let verify = &service.tls.verify;
            let from = format!("{verify:?}");
            let made = self.clients.get(&from).or_else(|| clients.get(&from)).map(Arc::clone);
            let configs: Arc<[_]> = match made {
                Some(configs) => configs,
                None => {
                    let system = match verify {
                        Verify::BySystem => system_authorities(),
                        Verify::By(_) | Verify::Not => Vec::new(),
                    };
                    let configs: Result<Vec<_>, _> =
                        (0..self.shards).map(|_| client_config(verify, &system)).collect();
                    configs.map_err(|error| unusable(service, &error))?.into()
                }
            };
            clients.insert(from, Arc::clone(&configs));
            services.push(configs);
        }
        (self.clients, self.services) = (clients, services);
        Ok(())
    }

    pub(super) fn facts(&self) -> Vec<CertificateFacts> {
        self.made.facts.clone()
    }

    fn own_offer(&mut self, state: &Path, warnings: &mut Vec<String>) -> Result<Offer, String> {
        let own = match &self.own {
            Some(own) => Arc::clone(own),
            None => {
                let own = Arc::new(own_certificate(state, warnings)?);
                warnings.push(
                    "an https:// listener without [tls] has a certificate that no client trusts, for trying things out"
                        .to_owned(),
                );
                self.own = Some(Arc::clone(&own));
                own
            }
        };
        Ok(Offer {
            certificates: vec![own],
            min: Version::Tls12,
            unknown: UnknownName::Default,
            clients: None,
        })
    }
}

/// The certificates of the authorities this machine trusts; those that cannot be read are left out.
fn system_authorities() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

fn unusable(service: &config::Service, error: &rustls::Error) -> String {
    let remedy = match service.tls.verify {
        Verify::BySystem => {
            "; install this machine's certificates (ca-certificates), or name a file: tls = { ca = \"…\" }"
        }
        Verify::By(_) | Verify::Not => "",
    };
    format!("error: TLS with service `{}`: {error}{remedy}\n1 error\n", service.name)
}

/// Makes the key of tickets a new one.
pub(super) fn rotate(keys: &TicketKeys) {
    // Without random numbers the old key stays, which is better than none.
    if let Ok(seed) = seed() {
        keys.rotate(&seed);
    }
}

fn seed() -> io::Result<crate::tls::TicketSeed> {
    let mut seed = [0; 48];
    if random(&mut seed) { Ok(seed) } else { Err(io::Error::other("the system has no random numbers")) }
}

fn random(bytes: &mut [u8]) -> bool {
    SystemRandom::new().fill(bytes).is_ok()
}

/// The development certificate kept in `state`, made and written there when there is none that is good. Where it cannot be
/// written it lasts as long as the process.
fn own_certificate(state: &Path, warnings: &mut Vec<String>) -> Result<Certificate, String> {
    let (cert, key) = (state.join("development.pem"), state.join("development.key"));
    let clock = Clock::start();
    let now = clock.unix(clock.now_us());
    let kept = fs::read_to_string(&cert).and_then(|cert| Ok((cert, fs::read_to_string(&key)?)));
    if let Ok((cert, key)) = kept
        && let Ok(certificate) = Certificate::new(&cert, &key, now, &provider())
    {
        return Ok(certificate);
    }
    let (cert_text, key_text) =
        self_signed().map_err(|error| format!("error: a certificate cannot be made: {error}\n1 error\n"))?;
    let written = fs::create_dir_all(state)
        .and_then(|()| write_private(&key, &key_text))
        .and_then(|()| fs::write(&cert, &cert_text));
    if let Err(error) = written {
        warnings.push(format!(
            "the development certificate is made anew at every start, because it cannot be kept in {}: {error}",
            state.display()
        ));
    }
    Certificate::new(&cert_text, &key_text, now, &provider())
        .map_err(|bad| format!("error: the certificate just made {bad}\n1 error\n"))
}

/// A file that only its owner may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// A certificate for this machine's own names, and its key.
fn self_signed() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(["localhost".to_owned(), "*.localhost".to_owned()])?;
    for address in ["127.0.0.1", "::1"] {
        let address = address.parse().expect("written as an address");
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    params.distinguished_name.push(DnType::CommonName, "Coregate development");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// How often keys of tickets are rotated.
pub(super) const ROTATE_EVERY: Duration = TicketKeys::ROTATE_EVERY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_development_certificate_is_made_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let state = std::env::temp_dir().join(format!("coregate-own-{}", std::process::id()));
        let mut warnings = Vec::new();
        let first = own_certificate(&state, &mut warnings).unwrap();
        let second = own_certificate(&state, &mut warnings).unwrap();
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert_eq!(first.names, ["localhost", "*.localhost"]);
        let mode = fs::metadata(state.join("development.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::write(state.join("development.pem"), "half").unwrap();
        let third = own_certificate(&state, &mut warnings).unwrap();
        assert_ne!(format!("{first:?}"), format!("{third:?}"));
        assert_eq!(warnings, [""; 0]);
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_state_that_cannot_be_written_is_a_warning() {
        let mut warnings = Vec::new();
        assert!(own_certificate(Path::new("/proc/nothing"), &mut warnings).is_ok());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
