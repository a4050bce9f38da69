//! Does the receipt in an SVID prove the issuance of that very SVID?
//!
//! A receipt is public: whoever sees one can copy it. So everything that the record says is compared
//! with what the SVID says. Whether the checkpoint lies on the chain of checkpoints that one
//! follows is asked by the caller, who has followed them: [`VerifiedIssuance::receipt`] holds it.

use crate::jwt::ValidatedJwt;
use crate::x509::ValidatedSvid;
use facts::Finding;
use ledger::body::{Issuance, SvidKind};
use ledger::{LedgerKey, Receipt, RecordType, VerifiedReceipt};

/// A recorded issuance, and the receipt that proves the record.
#[derive(Debug, Clone)]
pub struct VerifiedIssuance {
    pub issuance: Issuance,
    /// With its index and the checkpoint that its signature was verified for.
    pub receipt: VerifiedReceipt,
}

/// Checks the receipt in an X.509-SVID of one's own trust domain.
///
/// # Errors
/// `SVID-RECEIPT-MISSING`, `SVID-RECEIPT-MALFORMED`, `SVID-RECEIPT-LEDGER`, `SVID-RECEIPT-TYPE`,
/// `SVID-RECEIPT-TBS`, `SVID-RECEIPT-KEY`, `SVID-RECEIPT-ISSUER`, `SVID-RECEIPT-ID`,
/// `SVID-RECEIPT-SERIAL`, `SVID-RECEIPT-VALIDITY`.
pub fn check(svid: &ValidatedSvid, ledger: &LedgerKey) -> Result<VerifiedIssuance, Finding> {
    let verified = open(svid.receipt.as_deref(), ledger)?;
    is_of(&verified.issuance, svid)?;
    Ok(verified)
}

/// Whether `issuance` is that of this very SVID.
///
/// # Errors
/// As [`check`], of the record alone.
pub(crate) fn is_of(issuance: &Issuance, svid: &ValidatedSvid) -> Result<(), Finding> {
    expect_kind(issuance, SvidKind::X509)?;
    same_digest(
        "SVID-RECEIPT-KEY",
        "the receipt is for another key",
        &issuance.key.0,
        &svid.public_key.spki_sha256(),
    )?;
    expect_subject(issuance, svid.spiffe_id.as_str(), &svid.serial)?;
    expect_validity(
        issuance,
        svid.not_before.as_secs(),
        svid.not_after.as_secs(),
    )?;
    expect_issuer(issuance, &svid.issuer_spki_sha256)?;
    expect_tbs(issuance, &svid.tbs_without_receipt_sha256)
}

/// Checks the receipt in a JWT-SVID of one's own trust domain. The record's key is that of the
/// caller who asked for the token, of which the token says nothing.
///
/// # Errors
/// As [`check`], without `SVID-RECEIPT-KEY`.
pub fn check_jwt(svid: &ValidatedJwt, ledger: &LedgerKey) -> Result<VerifiedIssuance, Finding> {
    let verified = open(svid.receipt.as_deref(), ledger)?;
    let issuance = &verified.issuance;
    expect_kind(issuance, SvidKind::Jwt)?;
    let serial = svid.id.as_deref().unwrap_or_default();
    expect_subject(issuance, svid.spiffe_id.as_str(), serial)?;
    let issued_at = svid.issued_at.unwrap_or(svid.expires_at);
    expect_validity(issuance, issued_at.as_secs(), svid.expires_at.as_secs())?;
    expect_issuer(issuance, &svid.issuer_spki_sha256.unwrap_or_default())?;
    expect_tbs(issuance, &svid.input_without_receipt_sha256)?;
    Ok(verified)
}

/// Decodes the receipt, verifies it under `ledger`, and reads the issuance in it.
fn open(receipt: Option<&[u8]>, ledger: &LedgerKey) -> Result<VerifiedIssuance, Finding> {
    let bytes = receipt.ok_or_else(|| {
        Finding::new("SVID-RECEIPT-MISSING", "the SVID carries no receipt")
            .expected("a receipt of the ledger of this trust domain")
            .next("an SVID that was not recorded is not accepted; find out who signed it")
    })?;
    let receipt = Receipt::decode(bytes).map_err(|error| {
        Finding::new(
            "SVID-RECEIPT-MALFORMED",
            "the SVID's receipt does not decode",
        )
        .observed(error.to_string())
    })?;
    let receipt = receipt.verify(ledger).map_err(|error| {
        Finding::new(
            "SVID-RECEIPT-LEDGER",
            "the SVID's receipt does not verify under the ledger of this trust domain",
        )
        .expected(ledger.origin().to_string())
        .observed(with_sources(&error))
    })?;
    let kind = receipt.record.kind();
    let issuance = receipt.record.body_as::<Issuance>().ok();
    let Some(issuance) = issuance.filter(|_| kind == RecordType::Issuance) else {
        return Err(
            Finding::new("SVID-RECEIPT-TYPE", "the receipt is for no issuance")
                .expected(RecordType::Issuance.as_str())
                .observed(kind.as_str()),
        );
    };
    Ok(VerifiedIssuance { issuance, receipt })
}

fn expect_kind(issuance: &Issuance, kind: SvidKind) -> Result<(), Finding> {
    if issuance.kind == kind {
        return Ok(());
    }
    Err(Finding::new(
        "SVID-RECEIPT-TYPE",
        "the receipt is for another kind of SVID",
    )
    .expected(format!("{kind:?}"))
    .observed(format!("{:?}", issuance.kind)))
}

fn expect_subject(issuance: &Issuance, id: &str, serial: &str) -> Result<(), Finding> {
    if issuance.spiffe_id != id {
        return Err(
            Finding::new("SVID-RECEIPT-ID", "the receipt is for another identity")
                .expected(id)
                .observed(&issuance.spiffe_id),
        );
    }
    if issuance.serial != serial {
        return Err(
            Finding::new("SVID-RECEIPT-SERIAL", "the receipt is for another SVID")
                .expected(serial)
                .observed(&issuance.serial),
        );
    }
    Ok(())
}

/// All in Unix seconds.
fn expect_validity(issuance: &Issuance, not_before: u64, not_after: u64) -> Result<(), Finding> {
    if (issuance.not_before, issuance.not_after) == (not_before, not_after) {
        return Ok(());
    }
    Err(
        Finding::new("SVID-RECEIPT-VALIDITY", "the receipt is for another time")
            .expected(format!("{not_before} to {not_after}"))
            .observed(format!("{} to {}", issuance.not_before, issuance.not_after)),
    )
}

fn expect_issuer(issuance: &Issuance, issuer: &[u8; 32]) -> Result<(), Finding> {
    same_digest(
        "SVID-RECEIPT-ISSUER",
        "the receipt is for another issuer's signature",
        &issuance.issuer.0,
        issuer,
    )
}

fn expect_tbs(issuance: &Issuance, tbs: &[u8; 32]) -> Result<(), Finding> {
    same_digest(
        "SVID-RECEIPT-TBS",
        "the receipt is for an SVID with other content",
        &issuance.tbs.0,
        tbs,
    )
}

fn same_digest(
    code: &'static str,
    message: &str,
    recorded: &[u8; 32],
    computed: &[u8; 32],
) -> Result<(), Finding> {
    if recorded == computed {
        return Ok(());
    }
    Err(Finding::new(code, message)
        .expected(format!("sha256 {}", crypto::hex::encode(computed)))
        .observed(format!("sha256 {}", crypto::hex::encode(recorded))))
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
