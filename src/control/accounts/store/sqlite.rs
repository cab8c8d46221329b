//! SQLite, in a thread of its own: the library blocks.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, thread, time::Duration};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{
    Asked, Change, Digest, Grant, LEEWAY_SECONDS, Member, Noted, Rotation, Store, StoreFault, User, noted,
    roles_from_text, roles_to_text, signed, unsigned,
};

/// Calls that may wait for the thread.
const CALLS_MAX: usize = 256;
/// How long a call waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS coregate_users (
    name TEXT PRIMARY KEY, password TEXT NOT NULL, roles TEXT NOT NULL DEFAULT '[]',
    disabled INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS coregate_grants (
    token BLOB PRIMARY KEY, iss TEXT NOT NULL, family BLOB NOT NULL, name TEXT NOT NULL, expires INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0, jti TEXT NOT NULL, jti_expires INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS coregate_grants_family ON coregate_grants (family);
CREATE INDEX IF NOT EXISTS coregate_grants_jti ON coregate_grants (jti);
CREATE INDEX IF NOT EXISTS coregate_grants_name ON coregate_grants (name);
CREATE INDEX IF NOT EXISTS coregate_grants_expires ON coregate_grants (expires);
CREATE TABLE IF NOT EXISTS coregate_revoked (
    id INTEGER PRIMARY KEY AUTOINCREMENT, iss TEXT NOT NULL, jti TEXT, sub TEXT,
    before INTEGER NOT NULL, until INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS coregate_revoked_until ON coregate_revoked (until);
";

/// Dropping it ends the thread.
pub(super) struct Sqlite {
    calls: mpsc::Sender<Call>,
    iss: String,
}

type Call = Box<dyn FnOnce(&mut Connection) + Send>;

impl Sqlite {
    pub(super) async fn open(path: &Path, iss: &str) -> Result<Self, StoreFault> {
        let (calls, mut waiting) = mpsc::channel::<Call>(CALLS_MAX);
        let (ready, opened) = oneshot::channel();
        let path = path.to_owned();
        let run = move || {
            let mut connection = match connect(&path) {
                Ok(connection) => connection,
                Err(fault) => {
                    // Nobody waits for it any more.
                    let _ = ready.send(Err(fault));
                    return;
                }
            };
            let _ = ready.send(Ok(()));
            while let Some(call) = waiting.blocking_recv() {
                call(&mut connection);
            }
        };
        let thread = thread::Builder::new().name("sqlite".to_owned()).spawn(run);
        thread.map_err(|error| StoreFault(format!("a thread cannot be started: {error}")))?;
        opened.await.unwrap_or_else(|_| Err(StoreFault("its thread ended".to_owned())))?;
        Ok(Self { calls, iss: iss.to_owned() })
    }

    /// Runs `work` in a transaction that is kept when it returns `Ok`.
    fn call<'s, T: Send + 'static>(
        &'s self,
        work: impl FnOnce(&Transaction<'_>, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Asked<'s, T> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let iss = self.iss.clone();
            let call = Box::new(move |connection: &mut Connection| {
                let run = || {
                    // At once, or two that have read cannot both go on to write.
                    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                    let result = work(&transaction, &iss)?;
                    transaction.commit()?;
                    Ok(result)
                };
                // Refused only when nobody waits for it any more.
                let _ = answer.send(run().map_err(fault));
            });
            let busy = |_| StoreFault("too many calls wait for the SQLite database".to_owned());
            self.calls.try_send(call).map_err(busy)?;
            answered.await.unwrap_or_else(|_| Err(StoreFault("a call to SQLite panicked".to_owned())))
        })
    }
}

fn connect(path: &Path) -> Result<Connection, StoreFault> {
    let at = |error: &dyn std::fmt::Display| StoreFault(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| at(&error))?;
    }
    // Before SQLite makes it, readable for all; its side files take over the mode.
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path).map_err(|error| at(&error))?;
    let connection = Connection::open(path).map_err(|error| at(&error))?;
    let prepare = || {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // A log-out that was confirmed must outlive a power failure.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(TABLES)
    };
    prepare().map_err(|error| at(&error))?;
    Ok(connection)
}

fn fault(error: rusqlite::Error) -> StoreFault {
    StoreFault(format!("SQLite: {error}"))
}

fn user(row: &Row<'_>) -> rusqlite::Result<(User, String)> {
    let user = User {
        name: row.get(0)?,
        password: row.get(1)?,
        roles: Vec::new(),
        disabled: row.get(3)?,
        created: unsigned(row.get(4)?),
    };
    Ok((user, row.get(2)?))
}

fn with_roles((user, roles): (User, String)) -> Result<User, StoreFault> {
    Ok(User { roles: roles_from_text(&roles)?, ..user })
}

const USER: &str = "SELECT name, password, roles, disabled, created FROM coregate_users";

impl Store for Sqlite {
    fn user<'s>(&'s self, name: &'s str) -> Asked<'s, Option<User>> {
        let name = name.to_owned();
        let found = self.call(move |db, _| {
            db.prepare_cached(&format!("{USER} WHERE name = ?1"))?.query_row([name], user).optional()
        });
        Box::pin(async move { found.await?.map(with_roles).transpose() })
    }

    fn users<'s>(&'s self, after: &'s str, count: u32) -> Asked<'s, Vec<User>> {
        let after = after.to_owned();
        let found = self.call(move |db, _| {
            db.prepare_cached(&format!("{USER} WHERE name > ?1 ORDER BY name LIMIT ?2"))?
                .query_map(params![after, count], user)?
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        Box::pin(async move { found.await?.into_iter().map(with_roles).collect() })
    }

    fn add(&self, user: User) -> Asked<'_, bool> {
        self.call(move |db, _| {
            let added = db.execute(
                "INSERT OR IGNORE INTO coregate_users (name, password, roles, disabled, created) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![user.name, user.password, roles_to_text(&user.roles), user.disabled, signed(user.created)],
            )?;
            Ok(added == 1)
        })
    }

    fn change<'s>(&'s self, name: &'s str, change: Change) -> Asked<'s, bool> {
        let name = name.to_owned();
        self.call(move |db, _| {
            let roles = change.roles.as_deref().map(roles_to_text);
            let changed = db.execute(
                "UPDATE coregate_users SET password = coalesce(?2, password), roles = coalesce(?3, roles),
                 disabled = coalesce(?4, disabled) WHERE name = ?1",
                params![name, change.password, roles, change.disabled],
            )?;
            Ok(changed == 1)
        })
    }

    fn rehash<'s>(&'s self, name: &'s str, old: &'s str, new: &'s str) -> Asked<'s, ()> {
        let (name, old, new) = (name.to_owned(), old.to_owned(), new.to_owned());
        self.call(move |db, _| {
            let sql = "UPDATE coregate_users SET password = ?3 WHERE name = ?1 AND password = ?2";
            db.execute(sql, [name, old, new]).map(drop)
        })
    }

    fn begin(&self, grant: Grant) -> Asked<'_, ()> {
        self.call(move |db, iss| insert(db, iss, &grant))
    }

    fn rotate(&self, presented: Digest, next: Grant, now: u64) -> Asked<'_, Rotation> {
        self.call(move |db, iss| {
            let sql = "SELECT family, name, used FROM coregate_grants WHERE token = ?1 AND iss = ?2 AND expires > ?3";
            let found = db.query_row(sql, params![presented, iss, signed(now)], |row| {
                Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
            });
            let Some((family, name, used)) = found.optional()? else { return Ok(Rotation::Unknown) };
            if used {
                end(db, iss, &family, now)?;
                return Ok(Rotation::Reused(name));
            }
            db.execute("UPDATE coregate_grants SET used = 1 WHERE token = ?1", [presented])?;
            insert(db, iss, &Grant { family, name: name.clone(), ..next })?;
            Ok(Rotation::Done(name))
        })
    }

    fn end_family(&self, of: Member, now: u64) -> Asked<'_, bool> {
        self.call(move |db, iss| {
            let family = |row: &Row<'_>| row.get::<_, [u8; 16]>(0);
            let found = match of {
                Member::Refresh(token) => {
                    let sql = "SELECT family FROM coregate_grants WHERE token = ?1 AND iss = ?2";
                    db.query_row(sql, params![token, iss], family)
                }
                Member::Access(jti) => {
                    let sql = "SELECT family FROM coregate_grants WHERE jti = ?1 AND iss = ?2";
                    db.query_row(sql, params![jti, iss], family)
                }
            };
            let Some(family) = found.optional()? else { return Ok(false) };
            end(db, iss, &family, now)?;
            Ok(true)
        })
    }

    fn end_subject<'s>(&'s self, name: &'s str, before: u64, until: u64) -> Asked<'s, ()> {
        let name = name.to_owned();
        self.call(move |db, iss| {
            db.execute("DELETE FROM coregate_grants WHERE name = ?1 AND iss = ?2", [&name, iss])?;
            let sql = "INSERT INTO coregate_revoked (iss, sub, before, until) VALUES (?1, ?2, ?3, ?4)";
            db.execute(sql, params![iss, name, signed(before), signed(until)]).map(drop)
        })
    }

    fn revoke<'s>(&'s self, jti: &'s str, until: u64) -> Asked<'s, ()> {
        let jti = jti.to_owned();
        self.call(move |db, iss| {
            let sql = "INSERT INTO coregate_revoked (iss, jti, before, until) VALUES (?1, ?2, 0, ?3)";
            db.execute(sql, params![iss, jti, signed(until)]).map(drop)
        })
    }

    fn revoked(&self, last: i64, count: u32, now: u64) -> Asked<'_, Vec<Noted>> {
        self.call(move |db, iss| {
            let sql = "SELECT id, jti, sub, before, until FROM coregate_revoked
                       WHERE id > ?1 AND iss = ?2 AND until > ?4 ORDER BY id LIMIT ?3";
            db.prepare_cached(sql)?
                .query_map(params![last, iss, count, signed(now)], |row| {
                    Ok(noted(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?
                .collect()
        })
    }

    fn forget(&self, now: u64) -> Asked<'_, ()> {
        self.call(move |db, _| {
            db.execute(
                "DELETE FROM coregate_grants WHERE expires <= ?1 AND jti_expires <= ?1",
                [signed(now)],
            )?;
            db.execute("DELETE FROM coregate_revoked WHERE until <= ?1", [signed(now)]).map(drop)
        })
    }
}

fn insert(db: &Transaction<'_>, iss: &str, grant: &Grant) -> rusqlite::Result<()> {
    let sql = "INSERT INTO coregate_grants (token, iss, family, name, expires, jti, jti_expires)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Grant { token, family, name, expires, jti, jti_expires } = grant;
    db.execute(sql, params![token, iss, family, name, signed(*expires), jti, signed(*jti_expires)]).map(drop)
}

fn end(db: &Transaction<'_>, iss: &str, family: &[u8; 16], now: u64) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO coregate_revoked (iss, jti, before, until)
         SELECT iss, jti, 0, jti_expires FROM coregate_grants WHERE family = ?1 AND iss = ?2 AND jti_expires > ?3",
        params![family, iss, signed(now.saturating_sub(LEEWAY_SECONDS))],
    )?;
    db.execute("DELETE FROM coregate_grants WHERE family = ?1 AND iss = ?2", params![family, iss]).map(drop)
}
