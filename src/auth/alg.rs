//! Signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1).

use std::fmt;

/// An algorithm we verify. `none` is not one of them, and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alg {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Alg {
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The algorithm of this name, which is case-sensitive (RFC 7515 §4.1.1). `Ed25519` is RFC 9864's name for EdDSA with that curve.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"HS256" => Self::Hs256,
            b"HS384" => Self::Hs384,
            b"HS512" => Self::Hs512,
            b"RS256" => Self::Rs256,
            b"RS384" => Self::Rs384,
            b"RS512" => Self::Rs512,
            b"PS256" => Self::Ps256,
            b"PS384" => Self::Ps384,
            b"PS512" => Self::Ps512,
            b"ES256" => Self::Es256,
            b"ES384" => Self::Es384,
            b"EdDSA" | b"Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A set of algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Algs(u16);

impl Algs {
    pub const NONE: Self = Self(0);
    /// Those whose keys are secrets.
    pub const SYMMETRIC: Self = Self::NONE.with(Alg::Hs256).with(Alg::Hs384).with(Alg::Hs512);
    pub const RSA: Self = Self::NONE
        .with(Alg::Rs256)
        .with(Alg::Rs384)
        .with(Alg::Rs512)
        .with(Alg::Ps256)
        .with(Alg::Ps384)
        .with(Alg::Ps512);
    /// Those whose keys may be published.
    pub const ASYMMETRIC: Self = Self::RSA.with(Alg::Es256).with(Alg::Es384).with(Alg::EdDsa);

    #[must_use]
    pub const fn with(self, alg: Alg) -> Self {
        Self(self.0 | 1 << alg as u8)
    }

    pub const fn contains(self, alg: Alg) -> bool {
        self.0 & (1 << alg as u8) != 0
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Alg> {
        Alg::ALL.into_iter().filter(move |alg| self.contains(*alg))
    }
}

/// Their names, separated by commas.
impl fmt::Display for Algs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, alg) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", alg.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Algs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for alg in Alg::ALL {
            assert_eq!(Alg::named(alg.name().as_bytes()), Some(alg));
            assert_eq!(Alg::named(alg.name().to_ascii_lowercase().as_bytes()), None);
        }
        for name in ["none", "None", "NONE", "nOnE", "", "HS1", "ES512", "ES256K", "RSA1_5", "dir", "HS256 "]
        {
            assert_eq!(Alg::named(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn secrets_and_public_keys_have_no_algorithm_in_common() {
        assert!(Algs::SYMMETRIC.and(Algs::ASYMMETRIC).is_empty());
        let all = Alg::ALL.into_iter().fold(Algs::NONE, Algs::with);
        assert_eq!(all.iter().count(), Algs::SYMMETRIC.iter().count() + Algs::ASYMMETRIC.iter().count());
    }
}
