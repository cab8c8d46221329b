//! `[tls]`: certificates, and which clients may come.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::read::{self, Fields};
use crate::{
    config::{
        CertificateFiles, Tls, keys,
        load::World,
        problem::Problems,
        raw::{Entry, Table, Value, Word},
    },
    tls::{Certificate, Clients, Offer, UnknownName, Version, authorities, provider},
};

/// Certificates in all.
const CERTIFICATES_MAX: usize = 10_000;
const VERSIONS: [(&str, Version); 2] = [("1.2", Version::Tls12), ("1.3", Version::Tls13)];
const UNKNOWN: [(&str, UnknownName); 2] =
    [("default", UnknownName::Default), ("reject", UnknownName::Reject)];

/// What listeners offer; `None` without the table. `files` gets every file that was read for it, or should have been.
pub(super) fn read(
    entry: Option<&Entry>,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<Tls> {
    let table = read::table(entry?, problems)?;
    let fields = Fields::new(table, &keys::TLS, problems);
    let mut certificates = vec![certificate(table, entry?, world, files, problems)];
    if let Some(also) = fields.get("also") {
        for node in also.node.items().iter().take(CERTIFICATES_MAX) {
            let Value::Table(table) = &node.value else {
                read::wrong_kind("also", "a list of tables with cert and key", node, problems);
                continue;
            };
            let _ = Fields::new(table, &keys::CERTIFICATE, problems);
            certificates.push(certificate(table, also, world, files, problems));
        }
    }
    let min = fields.or("min", Version::Tls12, |entry| read::one_of(entry, &VERSIONS, problems));
    let unknown = fields.or("unknown", UnknownName::Default, |entry| read::one_of(entry, &UNKNOWN, problems));
    let clients = fields.get("clients").and_then(|entry| clients(entry, world, files, problems));
    let (ca, clients) = clients.unzip();
    let certificates: Option<Vec<_>> = certificates.into_iter().collect();
    let (files, certificates) = certificates?.into_iter().unzip();
    Some(Tls { offer: Offer { certificates, min, unknown, clients }, files, ca })
}

/// The certificate and key that a table names.
fn certificate(
    table: &Table,
    entry: &Entry,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<(CertificateFiles, Arc<Certificate>)> {
    let mut file = |key: &str| {
        let Some(found) = table.get(key) else {
            problems
                .error(format!("TLS needs a `{key}`"))
                .at(entry.key.at(), "write cert = \"/etc/tls/site.pem\", key = \"/etc/tls/site.key\"");
            return None;
        };
        let word = read::string_for(found, "a file", problems)?;
        Some((word, text(word, world, files, problems)))
    };
    // Both are looked at, so that one run shows every mistake.
    let (cert, key) = (file("cert"), file("key"));
    let ((cert, cert_text), (key, key_text)) = (cert?, key?);
    let (cert_text, key_text) = (cert_text?, key_text?);
    match Certificate::new(&cert_text, &key_text, world.now, &provider()) {
        Ok(certificate) => {
            if certificate.lacks_chain() {
                problems.warning(format!("{} has a certificate without its chain", cert.shown())).at(
                    cert.at(),
                    "append the certificates that lead to its authority, or many clients will not trust it",
                );
            }
            let files = CertificateFiles { cert: cert.as_str().into(), key: key.as_str().into() };
            Some((files, Arc::new(certificate)))
        }
        Err(bad) => {
            let word = if bad.is_about_key() { key } else { cert };
            problems.error(format!("{} {bad}", word.shown())).at(word.at(), bad.remedy());
            None
        }
    }
}

fn clients(
    entry: &Entry,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<(PathBuf, Clients)> {
    let table = read::table(entry, problems)?;
    let fields = Fields::new(table, &keys::TLS_CLIENTS, problems);
    let require = fields.or("require", true, |entry| read::boolean(entry, problems));
    let Some(ca) = fields.get("ca") else {
        let remark = "write ca = \"/etc/tls/clients.pem\"";
        problems.error("`clients` needs the authorities' certificates").at(entry.key.at(), remark);
        return None;
    };
    let (path, authorities) = authorities_of(ca, world, files, problems)?;
    Some((path, Clients { authorities, require }))
}

/// The certificates of authorities in the file a key names.
pub(super) fn authorities_of(
    entry: &Entry,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<(PathBuf, Arc<[rustls::pki_types::CertificateDer<'static>]>)> {
    let word = read::string_for(entry, "a file", problems)?;
    match authorities(&text(word, world, files, problems)?) {
        Ok(found) => Some((word.as_str().into(), found.into())),
        Err(bad) => {
            problems
                .error(format!("{} {bad}", word.shown()))
                .at(word.at(), "write the authorities' certificates, one after the other");
            None
        }
    }
}

/// The text of a file.
fn text(
    word: Word<'_>,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<String> {
    let path = Path::new(word.as_str());
    files.push(path.to_owned());
    match (world.read)(path) {
        Ok(text) => Some(text),
        Err(error) => {
            let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
                "let the user read it as whom the gateway runs"
            } else if error.kind() == io::ErrorKind::InvalidData {
                "it is not PEM: openssl x509 -inform DER -in … -out … makes it so"
            } else {
                ""
            };
            problems.error(format!("cannot read {}: {error}", word.shown())).at(word.at(), remedy);
            None
        }
    }
}

/// Reads the files of a running configuration again. A file that is not good now keeps what it had; the second value says why.
pub(in crate::config) fn refresh(tls: &Tls, world: &World<'_>) -> (Tls, Vec<String>) {
    let mut fresh = tls.clone();
    let mut problems = Vec::new();
    let read =
        |path: &Path| (world.read)(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    for (files, certificate) in tls.files.iter().zip(&mut fresh.offer.certificates) {
        let result =
            read(&files.cert).and_then(|cert| Ok((cert, read(&files.key)?))).and_then(|(cert, key)| {
                Certificate::new(&cert, &key, world.now, &provider()).map_err(|bad| {
                    let file = if bad.is_about_key() { &files.key } else { &files.cert };
                    format!("{} {bad}; {}", file.display(), bad.remedy())
                })
            });
        match result {
            Ok(found) => *certificate = Arc::new(found),
            Err(problem) => problems.push(problem),
        }
    }
    if let (Some(ca), Some(clients)) = (&tls.ca, &mut fresh.offer.clients) {
        match read(ca).and_then(|text| authorities(&text).map_err(|bad| format!("{} {bad}", ca.display()))) {
            Ok(found) => clients.authorities = found.into(),
            Err(problem) => problems.push(problem),
        }
    }
    (fresh, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::load::testing::load_files, tls::testing::own};

    const REST: &str = "listen = 'https://:443'\n[routes]\n'/' = 'http://a'\n";

    /// What is wrong with `[tls]`, besides good files `a.pem`, `a.key` and `b.pem`, `b.key`.
    #[track_caller]
    fn check(tls: &str, expected: &[&str]) -> Option<Tls> {
        let ((a, a_key), (b, b_key)) = (own(&["a"], 2020..2030), own(&["b"], 2020..2030));
        let text = format!("tls = {{ {tls} }}\n{REST}");
        let files =
            [("config.toml", &*text), ("a.pem", &a), ("a.key", &a_key), ("b.pem", &b), ("b.key", &b_key)];
        let (brief, tls) = match load_files(&files) {
            Ok(loaded) => (loaded.warnings.brief(), loaded.config.tls),
            Err(problems) => (problems.brief(), None),
        };
        assert_eq!(brief, expected);
        tls
    }

    const A: &str = "cert = '/etc/c/a.pem', key = '/etc/c/a.key'";

    #[test]
    fn everything_has_a_default_but_the_files() {
        let tls = check(A, &[]).unwrap();
        assert_eq!((tls.offer.min, tls.offer.unknown), (Version::Tls12, UnknownName::Default));
        assert!(tls.offer.clients.is_none());

        let all = format!(
            "{A}, min = '1.3', unknown = 'reject', clients = {{ ca = '/etc/c/b.pem', require = false }}, \
             also = [{{ cert = '/etc/c/b.pem', key = '/etc/c/b.key' }}]"
        );
        let tls = check(&all, &[]).unwrap();
        assert_eq!((tls.offer.min, tls.offer.unknown), (Version::Tls13, UnknownName::Reject));
        let clients = tls.offer.clients.unwrap();
        assert_eq!((clients.require, clients.authorities.len()), (false, 1));
        let names: Vec<_> = tls.offer.certificates.iter().map(|certificate| &*certificate.names[0]).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_file() {
        let example = "write cert = \"/etc/tls/site.pem\", key = \"/etc/tls/site.key\"";
        check("cert = '/etc/c/a.pem'", &[&format!("tls -> TLS needs a `key` [{example}]")]);
        check(
            "cert = '/etc/c/a.pem', key = '/etc/c/b.key'",
            &["/etc/c/b.key -> /etc/c/b.key has the key of another certificate \
               [compare `openssl x509 -pubkey -noout -in CERT` with `openssl pkey -pubout -in KEY`]"],
        );
        check(
            "cert = '/etc/c/a.key', key = '/etc/c/a.pem'",
            &["/etc/c/a.key -> /etc/c/a.key has a private key where a certificate is wanted \
               [are `cert` and `key` the wrong way round?]"],
        );
        check(
            "cert = '/etc/c/x.pem', key = '/etc/c/a.key'",
            &["/etc/c/x.pem -> cannot read /etc/c/x.pem: entity not found"],
        );
        check(&format!("{A}, min = '1.1'"), &["1.1 -> `min` cannot be `1.1` [did you mean `1.2`?]"]);
        check(&format!("{A}, unknown = true"), &["true -> `unknown` must be a string, not a boolean"]);
        check(
            &format!("{A}, clients = {{}}"),
            &[
                "clients -> `clients` needs the authorities' certificates [write ca = \"/etc/tls/clients.pem\"]",
            ],
        );
        check(
            &format!("{A}, also = ['/etc/c/b.pem']"),
            &["'/etc/c/b.pem' -> `also` must be a list of tables with cert and key, not a string"],
        );
        check(
            &format!("{A}, ciphers = 'all'"),
            &["ciphers -> unknown key `ciphers` in [tls] [known are cert, key, min, also, unknown, clients]"],
        );
    }
}
