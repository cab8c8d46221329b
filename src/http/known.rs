//! Field names the gateway has a meaning for.

/// A field name the gateway knows. Whatever is not `Other` and not hop-by-hop is end-to-end: `Connection` cannot
/// remove it, and it is not allowed in trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    Other,
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    Age,
    Authorization,
    CacheControl,
    Connection,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentLocation,
    ContentRange,
    ContentType,
    Cookie,
    Date,
    Etag,
    Expect,
    Expires,
    Forwarded,
    Host,
    Http2Settings,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Location,
    MaxForwards,
    Origin,
    Pragma,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    Referer,
    RetryAfter,
    Server,
    SetCookie,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Vary,
    Via,
    WwwAuthenticate,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    XRequestId,
}

impl Known {
    /// Whether the field never goes further than this connection (RFC 9110 §7.6.1; RFC 9113 §3.1 for
    /// `HTTP2-Settings`). `Trailer` is not one of them: trailers are forwarded.
    #[inline]
    pub const fn is_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }
}

/// The known field of this name, in any case; `Other` otherwise.
///
/// Length and first letter leave one candidate (two or three in a few cases), so that one comparison decides.
#[inline]
pub fn classify(name: &[u8]) -> Known {
    let Some(first) = name.first() else { return Known::Other };
    let candidates: &[(&[u8], Known)] = match (name.len(), first | 0x20) {
        (2, b't') => &[(b"te", Known::Te)],
        (3, b'a') => &[(b"age", Known::Age)],
        (3, b'v') => &[(b"via", Known::Via)],
        (4, b'd') => &[(b"date", Known::Date)],
        (4, b'e') => &[(b"etag", Known::Etag)],
        (4, b'h') => &[(b"host", Known::Host)],
        (4, b'v') => &[(b"vary", Known::Vary)],
        (5, b'r') => &[(b"range", Known::Range)],
        (6, b'a') => &[(b"accept", Known::Accept)],
        (6, b'c') => &[(b"cookie", Known::Cookie)],
        (6, b'e') => &[(b"expect", Known::Expect)],
        (6, b'o') => &[(b"origin", Known::Origin)],
        (6, b'p') => &[(b"pragma", Known::Pragma)],
        (6, b's') => &[(b"server", Known::Server)],
        (7, b'e') => &[(b"expires", Known::Expires)],
        (7, b'r') => &[(b"referer", Known::Referer)],
        (7, b't') => &[(b"trailer", Known::Trailer)],
        (7, b'u') => &[(b"upgrade", Known::Upgrade)],
        (8, b'i') => &[(b"if-match", Known::IfMatch), (b"if-range", Known::IfRange)],
        (8, b'l') => &[(b"location", Known::Location)],
        (9, b'f') => &[(b"forwarded", Known::Forwarded)],
        (9, b'x') => &[(b"x-real-ip", Known::XRealIp)],
        (10, b'c') => &[(b"connection", Known::Connection)],
        (10, b'k') => &[(b"keep-alive", Known::KeepAlive)],
        (10, b's') => &[(b"set-cookie", Known::SetCookie)],
        (10, b't') => &[(b"tracestate", Known::Tracestate)],
        (10, b'u') => &[(b"user-agent", Known::UserAgent)],
        (11, b'r') => &[(b"retry-after", Known::RetryAfter)],
        (11, b't') => &[(b"traceparent", Known::Traceparent)],
        (12, b'c') => &[(b"content-type", Known::ContentType)],
        (12, b'm') => &[(b"max-forwards", Known::MaxForwards)],
        (12, b'x') => &[(b"x-request-id", Known::XRequestId)],
        (13, b'a') => &[(b"authorization", Known::Authorization)],
        (13, b'c') => &[(b"cache-control", Known::CacheControl), (b"content-range", Known::ContentRange)],
        (13, b'i') => &[(b"if-none-match", Known::IfNoneMatch)],
        (13, b'l') => &[(b"last-modified", Known::LastModified)],
        (14, b'c') => &[(b"content-length", Known::ContentLength)],
        (14, b'h') => &[(b"http2-settings", Known::Http2Settings)],
        (15, b'a') => {
            &[(b"accept-encoding", Known::AcceptEncoding), (b"accept-language", Known::AcceptLanguage)]
        }
        (15, b'x') => &[(b"x-forwarded-for", Known::XForwardedFor)],
        (16, b'c') => &[
            (b"content-encoding", Known::ContentEncoding),
            (b"content-language", Known::ContentLanguage),
            (b"content-location", Known::ContentLocation),
        ],
        (16, b'p') => &[(b"proxy-connection", Known::ProxyConnection)],
        (16, b'w') => &[(b"www-authenticate", Known::WwwAuthenticate)],
        (16, b'x') => {
            &[(b"x-forwarded-host", Known::XForwardedHost), (b"x-forwarded-port", Known::XForwardedPort)]
        }
        (17, b'i') => &[(b"if-modified-since", Known::IfModifiedSince)],
        (17, b't') => &[(b"transfer-encoding", Known::TransferEncoding)],
        (17, b'x') => &[(b"x-forwarded-proto", Known::XForwardedProto)],
        (18, b'p') => &[(b"proxy-authenticate", Known::ProxyAuthenticate)],
        (19, b'i') => &[(b"if-unmodified-since", Known::IfUnmodifiedSince)],
        (19, b'p') => &[(b"proxy-authorization", Known::ProxyAuthorization)],
        _ => &[],
    };
    candidates
        .iter()
        .find(|(text, _)| text.eq_ignore_ascii_case(name))
        .map_or(Known::Other, |&(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_any_case_and_nothing_like_it_is() {
        let names = "accept accept-encoding accept-language age authorization cache-control connection \
            content-encoding content-language content-length content-location content-range content-type cookie \
            date etag expect expires forwarded host http2-settings if-match if-modified-since if-none-match if-range \
            if-unmodified-since keep-alive last-modified location max-forwards origin pragma proxy-authenticate \
            proxy-authorization proxy-connection range referer retry-after server set-cookie te traceparent tracestate \
            trailer transfer-encoding upgrade user-agent vary via www-authenticate x-forwarded-for x-forwarded-host \
            x-forwarded-port x-forwarded-proto x-real-ip x-request-id";
        for name in names.split_whitespace() {
            let known = classify(name.as_bytes());
            let spelled: String = format!("{known:?}").to_ascii_lowercase();
            assert_eq!(spelled, name.replace('-', ""), "the variant of {name} is called like it");
            assert_eq!(classify(name.to_ascii_uppercase().as_bytes()), known);
            for changed in
                [format!("{name}s"), name.replace('-', "_"), name[1..].to_owned(), format!("{}!", &name[1..])]
            {
                if changed != name && !names.split_whitespace().any(|other| other == changed) {
                    assert_eq!(classify(changed.as_bytes()), Known::Other, "{changed}");
                }
            }
        }
        assert_eq!(names.split_whitespace().count(), Known::XRequestId as usize, "every variant was tried");
        assert_eq!(classify(b""), Known::Other);
    }

    #[test]
    fn trailer_is_forwarded_and_framing_is_not() {
        assert!(!Known::Trailer.is_hop());
        assert!(!Known::ContentLength.is_hop());
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
        ] {
            assert!(classify(name.as_bytes()).is_hop(), "{name}");
        }
    }
}
