//! Numbers for routes, services and endpoints, so that a shard counts without a string.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

/// The names in use, as the log thread and the metrics page read them.
///
/// Names are only added: a cell must be given the new names before the snapshot that uses them, and then any
/// number a shard writes can be read.
pub type NamesCell = ArcSwap<Names>;

/// No route, service or endpoint, or one beyond [`NAMES_MAX`]: shown as `other` or `-`.
pub const OTHER: u32 = 0;
/// Names of one kind; later ones share the number [`OTHER`].
pub const NAMES_MAX: usize = 65_536;

/// What the numbers in metrics and log records stand for. A name keeps its number as long as the process lives, over
/// every reload, so that a counter never starts again under the same label.
#[derive(Clone, Debug, Default)]
pub struct Names {
    routes: Table<Arc<str>>,
    services: Table<Arc<str>>,
    endpoints: Table<(u32, Arc<str>)>,
    /// By the number of their route.
    parts: Table<(u32, Arc<str>)>,
    auths: Table<Arc<str>>,
}

impl Names {
    /// The number of a route by its pattern as written. Registers it if it is new.
    pub fn route(&mut self, pattern: &str) -> u32 {
        self.routes.number(&Arc::from(pattern))
    }

    /// The number of a service by its name. Registers it if it is new.
    pub fn service(&mut self, name: &str) -> u32 {
        self.services.number(&Arc::from(name))
    }

    /// The number of an endpoint of the service `service`, by its URL. Registers it if it is new.
    pub fn endpoint(&mut self, service: u32, url: &str) -> u32 {
        self.endpoints.number(&(service, Arc::from(url)))
    }

    /// The number of a part of the route `route`, by its name. Registers it if it is new.
    pub fn part(&mut self, route: u32, name: &str) -> u32 {
        self.parts.number(&(route, Arc::from(name)))
    }

    /// The number of an issuer by its name in `[auth.NAME]`. Registers it if it is new.
    pub fn auth(&mut self, name: &str) -> u32 {
        self.auths.number(&Arc::from(name))
    }

    pub fn auth_text(&self, number: u32) -> Option<&str> {
        self.auths.name(number).map(AsRef::as_ref)
    }

    /// The pattern of a route; `None` for [`OTHER`] and numbers never given out.
    pub fn route_text(&self, number: u32) -> Option<&str> {
        self.routes.name(number).map(AsRef::as_ref)
    }

    pub fn service_text(&self, number: u32) -> Option<&str> {
        self.services.name(number).map(AsRef::as_ref)
    }

    /// The route and the name of a part.
    pub fn part_text(&self, number: u32) -> Option<(&str, &str)> {
        let (route, name) = self.parts.name(number)?;
        Some((self.route_text(*route).unwrap_or("other"), name))
    }

    /// The service and the URL of an endpoint.
    pub fn endpoint_text(&self, number: u32) -> Option<(&str, &str)> {
        let (service, url) = self.endpoints.name(number)?;
        Some((self.service_text(*service).unwrap_or("other"), url))
    }
}

#[derive(Clone, Debug)]
struct Table<T> {
    names: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { names: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn number(&mut self, name: &T) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.names.len() >= NAMES_MAX {
            return OTHER;
        }
        self.names.push(name.clone());
        let number = u32::try_from(self.names.len()).expect("NAMES_MAX fits in 32 bits");
        self.numbers.insert(name.clone(), number);
        number
    }

    fn name(&self, number: u32) -> Option<&T> {
        self.names.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = Names::default();
        let first = names.route("GET /a");
        let second = names.route("GET /b");
        assert_ne!(first, second);
        assert_eq!(names.route("GET /a"), first);
        assert_eq!(names.route_text(first), Some("GET /a"));
        assert_eq!(names.route_text(OTHER), None);
        assert_eq!(names.route_text(99), None);
    }

    #[test]
    fn the_same_url_in_two_services_is_two_endpoints() {
        let mut names = Names::default();
        let (users, orders) = (names.service("users"), names.service("orders"));
        let url = "http://10.0.0.1:3000";
        let (one, two) = (names.endpoint(users, url), names.endpoint(orders, url));
        assert_ne!(one, two);
        assert_eq!(names.endpoint_text(two), Some(("orders", url)));
    }

    #[test]
    fn names_beyond_the_bound_share_a_number() {
        let mut names = Names::default();
        for index in 0..NAMES_MAX {
            assert_ne!(names.route(&index.to_string()), OTHER);
        }
        assert_eq!(names.route("one more"), OTHER);
        assert_ne!(names.route("17"), OTHER);
    }
}
