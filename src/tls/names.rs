//! Which certificate a client gets: by the name it asks for and the signatures it understands.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    SignatureScheme,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Offer, UnknownName};

/// One shard's certificates.
#[derive(Debug)]
pub(super) struct Names {
    /// By name; those for any first label by the rest, with its leading dot. Several with keys of different kinds may have one
    /// name.
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Names {
    pub(super) fn new(offer: &Offer, provider: &CryptoProvider) -> Result<Self, rustls::Error> {
        let mut by_name: HashMap<Box<str>, Vec<_>> = HashMap::new();
        let mut default = None;
        for certificate in &offer.certificates {
            let certified = Arc::new(certificate.certified(provider)?);
            for name in &certificate.names {
                let name = name.strip_prefix('*').unwrap_or(name);
                by_name.entry(name.into()).or_default().push(Arc::clone(&certified));
            }
            default.get_or_insert(certified);
        }
        let default = default.filter(|_| offer.unknown == UnknownName::Default);
        Ok(Self { by_name, default })
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let parent = || Some(&name[name.find('.')?..]);
            self.by_name.get(name).or_else(|| self.by_name.get(parent()?))
        });
        match named {
            Some(list) => {
                let understood = list.iter().find(|key| key.key.choose_scheme(schemes).is_some());
                understood.or_else(|| list.first()).cloned()
            }
            None => self.default.clone(),
        }
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::{Certificate, Version, certificate::testing::own, provider};

    fn names(unknown: UnknownName) -> (Names, Vec<Vec<u8>>) {
        let now = Duration::from_secs(1_767_225_600);
        let certificates: Vec<_> = [&["a.example"][..], &["b.example", "*.b.example"]]
            .into_iter()
            .map(|names| {
                let (cert, key) = own(names, 2020..2030);
                Arc::new(Certificate::new(&cert, &key, now, &provider()).unwrap())
            })
            .collect();
        let offer = Offer { certificates, min: Version::Tls12, unknown, clients: None };
        let leaf = |certificate: &Arc<Certificate>| {
            certificate.certified(&provider()).unwrap().cert[0].as_ref().to_vec()
        };
        let leaves = offer.certificates.iter().map(leaf).collect();
        (Names::new(&offer, &provider()).unwrap(), leaves)
    }

    #[test]
    fn the_name_chooses_and_the_policy_decides_about_unknown_ones() {
        let check = |name: Option<&str>, by_default: Option<usize>, strict: Option<usize>| {
            for (unknown, expected) in [(UnknownName::Default, by_default), (UnknownName::Reject, strict)] {
                let (names, leaves) = names(unknown);
                let found = names.find(name, &[SignatureScheme::ECDSA_NISTP256_SHA256]);
                let found = found.map(|key| key.cert[0].as_ref().to_vec());
                assert_eq!(found, expected.map(|index| leaves[index].clone()), "{name:?}");
            }
        };
        check(Some("a.example"), Some(0), Some(0));
        check(Some("b.example"), Some(1), Some(1));
        check(Some("x.b.example"), Some(1), Some(1));
        check(Some("x.y.b.example"), Some(0), None);
        check(Some("x.a.example"), Some(0), None);
        check(Some("c"), Some(0), None);
        check(None, Some(0), None);
    }
}
