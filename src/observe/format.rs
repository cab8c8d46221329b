//! Access records as text: nginx's `combined`, JSON, or a template with nginx's variables.

use std::{io::Write, net::IpAddr, sync::Arc};

use super::{
    Names,
    access::Record,
    calendar::Calendar,
    text::{escaped, fraction, json_string, microseconds, milliseconds, number, status},
};

/// How a record is written; each ends with a newline.
#[derive(Clone, Debug)]
pub enum Format {
    /// As nginx's predefined format of that name, byte for byte.
    Combined,
    /// One object a line, the same keys in the same order on every line, times in seconds.
    Json,
    Template(Arc<[Piece]>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// What a template can say. The first block are nginx's, with nginx's meaning; the second are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    RemoteAddr,
    RemotePort,
    RemoteUser,
    TimeLocal,
    TimeIso8601,
    Msec,
    Request,
    RequestMethod,
    RequestUri,
    ServerProtocol,
    Status,
    BodyBytesSent,
    BytesSent,
    HttpReferer,
    HttpUserAgent,
    /// In lower case and without its port.
    Host,
    /// As received.
    HttpHost,
    RequestId,
    RequestTime,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseTime,

    Route,
    Service,
    Endpoint,
    Why,
    Side,
    AddedTime,
    Attempts,
}

impl Variable {
    /// The variable of that name, without its `$`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "remote_addr" => Self::RemoteAddr,
            "remote_port" => Self::RemotePort,
            "remote_user" => Self::RemoteUser,
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso8601,
            "msec" => Self::Msec,
            "request" => Self::Request,
            "request_method" => Self::RequestMethod,
            "request_uri" => Self::RequestUri,
            "server_protocol" => Self::ServerProtocol,
            "status" => Self::Status,
            "body_bytes_sent" => Self::BodyBytesSent,
            "bytes_sent" => Self::BytesSent,
            "http_referer" => Self::HttpReferer,
            "http_user_agent" => Self::HttpUserAgent,
            "host" => Self::Host,
            "http_host" => Self::HttpHost,
            "request_id" => Self::RequestId,
            "request_time" => Self::RequestTime,
            "upstream_addr" => Self::UpstreamAddr,
            "upstream_status" => Self::UpstreamStatus,
            "upstream_response_time" => Self::UpstreamResponseTime,
            "route" => Self::Route,
            "service" => Self::Service,
            "endpoint" => Self::Endpoint,
            "why" => Self::Why,
            "side" => Self::Side,
            "added_time" => Self::AddedTime,
            "attempts" => Self::Attempts,
            _ => return None,
        })
    }
}

/// Writes one record and its newline.
pub(super) fn line(
    format: &Format,
    record: &Record<'_>,
    names: &Names,
    calendar: &mut Calendar,
    out: &mut Vec<u8>,
) {
    match format {
        Format::Combined => combined(record, calendar, out),
        Format::Json => json(record, names, calendar, out),
        Format::Template(pieces) => {
            for piece in pieces.iter() {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text),
                    Piece::Variable(variable) => value(*variable, record, names, calendar, out),
                }
            }
            out.push(b'\n');
        }
    }
}

/// `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`
fn combined(record: &Record<'_>, calendar: &mut Calendar, out: &mut Vec<u8>) {
    address(record, out);
    out.extend_from_slice(b" - ");
    user(record, out);
    out.extend_from_slice(b" [");
    out.extend_from_slice(calendar.at(record.time_us).local.as_bytes());
    out.extend_from_slice(b"] \"");
    request(record, out);
    out.extend_from_slice(b"\" ");
    status(record.status, out);
    out.push(b' ');
    number(record.body_bytes, out);
    out.extend_from_slice(b" \"");
    escaped(record.referer, out);
    out.extend_from_slice(b"\" \"");
    escaped(record.user_agent, out);
    out.extend_from_slice(b"\"\n");
}

fn value(variable: Variable, record: &Record<'_>, names: &Names, calendar: &mut Calendar, out: &mut Vec<u8>) {
    let name = |text: Option<&str>, out: &mut Vec<u8>| escaped(text.map(str::as_bytes), out);
    match variable {
        Variable::RemoteAddr => address(record, out),
        Variable::RemotePort => match record.peer {
            Some(peer) => number(u64::from(peer.port()), out),
            None => out.push(b'-'),
        },
        Variable::RemoteUser => user(record, out),
        Variable::TimeLocal => out.extend_from_slice(calendar.at(record.time_us).local.as_bytes()),
        Variable::TimeIso8601 => out.extend_from_slice(calendar.at(record.time_us).iso8601.as_bytes()),
        Variable::Msec => milliseconds(record.time_us, out),
        Variable::Request => request(record, out),
        Variable::RequestMethod => escaped(some(record.method), out),
        Variable::RequestUri => escaped(some(record.target), out),
        Variable::ServerProtocol => out.extend_from_slice(record.protocol.text().as_bytes()),
        Variable::Status => status(record.status, out),
        Variable::BodyBytesSent => number(record.body_bytes, out),
        Variable::BytesSent => number(record.sent_bytes, out),
        Variable::HttpReferer => escaped(record.referer, out),
        Variable::HttpUserAgent => escaped(record.user_agent, out),
        Variable::Host => {
            let start = out.len();
            escaped(record.host.map(without_port), out);
            out[start..].make_ascii_lowercase();
        }
        Variable::HttpHost => escaped(record.host, out),
        Variable::RequestId => escaped(some(record.request_id), out),
        Variable::RequestTime => milliseconds(record.duration_us, out),
        Variable::UpstreamAddr => {
            name(names.endpoint_text(record.endpoint).map(|(_, url)| host_of(url)), out)
        }
        Variable::UpstreamStatus => match record.upstream_status {
            0 => out.push(b'-'),
            code => status(code, out),
        },
        Variable::UpstreamResponseTime => match record.upstream_us {
            Some(time_us) => milliseconds(time_us, out),
            None => out.push(b'-'),
        },
        Variable::Route => name(names.route_text(record.route), out),
        Variable::Service => name(names.service_text(record.service), out),
        Variable::Endpoint => name(names.endpoint_text(record.endpoint).map(|(_, url)| url), out),
        Variable::Why => out.extend_from_slice(record.why.word().as_bytes()),
        Variable::Side => out.extend_from_slice(record.why.side().word().as_bytes()),
        Variable::AddedTime => microseconds(record.added_us, out),
        Variable::Attempts => number(u64::from(record.attempts), out),
    }
}

fn json(record: &Record<'_>, names: &Names, calendar: &mut Calendar, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(calendar.at(record.time_us).utc.as_bytes());
    fraction(record.time_us, out);
    out.extend_from_slice(b"Z\",\"request_id\":");
    json_string(some(record.request_id), out);
    out.extend_from_slice(b",\"remote_addr\":\"");
    address(record, out);
    out.extend_from_slice(b"\",\"method\":");
    json_string(some(record.method), out);
    out.extend_from_slice(b",\"host\":");
    json_string(record.host, out);
    out.extend_from_slice(b",\"target\":");
    json_string(some(record.target), out);
    out.extend_from_slice(b",\"protocol\":\"");
    out.extend_from_slice(record.protocol.text().as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    number(u64::from(record.status), out);
    out.extend_from_slice(b",\"body_bytes_sent\":");
    number(record.body_bytes, out);
    out.extend_from_slice(b",\"bytes_sent\":");
    number(record.sent_bytes, out);
    out.extend_from_slice(b",\"referer\":");
    json_string(record.referer, out);
    out.extend_from_slice(b",\"user_agent\":");
    json_string(record.user_agent, out);
    out.extend_from_slice(b",\"user\":");
    json_string(record.user, out);
    out.extend_from_slice(b",\"route\":");
    json_string(names.route_text(record.route).map(str::as_bytes), out);
    out.extend_from_slice(b",\"service\":");
    json_string(names.service_text(record.service).map(str::as_bytes), out);
    out.extend_from_slice(b",\"endpoint\":");
    json_string(names.endpoint_text(record.endpoint).map(|(_, url)| url.as_bytes()), out);
    out.extend_from_slice(b",\"upstream_status\":");
    match record.upstream_status {
        0 => out.extend_from_slice(b"null"),
        code => number(u64::from(code), out),
    }
    out.extend_from_slice(b",\"duration\":");
    microseconds(record.duration_us, out);
    out.extend_from_slice(b",\"upstream_time\":");
    match record.upstream_us {
        Some(time_us) => microseconds(time_us, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"added_time\":");
    microseconds(record.added_us, out);
    out.extend_from_slice(b",\"attempts\":");
    number(u64::from(record.attempts), out);
    out.extend_from_slice(b",\"why\":\"");
    out.extend_from_slice(record.why.word().as_bytes());
    out.extend_from_slice(b"\",\"side\":\"");
    out.extend_from_slice(record.why.side().word().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Who the token says it is; `-` for nobody, as nginx.
fn user(record: &Record<'_>, out: &mut Vec<u8>) {
    escaped(record.user.filter(|user| !user.is_empty()), out);
}

/// The client's address without its port; `unix:` on a Unix socket, as nginx.
fn address(record: &Record<'_>, out: &mut Vec<u8>) {
    match record.peer.map(|peer| peer.ip()) {
        Some(IpAddr::V4(address)) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(u64::from(octet), out);
            }
        }
        Some(IpAddr::V6(address)) => write!(out, "{address}").expect("a Vec takes all"),
        None => out.extend_from_slice(b"unix:"),
    }
}

/// The request line as received; `-` when nothing was.
fn request(record: &Record<'_>, out: &mut Vec<u8>) {
    if record.method.is_empty() {
        return escaped(some(record.target), out);
    }
    escaped(Some(record.method), out);
    out.push(b' ');
    escaped(Some(record.target), out);
    out.push(b' ');
    out.extend_from_slice(record.protocol.text().as_bytes());
}

fn some(bytes: &[u8]) -> Option<&[u8]> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// `[::1]` of `[::1]:8080`.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => &host[..colon],
        _ => host,
    }
}

/// `10.0.0.1:3000` of `http://10.0.0.1:3000/base`.
fn host_of(url: &str) -> &str {
    let Some((scheme, rest)) = url.split_once("://") else { return url };
    if scheme.contains("unix") { rest } else { rest.split('/').next().unwrap_or(rest) }
}

#[cfg(test)]
mod tests {
    use jiff::tz::{Offset, TimeZone};

    use super::*;
    use crate::observe::{Protocol, Why};

    fn record() -> Record<'static> {
        Record {
            time_us: 1_795_374_000_123_456,
            peer: Some("192.0.2.7:4711".parse().unwrap()),
            method: b"GET",
            target: b"/a?b=c",
            protocol: Protocol::Http11,
            host: Some(b"example.com"),
            referer: None,
            user: None,
            user_agent: Some(b"curl/8"),
            request_id: b"0199-77",
            status: 502,
            body_bytes: 157,
            sent_bytes: 300,
            route: 1,
            service: 1,
            endpoint: 1,
            upstream_status: 0,
            duration_us: 1_234_567,
            upstream_us: Some(1500),
            added_us: 15,
            attempts: 2,
            why: Why::ConnectRefused,
        }
    }

    fn check(format: &Format, record: &Record<'_>, expected: &str) {
        let mut names = Names::default();
        names.route("GET /a");
        let service = names.service("users");
        names.endpoint(service, "http://10.0.0.1:3000/base");
        let mut calendar = Calendar::new(TimeZone::fixed(Offset::from_seconds(3600).unwrap()));
        let mut out = Vec::new();
        line(format, record, &names, &mut calendar, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected.to_owned() + "\n");
    }

    fn template(variables: &[&str]) -> Format {
        let pieces = variables.iter().flat_map(|name| {
            [Piece::Text(Box::from(&b"|"[..])), Piece::Variable(Variable::named(name).unwrap())]
        });
        Format::Template(pieces.collect())
    }

    #[test]
    fn combined_is_as_nginx_writes_it() {
        check(
            &Format::Combined,
            &record(),
            r#"192.0.2.7 - - [22/Nov/2026:20:00:00 +0100] "GET /a?b=c HTTP/1.1" 502 157 "-" "curl/8""#,
        );
    }

    #[test]
    fn a_request_without_a_head_is_what_was_received_of_it() {
        let peer = Some("[2001:db8::1]:80".parse().unwrap());
        let none = Record { peer, method: b"", target: b"", status: 408, user_agent: None, ..record() };
        check(
            &Format::Combined,
            &none,
            r#"2001:db8::1 - - [22/Nov/2026:20:00:00 +0100] "-" 408 157 "-" "-""#,
        );
        check(
            &Format::Combined,
            &Record { peer: None, target: b"\x16\x03\x01", status: 0, ..none },
            r#"unix: - - [22/Nov/2026:20:00:00 +0100] "\x16\x03\x01" 000 157 "-" "-""#,
        );
    }

    #[test]
    fn values_are_escaped_as_nginx_escapes_them() {
        let odd = Record { user_agent: Some(b"a\"b\\c\x7f\xc3\xa4 \n"), referer: Some(b""), ..record() };
        check(
            &Format::Combined,
            &odd,
            r#"192.0.2.7 - - [22/Nov/2026:20:00:00 +0100] "GET /a?b=c HTTP/1.1" 502 157 "" "a\x22b\x5Cc\x7F\xC3\xA4 \x0A""#,
        );
    }

    #[test]
    fn variables_have_nginx_meaning() {
        check(
            &template(&["remote_addr", "remote_port", "remote_user", "time_iso8601", "msec", "request"]),
            &record(),
            "|192.0.2.7|4711|-|2026-11-22T20:00:00+01:00|1795374000.123|GET /a?b=c HTTP/1.1",
        );
        check(
            &template(&["request_method", "request_uri", "server_protocol", "status", "bytes_sent", "host"]),
            &record(),
            "|GET|/a?b=c|HTTP/1.1|502|300|example.com",
        );
        check(
            &template(&[
                "request_id",
                "request_time",
                "upstream_addr",
                "upstream_status",
                "upstream_response_time",
            ]),
            &record(),
            "|0199-77|1.234|10.0.0.1:3000|-|0.001",
        );
    }

    #[test]
    fn host_is_lower_case_without_its_port() {
        let format = template(&["host", "http_host"]);
        for (host, expected) in [
            ("Example.com:8080", "|example.com|Example.com:8080"),
            ("[2001:DB8::1]:80", "|[2001:db8::1]|[2001:DB8::1]:80"),
            ("[2001:db8::1]", "|[2001:db8::1]|[2001:db8::1]"),
        ] {
            check(&format, &Record { host: Some(host.as_bytes()), ..record() }, expected);
        }
    }

    #[test]
    fn our_own_variables_say_who_is_at_fault() {
        check(
            &template(&["route", "service", "endpoint", "why", "side", "added_time", "attempts"]),
            &record(),
            "|GET /a|users|http://10.0.0.1:3000/base|connect_refused|upstream|0.000015|2",
        );
        check(
            &template(&["route", "service", "endpoint", "upstream_addr", "upstream_response_time", "host"]),
            &Record { route: 0, service: 0, endpoint: 0, upstream_us: None, host: None, ..record() },
            "|-|-|-|-|-|-",
        );
    }

    #[test]
    fn json_has_every_key_on_every_line() {
        check(
            &Format::Json,
            &record(),
            "{\"time\":\"2026-11-22T19:00:00.123Z\",\"request_id\":\"0199-77\",\"remote_addr\":\"192.0.2.7\",\
             \"method\":\"GET\",\"host\":\"example.com\",\"target\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\
             \"status\":502,\"body_bytes_sent\":157,\"bytes_sent\":300,\"referer\":null,\"user_agent\":\"curl/8\",\"user\":null,\
             \"route\":\"GET /a\",\"service\":\"users\",\"endpoint\":\"http://10.0.0.1:3000/base\",\
             \"upstream_status\":null,\"duration\":1.234567,\"upstream_time\":0.001500,\"added_time\":0.000015,\
             \"attempts\":2,\"why\":\"connect_refused\",\"side\":\"upstream\"}",
        );
    }

    #[test]
    fn json_is_json_whatever_the_bytes() {
        let every: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        let odd = Record { target: &every, user_agent: Some(&every), host: None, ..record() };
        let mut calendar = Calendar::new(TimeZone::UTC);
        line(&Format::Json, &odd, &Names::default(), &mut calendar, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let target = value["target"].as_str().unwrap();
        assert!(target.starts_with("\0\u{1}") && target.contains("\"#$") && target.ends_with('\u{FFFD}'));
        assert_eq!(value["host"], serde_json::Value::Null);
        assert_eq!(value["route"], serde_json::Value::Null);
        assert_eq!(value.as_object().unwrap().len(), 23);
    }

    #[test]
    fn an_unknown_variable_has_no_value() {
        assert_eq!(Variable::named("cookie_session"), None);
    }
}
