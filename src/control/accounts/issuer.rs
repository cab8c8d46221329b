//! One issuer: its users, its keys, and what it has revoked.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use ring::rand::SystemRandom;
use tokio::{
    sync::{Mutex, OnceCell},
    task::spawn_blocking,
};

use super::{
    Refusal,
    answer::Counters,
    is_name,
    keys::Keys,
    password::{self, PASSWORD_BYTES_MAX, Verdict},
    pool::{Full, Pool},
    store::{self, Change, LEEWAY_SECONDS, Noted, Revoked, Store, StoreFault, User},
    throttle::Throttle,
    token,
};
use crate::{
    auth::{
        Algs, Audience, KeyCell, KeySet,
        revocation::{Revocation, RevocationCell},
    },
    config::{
        self,
        issuing::{Issuing, Signing},
    },
    observe::event,
};

/// What the configuration says of an issuer.
pub struct Settings {
    /// Of `[auth.NAME]`.
    pub name: Arc<str>,
    pub iss: Arc<str>,
    pub audience: Vec<String>,
    pub issuing: Issuing,
    /// Where the shards find the keys.
    pub keys: Arc<KeyCell>,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let facts = |of: &Self| (of.name.clone(), of.iss.clone(), of.audience.clone(), of.issuing.clone());
        facts(self) == facts(other) && Arc::ptr_eq(&self.keys, &other.keys)
    }
}

pub struct Issuer {
    settings: Arc<Settings>,
    store: OnceCell<Arc<dyn Store>>,
    keys: ArcSwapOption<Keys>,
    pool: Pool,
    pub(super) throttle: Mutex<Throttle>,
    revocations: Arc<RevocationCell>,
    /// Number of the newest revocation that was read.
    last: AtomicI64,
    syncing: Mutex<()>,
    /// A hash of nothing anybody knows, for users that do not exist.
    nobody: OnceCell<String>,
    pub(super) counters: Counters,
    complained: AtomicU64,
}

/// Revocations that are read at once.
const READ_MAX: u32 = 10_000;
/// Between two looks at the key folder.
const KEYS_EVERY: Duration = Duration::from_secs(5);
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Between two complaints about a database that does not answer, in seconds.
const COMPLAIN_EVERY: u64 = 30;

impl Settings {
    /// `None` for an issuer whose tokens are issued elsewhere.
    pub fn of(auth: &config::Auth, keys: Arc<KeyCell>) -> Option<Self> {
        let audience = match &auth.audience {
            Audience::OneOf(names) => names.iter().map(|name| (**name).to_owned()).collect(),
            Audience::Any | Audience::Nobody => Vec::new(),
        };
        Some(Self {
            name: Arc::clone(&auth.name),
            iss: auth.issuer.clone().unwrap_or_else(|| "".into()),
            audience,
            issuing: auth.issuing.clone()?,
            keys,
        })
    }
}

impl Issuer {
    /// One that no gateway runs: for the command line.
    pub fn open(settings: Settings) -> io::Result<Self> {
        Self::new(Arc::new(settings), Arc::default())
    }

    pub(super) fn new(settings: Arc<Settings>, revocations: Arc<RevocationCell>) -> io::Result<Self> {
        let issuing = &settings.issuing;
        Ok(Self {
            store: OnceCell::new(),
            keys: ArcSwapOption::empty(),
            pool: Pool::start(issuing.hashing.threads, issuing.hashing.queue)?,
            throttle: Mutex::new(Throttle::new(issuing.throttle)),
            revocations,
            last: AtomicI64::new(0),
            syncing: Mutex::new(()),
            nobody: OnceCell::new(),
            counters: Counters::default(),
            complained: AtomicU64::new(0),
            settings,
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does what must be done before the first request: keys, the first user, what is revoked.
    pub(super) async fn begin(&self) -> Result<(), String> {
        self.read_keys().await?;
        let store = self.store().await.map_err(|fault| fault.0)?;
        if let Some(first) = &self.settings.issuing.first_user {
            self.make_first(store, &first.name, &first.roles).await?;
        }
        self.sync().await.map_err(|fault| fault.0)
    }

    /// Looks for what others have revoked, for new keys, and for what can be forgotten, until it is dropped.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut poll = tokio::time::interval(self.settings.issuing.poll);
        let mut keys = tokio::time::interval(KEYS_EVERY);
        let mut forget = tokio::time::interval(FORGET_EVERY);
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if let Err(fault) = self.sync().await {
                        self.complain(&fault);
                    }
                }
                _ = keys.tick() => {
                    if let Err(problem) = self.read_keys().await {
                        self.complain(&StoreFault(problem));
                    }
                }
                _ = forget.tick() => {
                    let forgotten = match self.store().await {
                        Ok(store) => store.forget(now() - LEEWAY_SECONDS).await,
                        Err(fault) => Err(fault),
                    };
                    if let Err(fault) = forgotten {
                        self.complain(&fault);
                    }
                    self.revocations.rcu(|set| match set.without_expired(now()) {
                        Some(less) => Arc::new(less),
                        None => Arc::clone(set),
                    });
                }
            }
        }
    }

    /// The database, opened when it is first needed.
    pub(super) async fn store(&self) -> Result<&dyn Store, StoreFault> {
        let open = || store::open(&self.settings.issuing.database, &self.settings.iss);
        self.store.get_or_try_init(open).await.map(|store| &**store)
    }

    /// What went wrong with the database, for the operator, and not too often.
    pub(super) fn complain(&self, fault: &StoreFault) {
        let now = now();
        if self.complained.load(Ordering::Relaxed) + COMPLAIN_EVERY <= now {
            self.complained.store(now, Ordering::Relaxed);
            event::error("accounts", format_args!("[auth.{}]: {}", self.settings.name, fault.0));
        }
    }

    /// The keys, as they were last read.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.load_full()
    }

    pub(super) async fn read_keys(&self) -> Result<(), String> {
        let Issuing { keys: folder, algorithm, access, .. } = &self.settings.issuing;
        let (folder, algorithm, access) = (folder.clone(), *algorithm, access.as_secs());
        let read = spawn_blocking(move || Keys::read_or_make(&folder, algorithm, access, now())).await;
        let keys = read.map_err(|_| "reading keys panicked".to_owned())?.map_err(|fault| fault.0)?;
        let set = KeySet::from_jwks(keys.jwks().as_bytes(), Algs::ASYMMETRIC)
            .map_err(|bad| format!("our own keys cannot be used: {bad}"))?;
        self.settings.keys.store(set);
        self.keys.store(Some(Arc::new(keys)));
        Ok(())
    }

    pub(super) fn signing(&self) -> Signing {
        self.settings.issuing.algorithm
    }

    /// Reads what was revoked since the last time. When it returns, every shard refuses it.
    pub(super) async fn sync(&self) -> Result<(), StoreFault> {
        let _one_at_a_time = self.syncing.lock().await;
        let store = self.store().await?;
        loop {
            let noted =
                store.revoked(self.last.load(Ordering::Relaxed), READ_MAX, now() - LEEWAY_SECONDS).await?;
            let Some(newest) = noted.last().map(|noted| noted.number) else { return Ok(()) };
            self.take_up(&noted);
            self.last.store(newest, Ordering::Relaxed);
        }
    }

    fn take_up(&self, noted: &[Noted]) {
        let more: Vec<Revocation<'_>> = noted
            .iter()
            .map(|noted| match &noted.what {
                Revoked::Token { jti, until } => Revocation::Token { jti, until: until + LEEWAY_SECONDS },
                Revoked::Subject { sub, before, until } => {
                    Revocation::Subject { sub, before: *before, until: until + LEEWAY_SECONDS }
                }
            })
            .collect();
        self.revocations.rcu(|set| set.with(&self.settings.iss, &more, now()));
    }

    /// Whether a token that is issued now for `sub` would be revoked from the start.
    pub(super) fn is_too_early(&self, sub: &str) -> bool {
        self.revocations.load().is_revoked(&self.settings.iss, None, Some(sub), Some(now()))
    }

    /// Compares a password with a user's hash, or does the same work for nobody.
    pub(super) async fn verify(&self, user: Option<&User>, password: &str) -> Result<Verdict, Refusal> {
        let hash = match user {
            Some(user) => user.password.clone(),
            None => self.nobody.get_or_try_init(|| self.hash("nobody")).await?.clone(),
        };
        let (password, hashing) = (password.to_owned(), self.settings.issuing.hashing);
        let verdict = self.pool.run(move || password::verify(&password, &hash, &hashing)).await;
        match verdict {
            Ok(Some(verdict)) if user.is_some() => Ok(verdict),
            Ok(Some(_)) => Ok(Verdict::Wrong),
            Ok(None) => Err(Refusal::Unavailable),
            Err(Full) => Err(Refusal::Busy),
        }
    }

    /// Hashes a password.
    pub(super) async fn hash(&self, password: &str) -> Result<String, Refusal> {
        let (password, hashing) = (password.to_owned(), self.settings.issuing.hashing);
        let hash = self.pool.run(move || password::hash(&password, &hashing, &SystemRandom::new())).await;
        match hash {
            Ok(Some(Ok(hash))) => Ok(hash),
            Ok(Some(Err(why))) => {
                self.complain(&StoreFault(why));
                Err(Refusal::Unavailable)
            }
            Ok(None) => Err(Refusal::Unavailable),
            Err(Full) => Err(Refusal::Busy),
        }
    }

    async fn make_first(&self, store: &dyn Store, name: &str, roles: &[Arc<str>]) -> Result<(), String> {
        if !store.users("", 1).await.map_err(|fault| fault.0)?.is_empty() {
            return Ok(());
        }
        let password = random_password().map_err(|fault| fault.0)?;
        let roles = roles.iter().map(|role| (**role).to_owned()).collect();
        if self.add(name, &password, roles).await? {
            // Not an event: those are kept, and read by many.
            let text = format!("user `{name}` was made; the password, shown only now, is {password}\n");
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        }
        Ok(())
    }

    /// Adds a user. `Ok(false)` when there is one of this name; the error is for people.
    pub async fn add(&self, name: &str, password: &str, roles: Vec<String>) -> Result<bool, String> {
        check_name(name)?;
        check_password(password)?;
        let hash = self.hash(password).await.map_err(|_| "the password cannot be hashed now".to_owned())?;
        let user = User { name: name.to_owned(), password: hash, roles, disabled: false, created: now() };
        let store = self.store().await.map_err(|fault| fault.0)?;
        store.add(user).await.map_err(|fault| fault.0)
    }

    /// Changes a user; a new password and being disabled end every session, other roles the tokens that say the old ones. `Ok(false)`
    /// when there is no such user.
    pub async fn change(
        &self,
        name: &str,
        password: Option<&str>,
        roles: Option<Vec<String>>,
        disabled: Option<bool>,
    ) -> Result<bool, String> {
        let hash = match password {
            Some(password) => {
                check_password(password)?;
                Some(self.hash(password).await.map_err(|_| "the password cannot be hashed now".to_owned())?)
            }
            None => None,
        };
        let ends = hash.is_some() || roles.is_some() || disabled == Some(true);
        let store = self.store().await.map_err(|fault| fault.0)?;
        let change = Change { password: hash, roles, disabled };
        let changed = store.change(name, change).await.map_err(|fault| fault.0)?;
        if changed && ends {
            self.log_out(name).await.map_err(|fault| fault.0)?;
        }
        Ok(changed)
    }

    /// Ends every session of a user: every shard refuses the tokens when it returns.
    pub async fn log_out(&self, name: &str) -> Result<(), StoreFault> {
        let store = self.store().await?;
        let now = now();
        // Those of this second, too; a login waits for the next.
        store.end_subject(name, now + 1, now + 1 + self.settings.issuing.access.as_secs()).await?;
        self.sync().await
    }

    /// Users behind `after`, at most `count`.
    pub async fn users(&self, after: &str, count: u32) -> Result<Vec<User>, StoreFault> {
        self.store().await?.users(after, count).await
    }

    pub async fn user(&self, name: &str) -> Result<Option<User>, StoreFault> {
        self.store().await?.user(name).await
    }
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    Err("a name has 1 to 256 bytes, no control characters, and no space at either end".to_owned())
}

/// OWASP Authentication Cheat Sheet: at least 8 characters.
pub(super) fn check_password(password: &str) -> Result<(), String> {
    if password.chars().count() >= 8 && password.len() <= PASSWORD_BYTES_MAX {
        return Ok(());
    }
    Err(format!("a password has at least 8 characters and at most {PASSWORD_BYTES_MAX} bytes"))
}

/// 100 random bits, in letters that are not taken for one another.
fn random_password() -> Result<String, super::keys::KeyFault> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = token::random_bytes::<20>(&SystemRandom::new())?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// Unix time, in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
