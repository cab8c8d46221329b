//! PostgreSQL, over one connection: what costs time at a login is the hash.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::{Client, Config, NoTls, Row, Transaction, error::SqlState};

use super::{
    Asked, Change, Digest, Grant, LEEWAY_SECONDS, Member, Noted, Rotation, Store, StoreFault, User, noted,
    roles_from_text, roles_to_text, signed, unsigned,
};

/// For one call, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the advisory lock under which revocations get their numbers, so that they can be seen in the order of these.
const LOCK: i64 = 0x636f_7265_6761_7465;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS coregate_users (
    name text COLLATE \"C\" PRIMARY KEY, password text NOT NULL, roles text NOT NULL DEFAULT '[]',
    disabled boolean NOT NULL DEFAULT false, created bigint NOT NULL);
CREATE TABLE IF NOT EXISTS coregate_grants (
    token bytea PRIMARY KEY, iss text NOT NULL, family bytea NOT NULL, name text NOT NULL, expires bigint NOT NULL,
    used boolean NOT NULL DEFAULT false, jti text NOT NULL, jti_expires bigint NOT NULL);
CREATE INDEX IF NOT EXISTS coregate_grants_family ON coregate_grants (family);
CREATE INDEX IF NOT EXISTS coregate_grants_jti ON coregate_grants (jti);
CREATE INDEX IF NOT EXISTS coregate_grants_name ON coregate_grants (name);
CREATE INDEX IF NOT EXISTS coregate_grants_expires ON coregate_grants (expires);
CREATE TABLE IF NOT EXISTS coregate_revoked (
    id bigserial PRIMARY KEY, iss text NOT NULL, jti text, sub text, before bigint NOT NULL, until bigint NOT NULL);
CREATE INDEX IF NOT EXISTS coregate_revoked_until ON coregate_revoked (until);
";

pub(super) struct Postgres {
    config: Config,
    iss: Arc<str>,
    client: Mutex<Option<Client>>,
}

/// Runs `$work` in a transaction `$db` that is kept when it gives `Ok`. Where a connection has ended while it rested, once more: nothing
/// was committed then. No function: what a closure borrows for its future cannot be told to be `Send`.
macro_rules! transact {
    ($store:ident, $db:ident => $work:expr) => {{
        let run = async {
            let mut client = $store.client.lock().await;
            loop {
                let had_one = $store.connect(&mut client).await?;
                let result: Result<_, tokio_postgres::Error> = async {
                    let $db = client.as_mut().expect("it is connected").transaction().await?;
                    let result = async { $work }.await?;
                    $db.commit().await?;
                    Ok(result)
                }
                .await;
                match result {
                    Err(error) if had_one && (error.is_closed() || has_shut_down(&error)) => *client = None,
                    result => break result,
                }
            }
        };
        $store.in_time(run).await
    }};
}

impl Postgres {
    pub(super) async fn open(url: &str, iss: &str) -> Result<Self, StoreFault> {
        let config: Config = url.parse().map_err(fault)?;
        let store = Self { config, iss: iss.into(), client: Mutex::new(None) };
        // Two gateways that start together would both find a table missing, and one would fail to make it.
        transact!(store, db => {
            db.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
            db.batch_execute(TABLES).await
        })?;
        Ok(store)
    }

    /// Sees to it that there is a connection. Whether there was one.
    async fn connect(&self, client: &mut Option<Client>) -> Result<bool, tokio_postgres::Error> {
        if client.as_ref().is_some_and(|client| !client.is_closed()) {
            return Ok(true);
        }
        let (fresh, connection) = self.config.connect(NoTls).await?;
        // Ends with the client; what goes wrong is told to the calls.
        tokio::spawn(async move { drop(connection.await) });
        *client = Some(fresh);
        Ok(false)
    }

    async fn in_time<T>(
        &self,
        run: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreFault> {
        if let Ok(result) = timeout(PATIENCE, run).await {
            return result.map_err(fault);
        }
        // What is under way on this connection would be waited for by the next call.
        *self.client.lock().await = None;
        Err(StoreFault(format!("PostgreSQL did not answer within {} s", PATIENCE.as_secs())))
    }
}

fn has_shut_down(error: &tokio_postgres::Error) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].iter().any(|state| error.code() == Some(state))
}

/// The text of an error, with its cause: the outer one says little.
fn fault(error: tokio_postgres::Error) -> StoreFault {
    let mut text = format!("PostgreSQL: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    StoreFault(text)
}

fn user(row: &Row) -> Result<User, StoreFault> {
    Ok(User {
        name: row.get(0),
        password: row.get(1),
        roles: roles_from_text(row.get(2))?,
        disabled: row.get(3),
        created: unsigned(row.get(4)),
    })
}

const USER: &str = "SELECT name, password, roles, disabled, created FROM coregate_users";

impl Store for Postgres {
    fn user<'s>(&'s self, name: &'s str) -> Asked<'s, Option<User>> {
        Box::pin(async move {
            let sql = format!("{USER} WHERE name = $1");
            let row = transact!(self, db => db.query_opt(&sql, &[&name]).await)?;
            row.as_ref().map(user).transpose()
        })
    }

    fn users<'s>(&'s self, after: &'s str, count: u32) -> Asked<'s, Vec<User>> {
        Box::pin(async move {
            let sql = format!("{USER} WHERE name > $1 ORDER BY name LIMIT $2");
            let rows = transact!(self, db => db.query(&sql, &[&after, &i64::from(count)]).await)?;
            rows.iter().map(user).collect()
        })
    }

    fn add(&self, user: User) -> Asked<'_, bool> {
        Box::pin(async move {
            let sql = "INSERT INTO coregate_users (name, password, roles, disabled, created)
                       VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
            let User { name, password, roles, disabled, created } = user;
            let (roles, created) = (roles_to_text(&roles), signed(created));
            let added = transact!(self, db => {
                db.execute(sql, &[&name, &password, &roles, &disabled, &created]).await
            })?;
            Ok(added == 1)
        })
    }

    fn change<'s>(&'s self, name: &'s str, change: Change) -> Asked<'s, bool> {
        Box::pin(async move {
            let sql =
                "UPDATE coregate_users SET password = coalesce($2, password), roles = coalesce($3, roles),
                       disabled = coalesce($4, disabled) WHERE name = $1";
            let Change { password, roles, disabled } = change;
            let roles = roles.as_deref().map(roles_to_text);
            let changed =
                transact!(self, db => db.execute(sql, &[&name, &password, &roles, &disabled]).await)?;
            Ok(changed == 1)
        })
    }

    fn rehash<'s>(&'s self, name: &'s str, old: &'s str, new: &'s str) -> Asked<'s, ()> {
        Box::pin(async move {
            let sql = "UPDATE coregate_users SET password = $3 WHERE name = $1 AND password = $2";
            transact!(self, db => db.execute(sql, &[&name, &old, &new]).await).map(drop)
        })
    }

    fn begin(&self, grant: Grant) -> Asked<'_, ()> {
        Box::pin(async move { transact!(self, db => insert(&db, &self.iss, &grant).await) })
    }

    fn rotate(&self, presented: Digest, next: Grant, now: u64) -> Asked<'_, Rotation> {
        Box::pin(async move {
            // The row stays locked: of two that present the same token one waits, and finds it used.
            let sql = "SELECT family, name, used FROM coregate_grants
                       WHERE token = $1 AND iss = $2 AND expires > $3 FOR UPDATE";
            let (iss, token) = (&*self.iss, &presented[..]);
            transact!(self, db => {
                let found = db.query_opt(sql, &[&token, &iss, &signed(now)]).await?;
                let Some(row) = found else { return Ok(Rotation::Unknown) };
                let (family, name): (Vec<u8>, String) = (row.get(0), row.get(1));
                if row.get(2) {
                    end(&db, iss, &family, now).await?;
                    return Ok(Rotation::Reused(name));
                }
                db.execute("UPDATE coregate_grants SET used = true WHERE token = $1", &[&token]).await?;
                let family = <[u8; 16]>::try_from(family).unwrap_or_default();
                insert(&db, iss, &Grant { family, name: name.clone(), ..next.clone() }).await?;
                Ok(Rotation::Done(name))
            })
        })
    }

    fn end_family(&self, of: Member, now: u64) -> Asked<'_, bool> {
        Box::pin(async move {
            let iss = &*self.iss;
            transact!(self, db => {
                let found = match &of {
                    Member::Refresh(token) => {
                        let sql = "SELECT family FROM coregate_grants WHERE token = $1 AND iss = $2";
                        db.query_opt(sql, &[&&token[..], &iss]).await?
                    }
                    Member::Access(jti) => {
                        let sql = "SELECT family FROM coregate_grants WHERE jti = $1 AND iss = $2 LIMIT 1";
                        db.query_opt(sql, &[jti, &iss]).await?
                    }
                };
                let Some(row) = found else { return Ok(false) };
                let family: Vec<u8> = row.get(0);
                end(&db, iss, &family, now).await?;
                Ok(true)
            })
        })
    }

    fn end_subject<'s>(&'s self, name: &'s str, before: u64, until: u64) -> Asked<'s, ()> {
        Box::pin(async move {
            let iss = &*self.iss;
            let sql = "INSERT INTO coregate_revoked (iss, sub, before, until) VALUES ($1, $2, $3, $4)";
            transact!(self, db => {
                db.execute("DELETE FROM coregate_grants WHERE name = $1 AND iss = $2", &[&name, &iss]).await?;
                db.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
                db.execute(sql, &[&iss, &name, &signed(before), &signed(until)]).await
            })
            .map(drop)
        })
    }

    fn revoke<'s>(&'s self, jti: &'s str, until: u64) -> Asked<'s, ()> {
        Box::pin(async move {
            let iss = &*self.iss;
            let sql = "INSERT INTO coregate_revoked (iss, jti, before, until) VALUES ($1, $2, 0, $3)";
            transact!(self, db => {
                db.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
                db.execute(sql, &[&iss, &jti, &signed(until)]).await
            })
            .map(drop)
        })
    }

    fn revoked(&self, last: i64, count: u32, now: u64) -> Asked<'_, Vec<Noted>> {
        Box::pin(async move {
            let sql = "SELECT id, jti, sub, before, until FROM coregate_revoked
                       WHERE id > $1 AND iss = $2 AND until > $4 ORDER BY id LIMIT $3";
            let iss = &*self.iss;
            let (count, now) = (i64::from(count), signed(now));
            let rows = transact!(self, db => db.query(sql, &[&last, &iss, &count, &now]).await)?;
            Ok(rows
                .iter()
                .map(|row| noted(row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
                .collect())
        })
    }

    fn forget(&self, now: u64) -> Asked<'_, ()> {
        Box::pin(async move {
            let now = signed(now);
            transact!(self, db => {
                let sql = "DELETE FROM coregate_grants WHERE expires <= $1 AND jti_expires <= $1";
                db.execute(sql, &[&now]).await?;
                db.execute("DELETE FROM coregate_revoked WHERE until <= $1", &[&now]).await
            })
            .map(drop)
        })
    }
}

async fn insert(db: &Transaction<'_>, iss: &str, grant: &Grant) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO coregate_grants (token, iss, family, name, expires, jti, jti_expires)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let Grant { token, family, name, expires, jti, jti_expires } = grant;
    let (expires, jti_expires) = (signed(*expires), signed(*jti_expires));
    let (token, family) = (&token[..], &family[..]);
    db.execute(sql, &[&token, &iss, &family, name, &expires, jti, &jti_expires]).await.map(drop)
}

async fn end(db: &Transaction<'_>, iss: &str, family: &[u8], now: u64) -> Result<(), tokio_postgres::Error> {
    db.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let sql = "INSERT INTO coregate_revoked (iss, jti, before, until)
               SELECT iss, jti, 0, jti_expires FROM coregate_grants WHERE family = $1 AND iss = $2 AND jti_expires > $3";
    let since = signed(now.saturating_sub(LEEWAY_SECONDS));
    db.execute(sql, &[&family, &iss, &since]).await?;
    db.execute("DELETE FROM coregate_grants WHERE family = $1 AND iss = $2", &[&family, &iss]).await.map(drop)
}
