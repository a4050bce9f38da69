//! Does the receipt in a token prove the record of that very delegation?
//!
//! Whether its checkpoint lies on the chain of checkpoints that one follows is asked by the caller, as for SVIDs.

use super::token::Presented;
use super::terms::Terms;
use facts::Finding;
use ledger::body::Delegation;
use ledger::{LedgerKey, Receipt, RecordType, VerifiedReceipt};

/// A token that was presented, and the receipt that proves its record.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub terms: Terms,
    pub delegation: Delegation,
    /// With its index and the checkpoint that its signature was verified for.
    pub receipt: VerifiedReceipt,
}

impl Presented {
    /// # Errors
    /// `DELEGATION-TOKEN-RECEIPT`.
    pub fn recorded(self, ledger: &LedgerKey) -> Result<Recorded, Finding> {
        let (delegation, receipt) = self.open(ledger)?;
        let jti = self.terms.last().map(|link| link.jti.to_string());
        let same = Delegation {
            jti: jti.unwrap_or_default(),
            tbs: ledger::Digest(self.input_without_receipt_sha256),
            issuer: ledger::Digest(self.issuer_spki_sha256),
            chain: self.terms.principals().map(ToString::to_string).collect(),
            // What it says beside follows from these.
            ..delegation.clone()
        };
        if same != delegation {
            return Err(wrong("it is for another delegation")
                .expected(same.tbs.to_string())
                .observed(delegation.tbs.to_string()));
        }
        Ok(Recorded {
            terms: self.terms,
            delegation,
            receipt,
        })
    }

    fn open(&self, ledger: &LedgerKey) -> Result<(Delegation, VerifiedReceipt), Finding> {
        let bytes = self.receipt.as_deref().ok_or_else(|| {
            wrong("there is none").next("a token that was not recorded counts for nothing; find out who signed it")
        })?;
        let receipt = Receipt::decode(bytes)
            .map_err(|error| wrong("it does not decode").observed(error.to_string()))?;
        let receipt = receipt.verify(ledger).map_err(|error| {
            wrong("it does not verify under the ledger of this trust domain")
                .expected(ledger.origin().to_string())
                .observed(error.to_string())
        })?;
        let kind = receipt.record.kind();
        let body = receipt.record.body_as::<Delegation>().ok();
        let Some(body) = body.filter(|_| kind == RecordType::Delegation) else {
            return Err(wrong("it is for another kind of record")
                .expected(RecordType::Delegation.as_str())
                .observed(kind.as_str()));
        };
        Ok((body, receipt))
    }
}

fn wrong(what: &str) -> Finding {
    Finding::new("DELEGATION-TOKEN-RECEIPT", format!("the receipt in the delegation token: {what}"))
}
