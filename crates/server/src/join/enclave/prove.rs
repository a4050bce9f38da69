//! From an enclave's answer to what it proved: that the key is held, then what its hardware says, then what it is
//! called and what is kept.

use super::{LONGEST_ID, take};
use crate::core::Core;
use crate::erase::{self, Naming};
use crate::evict::is_evicted;
use crate::join::tee::Refused;
use crate::join::{not_overtaken, prove_key};
use crate::listener::Peer;
use crate::lock::may_join;
use crate::refusal::Refusal;
use crate::warranted;
use attest::Evidence as Blob;
use attest::transcript::EnclaveJoin;
use crypto::PublicKey;
use estate::TeeKind;
use facts::{FactSet, Finding, Verdict, names};
use ledger::{EstateRef, HexDigest};
use proto::v1;
use recheck::tee::enclave::{INSTANCE, Placed, Question, called, judge, key_blob};
use std::sync::Arc;
use store::NodeRow;

/// Quotes have some 5 KiB; what the agent collects has this limit as well.
const LONGEST_REPORT: usize = 32 * 1024;

/// An enclave that proved itself, before it is decided what becomes of it.
pub(crate) struct Evidence {
    pub(crate) verdict: Verdict,
    pub(crate) key: PublicKey,
    pub(crate) name: String,
    /// Size of the ledger when it was challenged.
    pub(crate) begun: u64,
    /// The version that it was judged by.
    pub(crate) estate: EstateRef,
    /// Its evidence is kept, and stays so until whoever admits it has recorded the verdict.
    pub(crate) naming: Naming,
}

/// Why it did not.
pub(super) enum NotProved {
    Refusal(Refusal),
    /// By its evidence, under this version of the estate.
    Judged(Box<Refused>, EstateRef),
}

impl From<Refusal> for NotProved {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<NotProved> for Refusal {
    fn from(refused: NotProved) -> Self {
        match refused {
            NotProved::Refusal(refusal) => refusal,
            NotProved::Judged(refused, _) => first(refused.findings),
        }
    }
}

/// The first finding speaks for the refusal; the others stand in the log.
pub(super) fn first(findings: Vec<Finding>) -> Refusal {
    for finding in findings.iter().skip(1) {
        tracing::info!(%finding, "also found");
    }
    let first = findings.into_iter().next();
    Refusal::Denied(first.unwrap_or_else(|| {
        Finding::new("TEE-VERDICT", "the enclave was not affirmed")
            .next("look at the server's log; nothing in an estate allows more")
    }))
}

/// Who vouched, for records: `nitro:` or `sgx:` and the beginning of what runs there.
pub(crate) fn auth(evidence: &Evidence) -> String {
    let facts = &evidence.verdict.facts;
    let kind = facts.text(names::MACHINE_TEE_KIND).unwrap_or_default();
    let measured = facts.text(names::MACHINE_TEE_MEASUREMENT);
    let measured = measured.and_then(|text| text.get(..16));
    format!("{kind}:{}", measured.unwrap_or_default())
}

pub(super) async fn prove(
    core: &Arc<Core>,
    peer: &Peer,
    request: v1::EnclaveFinishRequest,
) -> Result<Evidence, NotProved> {
    let now = core.now();
    let kind = within_limits(&request)?;
    let session = take(core, peer, &request.session, now)?;
    let report_data = EnclaveJoin {
        trust_domain: core.trust_domain.as_str(),
        server_key: &core.server_spki,
        exporter: &session.asked.exporter,
        nonce: &session.asked.nonce(),
        instance: &request.instance,
        spki: &request.public_key,
    }
    .report_data();
    let key = prove_key(&request.public_key, &report_data, &request.proof)?;
    let question = Question {
        report_data,
        nonce: session.asked.nonce(),
        key: request.public_key.clone(),
        now,
    };
    let (judging, current) = (Arc::clone(core), core.estate()?);
    let estate = current.reference();
    let report = request.report;
    let judged = core
        .pool
        .run(move || {
            let at_hand = judging.endorsements.now();
            let endorsements = (&*at_hand.bundle, at_hand.problem.as_ref());
            judge(kind, &report, &question, &current.estate, endorsements)
        })
        .await
        .map_err(|error| Refusal::internal("judging an enclave", &error))?;
    // What it was asked, for whoever wants to judge it again.
    let [nonce, channel] = session.asked.blobs();
    let asked = [
        nonce,
        channel,
        key_blob(&request.instance, &request.public_key),
    ];
    let placed = judged.map_err(|refused| {
        let mut refused = Refused::from(refused);
        refused.judged_for(&asked);
        NotProved::Judged(Box::new(refused), estate)
    })?;
    let facts = &placed.endorsed.verdict.facts;
    let name = called(kind, &placed, &request.instance);
    not_banned(core, facts)?;
    not_overtaken(core, &name, session.size)?;
    let Placed { endorsed, pool, .. } = placed;
    let mut blobs = endorsed.blobs;
    blobs.extend(asked);
    let verdict = endorsed
        .verdict
        .and(&warranted::by_enclave(&name, &pool, now));
    let verdict = verdict.resting_on(blobs.iter().map(Blob::digest).collect());
    let named = blobs.iter().map(|blob| HexDigest::of(&blob.bytes));
    let mut naming = erase::naming(core, named.collect()).await;
    let blobs = blobs.into_iter().map(|blob| blob.bytes.into_owned());
    naming.keep(blobs.collect()).await?;
    Ok(Evidence {
        verdict,
        key,
        name,
        begun: session.size,
        estate,
        naming,
    })
}

/// The kind of enclave, of evidence that may be looked at.
fn within_limits(request: &v1::EnclaveFinishRequest) -> Result<TeeKind, Refusal> {
    let wrong = |expected: String, observed: String| {
        Refusal::Invalid(
            Finding::new("ENCLAVE-STRUCTURE", "the enclave's answer cannot be read")
                .expected(expected)
                .observed(observed)
                .next("let a node agent of this version join"),
        )
    };
    for (what, bytes, most) in [
        ("report", &request.report, LONGEST_REPORT),
        ("public_key", &request.public_key, LONGEST_REPORT),
        ("proof", &request.proof, LONGEST_REPORT),
        ("session", &request.session, LONGEST_ID),
    ] {
        if bytes.len() > most {
            let observed = format!("{} bytes", bytes.len());
            return Err(wrong(format!("{what} of at most {most} bytes"), observed));
        }
    }
    if request.instance.len() != INSTANCE {
        let observed = format!("{} bytes", request.instance.len());
        return Err(wrong(format!("instance of {INSTANCE} bytes"), observed));
    }
    let kind = TeeKind::ALL
        .into_iter()
        .find(|kind| kind.is_enclave() && kind.as_str() == request.kind);
    kind.ok_or_else(|| {
        let observed: String = request.kind.chars().take(32).collect();
        wrong("an enclave of `nitro` or `sgx`".to_owned(), observed)
    })
}

/// A ban of an enclave holds for where it runs: it does not come back under another name by being started again.
fn not_banned(core: &Core, facts: &FactSet) -> Result<(), Refusal> {
    let banned: Vec<NodeRow> = {
        let state = core.state();
        let out = |node: &&NodeRow| node.locked.is_some() && !is_evicted(node);
        state.nodes().filter(out).cloned().collect()
    };
    for node in banned {
        let known = core.machine_facts(&node)?;
        let enclave = known.text(names::MACHINE_JOIN) == Some("enclave");
        if enclave && host(&known) == host(facts) {
            may_join(&node)?;
        }
    }
    Ok(())
}

/// Kind, root, and the parent instance or the processor.
fn host(facts: &FactSet) -> [Option<&str>; 3] {
    let platform = facts.text(names::MACHINE_TEE_PLATFORM);
    // `i-0123456789abcdef0-enc0123456789abcdef`
    let instance = platform.and_then(|id| id.rsplit_once("-enc"));
    [
        facts.text(names::MACHINE_TEE_KIND),
        facts.text(names::MACHINE_TEE_ROOT),
        instance.map_or(platform, |(instance, _)| Some(instance)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{Source, Timestamp};

    fn of(kind: &str, root: &str, platform: &str) -> FactSet {
        let mut facts = FactSet::new();
        for (name, value) in [
            (names::MACHINE_TEE_KIND, kind),
            (names::MACHINE_TEE_ROOT, root),
            (names::MACHINE_TEE_PLATFORM, platform),
        ] {
            facts.state(name, value, Source::Hardware, Timestamp::EPOCH);
        }
        facts
    }

    #[test]
    fn enclaves_of_one_instance_have_one_host() {
        let one = of("nitro", "aws", "i-01-enc02");
        assert_eq!(host(&one), host(&of("nitro", "aws", "i-01-enc03")));
        for other in [
            of("nitro", "aws", "i-02-enc02"),
            of("nitro", "lab", "i-01-enc02"),
            of("sgx", "aws", "i-01-enc02"),
        ] {
            assert_ne!(host(&one), host(&other));
        }
    }
}
