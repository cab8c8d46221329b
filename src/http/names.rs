//! Names of fields that are not what clients may say.

/// Names of header fields that only the gateway may set. Clients' fields of these names are left out, also when they are spelled
/// with `_` for `-`, which many services read as the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNames {
    /// In lower case.
    names: Vec<Box<[u8]>>,
    /// A bit for each length there is; most fields are told apart by it.
    lengths: u64,
}

impl FieldNames {
    pub fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut all = Self::default();
        for name in names {
            let name = name.to_ascii_lowercase().into_bytes().into_boxed_slice();
            if !all.names.contains(&name) {
                all.lengths |= bit(name.len());
                all.names.push(name);
            }
        }
        all
    }

    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.lengths & bit(name.len()) != 0 && self.has(name)
    }

    fn has(&self, name: &[u8]) -> bool {
        let same =
            |(byte, ours): (&u8, &u8)| byte.to_ascii_lowercase() == *ours || (*byte, *ours) == (b'_', b'-');
        self.names.iter().any(|ours| ours.len() == name.len() && name.iter().zip(ours).all(same))
    }
}

const fn bit(length: usize) -> u64 {
    1 << (length % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_it_is_spelled() {
        let names = FieldNames::new(["X-User", "X-Roles", "x-user"].into_iter());
        for name in ["X-User", "x-user", "X_User", "x_USER", "X-ROLES"] {
            assert!(names.contains(name.as_bytes()), "{name}");
        }
        for name in ["X-Use", "X-Users", "XXUser", "X User", "", "X-Rolex"] {
            assert!(!names.contains(name.as_bytes()), "{name}");
        }
        assert!(!FieldNames::default().contains(b""));
    }
}
