//! `/api/v1/users` of the admin port.

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    accounts::{
        Issuer,
        store::{StoreFault, User},
    },
    admin::{Admin, problem},
};

/// Users in one answer, if nothing else is asked for, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// What may stand behind the `?`.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// Of `[auth.NAME]`; the first issuer if not written.
    auth: Option<String>,
    /// Users behind this name.
    after: Option<String>,
    count: Option<u32>,
}

/// A new user, or what is to be different.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    password: Option<String>,
    roles: Option<Vec<String>>,
    disabled: Option<bool>,
}

type Answer = Result<Response, Response>;

pub(super) async fn list(State(admin): State<Admin>, Query(asked): Query<Asked>) -> Answer {
    let issuer = issuer(&admin, &asked)?;
    let count = asked.count.unwrap_or(PAGE).min(PAGE_MAX);
    let users = issuer.users(asked.after.as_deref().unwrap_or(""), count).await.map_err(unavailable)?;
    let users: Vec<Value> = users.iter().map(shown).collect();
    Ok(document(StatusCode::OK, &json!({ "users": users })))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let user = issuer(&admin, &asked)?.user(&name).await.map_err(unavailable)?;
    let user = user.ok_or_else(|| unknown(&name))?;
    Ok(document(StatusCode::OK, &shown(&user)))
}

pub(super) async fn add(State(admin): State<Admin>, Query(asked): Query<Asked>, body: Bytes) -> Answer {
    let issuer = issuer(&admin, &asked)?;
    let Written { name, password, roles, disabled } = written(&body)?;
    let (Some(name), Some(password), None) = (name, password, disabled) else {
        return Err(problem(StatusCode::BAD_REQUEST, "write `name` and `password`, and maybe `roles`"));
    };
    match issuer.add(&name, &password, roles.unwrap_or_default()).await {
        Ok(true) => Ok(document(StatusCode::CREATED, &json!({ "name": name }))),
        Ok(false) => Err(problem(StatusCode::CONFLICT, &format!("there is a user `{name}` already"))),
        Err(why) => Err(problem(StatusCode::BAD_REQUEST, &why)),
    }
}

pub(super) async fn change(
    State(admin): State<Admin>,
    Path(user): Path<String>,
    Query(asked): Query<Asked>,
    body: Bytes,
) -> Answer {
    let issuer = issuer(&admin, &asked)?;
    let Written { name, password, roles, disabled } = written(&body)?;
    if name.is_some() {
        return Err(problem(
            StatusCode::BAD_REQUEST,
            "a name stays; `password`, `roles`, `disabled` may change",
        ));
    }
    match issuer.change(&user, password.as_deref(), roles, disabled).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(false) => Err(unknown(&user)),
        Err(why) => Err(problem(StatusCode::BAD_REQUEST, &why)),
    }
}

pub(super) async fn log_out(
    State(admin): State<Admin>,
    Path(user): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    issuer(&admin, &asked)?.log_out(&user).await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[expect(clippy::result_large_err, reason = "axum's answer, made at most once for a request of an operator")]
fn issuer(admin: &Admin, asked: &Asked) -> Result<std::sync::Arc<Issuer>, Response> {
    let found = admin.issuers.find(asked.auth.as_deref());
    found.ok_or_else(|| problem(StatusCode::NOT_FOUND, "no [auth.NAME] with a `database`"))
}

#[expect(clippy::result_large_err, reason = "axum's answer, made at most once for a request of an operator")]
fn written(body: &Bytes) -> Result<Written, Response> {
    serde_json::from_slice(body)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, &format!("not what a user is made of: {error}")))
}

/// A user without the hash of the password.
fn shown(user: &User) -> Value {
    let User { name, roles, disabled, created, .. } = user;
    json!({ "name": name, "roles": roles, "disabled": disabled, "created": created })
}

fn unknown(name: &str) -> Response {
    problem(StatusCode::NOT_FOUND, &format!("there is no user `{name}`"))
}

fn unavailable(fault: StoreFault) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, &fault.0)
}

fn document(status: StatusCode, value: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{value}\n")).into_response()
}
