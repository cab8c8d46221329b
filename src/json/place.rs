//! Where in the merged document a part's JSON goes.

use super::{
    path::{BadPath, Path, Step},
    write,
};

/// `at`, checked. Made when the snapshot is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its members become members of the root: `at = "."`.
    Root,
    /// It becomes a member: the names to it from the root, at least one.
    Under(Box<[Name]>),
    /// It is only an input: `at = false`.
    Hidden,
}

/// A member's name between its quotes, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    pub fn new(name: &str) -> Self {
        let mut written = Vec::with_capacity(name.len());
        write::escape(name, &mut written);
        Self(written.into())
    }

    pub(super) const fn written(&self) -> &[u8] {
        &self.0
    }

    /// For messages: as it is written between quotes.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Place {
    /// Parses `at`: `.`, or names as in a [`Path`].
    pub fn parse(at: &str) -> Result<Self, BadPath> {
        if at == "." {
            return Ok(Self::Root);
        }
        let path = Path::parse(at)?;
        if path.steps().is_empty() {
            return Err(BadPath { at: 0, what: "a name is missing; `.` is the root" });
        }
        let names = path.steps().iter().map(|step| match step {
            Step::Member(name) => Ok(Name::new(name)),
            Step::Element(_) | Step::Each => Err(BadPath { at: 0, what: "a place is made of names" }),
        });
        Ok(Self::Under(names.collect::<Result<_, _>>()?))
    }

    /// Under one name, whatever is in it.
    pub fn under(name: &str) -> Self {
        Self::Under([Name::new(name)].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_root_or_names() {
        assert_eq!(Place::parse("."), Ok(Place::Root));
        assert_eq!(Place::parse("a"), Ok(Place::under("a")));
        assert_eq!(Place::parse("a.b"), Ok(Place::Under([Name::new("a"), Name::new("b")].into())));
        assert_eq!(Place::parse(r#"["a.b"]"#), Ok(Place::under("a.b")));
        assert_eq!(Name::new("a\"\n").written(), br#"a\"\n"#);
        for bad in ["", "a[0]", "a[*]", "a..b"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
