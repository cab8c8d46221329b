//! Who asks, and may they: the step between route and target.

use std::time::Duration;

use crate::{
    auth::{Guard, KeyCell, Onward, Reject, Source, Verified},
    connection::{Request, View, cookie},
    failure::Failure,
    http::{
        Known,
        rewrite::{Bearer, Without},
    },
    observe::OTHER,
    runtime::sleep,
    shard::Shard,
    snapshot::{Route, Snapshot},
};

/// How long a request waits for keys that are being fetched.
const KEYS_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks whether they are here.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Checks the request's token by the rules of a route and leaves in the request what it says.
///
/// A token with a key that is not known makes the control thread fetch the issuer's keys, and the request waits for them, at most
/// 2 s; so does one that comes while a fetch is running.
pub(super) async fn authenticate(
    request: &mut Request<'_>,
    index: usize,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<(), Failure> {
    let guard = &snapshot.guards[index];
    let result = match attempt(request, guard, snapshot, shard) {
        Err(Denied { keys: Some(keys), .. }) if keys.want_fresh() => {
            Box::pin(fresh(keys)).await;
            shard.timers.clock.now_us();
            attempt(request, guard, snapshot, shard)
        }
        result => result,
    };
    result.map_err(|Denied { reject, auth, .. }| {
        let failure = Failure::Denied { reject, guard: index };
        shard.metrics.borrow_mut().denied(auth, failure.why());
        failure
    })
}

/// Why a request goes no further.
struct Denied<'s> {
    reject: Reject,
    /// The issuer's number in metrics.
    auth: u32,
    /// Fresh ones may help.
    keys: Option<&'s KeyCell>,
}

fn attempt<'s>(
    request: &mut Request<'_>,
    guard: &'s Guard,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<(), Denied<'s>> {
    let first = guard.issuers.first().map_or(OTHER, |issuer| issuer.metric);
    let denied = |reject| Denied { reject, auth: first, keys: None };
    let token = match token(&request.view(), guard).map_err(denied)? {
        Some((token, _)) => token,
        None if guard.optional => return Ok(()),
        None => return Err(denied(Reject::Missing)),
    };
    let revocations = snapshot.revocations.load();
    let verified =
        shard.desk.borrow_mut().check(token, &guard.issuers, shard.unix_s(), &revocations).map_err(
            |denied| Denied {
                reject: denied.reject,
                auth: denied.issuer.map_or(first, |issuer| issuer.metric),
                keys: denied.issuer.filter(|_| denied.wants_keys).map(|issuer| &*issuer.keys),
            },
        )?;
    let auth = verified.issuer.metric;
    let allowed = guard.allows(&verified);
    // A request that may not do this has still said who it is: the log names it.
    request.verified = Some(verified);
    allowed.map_err(|reject| Denied { reject, auth, keys: None })
}

/// Waits until no fetch is running.
async fn fresh(keys: &KeyCell) {
    let mut left = KEYS_PATIENCE.as_millis() / LOOK_EVERY.as_millis();
    while left > 0 && keys.is_fetching() {
        sleep(LOOK_EVERY).await;
        left -= 1;
    }
}

/// The request's token, and where it lies: in the first of the guard's places that has one.
fn token<'a, 'g>(view: &View<'a>, guard: &'g Guard) -> Result<Option<(&'a [u8], &'g Source)>, Reject> {
    for source in &guard.sources {
        let token = match source {
            Source::Authorization => bearer_of(values(view, |field| field.known == Known::Authorization)?),
            Source::Header(name) => {
                let named = |field: &crate::http::Field| {
                    field.name.of(view.bytes).eq_ignore_ascii_case(name.as_bytes())
                };
                values(view, named)?.map(|value| bearer_of(Some(value)).unwrap_or(value))
            }
            Source::Cookie(name) => view
                .fields
                .iter()
                .filter(|field| field.known == Known::Cookie)
                .find_map(|field| cookie(field.value.of(view.bytes), name.as_bytes())),
        };
        if let Some(token) = token {
            return Ok(Some((token, source)));
        }
    }
    Ok(None)
}

/// The value of the only such field; two are one too many (RFC 6750 §2).
fn values<'a>(
    view: &View<'a>,
    is_wanted: impl Fn(&crate::http::Field) -> bool,
) -> Result<Option<&'a [u8]>, Reject> {
    let mut found = view.fields.iter().filter(|field| is_wanted(field));
    let first = found.next().map(|field| field.value.of(view.bytes));
    if found.next().is_some() { Err(Reject::Repeated) } else { Ok(first) }
}

/// What follows `Bearer` (RFC 6750 §2.1; schemes have no case, RFC 9110 §11.1). Other schemes are none of ours.
fn bearer_of(value: Option<&[u8]>) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let value = value?;
    let scheme = value.get(..SCHEME.len())?;
    let rest = &value[SCHEME.len()..];
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && (rest.is_empty() || rest[0] == b' ');
    is_bearer.then(|| rest.trim_ascii())
}

/// What services are told of who asks.
pub(super) fn bearer<'a>(
    view: &View<'a>,
    verified: Option<&'a Verified>,
    route: &Route,
    snapshot: &'a Snapshot,
) -> Bearer<'a> {
    let nothing = Bearer { lines: b"", reserved: &snapshot.reserved, without: Without::Nothing };
    let (Some(verified), Some(guard)) = (verified, route.guard) else { return nothing };
    let without = match verified.issuer.token {
        Onward::Pass => Without::Nothing,
        Onward::Strip => match token(view, &snapshot.guards[guard]) {
            Ok(Some((_, Source::Authorization))) => Without::Authorization,
            Ok(Some((_, Source::Header(name)))) => Without::Field(name.as_bytes()),
            Ok(Some((_, Source::Cookie(name)))) => Without::Cookie(name.as_bytes()),
            Ok(None) | Err(_) => Without::Nothing,
        },
    };
    Bearer { lines: verified.fields(), without, ..nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_follows_its_scheme() {
        let check = |value: &str, expected: Option<&str>| {
            assert_eq!(bearer_of(Some(value.as_bytes())), expected.map(str::as_bytes), "{value:?}");
        };
        check("Bearer abc", Some("abc"));
        check("bEARER   abc ", Some("abc"));
        check("Bearer", Some(""));
        check("Bearerabc", None);
        check("Basic YTpi", None);
        check("Bear", None);
        check("", None);
    }
}
