//! TLS on the generator's side: rustls with ring, driven from the event loop.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use rustls::{DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

use super::Failed;
use crate::Failure;

/// How connections are secured.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For the server `name`. Trusts the certificates in `ca`; without it, whatever the server shows: a load test keeps no
    /// secrets. `resume`: later connections continue an earlier one's session.
    pub fn new(name: &str, ca: Option<&Path>, resume: bool) -> Result<Self, Failure> {
        Self::with(ring::default_provider(), name, ca, resume)
    }

    /// As [`Tls::new`], for comparisons: TLS 1.3 with `TLS_AES_128_GCM_SHA256` and X25519 alone, so that all servers do the
    /// same cryptography whatever they would prefer.
    pub fn pinned(name: &str, ca: &Path, resume: bool) -> Result<Self, Failure> {
        let provider = CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        };
        Self::with(provider, name, Some(ca), resume)
    }

    fn with(provider: CryptoProvider, name: &str, ca: Option<&Path>, resume: bool) -> Result<Self, Failure> {
        let provider = Arc::new(provider);
        let broken = |error: Error| Failure(format!("TLS: {error}"));
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(broken)?;
        let verifier: Arc<dyn ServerCertVerifier> = match ca {
            Some(file) => {
                let refuse = |why: String| Failure(format!("{}: {why}", file.display()));
                let mut roots = RootCertStore::empty();
                for certificate in
                    CertificateDer::pem_file_iter(file).map_err(|error| refuse(error.to_string()))?
                {
                    let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
                    roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
                verifier.map_err(|error| refuse(error.to_string()))?
            }
            None => Arc::new(Anyone(provider.signature_verification_algorithms)),
        };
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.resumption =
            if resume { Resumption::store(Arc::new(Sessions::default())) } else { Resumption::disabled() };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Failure(format!("`{name}` is neither a host name nor an address")))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same, offering HTTP/2 alone.
    pub fn for_h2(mut self) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![b"h2".to_vec()];
        self
    }

    /// A session for a new connection.
    pub(super) fn session(&self) -> Result<Session, Failed> {
        let mut session =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(|_| Failed::Tls)?;
        // The generator never gives it more than one request at a time.
        session.set_buffer_limit(None);
        Ok(Session(session))
    }

    /// `stream` with TLS over it; the handshake comes with the first byte.
    pub fn over(&self, stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(StreamOwned::new(session.map_err(io::Error::other)?, stream))
    }

    /// A handshake on `stream`, to tell what is wrong before the load begins.
    pub fn try_on(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        let mut session = self.session().map_err(|failed| Failure(failed.to_string()))?.0;
        while session.is_handshaking() {
            session.complete_io(stream).map_err(|error| {
                let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof);
                let hint = if silent { "no answer; does the server speak TLS on this port? " } else { "" };
                Failure(format!("TLS: {hint}{error}"))
            })?;
        }
        if !self.config.alpn_protocols.is_empty() && session.alpn_protocol().is_none() {
            return Err(Failure("the server speaks no HTTP/2: it did not agree to `h2` (ALPN)".to_owned()));
        }
        Ok(())
    }
}

/// Tickets kept at most: one for each of many connections that begin at once. rustls's own store keeps eight for a server, and
/// with those in use the next handshakes are full ones.
const TICKETS_MAX: usize = 16_384;

/// What earlier connections left to continue from, all with the same server.
#[derive(Debug, Default)]
struct Sessions {
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    session_12: Mutex<Option<Tls12ClientSessionValue>>,
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        *held(&self.session_12) = Some(session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        held(&self.session_12).clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *held(&self.session_12) = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = held(&self.tickets);
        if tickets.len() == TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    /// The newest: its key is the one the server is most likely to have still.
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        held(&self.tickets).pop_back()
    }
}

/// The value of a lock that only this thread takes.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's session.
pub(super) struct Session(ClientConnection);

/// How a handshake stands.
pub(super) enum Shake {
    Under,
    Done { resumed: bool },
}

impl Session {
    /// Takes the handshake as far as `socket` lets it.
    pub(super) fn shake(&mut self, socket: &OwnedFd) -> Result<Shake, Failed> {
        while self.0.is_handshaking() {
            self.flush(socket)?;
            if self.0.is_handshaking() && !self.fill(socket)? {
                return Ok(Shake::Under);
            }
        }
        self.flush(socket)?;
        Ok(Shake::Done { resumed: self.0.handshake_kind() == Some(HandshakeKind::Resumed) })
    }

    /// Whether requests can be encrypted: the handshake is done.
    pub(super) fn is_ready(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// Whether both sides agreed on this protocol (RFC 7301).
    pub(super) fn speaks(&self, protocol: &[u8]) -> bool {
        self.0.alpn_protocol() == Some(protocol)
    }

    /// Encrypts `text`, which [`flush`](Self::flush) sends.
    pub(super) fn write(&mut self, text: &[u8]) -> Result<(), Failed> {
        self.0.writer().write_all(text).map_err(|_| Failed::Tls)
    }

    /// Sends what is encrypted, as far as the socket takes it.
    pub(super) fn flush(&mut self, socket: &OwnedFd) -> Result<(), Failed> {
        while self.0.wants_write() {
            match self.0.write_tls(&mut Socket(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Failed::Closed),
            }
        }
        Ok(())
    }

    /// Decrypts into `buffer`: the bytes that came, 0 at the end of the stream; `None` when there is nothing yet.
    pub(super) fn read(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>, Failed> {
        loop {
            match self.0.reader().read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Failed::Closed),
            }
            if !self.fill(socket)? {
                return Ok(None);
            }
        }
    }

    /// Takes records off the socket; whether there were any.
    fn fill(&mut self, socket: &OwnedFd) -> Result<bool, Failed> {
        match self.0.read_tls(&mut Socket(socket)) {
            Ok(0) if self.0.is_handshaking() => return Err(Failed::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(Failed::Closed),
        }
        self.0.process_new_packets().map_err(|_| Failed::Tls)?;
        Ok(true)
    }
}

/// A socket as rustls wants it.
struct Socket<'a>(&'a OwnedFd);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry(|| net::recv(self.0, &mut *buffer, RecvFlags::empty()).map(|(_, count)| count))?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(retry(|| net::send(self.0, bytes, SendFlags::NOSIGNAL))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Believes every certificate; its signature over the handshake is checked all the same, as that costs what it costs.
#[derive(Debug)]
struct Anyone(rustls::crypto::WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
