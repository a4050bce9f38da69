//! The hardware that machines run in, as `recheck::tee` judges it, with the endorsements that this server has or may
//! ask for.

mod fetching;
mod standing;

pub(super) use fetching::fetched;
pub(super) use recheck::tee::Question;
pub(crate) use recheck::tee::{Offered, Vouching};
pub(crate) use standing::{Standing, stands};

use crate::current::Current;
use crate::endorsements::{AtHand, Endorsements};
use crate::refusal::Refusal;
use attest::Evidence as Blob;
use attest_tee::Bundle;
use attest_tee::endorsed::{Endorsed, lacks_endorsement};
use endorsements::Want;
use estate::{Estate, TeeKind, TeeReference, TeeRoot};
use facts::{Finding, Timestamp};
use proto::v1;
use recheck::tee::{self, Asked, Endorses};
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

/// Quotes have some 5 KiB; what the agent collects has these limits as well.
const LONGEST_REPORT: usize = 32 * 1024;
const LONGEST_AUXILIARY: usize = 64 * 1024;
const LONGEST_EVENT_LOG: usize = 1 << 20;

/// What a machine shows, within limits.
///
/// # Errors
/// `TEE-EVIDENCE-SIZE`.
pub(super) fn offered(evidence: Option<v1::TeeEvidence>) -> Result<Option<Offered>, Refusal> {
    let Some(evidence) = evidence else {
        return Ok(None);
    };
    for (what, length, most) in [
        ("report", evidence.report.len(), LONGEST_REPORT),
        ("auxiliary", evidence.auxiliary.len(), LONGEST_AUXILIARY),
        ("event_log", evidence.event_log.len(), LONGEST_EVENT_LOG),
    ] {
        if length > most {
            return Err(Refusal::Invalid(
                Finding::new(
                    "TEE-EVIDENCE-SIZE",
                    "a field of the hardware's evidence is too long",
                )
                .expected(format!("{what} of at most {most} bytes"))
                .observed(format!("{length} bytes"))
                .next("send the evidence as the hardware returned it; nothing in an estate allows more"),
            ));
        }
    }
    let kind = TeeKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == evidence.kind);
    Ok(Some(Offered {
        kind,
        report: evidence.report,
        auxiliary: evidence.auxiliary,
        event_log: evidence.event_log,
    }))
}

/// Why evidence is refused, and what to keep of it.
pub(crate) struct Refused {
    pub(crate) findings: Vec<Finding>,
    pub(super) blobs: Vec<(&'static str, Vec<u8>)>,
    /// What a vendor may be asked for, if it lacks endorsements alone.
    wants: Vec<Want>,
}

impl Refused {
    /// Whether something is known against the machine, and not only too little for it.
    pub(crate) fn accuses(&self) -> bool {
        let missing = |finding: &Finding| finding.code == "TEE-MISSING";
        !lacks_endorsement(&self.findings) && !self.findings.iter().all(missing)
    }

    /// Keeps with the evidence what was asked; without evidence nothing is kept.
    pub(super) fn judged_for(&mut self, asked: &[Blob<'static>]) {
        if !self.blobs.is_empty() {
            let asked = asked.iter().cloned();
            let asked = asked.map(|blob| (blob.kind, blob.bytes.into_owned()));
            self.blobs.extend(asked);
        }
    }

    /// Its findings, and the evidence that they were found in.
    pub(super) fn into_parts(self) -> (Vec<Finding>, Vec<(&'static str, Vec<u8>)>) {
        (self.findings, self.blobs)
    }
}

impl From<Finding> for Refused {
    fn from(finding: Finding) -> Self {
        tee::Refused::from(finding).into()
    }
}

impl From<tee::Refused> for Refused {
    fn from(refused: tee::Refused) -> Self {
        Self {
            findings: refused.findings,
            blobs: refused.blobs,
            wants: Vec::new(),
        }
    }
}

/// What this server has, and what of it was looked for.
struct Has<'a> {
    endorsements: &'a Endorsements,
    /// Read when it is first needed.
    at_hand: OnceCell<AtHand>,
    /// Whether vendors may be asked for what is lacking.
    asks: bool,
    sought: RefCell<Option<(Vec<Want>, Arc<Bundle>)>>,
}

impl<'a> Has<'a> {
    fn of(endorsements: &'a Endorsements, asks: bool) -> Self {
        Self {
            endorsements,
            at_hand: OnceCell::new(),
            asks,
            sought: RefCell::default(),
        }
    }

    fn at_hand(&self) -> &AtHand {
        self.at_hand.get_or_init(|| self.endorsements.now())
    }
}

impl Endorses for Has<'_> {
    fn bundle(
        &self,
        offered: &Offered,
        reference: &TeeReference,
        root: Option<&TeeRoot>,
        now: Timestamp,
    ) -> Result<Arc<Bundle>, Finding> {
        if !self.asks {
            return Ok(Arc::clone(&self.at_hand().bundle));
        }
        let wants = fetching::wants(offered, reference, root, now, self.endorsements)?;
        let bundle = self.endorsements.with(&self.at_hand().bundle, &wants, now);
        *self.sought.borrow_mut() = Some((wants, Arc::clone(&bundle)));
        Ok(bundle)
    }

    fn problem(&self) -> Option<Finding> {
        self.at_hand().problem.clone()
    }
}

/// The verdict about what a machine of `ring` shows, as [`tee::judge`]. For threads of the pool.
///
/// # Errors
/// As [`tee::judge`], with those endorsements that are not at hand, if it lacks endorsements alone.
pub(super) fn judge(
    offered: Option<&Offered>,
    question: &Question<'_>,
    current: &Current,
    ring: &str,
    endorsements: &Endorsements,
) -> Result<Option<Endorsed>, Refused> {
    let has = Has::of(endorsements, true);
    let demands = current.demands(ring);
    let asked = Asked {
        estate: &current.estate,
        ring,
        demands: &demands,
    };
    tee::judge(offered, question, &asked, &has).map_err(|refused| {
        let lacks = lacks_endorsement(&refused.findings);
        let wants = match (offered, has.sought.take()) {
            (Some(offered), Some((wants, bundle))) if lacks => {
                fetching::lacking(wants, offered, &bundle, question.now)
            }
            _ => Vec::new(),
        };
        Refused {
            wants,
            ..Refused::from(refused)
        }
    })
}

/// As [`tee::vouched`], by what is at hand: what a paravisor's hardware says decides whether its machine's key counts,
/// before anybody is asked for anything. For threads of the pool.
///
/// # Errors
/// What the verifiers find.
pub(crate) fn vouched(
    offered: Option<&Offered>,
    estate: &Estate,
    ring: &str,
    endorsements: &Endorsements,
    now: Timestamp,
) -> Result<Option<Vouching>, Refused> {
    let has = Has::of(endorsements, false);
    Ok(tee::vouched(offered, estate, ring, &has, now)?)
}

/// As [`tee::required`].
pub(crate) fn required(current: &Current, ring: &str) -> Option<Finding> {
    tee::required(&current.estate, ring)
}
