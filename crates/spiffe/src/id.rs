//! SPIFFE IDs and trust domain names (SPIFFE-ID.md), parsed once into types that cannot be wrong.
//!
//! Nothing is normalised: what is not already in the one right form is refused.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID section 2.3: "implementations MUST support SPIFFE URIs up to 2048 bytes in length and
/// SHOULD NOT generate URIs of length greater than 2048 bytes".
const MAX_URI: usize = 2048;
/// Same section: "a maximum length of a trust domain name is 255 bytes".
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a text is no SPIFFE ID, or no trust domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a SPIFFE ID has at most {MAX_URI} bytes, this one {length}")]
    TooLong { length: usize },
    #[error("a SPIFFE ID starts with {SCHEME:?} in lower case")]
    Scheme,
    #[error("a trust domain name has 1 to {MAX_TRUST_DOMAIN} bytes of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    #[error(
        "a path is of '/'-separated segments of a-z, A-Z, 0-9, '.', '-' and '_', none of them \
         empty, \".\" or \"..\""
    )]
    Path,
}

/// The name of a trust domain: `example.org`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// # Errors
    /// [`IdError::TrustDomain`].
    pub fn new(name: &str) -> Result<Self, IdError> {
        // SPIFFE-ID section 2.1: "The `host` part of the authority MUST NOT be empty", "MUST be
        // lowercase", "MUST contain only letters, numbers, dots, dashes, and underscores
        // ([a-z0-9.-_])"; "The `userinfo` and `port` parts of the authority component MUST be empty".
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if (1..=MAX_TRUST_DOMAIN).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(IdError::TrustDomain)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the trust domain itself, without a path.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            uri: format!("{SCHEME}{}", self.0).into(),
            path_at: SCHEME.len() + self.0.len(),
        }
    }

    /// The identity at `path`, which has no leading slash: `payments/api`.
    ///
    /// # Errors
    /// [`IdError::Path`], [`IdError::TooLong`].
    pub fn identity(&self, path: &str) -> Result<SpiffeId, IdError> {
        format!("{SCHEME}{}/{path}", self.0).parse()
    }
}

/// A SPIFFE ID: a trust domain and a path, which may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    uri: Arc<str>,
    /// Where the path begins, at its slash.
    path_at: usize,
}

impl SpiffeId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_name().into())
    }

    #[must_use]
    pub fn trust_domain_name(&self) -> &str {
        self.uri.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_name() == trust_domain.as_str()
    }

    /// With its leading slash, or empty: `/payments/api`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.get(self.path_at..).unwrap_or_default()
    }

    /// Without its leading slash, as the estate writes identities: `payments/api`.
    #[must_use]
    pub fn identity_path(&self) -> &str {
        self.path().strip_prefix('/').unwrap_or_default()
    }

    /// True of the ID of a trust domain itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path().is_empty()
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(uri: &str) -> Result<Self, IdError> {
        if uri.len() > MAX_URI {
            return Err(IdError::TooLong { length: uri.len() });
        }
        // SPIFFE-ID section 2: "Valid SPIFFE IDs MUST have the scheme set to `spiffe`".
        let rest = uri.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let name = rest.split('/').next().unwrap_or_default();
        TrustDomain::new(name)?;
        // SPIFFE-ID section 2.2: "MUST NOT include segments that are empty or are relative path
        // modifiers", "MUST NOT include a trailing `/`", "Individual path segments MUST contain only
        // letters, numbers, dots, dashes, and underscores ([a-zA-Z0-9.-_])". Query, fragment and
        // percent signs are none of these characters.
        if rest.split('/').skip(1).all(is_segment) {
            Ok(Self {
                uri: uri.into(),
                path_at: SCHEME.len() + name.len(),
            })
        } else {
            Err(IdError::Path)
        }
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

as_text!(TrustDomain);
as_text!(SpiffeId);
