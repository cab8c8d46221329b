//! Session tickets (RFC 8446 §4.6.1, RFC 5077): the state of a session, encrypted, kept by the client.
//!
//! All shards use the same keys, so that a ticket of one resumes at any. Reading them takes no lock and writes nothing that
//! another shard reads. A ticket is bound to the rules for client certificates under which it was made; the server name in it is
//! compared by rustls.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::server::ProducesTickets;

const NAME_LEN: usize = 16;

/// Random bytes for a key.
pub type TicketSeed = [u8; NAME_LEN + 32];

/// The keys with which tickets are made and read.
pub struct TicketKeys {
    keys: ArcSwap<Keys>,
    /// Fills bytes with random ones; false when there are none.
    random: fn(&mut [u8]) -> bool,
}

struct Keys {
    newest: Arc<Key>,
    before: Option<Arc<Key>>,
}

struct Key {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl TicketKeys {
    /// How often [`TicketKeys::rotate`] is to be called. A ticket is good for one to two of these.
    pub const ROTATE_EVERY: Duration = Duration::from_secs(6 * 3600);

    pub fn new(seed: &TicketSeed, random: fn(&mut [u8]) -> bool) -> Self {
        let keys = Keys { newest: Arc::new(Key::new(seed)), before: None };
        Self { keys: ArcSwap::from_pointee(keys), random }
    }

    /// Makes a new key from `seed` the one that tickets are made with. The one before it still reads them; an older one is gone.
    pub fn rotate(&self, seed: &TicketSeed) {
        let before = Arc::clone(&self.keys.load().newest);
        self.keys.store(Arc::new(Keys { newest: Arc::new(Key::new(seed)), before: Some(before) }));
    }
}

impl Key {
    fn new(seed: &TicketSeed) -> Self {
        let (name, key) = seed.split_at(NAME_LEN);
        Self {
            name: name.try_into().expect("split there"),
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes")),
        }
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// Makes and reads the tickets of one server configuration.
#[derive(Debug)]
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    /// What a ticket is bound to.
    rules: [u8; 32],
}

impl Ticketer {
    pub(super) fn new(keys: Arc<TicketKeys>, rules: [u8; 32]) -> Self {
        Self { keys, rules }
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(TicketKeys::ROTATE_EVERY.as_secs()).expect("six hours")
    }

    /// The key's name, a nonce, the sealed state. Nonces are random: 96 bits for far less than 2³² tickets of a key
    /// (NIST SP 800-38D §8.3).
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.keys.load();
        let key = &keys.newest;
        let mut nonce = [0; NONCE_LEN];
        if !(self.keys.random)(&mut nonce) {
            return None;
        }
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut ticket[NAME_LEN + NONCE_LEN..];
        let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(self.rules), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.keys.load();
        let candidates = [Some(&keys.newest), keys.before.as_ref()];
        let key = candidates.into_iter().flatten().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length = key.key.open_in_place(nonce, Aad::from(self.rules), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(bytes: &mut [u8]) -> bool {
        bytes.fill(7);
        true
    }

    fn ticketer(keys: &Arc<TicketKeys>, rules: u8) -> Ticketer {
        Ticketer::new(Arc::clone(keys), [rules; 32])
    }

    #[test]
    fn a_ticket_is_read_until_its_key_was_rotated_twice() {
        let keys = Arc::new(TicketKeys::new(&[1; 48], random));
        let own = ticketer(&keys, 0);
        let ticket = own.encrypt(b"state").unwrap();
        assert!(!ticket.windows(5).any(|window| window == b"state"));
        assert_eq!(own.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        keys.rotate(&[2; 48]);
        assert_eq!(own.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        keys.rotate(&[3; 48]);
        assert_eq!(own.decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_of_other_rules_or_a_changed_one_is_none() {
        let keys = Arc::new(TicketKeys::new(&[1; 48], random));
        let ticket = ticketer(&keys, 0).encrypt(b"state").unwrap();
        assert_eq!(ticketer(&keys, 1).decrypt(&ticket), None);
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert_eq!(ticketer(&keys, 0).decrypt(&changed), None, "byte {index}");
            assert_eq!(ticketer(&keys, 0).decrypt(&ticket[..index]), None);
        }
    }
}
