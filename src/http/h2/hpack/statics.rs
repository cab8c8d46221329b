//! The static table (RFC 7541 Appendix A).

use super::{Kind, Pseudo};
use crate::http::Known;

/// One entry. Its index is its place here plus one.
pub(super) struct Static {
    pub(super) name: &'static [u8],
    pub(super) value: &'static [u8],
    pub(super) kind: Kind,
}

pub(super) const COUNT: usize = 61;

const fn pseudo(name: &'static str, value: &'static str, kind: Pseudo) -> Static {
    Static { name: name.as_bytes(), value: value.as_bytes(), kind: Kind::Pseudo(kind) }
}

const fn field(name: &'static str, value: &'static str, known: Known) -> Static {
    Static { name: name.as_bytes(), value: value.as_bytes(), kind: Kind::Field(known) }
}

pub(super) static ENTRIES: [Static; COUNT] = [
    pseudo(":authority", "", Pseudo::Authority),
    pseudo(":method", "GET", Pseudo::Method),
    pseudo(":method", "POST", Pseudo::Method),
    pseudo(":path", "/", Pseudo::Path),
    pseudo(":path", "/index.html", Pseudo::Path),
    pseudo(":scheme", "http", Pseudo::Scheme),
    pseudo(":scheme", "https", Pseudo::Scheme),
    pseudo(":status", "200", Pseudo::Status),
    pseudo(":status", "204", Pseudo::Status),
    pseudo(":status", "206", Pseudo::Status),
    pseudo(":status", "304", Pseudo::Status),
    pseudo(":status", "400", Pseudo::Status),
    pseudo(":status", "404", Pseudo::Status),
    pseudo(":status", "500", Pseudo::Status),
    field("accept-charset", "", Known::Other),
    field("accept-encoding", "gzip, deflate", Known::AcceptEncoding),
    field("accept-language", "", Known::AcceptLanguage),
    field("accept-ranges", "", Known::Other),
    field("accept", "", Known::Accept),
    field("access-control-allow-origin", "", Known::Other),
    field("age", "", Known::Age),
    field("allow", "", Known::Other),
    field("authorization", "", Known::Authorization),
    field("cache-control", "", Known::CacheControl),
    field("content-disposition", "", Known::Other),
    field("content-encoding", "", Known::ContentEncoding),
    field("content-language", "", Known::ContentLanguage),
    field("content-length", "", Known::ContentLength),
    field("content-location", "", Known::ContentLocation),
    field("content-range", "", Known::ContentRange),
    field("content-type", "", Known::ContentType),
    field("cookie", "", Known::Cookie),
    field("date", "", Known::Date),
    field("etag", "", Known::Etag),
    field("expect", "", Known::Expect),
    field("expires", "", Known::Expires),
    field("from", "", Known::Other),
    field("host", "", Known::Host),
    field("if-match", "", Known::IfMatch),
    field("if-modified-since", "", Known::IfModifiedSince),
    field("if-none-match", "", Known::IfNoneMatch),
    field("if-range", "", Known::IfRange),
    field("if-unmodified-since", "", Known::IfUnmodifiedSince),
    field("last-modified", "", Known::LastModified),
    field("link", "", Known::Other),
    field("location", "", Known::Location),
    field("max-forwards", "", Known::MaxForwards),
    field("proxy-authenticate", "", Known::ProxyAuthenticate),
    field("proxy-authorization", "", Known::ProxyAuthorization),
    field("range", "", Known::Range),
    field("referer", "", Known::Referer),
    field("refresh", "", Known::Other),
    field("retry-after", "", Known::RetryAfter),
    field("server", "", Known::Server),
    field("set-cookie", "", Known::SetCookie),
    field("strict-transport-security", "", Known::Other),
    field("transfer-encoding", "", Known::TransferEncoding),
    field("user-agent", "", Known::UserAgent),
    field("vary", "", Known::Vary),
    field("via", "", Known::Via),
    field("www-authenticate", "", Known::WwwAuthenticate),
];

/// The index of the first entry with a known field's name, by `Known`; 0 = none.
#[expect(clippy::cast_possible_truncation, reason = "there are 61")]
pub(super) static NAMES: [u8; 256] = {
    let mut names = [0; 256];
    let mut at = COUNT;
    while at > 0 {
        if let Kind::Field(known) = ENTRIES[at - 1].kind
            && !matches!(known, Known::Other)
        {
            names[known as usize] = at as u8;
        }
        at -= 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_where_the_appendix_has_them_and_are_of_their_kind() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (8, ":status", "200"),
            (14, ":status", "500"),
            (15, "accept-charset", ""),
            (16, "accept-encoding", "gzip, deflate"),
            (28, "content-length", ""),
            (31, "content-type", ""),
            (33, "date", ""),
            (38, "host", ""),
            (46, "location", ""),
            (54, "server", ""),
            (58, "user-agent", ""),
            (61, "www-authenticate", ""),
        ] {
            let entry = &ENTRIES[index - 1];
            assert_eq!((entry.name, entry.value), (name.as_bytes(), value.as_bytes()), "{index}");
        }
        for entry in &ENTRIES {
            assert_eq!(entry.kind, Kind::of(entry.name), "{}", entry.name.escape_ascii());
        }
        assert_eq!(NAMES[Known::Accept as usize], 19);
        assert_eq!(NAMES[Known::XRequestId as usize], 0);
        assert_eq!(NAMES[Known::Other as usize], 0);
    }
}
