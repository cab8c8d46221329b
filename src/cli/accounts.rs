//! `coregate user …`, `coregate keys …`, `coregate token mint` and `inspect`: what operators do with an issuer of our own.
//!
//! They work on the database and the key folder themselves, with or without a running gateway; one that runs notices within its `poll`
//! interval, and keys within seconds.

use std::{
    io::{self, BufRead, IsTerminal, Read as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use ring::rand::SystemRandom;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::check;
use crate::{
    auth::KeyCell,
    config::{self, Auth},
    control::accounts::{
        Issuer,
        issuer::{Settings, now},
        keys::{self, Keys},
        store::User,
        token::{self, Claims},
    },
};

/// Which configuration, and which issuer of it.
#[derive(Args)]
pub struct Which {
    /// Default: ./config.toml, then /etc/coregate/config.toml.
    #[arg(short, long, global = true)]
    config: Option<PathBuf>,
    /// The issuer, as in [auth.NAME]; not needed where there is one.
    #[arg(long, global = true, value_name = "NAME")]
    auth: Option<String>,
}

/// Users of an issuer.
#[derive(Args)]
pub struct UserCommand {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: UserAction,
}

#[derive(Subcommand)]
enum UserAction {
    /// Add a user; the password is asked for, or read from standard input.
    Add {
        name: String,
        /// May be given several times.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// List the users.
    List,
    /// Change a password, and end every session of the user.
    Passwd { name: String },
    /// Replace the roles, and end every session of the user.
    Roles { name: String, roles: Vec<String> },
    /// Let a user log in no more, and end every session.
    Disable { name: String },
    /// Let a user log in again.
    Enable { name: String },
    /// End every session of a user.
    Logout { name: String },
}

/// Keys of an issuer.
#[derive(Args)]
pub struct KeysCommand {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: KeysAction,
}

#[derive(Subcommand)]
enum KeysAction {
    /// List the keys, and when each is used.
    List,
    /// Make a new key. It is published at once and signs in five minutes, when every verifier can know it.
    Rotate {
        /// Sign with it at once.
        #[arg(long)]
        now: bool,
    },
    /// Take a private key that was made elsewhere (PKCS #8, PEM), as RS256 needs it.
    Import {
        file: PathBuf,
        /// Sign with it at once.
        #[arg(long)]
        now: bool,
    },
}

/// A token for an operator.
#[derive(Args)]
pub struct Mint {
    #[command(flatten)]
    which: Which,
    /// For whom.
    #[arg(long)]
    sub: String,
    /// May be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Seconds for which it is good; at most what `access` says.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Says what was done, or why not. The exit code: 0, or 1.
pub fn user(command: UserCommand) -> u8 {
    finish(in_runtime(async {
        let issuer = issuer(&command.which)?;
        change_users(&issuer, command.what).await
    }))
}

/// The same for keys.
pub fn keys(command: KeysCommand) -> u8 {
    finish(settings(&command.which).and_then(|settings| change_keys(&settings, command.what)))
}

/// Prints a token.
pub fn mint(command: Mint) -> u8 {
    finish(settings(&command.which).and_then(|settings| minted(&settings, &command)))
}

/// Shows what a token says, from standard input; nothing is verified.
pub fn inspect() -> u8 {
    let mut text = String::new();
    let read = io::stdin().take(64 * 1024).read_to_string(&mut text);
    finish(read.map_err(|error| error.to_string()).and_then(|_| inspected(text.trim())))
}

fn finish(result: Result<String, String>) -> u8 {
    let (text, code) = match result {
        Ok(text) => (text, 0),
        Err(problem) => (format!("coregate: {problem}\n"), 1),
    };
    // A closed pipe is no reason to do anything else.
    let _ = match code {
        0 => io::stdout().write_all(text.as_bytes()),
        _ => io::stderr().write_all(text.as_bytes()),
    };
    code
}

fn in_runtime(work: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

fn settings(which: &Which) -> Result<Settings, String> {
    let path = check::find(which.config.as_deref())?;
    let loaded = config::load(&path).map_err(|problems| problems.render(false))?;
    let issuing: Vec<&Auth> = loaded.config.auths.iter().filter(|auth| auth.issuing.is_some()).collect();
    let named = |name: &String| issuing.iter().find(|auth| *auth.name == **name);
    let auth = match (&which.auth, &issuing[..]) {
        (Some(name), _) => {
            named(name).ok_or_else(|| format!("no [auth.{name}] with a `database` in {}", path.display()))?
        }
        (None, [one]) => one,
        (None, []) => return Err(format!("{} has no [auth.NAME] with a `database`", path.display())),
        (None, _) => return Err("several issuers; name one with --auth".to_owned()),
    };
    let keys = KeyCell::fixed(Arc::default());
    Ok(Settings::of(auth, keys.into()).expect("it has a database"))
}

fn issuer(which: &Which) -> Result<Issuer, String> {
    Issuer::open(settings(which)?).map_err(|error| error.to_string())
}

async fn change_users(issuer: &Issuer, action: UserAction) -> Result<String, String> {
    let known = |name: &str, found: bool| match found {
        true => Ok(()),
        false => Err(format!("there is no user `{name}`")),
    };
    match action {
        UserAction::Add { name, roles } => {
            let password = new_password()?;
            match issuer.add(&name, &password, roles).await? {
                true => Ok(format!("user `{name}` was added\n")),
                false => Err(format!("there is a user `{name}` already")),
            }
        }
        UserAction::List => list(issuer).await,
        UserAction::Passwd { name } => {
            known(&name, issuer.user(&name).await.map_err(|fault| fault.0)?.is_some())?;
            let password = new_password()?;
            known(&name, issuer.change(&name, Some(&password), None, None).await?)?;
            Ok(format!("the password of `{name}` was changed\n"))
        }
        UserAction::Roles { name, roles } => {
            known(&name, issuer.change(&name, None, Some(roles), None).await?)?;
            Ok(format!("the roles of `{name}` were changed\n"))
        }
        UserAction::Disable { name } => {
            known(&name, issuer.change(&name, None, None, Some(true)).await?)?;
            Ok(format!("user `{name}` is disabled\n"))
        }
        UserAction::Enable { name } => {
            known(&name, issuer.change(&name, None, None, Some(false)).await?)?;
            Ok(format!("user `{name}` may log in\n"))
        }
        UserAction::Logout { name } => {
            issuer.log_out(&name).await.map_err(|fault| fault.0)?;
            Ok(format!("every session of `{name}` has ended\n"))
        }
    }
}

/// Users that are asked for at once.
const PAGE: u32 = 1000;

async fn list(issuer: &Issuer) -> Result<String, String> {
    let mut out = String::new();
    let mut after = String::new();
    loop {
        let users = issuer.users(&after, PAGE).await.map_err(|fault| fault.0)?;
        let Some(last) = users.last() else { return Ok(out) };
        after.clone_from(&last.name);
        for User { name, roles, disabled, .. } in users {
            let disabled = if disabled { " (disabled)" } else { "" };
            out.push_str(&format!("{name}{disabled}  {}\n", roles.join(", ")));
        }
    }
}

fn change_keys(settings: &Settings, action: KeysAction) -> Result<String, String> {
    let issuing = &settings.issuing;
    let (folder, signing, access) = (&issuing.keys, issuing.algorithm, issuing.access.as_secs());
    let lead = |at_once: bool| if at_once { 0 } else { keys::JWKS_SECONDS };
    let made = |kid: String, at_once: bool| {
        let when =
            if at_once { "signs from now on".to_owned() } else { format!("signs in {} s", lead(false)) };
        Ok(format!("key {kid} {when}; the others stay published as long as their tokens live\n"))
    };
    match action {
        KeysAction::List => listed(folder),
        KeysAction::Rotate { now: at_once } => {
            let kid = keys::rotate(folder, signing, access, lead(at_once), now()).map_err(|fault| fault.0)?;
            made(kid, at_once)
        }
        KeysAction::Import { file, now: at_once } => {
            let pem = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let kid = keys::import(folder, &pem, signing, access, lead(at_once), now());
            made(kid.map_err(|fault| fault.0)?, at_once)
        }
    }
}

fn listed(folder: &Path) -> Result<String, String> {
    let now = now();
    let keys = Keys::read(folder, now).map_err(|fault| fault.0)?;
    let mut out = String::new();
    for facts in keys.facts() {
        let state = match (facts.signs_from.checked_sub(now), facts.published_until) {
            (Some(wait @ 1..), _) => format!("signs in {wait} s"),
            (_, Some(until)) => format!("published for {} s more", until - now),
            (_, None) => "signs".to_owned(),
        };
        out.push_str(&format!("{}  {}  {state}\n", facts.kid, facts.alg));
    }
    Ok(out)
}

fn minted(settings: &Settings, command: &Mint) -> Result<String, String> {
    let (issuing, now) = (&settings.issuing, now());
    let access = issuing.access.as_secs();
    let keys = Keys::read_or_make(&issuing.keys, issuing.algorithm, access, now).map_err(|fault| fault.0)?;
    let key = keys.signer(issuing.algorithm, now).ok_or("no key signs now")?;
    let claims = Claims {
        iss: &settings.iss,
        audience: &settings.audience,
        sub: &command.sub,
        roles: &command.roles,
        jti: &token::new_jti(&SystemRandom::new()).map_err(|fault| fault.0)?,
        now,
        // What outlives it is forgotten too early when it is revoked, and so are rotated keys.
        expires: now + command.seconds.unwrap_or(access).min(access),
    };
    token::mint(key, &claims).map(|token| token + "\n").map_err(|fault| fault.0)
}

fn inspected(token: &str) -> Result<String, String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, _] = parts[..] else {
        return Err("not a signed token: it has three parts with dots between them".to_owned());
    };
    let shown = |part: &str| -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        serde_json::to_string_pretty(&value).ok()
    };
    let (Some(header), Some(payload)) = (shown(header), shown(payload)) else {
        return Err("not a token: a part is not JSON in base64url".to_owned());
    };
    Ok(format!("{header}\n{payload}\nnothing of this was verified\n"))
}

/// A password for somebody: asked for twice without echo on a terminal, else the first line of standard input.
fn new_password() -> Result<String, String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(&mut stdin.lock());
    }
    let once = ask("password: ")?;
    if ask("the same again: ")? != once {
        return Err("the two differ; nothing was changed".to_owned());
    }
    Ok(once)
}

fn ask(prompt: &str) -> Result<String, String> {
    let text = |error: rustix::io::Errno| error.to_string();
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).map_err(text)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(text)?;
    let _ = io::stderr().write_all(prompt.as_bytes());
    let line = read_line(&mut stdin.lock());
    // First of all the echo comes back, whatever was read.
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(text);
    let _ = io::stderr().write_all(b"\n");
    restored.and(line)
}

fn read_line(from: &mut impl BufRead) -> Result<String, String> {
    let mut line = String::new();
    from.take(64 * 1024).read_line(&mut line).map_err(|error| error.to_string())?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
