//! From a request to a message.

use super::Message;
use crate::http::{Field, Known, rewrite::Bearer};

/// What a request says, besides its fields.
pub struct Facts<'a> {
    pub method: &'a [u8],
    /// As it is sent to services: without what the route strips.
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
    pub host: &'a [u8],
    pub proto: &'a str,
    /// The client, after what trusted proxies said of it.
    pub forwarded_for: &'a [u8],
    /// Who asks. What says it travels always.
    pub bearer: Bearer<'a>,
    pub id: &'a [u8],
}

/// Makes a message of a request. `wanted` are the names of the fields that travel, in lower case; repeated fields are joined
/// (RFC 9110 §5.3).
pub fn message(
    facts: &Facts<'_>,
    bytes: &[u8],
    fields: &[Field],
    wanted: &[impl AsRef<str>],
    body: Vec<u8>,
) -> Message {
    let mut headers = vec![
        ("method".to_owned(), facts.method.to_vec()),
        ("path".to_owned(), facts.path.to_vec()),
        ("query".to_owned(), facts.query.unwrap_or_default().to_vec()),
        ("x-forwarded-for".to_owned(), facts.forwarded_for.to_vec()),
        ("x-forwarded-proto".to_owned(), facts.proto.as_bytes().to_vec()),
        ("x-forwarded-host".to_owned(), facts.host.to_vec()),
    ];
    for (name, value) in facts.bearer.fields() {
        headers.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
    for name in wanted {
        let name = name.as_ref();
        if headers.iter().any(|(taken, _)| taken == name) || facts.bearer.hides(name.as_bytes()) {
            continue; // Ours: a client does not say who it is.
        }
        let same = |field: &&Field| !field.hop && field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
        let values: Vec<&[u8]> = fields.iter().filter(same).map(|field| field.value.of(bytes)).collect();
        if !values.is_empty() {
            headers.push((name.to_owned(), values.join(&b", "[..])));
        }
    }
    let property = |known: Known| {
        let value = fields.iter().find(|field| field.known == known)?.value.of(bytes);
        // A short string of AMQP.
        (value.len() <= 255).then(|| String::from_utf8_lossy(value).into_owned())
    };
    Message {
        headers,
        content_type: property(Known::ContentType),
        content_encoding: property(Known::ContentEncoding),
        id: String::from_utf8_lossy(facts.id).into_owned(),
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{FieldNames, Rules, parse_request, rewrite::Without};

    fn made(head: &str, wanted: &[&str]) -> Message {
        let rules = Rules { head_bytes_max: 4096, line_bytes_max: 1024, headers_max: 50, lenient: false };
        let mut fields = Vec::new();
        parse_request(head.as_bytes(), &mut 0, &rules, &mut fields)
            .expect("a good head")
            .expect("a whole head");
        let facts = Facts {
            method: b"POST",
            path: b"/stock/7",
            query: Some(b"a=1"),
            host: b"shop",
            proto: "https",
            forwarded_for: b"10.0.0.1",
            bearer: Bearer {
                lines: b"X-User: alice: 1\r\nX-Roles: a,b\r\n",
                reserved: &FieldNames::new(["X-User", "X-Roles", "X-Org"].into_iter()),
                without: Without::Authorization,
            },
            id: b"id-1",
        };
        message(&facts, head.as_bytes(), &fields, wanted, b"{}".to_vec())
    }

    fn header<'m>(message: &'m Message, name: &str) -> Option<&'m [u8]> {
        message.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }

    #[test]
    fn who_asks_is_told_by_us() {
        let head = "POST / HTTP/1.1\r\nHost: shop\r\nX-User: root\r\nX-Org: evil\r\nx_org: evil\r\nAuthorization: Bearer x\r\n\r\n";
        let message = made(head, &["x-user", "x-org", "x_org", "authorization"]);
        assert_eq!(header(&message, "x-user"), Some(&b"alice: 1"[..]));
        assert_eq!(header(&message, "x-roles"), Some(&b"a,b"[..]));
        for name in ["x-org", "x_org", "authorization"] {
            assert_eq!(header(&message, name), None, "{name}");
        }
    }

    #[test]
    fn a_request_travels_as_headers_and_properties() {
        let head = "POST /api/stock/7?a=1 HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nX-Tenant: a\r\n\
                    X-Tenant: b\r\nX-Other: c\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
        let message = made(head, &["x-tenant", "accept", "x-forwarded-for", "path"]);
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(header(&message, name), expected.map(str::as_bytes), "{name}");
        };
        check("method", Some("POST"));
        check("path", Some("/stock/7"));
        check("query", Some("a=1"));
        check("x-tenant", Some("a, b"));
        check("x-other", None);
        check("accept", None);
        check("x-forwarded-for", Some("10.0.0.1"));
        assert_eq!(
            (message.content_type.as_deref(), message.content_encoding),
            (Some("application/json"), None)
        );
        assert_eq!((&*message.id, &*message.body), ("id-1", &b"{}"[..]));
    }

    #[test]
    fn a_field_named_by_connection_stays_here() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
        assert_eq!(header(&made(head, &["x-hop"]), "x-hop"), None);
    }
}
