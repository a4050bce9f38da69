//! What a PCK certificate says of its platform (PCK Certificate and CRL Profile, section 1.3.5).

use attest::x509::der::{self, INTEGER, SEQUENCE};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;

const EXTENSION: Oid<'static> = oid!(1.2.840.113741.1.13.1);
const OCTETS: u8 = 0x04;
const IDENTIFIER: u8 = 0x06;
/// 1.2.840.113741.1.13.1 in DER: every item inside is `ARC.n`.
const ARC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

/// A platform, as Intel certified its PCK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pck {
    /// Platform provisioning id: the machine.
    pub ppid: [u8; 16],
    /// The SVN of each SGX TCB component.
    pub components: [u8; 16],
    pub pce_svn: u16,
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform type, custom SKU: which TCB info is meant.
    pub fmspc: [u8; 6],
    pub ca: Ca,
}

/// Which of Intel's authorities issued the PCK certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ca {
    Platform,
    Processor,
}

impl Ca {
    /// By the common name that its certificate has.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "Intel SGX PCK Platform CA" => Some(Self::Platform),
            "Intel SGX PCK Processor CA" => Some(Self::Processor),
            _ => None,
        }
    }

    /// As bundles and commands write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }

    pub(crate) fn by_word(word: &str) -> Option<Self> {
        [Self::Platform, Self::Processor]
            .into_iter()
            .find(|one| one.word() == word)
    }

    pub(crate) const fn endorsement(self) -> &'static str {
        match self {
            Self::Platform => "pck-platform",
            Self::Processor => "pck-processor",
        }
    }
}

impl Pck {
    pub(super) fn read(certificate: &X509Certificate<'_>, ca: Ca) -> Result<Self, &'static str> {
        let extension = certificate
            .extensions()
            .iter()
            .find(|one| one.oid == EXTENSION)
            .ok_or("no SGX extension")?;
        parse(extension.value, ca).ok_or("an SGX extension that cannot be read")
    }
}

fn parse(bytes: &[u8], ca: Ca) -> Option<Pck> {
    let (mut items, rest) = der::take(SEQUENCE, bytes)?;
    if !rest.is_empty() {
        return None;
    }
    let (mut ppid, mut tcb, mut pce_id, mut fmspc) = (None, None, None, None);
    while !items.is_empty() {
        let (name, value, rest) = item(items)?;
        items = rest;
        match name {
            [1] => set(&mut ppid, octets(value)?)?,
            [2] => set(&mut tcb, levels(value)?)?,
            [3] => set(&mut pce_id, octets(value)?)?,
            [4] => set(&mut fmspc, octets(value)?)?,
            // SGX type, platform instance, configuration: nothing here depends on them.
            _ => {}
        }
    }
    let (components, pce_svn) = tcb?;
    Some(Pck {
        ppid: ppid?,
        components,
        pce_svn,
        pce_id: pce_id?,
        fmspc: fmspc?,
        ca,
    })
}

/// The TCB: sixteen component SVNs and PCESVN, each exactly once; CPUSVN repeats them.
fn levels(bytes: &[u8]) -> Option<([u8; 16], u16)> {
    let (mut items, rest) = der::take(SEQUENCE, bytes)?;
    if !rest.is_empty() {
        return None;
    }
    let mut components = [None; 16];
    let mut pce_svn = None;
    while !items.is_empty() {
        let (name, value, rest) = item(items)?;
        items = rest;
        match name {
            [2, 17] => set(&mut pce_svn, integer(value)?)?,
            [2, 18] => {}
            [2, number @ 1..=16] => {
                let slot = components.get_mut(usize::from(*number) - 1)?;
                set(slot, u8::try_from(integer(value)?).ok()?)?;
            }
            _ => return None,
        }
    }
    let mut complete = [0; 16];
    for (to, from) in complete.iter_mut().zip(components) {
        *to = from?;
    }
    Some((complete, pce_svn?))
}

/// One `SEQUENCE { OBJECT IDENTIFIER ARC.name, value }`: name, value, and what follows.
fn item(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (content, rest) = der::take(SEQUENCE, bytes)?;
    let (identifier, value) = der::take(IDENTIFIER, content)?;
    Some((identifier.strip_prefix(ARC)?, value, rest))
}

fn octets<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let (content, rest) = der::take(OCTETS, bytes)?;
    rest.is_empty().then_some(*content.as_array()?)
}

/// A number of 16 bits that is not negative.
fn integer(bytes: &[u8]) -> Option<u16> {
    let (content, rest) = der::take(INTEGER, bytes)?;
    let number = match content {
        [small @ ..=0x7f] => u16::from(*small),
        [0, byte @ 0x80..=0xff] => u16::from(*byte),
        [high @ 1..=0x7f, low] => u16::from_be_bytes([*high, *low]),
        [0, high @ 0x80..=0xff, low] => u16::from_be_bytes([*high, *low]),
        _ => return None,
    };
    rest.is_empty().then_some(number)
}

/// Fills the slot, once.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn numbers_have_one_spelling() {
        for (bytes, number) in [
            (&[2, 1, 0][..], 0),
            (&[2, 1, 127], 127),
            (&[2, 2, 0, 255], 255),
            (&[2, 2, 1, 0], 256),
            (&[2, 3, 0, 0xff, 0xff], 0xffff),
        ] {
            assert_eq!(integer(bytes), Some(number));
        }
        for bytes in [
            &[2, 1, 128][..],
            &[2, 2, 0, 127],
            &[2, 3, 0, 1, 0],
            &[2, 3, 1, 0, 0],
            &[2, 0],
            &[2, 1, 0, 0],
            &[4, 1, 0],
        ] {
            assert_eq!(integer(bytes), None, "{bytes:?}");
        }
    }
}
