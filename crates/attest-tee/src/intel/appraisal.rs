//! From a quote to a platform, and from a platform to what Intel says of it.

use super::pck::{Ca, Pck};
use super::quote::{Body, Quote};
use super::tcb::{Level, Tee};
use super::{Collateral, Roots, TcbPolicy, TcbStatus};
use crate::crl::title;
use crate::{Artefact, allow};
use attest::{Findings, x509};
use crypto::chain::{self, Kind};
use facts::{Finding, Timestamp};
use x509_parser::certificate::X509Certificate;

/// What a good quote's platform is worth.
#[derive(Debug, Clone)]
pub(crate) struct Appraised {
    pub(crate) pck: Pck,
    pub(crate) status: TcbStatus,
    pub(crate) date: String,
    pub(crate) advisories: Vec<String>,
    /// The older one of TCB info and identity.
    pub(crate) evaluation: u32,
}

/// Checks everything about a quote that does not depend on what runs in it.
pub(crate) fn appraise(
    quote: &Quote<'_>,
    collateral: &Collateral,
    roots: &Roots,
    policy: &TcbPolicy,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<Appraised> {
    collateral.check_time(now, findings);
    let tee = match quote.body {
        Body::Enclave(_) => Tee::Sgx,
        Body::Td(_) => Tee::Tdx,
    };
    let pck = authentic(quote, roots, now, Some(collateral), findings)?;
    let unfit = |observed: String| {
        Finding::new(
            "TEE-INTEL-COLLATERAL",
            "the collateral is not for this platform",
        )
        .expected(format!(
            "TCB info of {tee:?} for FMSPC {}, PCE {}",
            crypto::hex::encode(&pck.fmspc),
            crypto::hex::encode(&pck.pce_id),
        ))
        .observed(observed)
        .next(allow::to_fetch(
            "Intel's PCS",
            &Artefact::of_platform(tee == Tee::Tdx, pck.fmspc, pck.ca),
        ))
    };
    let info = &collateral.tcb_info;
    let fits = (info.fmspc, info.pce_id, info.tee) == (pck.fmspc, pck.pce_id, tee)
        && collateral.is_under(roots.der());
    if !fits {
        findings.push(unfit(format!(
            "TCB info of {:?} for FMSPC {}, PCE {}",
            info.tee,
            crypto::hex::encode(&info.fmspc),
            crypto::hex::encode(&info.pce_id),
        )));
        return None;
    }
    let level = level(quote, &pck, collateral, findings)?;
    let evaluation = info.evaluation.min(collateral.identity.evaluation);
    accept(&level, evaluation, policy, findings);
    Some(Appraised {
        pck,
        status: level.status,
        date: level.date,
        advisories: level.advisories,
        evaluation,
    })
}

/// The level of platform, quoting enclave and, for a trust domain, TDX module.
fn level(
    quote: &Quote<'_>,
    pck: &Pck,
    collateral: &Collateral,
    findings: &mut Findings,
) -> Option<Level> {
    let enclave = findings.take(collateral.identity.level(&quote.qe_report).map_err(|why| {
        Finding::new(
            "TEE-INTEL-QE-IDENTITY",
            "the quote is not by a quoting enclave of Intel's that counts",
        )
        .expected("signer, product, attributes and SVN of Intel's identity")
        .observed(why)
        .next("update the host's attestation software")
    }));
    let info = &collateral.tcb_info;
    let unlisted = |why: String| {
        Finding::new(
            "TEE-INTEL-TCB",
            "Intel lists no TCB level for this platform",
        )
        .expected("a level of the TCB info")
        .observed(why)
        .next("update the host's firmware; nothing in an estate allows a level that Intel does not list")
    };
    let platform = match &quote.body {
        Body::Enclave(_) => findings.take(info.level(pck, None).map_err(unlisted)),
        Body::Td(report) => {
            findings.take(info.judge_module(report).map_err(|why| {
                Finding::new(
                    "TEE-TDX-MODULE",
                    "the TDX module is not one that Intel signed for production",
                )
                .expected("signer and attributes of the TCB info")
                .observed(why)
                .next("update the host's TDX module")
            }));
            let launched = findings.take(info.level(pck, Some(&report.tcb_svn)).map_err(unlisted));
            match (launched, &report.current) {
                (Some(launched), Some((now, _))) => findings
                    .take(info.level(pck, Some(now)).map_err(unlisted))
                    .map(|now| Level {
                        status: launched.status.relaunch(now.status),
                        ..launched
                    }),
                (launched, _) => launched,
            }
        }
    };
    Some(platform?.with_part(enclave?))
}

fn accept(level: &Level, evaluation: u32, policy: &TcbPolicy, findings: &mut Findings) {
    let names = |statuses: &mut dyn Iterator<Item = &TcbStatus>| {
        statuses
            .map(|status| status.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let accepted = level.status != TcbStatus::Revoked && policy.accepted.contains(&level.status);
    findings.check(accepted, || {
        Finding::new("TEE-INTEL-TCB", "the platform's TCB is not accepted")
            .expected(format!("one of: {}", names(&mut policy.accepted.iter())))
            .observed(format!(
                "{} since {}; advisories {}",
                level.status,
                level.date,
                level.advisories.join(", ")
            ))
            .next(match level.status {
                TcbStatus::Revoked => {
                    "take the machine out of service; nothing allows what Intel revoked".to_owned()
                }
                status => format!(
                    "update the host's firmware, or accept \"{}\" in the estate's [[tee]]: \
                     `tcb_status = [{}]`",
                    status.name(),
                    policy
                        .accepted
                        .iter()
                        .chain([&status])
                        .map(|one| format!("\"{}\"", one.name()))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })
    });
    findings.check(evaluation >= policy.minimum_evaluation, || {
        Finding::new(
            "TEE-INTEL-EVALUATION",
            "the collateral is of an older TCB evaluation than is accepted",
        )
        .expected(format!("number {} or later", policy.minimum_evaluation))
        .observed(evaluation.to_string())
        .next(format!(
            "fetch the collateral again, with `update=early` if need be, or say `minimum_evaluation = {evaluation}` \
             in the estate's [[tee]]"
        ))
    });
}

/// Which platform made a quote, so that its collateral can be found. Nothing is known of revocation, of
/// the TCB, or of what runs there.
///
/// # Errors
/// What is wrong on the way from the quote to Intel's root.
pub fn platform(bytes: &[u8], roots: &Roots, now: Timestamp) -> Result<Pck, Vec<Finding>> {
    let quote = Quote::parse(bytes).map_err(|finding| vec![finding])?;
    let mut findings = Findings::new();
    match authentic(&quote, roots, now, None, &mut findings) {
        Some(pck) if findings.is_empty() => Ok(pck),
        _ => Err(findings.into_vec()),
    }
}

/// Checks the way from the quote to Intel's root: the attestation key signed the quote, the quoting
/// enclave vouches for that key, the PCK signed the enclave's report, Intel certified the PCK.
/// Without `collateral` nothing is known of revocation.
fn authentic(
    quote: &Quote<'_>,
    roots: &Roots,
    now: Timestamp,
    collateral: Option<&Collateral>,
    findings: &mut Findings,
) -> Option<Pck> {
    let point = [&[4], quote.attestation_key.as_slice()].concat();
    let good = chain::verify_fixed(Kind::P256, &point, quote.signed, &quote.signature);
    findings.check(good.is_ok(), || {
        Finding::new(
            "TEE-INTEL-SIGNATURE",
            "the quote's signature does not verify",
        )
        .expected("a signature by the attestation key in the quote")
        .next("send the quote as the quoting enclave returned it")
    });
    let mut vouched = crypto::Sha256::new();
    vouched.update(&quote.attestation_key);
    vouched.update(quote.qe_auth);
    let (data, zeros) = quote.qe_report.report_data.split_at(32);
    findings.check(
        data == vouched.finish() && zeros.iter().all(|byte| *byte == 0),
        || {
            Finding::new(
                "TEE-INTEL-QE-BINDING",
                "the quoting enclave does not vouch for the attestation key",
            )
            .expected("report data = SHA-256 of attestation key and authentication data")
            .observed(crypto::hex::encode(&quote.qe_report.report_data))
            .next(
                "send the quote as the quoting enclave returned it; nothing in an estate allows it",
            )
        },
    );
    let [leaf, intermediate, root] = quote.chain.as_slice() else {
        findings.push(broken("a chain that is not leaf, intermediate and root"));
        return None;
    };
    // The authority that signed the revocation list was checked when the collateral was opened.
    let known =
        collateral.is_some_and(|one| one.is_under(roots.der()) && one.is_issued_by(intermediate));
    if root != roots.der() {
        findings.push(broken("another root"));
        return None;
    }
    let parse = |der| x509::parse(der).map_err(broken);
    let leaf = findings.take(parse(leaf))?;
    let intermediate = findings.take(parse(intermediate))?;
    let root = findings.take(parse(root))?;
    findings.take(issued(&intermediate, &root, 1, known))?;
    findings.take(issued(&leaf, &intermediate, 0, false))?;
    for one in [&leaf, &intermediate, &root] {
        findings.check(x509::valid_at(one.validity(), now), || {
            let validity = one.validity();
            let name = title(one.subject());
            Finding::new(
                "TEE-INTEL-VALIDITY",
                format!("the certificate {name} is not valid now"),
            )
            .expected(format!("{} to {}", validity.not_before, validity.not_after))
            .observed(now.to_string())
            .next("check the server's clock")
        });
    }
    if let Some(collateral) = collateral {
        revocation(&leaf, &intermediate, collateral, findings);
    }
    let good = x509::key_kind(leaf.public_key()) == Some(Kind::P256)
        && chain::verify_fixed(
            Kind::P256,
            &leaf.public_key().subject_public_key.data,
            quote.qe_bytes,
            &quote.qe_signature,
        )
        .is_ok();
    findings.check(good, || {
        Finding::new(
            "TEE-INTEL-QE-SIGNATURE",
            "the platform did not sign the quoting enclave's report",
        )
        .expected("a signature by the key of the PCK certificate")
        .next("send the quote as the quoting enclave returned it; nothing in an estate allows it")
    });
    let ca = findings.take(
        Ca::named(&title(intermediate.subject()))
            .ok_or_else(|| broken("an intermediate that issues no PCK certificates")),
    )?;
    if leaf.is_ca() || title(leaf.subject()) != "Intel SGX PCK Certificate" {
        findings.push(broken("a leaf that is no PCK certificate"));
        return None;
    }
    findings.take(Pck::read(&leaf, ca).map_err(broken))
}

/// With `known` the signature was checked before.
fn issued(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    below: usize,
    known: bool,
) -> Result<(), Finding> {
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(broken("names that do not lead to the root"));
    }
    x509::may_certify(issuer, Some(below)).map_err(broken)?;
    if known {
        return Ok(());
    }
    x509::signed_by(certificate, issuer).map_err(broken)
}

fn broken(observed: &str) -> Finding {
    Finding::new(
        "TEE-INTEL-CHAIN",
        "the platform's certificate does not lead to Intel's root",
    )
    .expected("PCK certificate, its authority and the root of the references")
    .observed(observed)
    .next(
        "send the quote with the chain that the platform was provisioned with; of a laboratory's own authority, \
         declare a [[tee_root]] and name it as `root` of the estate's [[tee]]",
    )
}

fn revocation(
    leaf: &X509Certificate<'_>,
    intermediate: &X509Certificate<'_>,
    collateral: &Collateral,
    findings: &mut Findings,
) {
    findings.check(collateral.pck_crl.is_of(intermediate), || {
        Finding::new(
            "TEE-INTEL-COLLATERAL",
            "the revocation list is of another authority",
        )
        .expected(title(intermediate.subject()))
        .observed(format!("{:?}", collateral.ca()))
        .next("fetch the list of the authority that issued the quote's PCK certificate")
    });
    for (revoked, certificate) in [
        (collateral.pck_crl.revokes(leaf), leaf),
        (collateral.root_crl.revokes(intermediate), intermediate),
    ] {
        findings.check(!revoked, || {
            Finding::new("TEE-INTEL-REVOKED", "Intel revoked this certificate")
                .observed(format!(
                    "{}, serial {}",
                    title(certificate.subject()),
                    certificate.raw_serial_as_string()
                ))
                .next("take the machine out of service")
        });
    }
}
