//! `TPMT_PUBLIC` (Part 2, section 12.2.4): the public area of a key, and its name.
//!
//! Only asymmetric keys. Whether a key is one that Trilith accepts is for `ek` and `keys` to say.

use crate::wire::{Malformed, Reader};
use std::fmt;

pub(crate) const SHA1: u16 = 0x0004;
pub(crate) const SHA256: u16 = 0x000b;
pub(crate) const SHA384: u16 = 0x000c;
pub(crate) const NULL: u16 = 0x0010;
pub(crate) const AES: u16 = 0x0006;
pub(crate) const CFB: u16 = 0x0043;
pub(crate) const ECDSA: u16 = 0x0018;
pub(crate) const NIST_P256: u16 = 0x0003;
const RSA: u16 = 0x0001;
pub(crate) const ECC: u16 = 0x0023;
const RSAES: u16 = 0x0015;
const ECDAA: u16 = 0x001a;

/// `TPMA_OBJECT` (Part 2, section 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    pub const FIXED_TPM: Self = Self(1 << 1);
    pub const FIXED_PARENT: Self = Self(1 << 4);
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    pub const RESTRICTED: Self = Self(1 << 16);
    pub const DECRYPT: Self = Self(1 << 17);
    pub const SIGN: Self = Self(1 << 18);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::FIXED_TPM, "fixedTPM"),
        (Self::FIXED_PARENT, "fixedParent"),
        (Self::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Self::USER_WITH_AUTH, "userWithAuth"),
        (Self::ADMIN_WITH_POLICY, "adminWithPolicy"),
        (Self::RESTRICTED, "restricted"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
    ];

    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The names that TCG gives the bits, joined by `|`; bits without a name as hexadecimal.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut separator = "";
        for (attribute, name) in Self::NAMES {
            if self.contains(attribute) {
                rest &= !attribute.0;
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        if rest != 0 || separator.is_empty() {
            write!(f, "{separator}{rest:#x}")?;
        }
        Ok(())
    }
}

/// `TPM2B_NAME` of an object whose name algorithm is SHA-256: 0x000b and the digest of its public
/// area (Part 1, section 16).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u8; 34]);

impl Name {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut name = [0; 34];
        let (algorithm, digest) = name.split_at_mut(2);
        algorithm.copy_from_slice(&SHA256.to_be_bytes());
        digest.copy_from_slice(&crypto::sha256(bytes));
        Self(name)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The qualified name of a primary key in the hierarchy with this handle (Part 1, section 16).
    pub(crate) fn qualified(&self, hierarchy: u32) -> Self {
        Self::of(&[&hierarchy.to_be_bytes(), self.as_bytes()].concat())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crypto::hex::encode(&self.0))
    }
}

/// Algorithm and hash of a scheme; `NULL` has no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    pub algorithm: u16,
    pub hash: Option<u16>,
}

/// Algorithm, key bits and mode of a storage key's symmetric cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symmetric {
    pub algorithm: u16,
    pub bits: u16,
    pub mode: u16,
}

/// The key itself, with the parameters of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Rsa {
        symmetric: Option<Symmetric>,
        scheme: Scheme,
        bits: u16,
        /// 0 stands for 65537.
        exponent: u32,
        modulus: Vec<u8>,
    },
    Ecc {
        symmetric: Option<Symmetric>,
        scheme: Scheme,
        curve: u16,
        kdf: Scheme,
        x: Vec<u8>,
        y: Vec<u8>,
    },
}

/// A parsed `TPMT_PUBLIC` with the bytes it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    pub name_algorithm: u16,
    pub attributes: Attributes,
    pub policy: Vec<u8>,
    pub key: Key,
    bytes: Vec<u8>,
}

impl Public {
    /// # Errors
    /// [`Malformed`] if `bytes` are not exactly one `TPMT_PUBLIC` of an RSA or elliptic-curve key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("TPMT_PUBLIC", bytes)?;
        let kind = reader.u16("type")?;
        let name_algorithm = reader.u16("nameAlg")?;
        let attributes = Attributes(reader.u32("objectAttributes")?);
        let policy = reader.sized(64, "authPolicy")?.to_vec();
        let key = match kind {
            RSA => rsa(&mut reader)?,
            ECC => ecc(&mut reader)?,
            _ => return Err(reader.malformed("type is neither RSA nor ECC")),
        };
        reader.finish()?;
        Ok(Self {
            name_algorithm,
            attributes,
            policy,
            key,
            bytes: bytes.to_vec(),
        })
    }

    /// The bytes that were parsed: what the name is the digest of.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name of the object, if its name algorithm is SHA-256. No other is in use here.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        (self.name_algorithm == SHA256).then(|| Name::of(&self.bytes))
    }
}

fn rsa(reader: &mut Reader<'_>) -> Result<Key, Malformed> {
    Ok(Key::Rsa {
        symmetric: symmetric(reader)?,
        scheme: scheme(reader)?,
        bits: reader.u16("keyBits")?,
        exponent: reader.u32("exponent")?,
        modulus: reader.sized(512, "unique.rsa")?.to_vec(),
    })
}

fn ecc(reader: &mut Reader<'_>) -> Result<Key, Malformed> {
    Ok(Key::Ecc {
        symmetric: symmetric(reader)?,
        scheme: scheme(reader)?,
        curve: reader.u16("curveID")?,
        kdf: scheme(reader)?,
        x: reader.sized(66, "unique.ecc.x")?.to_vec(),
        y: reader.sized(66, "unique.ecc.y")?.to_vec(),
    })
}

/// `TPMT_SYM_DEF_OBJECT` (Part 2, section 11.1.7).
fn symmetric(reader: &mut Reader<'_>) -> Result<Option<Symmetric>, Malformed> {
    let algorithm = reader.u16("symmetric")?;
    if algorithm == NULL {
        return Ok(None);
    }
    Ok(Some(Symmetric {
        algorithm,
        bits: reader.u16("symmetric.keyBits")?,
        mode: reader.u16("symmetric.mode")?,
    }))
}

/// `TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME` or `TPMT_KDF_SCHEME` (Part 2, section 11.2).
fn scheme(reader: &mut Reader<'_>) -> Result<Scheme, Malformed> {
    let algorithm = reader.u16("scheme")?;
    let hash = match algorithm {
        NULL | RSAES => None,
        ECDAA => return Err(reader.malformed("scheme ECDAA")),
        _ => Some(reader.u16("scheme.hashAlg")?),
    };
    Ok(Scheme { algorithm, hash })
}
