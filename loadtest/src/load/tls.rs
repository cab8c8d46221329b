//! TLS on the generator's side: rustls with ring, driven from the event loop.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
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
        if !resume {
            config.resumption = Resumption::disabled();
        }
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Failure(format!("`{name}` is neither a host name nor an address")))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// A session for a new connection.
    pub(super) fn session(&self) -> Result<Session, Failed> {
        let mut session =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(|_| Failed::Tls)?;
        // The generator never gives it more than one request at a time.
        session.set_buffer_limit(None);
        Ok(Session(session))
    }

    /// A handshake on `stream`, to tell what is wrong before the load begins.
    pub fn try_on(&self, stream: &mut std::net::TcpStream) -> Result<(), Failure> {
        let mut session = self.session().map_err(|failed| Failure(failed.to_string()))?.0;
        while session.is_handshaking() {
            session.complete_io(stream).map_err(|error| {
                let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof);
                let hint = if silent { "no answer; does the server speak TLS on this port? " } else { "" };
                Failure(format!("TLS: {hint}{error}"))
            })?;
        }
        Ok(())
    }
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
