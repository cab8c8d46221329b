//! What a token says: the claims that decide whether it is taken, and those that are passed on (RFC 7519 §4).

use std::sync::Arc;

use super::{
    Audience, ClaimName, Issuer, Reject, fields,
    jws::{self, Jws, Room},
    key::KeyId,
    revocation::Revocations,
};
use crate::json::{self, Kind, Span, write};

/// What a verified token says. Holding one is the proof that signature, issuer, audience and times were checked: nothing but
/// [`super::Desk`] makes it.
pub struct Verified {
    pub issuer: Arc<Issuer>,
    /// The key whose signature it has.
    pub key: KeyId,
    /// Unix time in seconds from which it is not taken any more, the issuer's leeway included.
    pub until_s: u64,
    /// Unix time in seconds.
    pub issued_s: Option<u64>,
    sub: Option<Box<str>>,
    jti: Option<Box<str>>,
    roles: Box<[Box<str>]>,
    scopes: Box<[Box<str>]>,
    /// Header lines for services, as the issuer's `headers` and `identity` say.
    fields: Box<[u8]>,
    payload: Box<[u8]>,
    object: Span,
}

/// Claims that allow the token to be taken, if its signature is good.
pub(super) struct Unproved<'i> {
    pub issuer: &'i Arc<Issuer>,
    until_s: u64,
    issued_s: Option<u64>,
    sub: Option<Span>,
    jti: Option<Span>,
    object: Span,
}

/// Reads the payload into `room` and refuses what can be refused without a key. `now_s` is the unix time in seconds.
pub(super) fn read<'i>(
    jws: &Jws<'_>,
    issuers: &'i [Arc<Issuer>],
    now_s: u64,
    room: &mut Room,
) -> Result<Unproved<'i>, (Reject, Option<&'i Arc<Issuer>>)> {
    let malformed = (Reject::Malformed, None);
    if !jws.is_access_token {
        return Err(malformed);
    }
    jws::decode(jws.payload, &mut room.payload).map_err(|_| malformed)?;
    let Room { members, payload: body, .. } = room;
    let document = json::scan(body, members).map_err(|_| malformed)?;
    // RFC 7519 §4: names that come twice are refused.
    if document.kind != Kind::Object || members.duplicate().is_some() {
        return Err(malformed);
    }
    let [mut iss, mut aud, mut exp, mut nbf, mut iat, mut sub, mut jti] = [None; 7];
    for member in members.list() {
        let mut name = [0; 3];
        match three(member.key.of(body), &mut name) {
            b"iss" => iss = Some(member),
            b"aud" => aud = Some(member),
            b"exp" => exp = Some(member),
            b"nbf" => nbf = Some(member),
            b"iat" => iat = Some(member),
            b"sub" => sub = Some(member),
            b"jti" => jti = Some(member),
            _ => {}
        }
    }
    let text = |member: Option<&json::Member>| match member {
        Some(member) if member.kind == Kind::String => Ok(Some(member.value)),
        Some(_) => Err(Reject::Claims),
        None => Ok(None),
    };
    let iss = text(iss).map_err(|reject| (reject, None))?;
    let issuer = chosen(issuers, iss.map(|iss| inside(body, iss))).ok_or((Reject::Issuer, None))?;

    let decide = || {
        if !issuer.algs.contains(jws.alg) {
            return Err(Reject::Algorithm);
        }
        if !is_for_us(&issuer.audience, aud, body)? {
            return Err(Reject::Audience);
        }
        let time = |member: Option<&json::Member>| member.map(|member| seconds(body, member)).transpose();
        let leeway = issuer.leeway_s;
        let (exp, nbf, iat) = (time(exp)?.ok_or(Reject::Claims)?, time(nbf)?, time(iat)?);
        let until_s = exp.saturating_add(leeway);
        if now_s >= until_s {
            return Err(Reject::Expired);
        }
        if nbf.max(iat).is_some_and(|from| from > now_s.saturating_add(leeway)) {
            return Err(Reject::NotYet);
        }
        let (sub, jti) = (text(sub)?, text(jti)?);
        Ok(Unproved { issuer, until_s, issued_s: iat, sub, jti, object: document.span })
    };
    decide().map_err(|reject| (reject, Some(issuer)))
}

impl Unproved<'_> {
    /// The proof: `key` has signed it. `room` is the one it was read into.
    pub(super) fn proved_by(self, key: KeyId, room: &Room) -> Verified {
        let body = &*room.payload;
        let Self { issuer, until_s, issued_s, sub, jti, object } = self;
        let string = |span: Span| plain(inside(body, span));
        let roles = issuer.roles_claim.find(body, object).map_or_else(Vec::new, |span| words(body, span));
        let mut verified = Verified {
            issuer: Arc::clone(issuer),
            key,
            until_s,
            issued_s,
            sub: sub.map(string),
            jti: jti.map(string),
            roles: roles.into(),
            scopes: scopes(body, object).into(),
            fields: Box::default(),
            payload: body.into(),
            object,
        };
        verified.fields = fields::render(&verified).into();
        verified
    }
}

impl Verified {
    pub fn sub(&self) -> Option<&str> {
        self.sub.as_deref()
    }

    pub fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    pub fn roles(&self) -> &[Box<str>] {
        &self.roles
    }

    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// Header lines for services, each with its CR LF.
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// The claims as they were signed: a JSON object.
    pub fn payload(&self) -> &[u8] {
        self.object.of(&self.payload)
    }

    /// The value of a claim as it is written, JSON; `None` if there is none.
    pub fn claim(&self, name: &ClaimName) -> Option<&[u8]> {
        name.find(&self.payload, self.object).map(|span| span.of(&self.payload))
    }

    /// Calls `each` with every value of a claim as text: the elements of a list, or the only one. Returns whether it is a list. `roles`
    /// is the issuer's claim for roles, whatever it is called.
    pub fn texts(&self, name: &ClaimName, mut each: impl FnMut(&[u8])) -> bool {
        if name.text() == "roles" {
            self.roles.iter().for_each(|role| each(role.as_bytes()));
            return true;
        }
        let body = &*self.payload;
        let Some(value) = name.find(body, self.object) else { return false };
        let is_list = Kind::of(value.of(body)) == Kind::Array;
        if is_list {
            json::elements(body, value).for_each(|element| each(&scalar(body, element)));
        } else {
            each(&scalar(body, value));
        }
        is_list
    }

    /// Whether it was logged out. Only issuers with a name can revoke.
    pub(super) fn is_revoked(&self, revocations: &Revocations) -> bool {
        let iss = self.issuer.iss.as_deref();
        iss.is_some_and(|iss| revocations.is_revoked(iss, self.jti(), self.sub(), self.issued_s))
    }

    /// Bytes it occupies, roughly.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let list = |list: &[Box<str>]| list.iter().map(|text| text.len() + 16).sum::<usize>();
        size_of::<Self>()
            + self.payload.len()
            + self.fields.len()
            + text(&self.sub)
            + text(&self.jti)
            + list(&self.roles)
            + list(&self.scopes)
    }
}

/// The issuer that `iss` names; one that has no name takes what nobody else does. The first of two equals, which `config` refuses.
fn chosen<'i>(issuers: &'i [Arc<Issuer>], iss: Option<&[u8]>) -> Option<&'i Arc<Issuer>> {
    let named = |issuer: &&Arc<Issuer>| match (&issuer.iss, iss) {
        (Some(name), Some(iss)) => write::is_name(iss, name.as_bytes()),
        (_, _) => false,
    };
    let nameless = || issuers.iter().find(|issuer| issuer.iss.is_none());
    issuers.iter().find(named).or_else(nameless)
}

/// RFC 7519 §4.1.3: a token that names an audience is only for those it names.
fn is_for_us(audience: &Audience, aud: Option<&json::Member>, body: &[u8]) -> Result<bool, Reject> {
    let is_ours = |value: Span, ours: &[Arc<str>]| {
        ours.iter().any(|name| write::is_name(inside(body, value), name.as_bytes()))
    };
    let Some(aud) = aud else { return Ok(!matches!(audience, Audience::OneOf(_))) };
    let values: Vec<Span> = match aud.kind {
        Kind::String => {
            return Ok(match audience {
                Audience::Any => true,
                Audience::Nobody => false,
                Audience::OneOf(ours) => is_ours(aud.value, ours),
            });
        }
        Kind::Array => json::elements(body, aud.value).collect(),
        Kind::Object | Kind::Number | Kind::True | Kind::False | Kind::Null => return Err(Reject::Claims),
    };
    if values.iter().any(|value| Kind::of(value.of(body)) != Kind::String) {
        return Err(Reject::Claims);
    }
    Ok(match audience {
        Audience::Any => true,
        Audience::Nobody => false,
        Audience::OneOf(ours) => values.iter().any(|value| is_ours(*value, ours)),
    })
}

/// A NumericDate (RFC 7519 §2) in whole seconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within what was checked")]
fn seconds(body: &[u8], member: &json::Member) -> Result<u64, Reject> {
    if member.kind != Kind::Number {
        return Err(Reject::Claims);
    }
    let text = std::str::from_utf8(member.value.of(body)).map_err(|_| Reject::Claims)?;
    let number = match text.parse::<u64>() {
        Ok(seconds) => return Ok(seconds),
        Err(_) => text.parse::<f64>().map_err(|_| Reject::Claims)?,
    };
    // Before 1970 is as long ago as 1970; beyond what a double counts exactly nobody means a time.
    if number.is_finite() && number < 9e15 { Ok(number.max(0.0) as u64) } else { Err(Reject::Claims) }
}

/// A name of three letters without its escapes; other names are none that matter.
fn three<'n>(written: &'n [u8], room: &'n mut [u8; 3]) -> &'n [u8] {
    if !written.contains(&b'\\') {
        return written;
    }
    let mut unescaped = Vec::new();
    write::unescape(written, &mut unescaped);
    let Some(here) = room.get_mut(..unescaped.len()) else { return b"" };
    here.copy_from_slice(&unescaped);
    here
}

/// What stands between the quotes of a string.
fn inside(body: &[u8], string: Span) -> &[u8] {
    let written = string.of(body);
    written.get(1..written.len().saturating_sub(1)).unwrap_or_default()
}

fn plain(written: &[u8]) -> Box<str> {
    let mut text = Vec::with_capacity(written.len());
    write::unescape(written, &mut text);
    String::from_utf8_lossy(&text).into()
}

/// A value as text: a string without quotes and escapes, anything else as it is written.
fn scalar(body: &[u8], value: Span) -> Vec<u8> {
    let written = value.of(body);
    if Kind::of(written) != Kind::String {
        return written.to_vec();
    }
    let mut text = Vec::with_capacity(written.len());
    write::unescape(inside(body, value), &mut text);
    text
}

/// The strings of a list, or the words of a string, as RFC 8693 §4.2 has `scope`.
fn words(body: &[u8], value: Span) -> Vec<Box<str>> {
    match Kind::of(value.of(body)) {
        Kind::Array => json::elements(body, value)
            .filter(|element| Kind::of(element.of(body)) == Kind::String)
            .map(|element| plain(inside(body, element)))
            .collect(),
        Kind::String => {
            let text = plain(inside(body, value));
            text.split(' ').filter(|word| !word.is_empty()).map(Box::from).collect()
        }
        Kind::Object | Kind::Number | Kind::True | Kind::False | Kind::Null => Vec::new(),
    }
}

/// `scope` (RFC 8693 §4.2, RFC 9068 §2.2.3); `scp`, as some issuers call it, where that is absent.
fn scopes(body: &[u8], object: Span) -> Vec<Box<str>> {
    let member = |wanted: &[u8]| {
        let entries = json::entries(body, object).filter(|entry| write::is_name(entry.key.of(body), wanted));
        entries.last().map(|entry| entry.value)
    };
    member(b"scope").or_else(|| member(b"scp")).map_or_else(Vec::new, |value| words(body, value))
}
