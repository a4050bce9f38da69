//! Secure Boot, out of PCR 7 (Platform Firmware Profile 1.06, section 3.3.4.8): the policy that firmware
//! measures before it hands over, and the authorities by which images were then started.

use super::Unknown;
use super::layout::Layout;
use super::measurement::{Meaning, Measurement};
use crate::efi::{Content, Guid, Signature, one_signature, parse_signature_lists, x509_list};
use crate::pcr::QuotedPcrs;

/// The policy, in the order in which firmware measures it.
const POLICY: [(Guid, &str); 5] = [
    (Guid::GLOBAL, "SecureBoot"),
    (Guid::GLOBAL, "PK"),
    (Guid::GLOBAL, "KEK"),
    (Guid::IMAGE_SECURITY, "db"),
    (Guid::IMAGE_SECURITY, "dbx"),
];
/// An owner and a certificate.
const OWNER: usize = 16;

/// The policy that was in force when the first image was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureBoot {
    pub enabled: bool,
    /// Who may change the next.
    pub platform_keys: Vec<Signature>,
    /// Who may change the next two.
    pub exchange_keys: Vec<Signature>,
    /// db: what may start.
    pub allowed: Vec<Signature>,
    /// dbx: what may not.
    pub forbidden: Vec<Signature>,
    /// SHA-256 of the contents of dbx.
    pub forbidden_sha256: [u8; 32],
}

/// One use of a variable to decide that something may start, or what shim measures beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Place of the event in the log.
    pub event: usize,
    pub vendor: Guid,
    /// `db`, `Shim`, `MokListRT`, `SbatLevel`.
    pub variable: String,
    pub permission: Permission,
}

/// What an [`Authority`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// An image was started because of this certificate or digest.
    Signature {
        content: Content,
        /// The list that shim makes of a certificate of its own, as it measures it into PCR 14.
        list: Option<Vec<u8>>,
    },
    /// shim's revocation level.
    Sbat(String),
    /// shim's `MokListTrusted`: whether enrolled keys count for what the kernel verifies.
    MokListTrusted,
    /// Another variable of shim's: SHA-256 of its value.
    Other([u8; 32]),
}

/// Reads PCR 7. Authorities are those before and after firmware handed over.
pub(super) fn read<const N: usize>(
    measurements: &[Measurement<N>],
    quoted: &QuotedPcrs<N>,
    layout: &Layout,
) -> (Result<SecureBoot, Unknown>, Vec<Authority>) {
    if quoted.value(layout.policy).is_none() {
        let name = layout.policy_name();
        return (Err(Unknown(format!("{name} was not quoted"))), Vec::new());
    }
    let seven: Vec<&Measurement<N>> = measurements
        .iter()
        .filter(|one| one.pcr == layout.policy)
        .collect();
    let boundary = seven
        .iter()
        .position(|one| one.meaning == Meaning::Boundary)
        .unwrap_or(seven.len());
    let (before, after) = seven.split_at(boundary);
    // Firmware measures settings of its own before it hands over; they start nothing.
    let early = before.iter().filter_map(|one| authority(one));
    let early = early.filter(|one| matches!(one.permission, Permission::Signature { .. }));
    let authorities = early
        .chain(after.iter().filter_map(|one| authority(one)))
        .collect();
    (policy(before, after, layout), authorities)
}

/// Everything before the boundary has to be a sentence or a variable whose name and value were
/// measured, and each variable of the policy has to be there once. Whoever runs later can neither
/// write before the boundary nor give what stands there another name.
///
/// Where the register holds other PCRs as well, firmware's own blobs and tables stand beside the policy, whose
/// digests are not of what is logged. What of the policy is read is proven all the same, and firmware measures it
/// once.
fn policy<const N: usize>(
    before: &[&Measurement<N>],
    after: &[&Measurement<N>],
    layout: &Layout,
) -> Result<SecureBoot, Unknown> {
    let register = layout.policy_name();
    if after.is_empty() {
        return Err(Unknown(format!("{register} has no separator")));
    }
    if !layout.shared {
        only_policy(before)?;
    }
    if let Some(changed) = after
        .iter()
        .find(|one| name(one).is_some() && !is_authority(one))
    {
        return Err(Unknown(format!(
            "the policy was changed after it was measured, at {}",
            changed.title()
        )));
    }
    let value = |index: usize| -> Result<&[u8], Unknown> {
        let (_, wanted) = POLICY.get(index).copied().unwrap_or((Guid::GLOBAL, ""));
        let mut values = before
            .iter()
            .filter(|one| name(one) == Some(index) && !is_authority(one))
            .filter_map(|one| variable_value(one));
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(Unknown(format!(
                "{register} has no {wanted} before its separator"
            ))),
            (Some(_), Some(_)) => Err(Unknown(format!("{register} has {wanted} more than once"))),
        }
    };
    let list = |index| -> Result<Vec<Signature>, Unknown> {
        parse_signature_lists(value(index)?).map_err(|bad| Unknown(bad.to_string()))
    };
    let enabled = match value(0)? {
        [1] => true,
        [0] | [] => false,
        _ => return Err(Unknown("SecureBoot is neither 0 nor 1".to_owned())),
    };
    Ok(SecureBoot {
        enabled,
        platform_keys: list(1)?,
        exchange_keys: list(2)?,
        allowed: list(3)?,
        forbidden: list(4)?,
        forbidden_sha256: crypto::sha256(value(4)?),
    })
}

/// Nothing but sentences and variables is there, and the policy stands first.
fn only_policy<const N: usize>(before: &[&Measurement<N>]) -> Result<(), Unknown> {
    let first = before
        .iter()
        .find(|one| !matches!(one.meaning, Meaning::Action(_)));
    if first.and_then(|one| name(one)) != Some(0) {
        return Err(Unknown("PCR 7 does not begin with SecureBoot".to_owned()));
    }
    for one in before {
        if !matches!(one.meaning, Meaning::Action(_) | Meaning::Variable { .. }) {
            return Err(Unknown(format!("{} cannot be read", one.title())));
        }
    }
    Ok(())
}

/// Which variable of the policy a measurement is of.
fn name<const N: usize>(one: &Measurement<N>) -> Option<usize> {
    let Meaning::Variable { vendor, name, .. } = &one.meaning else {
        return None;
    };
    POLICY
        .iter()
        .position(|(guid, wanted)| guid == vendor && wanted == name)
}

fn variable_value<const N: usize>(one: &Measurement<N>) -> Option<&[u8]> {
    match &one.meaning {
        Meaning::Variable { value, .. } => Some(value),
        _ => None,
    }
}

/// The use of `db` is measured under the name of `db`, with one entry of it as its value. That is not
/// a list of signatures, as the variable itself is, so the two cannot be taken for one another.
fn is_authority<const N: usize>(one: &Measurement<N>) -> bool {
    matches!(name(one), Some(3 | 4))
        && variable_value(one).is_some_and(|value| {
            one_signature(value).is_some() && parse_signature_lists(value).is_err()
        })
}

fn authority<const N: usize>(one: &Measurement<N>) -> Option<Authority> {
    let Meaning::Variable {
        vendor,
        name: variable,
        value,
    } = &one.meaning
    else {
        return None;
    };
    let of_shim = *vendor == Guid::SHIM;
    let permission = match variable.as_str() {
        _ if is_authority(one) => signature(value)?,
        _ if name(one).is_some() || *vendor == Guid::GLOBAL => return None,
        "SbatLevel" if of_shim => sbat(value),
        "MokListTrusted" if of_shim && *value == [1] => Permission::MokListTrusted,
        _ => signature(value).unwrap_or_else(|| Permission::Other(crypto::sha256(value))),
    };
    Some(Authority {
        event: one.event,
        vendor: *vendor,
        variable: variable.clone(),
        permission,
    })
}

fn sbat(value: &[u8]) -> Permission {
    str::from_utf8(value).map_or_else(
        |_| Permission::Other(crypto::sha256(value)),
        |text| Permission::Sbat(text.to_owned()),
    )
}

fn signature(value: &[u8]) -> Option<Permission> {
    let content = one_signature(value)?;
    let certificate = match &content {
        Content::Certificate { sha256, .. } => [value, value.get(OWNER..).unwrap_or_default()]
            .into_iter()
            .find(|der| crypto::sha256(der) == *sha256),
        _ => None,
    };
    Some(Permission::Signature {
        list: certificate.and_then(x509_list),
        content,
    })
}
