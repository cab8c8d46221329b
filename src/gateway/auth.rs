//! The gateway's side of tokens: issuers that live on over reloads, and the cells that their keys lie in.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{Notify, watch};

use crate::{
    auth::{Issuer, KeyCell, KeySet},
    config::{self, Config, KeySource},
    control::FetchedKeys,
    observe::Names,
};

/// What outlives a snapshot.
pub(super) struct Auths {
    /// By name: what it was made from, as shown, and what it is.
    issuers: HashMap<Arc<str>, (String, Arc<Issuer>)>,
    /// By where they are fetched from, as shown.
    fetched: HashMap<String, Arc<FetchedKeys>>,
    /// Of those who issue tokens here, by name.
    own: HashMap<Arc<str>, Arc<KeyCell>>,
    next_revision: u64,
    /// For the control thread, which fetches.
    sources: watch::Sender<Vec<Arc<FetchedKeys>>>,
}

impl Default for Auths {
    fn default() -> Self {
        Self {
            issuers: HashMap::new(),
            fetched: HashMap::new(),
            own: HashMap::new(),
            next_revision: 0,
            sources: watch::Sender::new(Vec::new()),
        }
    }
}

impl Auths {
    /// What the snapshot for `config` is to have, in the order of `config.auths`. Issuers whose terms are what they were are the
    /// same as before, and so are keys that come from the same place.
    pub(super) fn issuers(&mut self, config: &Config, names: &mut Names) -> Vec<Arc<Issuer>> {
        let mut fetched = HashMap::new();
        let mut issuers = HashMap::new();
        let mut list = Vec::with_capacity(config.auths.len());
        for auth in &config.auths {
            let keys = match &auth.keys {
                KeySource::Fixed(set) => Keys::Fixed(set),
                KeySource::Own => Keys::Cell(self.own(&auth.name)),
                KeySource::Fetched(url) => {
                    let from = format!("{url:?}");
                    let known = self.fetched.get(&from).or_else(|| fetched.get(&from)).map(Arc::clone);
                    let keys = known.unwrap_or_else(|| fetched_from(url));
                    fetched.insert(from, Arc::clone(&keys));
                    Keys::Cell(Arc::clone(&keys.cell))
                }
            };
            let from = format!("{auth:?}");
            let issuer = match self.issuers.remove(&auth.name) {
                Some((before, issuer)) if before == from => issuer,
                _ => {
                    self.next_revision += 1;
                    Arc::new(issuer(auth, keys.cell(), self.next_revision, names))
                }
            };
            issuers.insert(Arc::clone(&auth.name), (from, Arc::clone(&issuer)));
            list.push(issuer);
        }
        (self.issuers, self.fetched) = (issuers, fetched);
        self.sources.send_replace(self.fetched.values().cloned().collect());
        list
    }

    /// Where the keys of an issuer of our own lie. Whoever makes them stores them there.
    pub(super) fn own(&mut self, name: &Arc<str>) -> Arc<KeyCell> {
        let cell = self.own.entry(Arc::clone(name));
        Arc::clone(cell.or_insert_with(|| Arc::new(KeyCell::fixed(Arc::default()))))
    }

    /// What is to be fetched, now and after every reload.
    pub(super) fn sources(&self) -> watch::Receiver<Vec<Arc<FetchedKeys>>> {
        self.sources.subscribe()
    }
}

enum Keys<'c> {
    Fixed(&'c Arc<KeySet>),
    Cell(Arc<KeyCell>),
}

impl Keys<'_> {
    fn cell(self) -> Arc<KeyCell> {
        match self {
            Self::Fixed(set) => Arc::new(KeyCell::fixed(Arc::clone(set))),
            Self::Cell(cell) => cell,
        }
    }
}

fn fetched_from(url: &config::KeyUrl) -> Arc<FetchedKeys> {
    let bell = Arc::new(Notify::new());
    let ring = Arc::clone(&bell);
    let cell = Arc::new(KeyCell::fetched(move || ring.notify_one()));
    Arc::new(FetchedKeys { from: url.clone(), cell, bell })
}

fn issuer(auth: &config::Auth, keys: Arc<KeyCell>, revision: u64, names: &mut Names) -> Issuer {
    Issuer {
        name: Arc::clone(&auth.name),
        metric: names.auth(&auth.name),
        revision,
        iss: auth.issuer.clone(),
        audience: auth.audience.clone(),
        algs: auth.algs,
        leeway_s: auth.leeway.as_secs(),
        from: auth.from.clone(),
        roles_claim: auth.roles_claim.clone(),
        headers: auth.headers.clone(),
        identity: auth.identity.clone(),
        token: auth.token,
        keys,
    }
}
