//! A token taken apart: JWS compact serialization (RFC 7515 §3.1, §7.1), strictly.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Alg, Reject};
use crate::json::{self, Kind, Members, Span, write};

/// Longest token (DESIGN §15).
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A token whose header was read. Nothing about it is proved yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Jws<'t> {
    pub alg: Alg,
    pub kid: Option<Box<[u8]>>,
    /// Whether `typ` and `cty` are those of a JWT that is shown for access: absent, `JWT` or `at+jwt` (RFC 9068 §4), and nothing
    /// nested in it. A logout token, a DPoP proof and other kinds say what they are (RFC 8725 §3.11).
    pub is_access_token: bool,
    /// Header, dot and payload, as they are signed.
    pub signed: &'t [u8],
    /// Encoded.
    pub payload: &'t [u8],
    /// Encoded.
    pub signature: &'t [u8],
}

/// Room for taking tokens apart, used again and again.
pub struct Room {
    pub(super) members: Members,
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Room {
    /// `seed` is drawn at random.
    pub fn new(seed: u64) -> Self {
        Self { members: Members::new(seed), header: Vec::new(), payload: Vec::new(), signature: Vec::new() }
    }
}

impl<'t> Jws<'t> {
    /// Reads a token's header.
    ///
    /// Refused are: more than 8 KiB, anything but three parts, base64url with padding, other characters or stray bits (RFC 7515 §2),
    /// a header with a member twice, `crit` (we know no extension, §4.1.11), and `b64` (RFC 7797). `jwk`, `jku`, `x5u` and `x5c` are
    /// not looked at: a token does not choose its key's source (RFC 8725 §3.10).
    pub fn parse(token: &'t [u8], room: &mut Room) -> Result<Self, Reject> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reject::Malformed);
        }
        let first = memchr::memchr(b'.', token).ok_or(Reject::Malformed)?;
        let second = first + 1 + memchr::memchr(b'.', &token[first + 1..]).ok_or(Reject::Malformed)?;
        let (header, payload, signature) = (&token[..first], &token[first + 1..second], &token[second + 1..]);
        if memchr::memchr(b'.', signature).is_some() {
            return Err(Reject::Malformed);
        }
        decode(header, &mut room.header)?;

        let Room { members, header, .. } = room;
        let document = json::scan(header, members).map_err(|_| Reject::Malformed)?;
        if document.kind != Kind::Object || members.duplicate().is_some() {
            return Err(Reject::Malformed);
        }
        let (mut alg, mut kid, mut is_access_token) = (None, None, true);
        for member in members.list() {
            let mut name = [0; 4];
            let name = short_name(member.key.of(header), &mut name);
            let string = || string(header, member.value, member.kind).ok_or(Reject::Malformed);
            match name {
                b"alg" => alg = Some(string()?),
                b"kid" => kid = Some(string()?.into_boxed_slice()),
                b"typ" => is_access_token &= is_access_type(&string()?),
                b"cty" => is_access_token = false,
                b"crit" | b"b64" => return Err(Reject::Malformed),
                _ => {}
            }
        }
        let alg = Alg::named(&alg.ok_or(Reject::Malformed)?).ok_or(Reject::Algorithm)?;
        Ok(Self { alg, kid, is_access_token, signed: &token[..second], payload, signature })
    }

    /// Decodes the payload into `room` and returns it.
    pub fn payload<'r>(&self, room: &'r mut Room) -> Result<&'r [u8], Reject> {
        decode(self.payload, &mut room.payload)?;
        Ok(&room.payload)
    }
}

/// Decodes base64url without padding; `out` has nothing else in it afterwards.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
    out.resize(text.len() / 4 * 3 + 3, 0);
    let length = URL_SAFE_NO_PAD.decode_slice(text, out).map_err(|_| Reject::Malformed)?;
    out.truncate(length);
    Ok(())
}

/// A name of at most four characters without its escapes; other names are none that matter.
fn short_name<'n>(written: &'n [u8], room: &'n mut [u8; 4]) -> &'n [u8] {
    if !written.contains(&b'\\') {
        return written;
    }
    let mut plain = Vec::new();
    write::unescape(written, &mut plain);
    let Some(here) = room.get_mut(..plain.len()) else { return b"" };
    here.copy_from_slice(&plain);
    here
}

/// The text of a string value of a checked body.
pub(super) fn string(body: &[u8], value: Span, kind: Kind) -> Option<Vec<u8>> {
    if kind != Kind::String {
        return None;
    }
    let written = value.of(body);
    let mut plain = Vec::with_capacity(written.len());
    write::unescape(&written[1..written.len() - 1], &mut plain);
    Some(plain)
}

/// RFC 7519 §5.1, RFC 9068 §2.1; media types compare without case, and `application/` may be left out (RFC 7515 §4.1.9).
fn is_access_type(typ: &[u8]) -> bool {
    let prefix = b"application/";
    let has_prefix = typ.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let typ = if has_prefix { &typ[prefix.len()..] } else { typ };
    typ.eq_ignore_ascii_case(b"JWT") || typ.eq_ignore_ascii_case(b"at+jwt")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token with this header, `e30` (an empty object) as payload, and a signature of one byte.
    fn with_header(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    #[track_caller]
    fn check(token: &str, expected: Result<(Alg, Option<&str>, bool), Reject>) {
        let mut room = Room::new(1);
        let found = Jws::parse(token.as_bytes(), &mut room);
        let kid = |jws: &Jws<'_>| jws.kid.as_ref().map(|kid| String::from_utf8(kid.to_vec()).unwrap());
        let found = found.map(|jws| (jws.alg, kid(&jws), jws.is_access_token));
        assert_eq!(
            found,
            expected.map(|(alg, kid, access)| (alg, kid.map(str::to_owned), access)),
            "{token}"
        );
    }

    #[test]
    fn a_header_is_read() {
        check(&with_header(r#"{"alg":"RS256"}"#), Ok((Alg::Rs256, None, true)));
        let header =
            r#" {"typ":"at+JWT", "kid":"a\u002fb", "\u0061lg":"ES256", "x":[1], "jku":"https://evil"} "#;
        check(&with_header(header), Ok((Alg::Es256, Some("a/b"), true)));
    }

    #[test]
    fn only_access_tokens_are_access_tokens() {
        for (typ, access) in [
            ("JWT", true),
            ("application/jwt", true),
            ("application/at+jwt", true),
            ("logout+jwt", false),
            ("dpop+jwt", false),
            ("JOSE", false),
            ("", false),
        ] {
            check(
                &with_header(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)),
                Ok((Alg::Hs256, None, access)),
            );
        }
        check(&with_header(r#"{"alg":"HS256","cty":"JWT"}"#), Ok((Alg::Hs256, None, false)));
    }

    #[test]
    fn none_is_no_algorithm_however_it_is_spelled() {
        for alg in ["none", "None", "NONE", "nOnE", "no\\u006ee", "", "hs256", "ES512", "HS256 "] {
            check(&with_header(&format!(r#"{{"alg":"{alg}"}}"#)), Err(Reject::Algorithm));
        }
    }

    #[test]
    fn a_header_in_doubt_is_refused() {
        for header in [
            r#"{}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","\u0061lg":"none"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
            r#"{"alg":"HS256","b64":true}"#,
            r#"{"alg":"HS256","kid":1}"#,
            r#"{"alg":"HS256","typ":null}"#,
            r#"["alg"]"#,
            r#"{"alg":"HS256"} x"#,
            "\u{feff}{\"alg\":\"HS256\"}",
            "",
        ] {
            check(&with_header(header), Err(Reject::Malformed));
        }
    }

    #[test]
    fn parts_and_alphabet_are_exact() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        assert_eq!(header, "eyJhbGciOiJIUzI1NiJ9");
        check("eyJhbGciOiJIUzI1NiJ9.e30.AA", Ok((Alg::Hs256, None, true)));
        for token in [
            "",
            "..",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOiJIUzI1NiJ9.e30",
            "eyJhbGciOiJIUzI1NiJ9=.e30.AA",
            "eyJhbGciOiJIUzI1NiJ9 .e30.AA",
            "eyJhbGciOiJIUzI1NiJ9\n.e30.AA",
            "eyJhbGciOiJIUzI1NiJ.e30.AA",
            // Stray bits: `eyJhbGciOiJIUzI1NiIsIm" in two spellings of the last character.
            "eyJhbGciOiJIUzI1NiIgfR.e30.AA",
            "eyJhbGciOiJIUzI1Ni+9.e30.AA",
            "{\"alg\":\"HS256\"}.e30.AA",
            "eyJhbGciOiJIUzI1NiJ9.e30.AA.AA",
            "eyJhbGciOiJIUzI1NiJ9.e30.AA.AA.AA",
        ] {
            check(token, Err(Reject::Malformed));
        }
        let long = format!("eyJhbGciOiJIUzI1NiJ9.{}.AA", "A".repeat(TOKEN_BYTES_MAX));
        check(&long, Err(Reject::Malformed));
    }

    #[test]
    fn only_canonical_base64_is_decoded() {
        let mut out = Vec::new();
        let mut check = |text: &str, expected: Option<&[u8]>| {
            let found = decode(text.as_bytes(), &mut out).ok().map(|()| out.clone());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("", Some(b""));
        check("AA", Some(b"\0"));
        check("AB", None);
        check("AA==", None);
        check("A", None);
        check("-_", None);
        check("-w", Some(b"\xfb"));
        check("+w", None);
        check("_w", Some(b"\xff"));
        check("AAA", Some(b"\0\0"));
        check("AAB", None);
    }
}
