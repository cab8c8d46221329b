//! From a plain stream to a TLS one.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection, pki_types::ServerName,
};

use super::{
    Buffer, Buffers, IoFault, Stream, Turnstile,
    session::{Session, Step},
};
use crate::clock::Tick;

/// Why there is no TLS.
#[derive(Debug)]
pub enum HandshakeFault {
    TooSlow,
    /// The peer broke the connection.
    Broken(io::Error),
    /// What came is no TLS; it begins like an HTTP request.
    PlainHttp,
    /// The peer's messages or certificates are not acceptable, or ours are not to it. It has been told by an alert.
    Refused(rustls::Error),
}

impl Stream {
    /// Completes a handshake as server, at the latest at `until`; `received` is what has arrived of it. A stream that could not be secured comes back as it was.
    pub async fn accept_tls(
        self,
        config: Arc<ServerConfig>,
        received: Buffer,
        buffers: &Rc<Buffers>,
        turnstile: &Turnstile,
        until: Tick,
        patience: Duration,
    ) -> Result<Self, (HandshakeFault, Self)> {
        match ServerConnection::new(config) {
            Ok(connection) => {
                self.secure(connection.into(), received, buffers, turnstile, until, patience).await
            }
            Err(error) => Err((HandshakeFault::Refused(error), self)),
        }
    }

    /// Completes a handshake as client of `name`.
    pub async fn connect_tls(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        buffers: &Rc<Buffers>,
        turnstile: &Turnstile,
        until: Tick,
        patience: Duration,
    ) -> Result<Self, (HandshakeFault, Self)> {
        match ClientConnection::new(config, name) {
            Ok(connection) => {
                self.secure(connection.into(), Buffer::default(), buffers, turnstile, until, patience).await
            }
            Err(error) => Err((HandshakeFault::Refused(error), self)),
        }
    }

    async fn secure(
        mut self,
        connection: Connection,
        received: Buffer,
        buffers: &Rc<Buffers>,
        turnstile: &Turnstile,
        until: Tick,
        patience: Duration,
    ) -> Result<Self, (HandshakeFault, Self)> {
        let is_server = matches!(connection, Connection::Server(_));
        let session = Session::new(connection, buffers);
        session.receive(received.unread());
        buffers.give_back(received);
        self.writer.tls = Some(Rc::clone(&session));
        let mut is_first = is_server;
        loop {
            if let (true, Some(byte)) = (is_first, session.first_byte()) {
                // RFC 9110 §9.1: a method is a token, and all that are in use begin with a capital; a TLS record begins with 22.
                if byte.is_ascii_uppercase() {
                    self.writer.tls = None;
                    return Err((HandshakeFault::PlainHttp, self));
                }
                is_first = false;
            }
            match session.shake() {
                Ok(Step::Done) => {
                    self.reader.tls = Some(session);
                    return Ok(self);
                }
                Ok(Step::Send) => {
                    if let Err(fault) = self.writer.write(&mut Buffer::default(), 0..0, patience).await {
                        return Err((fault.into(), self));
                    }
                    continue;
                }
                Ok(Step::Receive) => {}
                Err(error) => {
                    self.reader.say_last_words(&session);
                    session.cut();
                    return Err((HandshakeFault::Refused(error), self));
                }
            }
            match self.reader.receive_into(&session, until).await {
                Ok(()) => {}
                Err(fault) => {
                    session.cut();
                    return Err((fault.into(), self));
                }
            }
            // What comes now costs as much as ten requests: keys are agreed on, signatures made.
            turnstile.pass().await;
        }
    }
}

impl From<IoFault> for HandshakeFault {
    fn from(fault: IoFault) -> Self {
        match fault {
            IoFault::TooSlow => Self::TooSlow,
            IoFault::Broken(error) => Self::Broken(error),
        }
    }
}
