//! Users and their tokens: login, refresh, log-out, and the keys that sign.
//!
//! Shards ask through a bounded queue ([`Question`]); each question is a task here. Passwords are hashed by a pool of their own,
//! databases are reached over a [`store::Store`], and what is revoked goes to the shards by the
//! [`RevocationCell`].

mod answer;
mod form;
pub mod issuer;
pub mod keys;
pub mod password;
mod pool;
pub mod store;
mod throttle;
pub mod token;

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};

pub use self::issuer::{Issuer, Settings};
use crate::{
    auth::revocation::RevocationCell,
    config::issuing::Action,
    observe::{event, prometheus::Page},
    runtime,
};

/// What a shard asks.
pub type Question = runtime::Question<Asked, Result<Document, Refusal>>;

/// Questions that wait to be taken up.
pub const QUESTIONS_MAX: usize = 1024;
/// Questions that are being answered at once, over all issuers.
const ANSWERING_MAX: usize = 512;
/// How long a start waits for a database.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A request at a path of an issuer.
#[derive(Debug)]
pub struct Asked {
    /// The name of `[auth.NAME]`.
    pub issuer: Arc<str>,
    pub action: Action,
    pub body: Vec<u8>,
    pub content_type: Option<String>,
    pub accept: Option<String>,
    /// Of `Authorization: Bearer`.
    pub token: Option<String>,
    /// Who asks, as far as that is known.
    pub client: Option<IpAddr>,
}

/// A reply of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub status: u16,
    pub content_type: &'static str,
    pub cache_control: &'static str,
    pub body: Vec<u8>,
}

/// Why an issuer does not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The text is for the client.
    Malformed(&'static str),
    /// The body is neither JSON nor a form.
    UnknownType,
    /// No such user, a wrong password, or a user that is disabled: which of them is nobody's business.
    WrongCredentials,
    /// A refresh token that is none, has expired, or was used before; or no token where one is needed.
    BadToken,
    /// Too many attempts failed.
    Throttled { retry_after: u32 },
    /// All threads that hash have more to do than may wait.
    Busy,
    /// The database does not answer, or keys cannot be used. The operator finds more in the log.
    Unavailable,
}

/// Opens the databases, makes first users and keys where they are missing, and reads what is revoked. Blocks, at most ten seconds for
/// each issuer. What could not be done is said, and tried again later.
pub fn prepare(settings: &[Arc<Settings>], revocations: &Arc<RevocationCell>) -> io::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut problems = Vec::new();
    for settings in settings {
        let issuer = Issuer::new(Arc::clone(settings), Arc::clone(revocations))?;
        let made = runtime.block_on(async { timeout(START_PATIENCE, issuer.begin()).await });
        let problem = match made {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => problem,
            Err(_) => "the database does not answer".to_owned(),
        };
        problems.push(format!("[auth.{}]: {problem}; nobody can log in until that is mended", settings.name));
    }
    Ok(problems)
}

/// Every issuer that is configured, for the admin port.
#[derive(Clone, Default)]
pub struct Issuers(Arc<arc_swap::ArcSwap<Vec<Arc<Issuer>>>>);

impl Issuers {
    /// The issuer of this name; the first one where none is named.
    pub(super) fn find(&self, name: Option<&str>) -> Option<Arc<Issuer>> {
        let all = self.0.load();
        all.iter().find(|issuer| name.is_none_or(|name| *issuer.settings().name == *name)).cloned()
    }

    pub(super) fn write_metrics(&self, page: &mut Page) {
        answer::write_metrics(&self.0.load(), page);
    }
}

/// Answers questions and follows the databases, until nobody can ask any more.
pub(super) async fn run(
    mut settings: watch::Receiver<Vec<Arc<Settings>>>,
    mut questions: mpsc::Receiver<Question>,
    revocations: Arc<RevocationCell>,
    issuers: Issuers,
) {
    let room = Arc::new(Semaphore::new(ANSWERING_MAX));
    let mut answering = JoinSet::new();
    let mut following = JoinSet::new();
    follow(&mut following, &issuers, &settings.borrow_and_update().clone(), &revocations);
    loop {
        tokio::select! {
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                follow(&mut following, &issuers, &settings.borrow_and_update().clone(), &revocations);
            }
            question = questions.recv() => {
                let Some(question) = question else { return };
                // Those that wait here fill the queue, and the shards say 503.
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let issuer = issuers.find(Some(&question.asked.issuer));
                answering.spawn(async move {
                    let _permit = permit;
                    let runtime::Question { asked, answer } = question;
                    match issuer {
                        Some(issuer) => answer.send(issuer.answer(&asked).await),
                        // It was removed while the question was on its way.
                        None => answer.send(Err(Refusal::Unavailable)),
                    }
                });
            }
            Some(_) = answering.join_next() => {}
        }
    }
}

/// Takes up the issuers that are configured now; those that are as they were go on.
fn follow(
    tasks: &mut JoinSet<()>,
    issuers: &Issuers,
    settings: &[Arc<Settings>],
    revocations: &Arc<RevocationCell>,
) {
    let known = issuers.0.load();
    let mut next = Vec::with_capacity(settings.len());
    tasks.abort_all();
    for settings in settings {
        let same = known.iter().find(|issuer| issuer.settings() == &**settings).cloned();
        let issuer = match same.map_or_else(|| fresh(settings, revocations), Ok) {
            Ok(issuer) => issuer,
            Err(error) => {
                event::error(
                    "accounts",
                    format_args!("[auth.{}]: no thread can be started: {error}", settings.name),
                );
                continue;
            }
        };
        tasks.spawn(Arc::clone(&issuer).follow());
        next.push(issuer);
    }
    issuers.0.store(Arc::new(next));
}

fn fresh(settings: &Arc<Settings>, revocations: &Arc<RevocationCell>) -> io::Result<Arc<Issuer>> {
    Ok(Arc::new(Issuer::new(Arc::clone(settings), Arc::clone(revocations))?))
}

/// Whether a text can be a user's name: it is shown, logged, and part of tokens.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control) && name.trim() == name
}
