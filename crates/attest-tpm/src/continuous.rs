//! Attestation that goes on after a join: each answer is a quote by the same attestation key and what is
//! new in the IMA list since the last one.
//!
//! What a good answer proves: the machine is in the boot that it proved when it joined; the PCRs that say
//! what booted have not changed; and everything that its kernel measured since may run, if somebody says
//! what may. Who asks, how often, and what follows a refusal is the server's.
//!
//! Pure: no I/O, no clock.

use crate::attested::{Attested, Body};
use crate::boot::{PHASES, gone_on};
use crate::counted::Counted;
use crate::ima::{Progress, References, Round, Sent, round};
use crate::join::{Boot, Proven};
use crate::keys::SigningKey;
use crate::pcr::{PcrSelection, QuotedPcrs};
use crate::quote;
use attest::Findings;
use crypto::{PublicKey, hex};
use facts::{Finding, Timestamp};

/// IMA's, which the list is compared with.
const LISTED: u32 = 10;

/// What a machine has proved so far. Made of a join, and by [`verify`] of what follows.
#[derive(Debug, Clone)]
pub struct Standing {
    key: PublicKey,
    boot: Boot,
    /// As it was signed last.
    counted: Counted,
    /// As the join quoted them: what booted.
    booted: QuotedPcrs,
    /// As they were quoted last.
    pcrs: QuotedPcrs,
    list: Option<Progress>,
    /// The last moment at which every file of the list may run; absent if that is for ever.
    until: Option<Timestamp>,
}

/// What a machine answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// `TPMS_ATTEST` of the quote.
    pub quote: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub quote_signature: Vec<u8>,
    /// Ascending, as many as were asked for.
    pub pcr_values: Vec<Vec<u8>>,
    /// Index of the first entry of `ima_list`.
    pub ima_first: u64,
    /// `binary_runtime_measurements` from that entry on; empty when nothing is new.
    pub ima_list: Vec<u8>,
}

impl Standing {
    /// What a join proved; `list` is what was found of its IMA list.
    #[must_use]
    pub fn of(proven: &Proven, list: &Round) -> Self {
        Self {
            key: proven.attestation_key.clone(),
            boot: proven.boot,
            counted: Counted::from(&proven.quoted),
            booted: proven.quoted.pcrs.clone(),
            pcrs: proven.quoted.pcrs.clone(),
            list: list.progress(),
            until: list.until(),
        }
    }

    /// What a join had proved, from the evidence of its affirmed verdict. Nothing is verified again but
    /// that the values are those of the quote: it is for who has kept them. The list begins anew.
    /// `pcr_values` are those of the quote, one behind the other.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE` if they cannot be read, or do not belong together.
    pub fn kept(ak_public: &[u8], quote: &[u8], pcr_values: &[u8]) -> Result<Self, Finding> {
        let unreadable = |observed: &str| {
            Finding::new(
                "ATTEST-EVIDENCE",
                "what the machine proved when it joined cannot be read back",
            )
            .expected("the attestation key, quote and PCR values of an affirmed verdict")
            .observed(observed)
            .next("let the machine join or renew")
        };
        let key = SigningKey::attestation(ak_public).map_err(|_| unreadable("its key"))?;
        let parsed = Attested::parse(quote).map_err(|_| unreadable("its quote"))?;
        let Body::Quote { selections, digest } = &parsed.body else {
            return Err(unreadable("a structure that is no quote"));
        };
        let [selection] = selections.as_slice() else {
            return Err(unreadable("a quote of several banks"));
        };
        let selection =
            PcrSelection::new(&selection.indices()).map_err(|_| unreadable("its PCRs"))?;
        let values: Vec<Vec<u8>> = pcr_values.chunks(32).map(<[u8]>::to_vec).collect();
        let pcrs = QuotedPcrs::new(&selection, &values)
            .filter(|_| {
                let expected = selection.digest(&values);
                expected.is_some_and(|expected| digest.as_slice() == expected)
            })
            .ok_or_else(|| unreadable("values of another quote"))?;
        Ok(Self {
            key: key.key,
            boot: Boot::from(parsed.clock),
            counted: Counted::from(&parsed),
            booted: pcrs.clone(),
            pcrs,
            list: None,
            until: None,
        })
    }

    #[must_use]
    pub const fn boot(&self) -> Boot {
        self.boot
    }

    /// What the chip counted when it signed last.
    #[must_use]
    pub const fn counted(&self) -> Counted {
        self.counted
    }

    /// The same, of a chip that is known to have counted `later` since.
    #[must_use]
    pub fn having_counted(self, later: Counted) -> Self {
        let mut counted = self.counted;
        if Boot::from(later.clock) == self.boot && later.clock.clock > counted.clock.clock {
            counted.clock = later.clock;
        }
        counted.firmware = counted.firmware.max(later.firmware);
        Self { counted, ..self }
    }

    /// As the join quoted them: by these it is judged what booted. PCR 11 may have gone on since.
    #[must_use]
    pub const fn booted(&self) -> &QuotedPcrs {
        &self.booted
    }

    /// As they were quoted last.
    #[must_use]
    pub const fn pcrs(&self) -> &QuotedPcrs {
        &self.pcrs
    }

    /// How far the list is verified.
    #[must_use]
    pub const fn list(&self) -> Option<&Progress> {
        self.list.as_ref()
    }

    /// The same, its list to be judged anew from the beginning.
    #[must_use]
    pub fn anew(self) -> Self {
        Self {
            list: None,
            until: None,
            ..self
        }
    }

    /// Whether some file of the list may run no more at `now`, as far as was said when it was judged: the
    /// list is to be judged anew.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

/// Judges an answer to `nonce` at `now`: what stands after it, and what it said of the list.
///
/// PCR 11 may go on by the words that systemd extends as the boot goes on; every other PCR that was quoted
/// before and now, PCR 10 apart, has the value that it had.
///
/// # Errors
/// What the verification of a quote finds; `ATTEST-REBOOTED` if the TPM counts another boot;
/// what [`Counted::since`] finds; `ATTEST-PCR-CHANGED` for each PCR; what [`round`] finds of the list.
pub fn verify(
    answer: &Answer,
    nonce: &[u8; 32],
    selection: &PcrSelection,
    before: &Standing,
    references: Option<&References>,
    now: Timestamp,
) -> Result<(Standing, Round), Vec<Finding>> {
    let quoted = quote::verify(
        &answer.quote,
        &answer.quote_signature,
        &before.key,
        nonce,
        selection,
        &answer.pcr_values,
    )?;
    let boot = Boot::from(quoted.clock);
    if boot != before.boot {
        return Err(vec![rebooted(before.boot, boot)]);
    }
    let mut findings = Findings::new();
    let counted = Counted::from(&quoted);
    for finding in counted.since(&before.counted) {
        findings.push(finding);
    }
    let known = before.pcrs.iter().filter(|(pcr, _)| *pcr != LISTED);
    for (pcr, was) in known {
        let Some(is) = quoted.pcrs.value(pcr) else {
            continue;
        };
        let goes_on = is == was || (pcr == PHASES && gone_on(was, is).is_some());
        findings.check(goes_on, || changed(pcr, was, is));
    }
    if !findings.is_empty() {
        return Err(findings.into_vec());
    }
    let sent = Sent {
        first: answer.ima_first,
        list: &answer.ima_list,
    };
    let round = round(sent, &quoted, before.list.as_ref(), references, now)?;
    let earlier = before.list.and(before.until);
    let standing = Standing {
        key: before.key.clone(),
        boot,
        counted,
        booted: before.booted.clone(),
        pcrs: quoted.pcrs,
        list: round.progress(),
        until: [earlier, round.until()].into_iter().flatten().min(),
    };
    Ok((standing, round))
}

fn rebooted(was: Boot, is: Boot) -> Finding {
    let shown = |boot: Boot| format!("reset {} restart {}", boot.reset_count, boot.restart_count);
    Finding::new(
        "ATTEST-REBOOTED",
        "the machine has booted again and not proved what it booted",
    )
    .expected(shown(was))
    .observed(shown(is))
    .next("let the node agent join again")
}

fn changed(pcr: u32, was: &[u8; 32], is: &[u8; 32]) -> Finding {
    Finding::new(
        "ATTEST-PCR-CHANGED",
        format!("PCR {pcr} has changed since the machine joined"),
    )
    .expected(hex::encode(was))
    .observed(hex::encode(is))
    .next("find out what extended it: only PCR 10 grows, and PCR 11 by systemd's words")
}
