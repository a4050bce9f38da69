//! The documents of collateral one at a time: whether each is what was asked for, and leads to the root.
//! Together they are [`super::Collateral`], which also says what the lists revoke.

use super::collateral::{self, LONGEST_CHAIN, LONGEST_JSON};
use super::tcb::Tee;
use super::{Ca, Roots};
use crate::artefact::Window;
use crate::crl::Crl;
use attest::x509;
use facts::Timestamp;
use x509_parser::certificate::X509Certificate;

/// # Errors
/// What is wrong with it, in words; so of the others.
pub(crate) fn tcb_info_window(
    text: &str,
    chain: &str,
    roots: &Roots,
    (tdx, fmspc): (bool, [u8; 6]),
    now: Timestamp,
) -> Result<Window, String> {
    short(text, chain)?;
    let (root, signing) = (x509::parse(roots.der())?, collateral::first(chain)?);
    let signer = collateral::signer(&signing, &root, None)?;
    valid([&signer, &root], now)?;
    let info = collateral::tcb_info(text, &signer)?;
    if info.tee != tee(tdx) || info.fmspc != fmspc {
        return Err("TCB info of other platforms".to_owned());
    }
    span(info.issued, info.next_update)
}

pub(crate) fn identity_window(
    text: &str,
    chain: &str,
    roots: &Roots,
    tdx: bool,
    now: Timestamp,
) -> Result<Window, String> {
    short(text, chain)?;
    let (root, signing) = (x509::parse(roots.der())?, collateral::first(chain)?);
    let signer = collateral::signer(&signing, &root, None)?;
    valid([&signer, &root], now)?;
    let identity = collateral::identity(text, &signer)?;
    if identity.tee != tee(tdx) {
        return Err("the identity of another enclave".to_owned());
    }
    span(identity.issued, identity.next_update)
}

pub(crate) fn pck_list_window(
    der: &[u8],
    chain: &str,
    roots: &Roots,
    ca: Ca,
    now: Timestamp,
) -> Result<Window, String> {
    short("", chain)?;
    let (root, issuing) = (x509::parse(roots.der())?, collateral::first(chain)?);
    let issuer = collateral::issuer(&issuing, &root, None)?;
    valid([&issuer, &root], now)?;
    let (of, list) = collateral::pck_list(der, &issuer)?;
    if of != ca {
        return Err("the list of another authority".to_owned());
    }
    Ok(list.span())
}

pub(crate) fn root_list_window(der: &[u8], roots: &Roots) -> Result<Window, String> {
    Ok(Crl::open(der, &x509::parse(roots.der())?)?.span())
}

const fn tee(tdx: bool) -> Tee {
    if tdx { Tee::Tdx } else { Tee::Sgx }
}

fn short(text: &str, chain: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST_JSON || chain.len() > LONGEST_CHAIN {
        return Err("longer than collateral is");
    }
    Ok(())
}

fn valid(chain: [&X509Certificate<'_>; 2], now: Timestamp) -> Result<(), &'static str> {
    if chain.iter().all(|one| x509::valid_at(one.validity(), now)) {
        return Ok(());
    }
    Err("a certificate above it is not valid now")
}

fn span(from: Timestamp, to: Timestamp) -> Result<Window, String> {
    let seconds = |at: Timestamp| i64::try_from(at.as_secs()).map_err(|_| "a time out of reach");
    Ok((seconds(from)?, seconds(to)?))
}
