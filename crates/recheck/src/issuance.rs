//! An issuance, decided again: from the opening of what its record commits to, which is the facts that it was decided
//! on, and the estate that it names. What it says of the machine has to be what the machine's verdict says.

use crate::issued::opened;
use crate::outcome::{Again, Outcome, differs, lacks, listed};
use crate::pack::{Pack, before};
use attest::ar4si::Vector;
use estate::Estate;
use facts::{Fact, FactSet, names};
use ledger::HexDigest;
use ledger::body::{Issuance, SvidKind, Verdict, VerdictOutcome};
use ledger::pack::PackRecord;
use spiffe_core::shown;

/// What an agent reads in the kernel of its machine, and no verdict says.
const OF_AGENT: [&str; 2] = [names::MACHINE_ENFORCEMENT, "machine.ipe."];

/// The path of the server's own identity.
const SERVER: &str = "trilith/server";

pub(crate) fn again(pack: &Pack<'_>, item: &PackRecord) -> Again {
    let Ok(issuance) = item.record.expect_body::<Issuance>() else {
        return lacks("the record is of another form than this version reads");
    };
    if issuance.node.is_empty() {
        // INVARIANT: the server alone is nobody's workload.
        if pack.path(&issuance.spiffe_id) != Some(SERVER) {
            return differs("it was issued to no machine, and is not the server's own");
        }
        return lacks("the server issued it to itself");
    }
    let commitment = HexDigest(issuance.commit.0.0);
    let Some(opening) = pack.bytes(&commitment) else {
        return pack.lacking(
            &commitment,
            "the opening of what it commits to, the facts that it was decided on",
        );
    };
    let Some(facts) = opened(opening, &issuance) else {
        return differs("what it commits to is no set of facts");
    };
    as_shown(&issuance, &facts)?;
    let verdict = machine(pack, item, &issuance)?;
    let of_node = pack.path(&issuance.spiffe_id) == Some(&own_path(&issuance));
    if item.record.estate().is_none() && of_node {
        return node(&issuance, &facts, &verdict);
    }
    let (_, estate) = pack.estate(item)?;
    as_proved((&issuance, &facts), &verdict, &estate)?;
    let Some(path) = pack.path(&issuance.spiffe_id) else {
        return differs(format!("{} is of another trust domain", issuance.spiffe_id));
    };
    let decision = estate.assume(&facts, path);
    if !decision.allow {
        let why = decision.findings.first().map(ToString::to_string);
        let why = why.or_else(|| decision.errors.first().cloned());
        return differs(format!(
            "the estate does not let the workload become {path}: {}",
            why.unwrap_or_else(|| "no policy allows it".to_owned())
        ));
    }
    let made = decision.policy_ids();
    if made != issuance.policies {
        return differs(format!(
            "it was allowed by {}, and the estate allows it by {}",
            listed(issuance.policies.iter().map(String::as_str)),
            listed(made.iter().map(String::as_str))
        ));
    }
    Ok(())
}

/// The path of its machine. Records name that by its name, or by its SPIFFE ID.
fn own_path(issuance: &Issuance) -> String {
    let node = issuance.node.as_str();
    let name = node.rsplit_once("/trilith/node/");
    format!("trilith/node/{}", name.map_or(node, |(_, name)| name))
}

/// A machine's own SVID: no policy is asked, and it is issued on what its verdict states.
fn node(issuance: &Issuance, facts: &FactSet, verdict: &FactSet) -> Again {
    if !issuance.policies.is_empty() {
        return differs("it names policies and no estate");
    }
    let lines = |facts: &FactSet| -> Vec<Fact> { facts.iter().map(timeless).collect() };
    if lines(facts) != lines(verdict) {
        return differs("it was issued on other facts than its verdict states");
    }
    Ok(())
}

/// What the record shows is of what it commits to.
fn as_shown(issuance: &Issuance, facts: &FactSet) -> Again {
    for (name, value) in &issuance.facts {
        if facts.value(name) != Some(&shown::value(value)) {
            return differs(format!("it shows {name} otherwise than it commits to"));
        }
    }
    if let Some(recorded) = &issuance.ar4si {
        let made = Vector::affirmed(facts).short();
        if made.as_ref() != Some(recorded) {
            return differs(format!(
                "it comes to {:?}, and is recorded as {recorded:?}",
                made.unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// The facts of the verdict that it rests on.
fn machine(pack: &Pack<'_>, item: &PackRecord, issuance: &Issuance) -> Result<FactSet, Outcome> {
    let index = issuance.verdict.0;
    before(item, index)?;
    let Some(verdict) = pack.body::<Verdict>(index) else {
        return lacks(format!(
            "the server's record {index} is not in the pack, or no verdict"
        ));
    };
    let node = pack.path(&verdict.node);
    if verdict.outcome != VerdictOutcome::Affirmed || node != Some(&own_path(issuance)) {
        return differs(format!(
            "it rests on the verdict of the server's record {index}, which affirms nothing of the machine {}",
            issuance.node
        ));
    }
    let blob = verdict.facts_blob.and_then(|blob| pack.bytes(&blob.sha256));
    let Some(blob) = blob else {
        let what = format!("the facts of the verdict of the server's record {index}");
        return match &verdict.facts_blob {
            Some(named) => pack.lacking(&named.sha256, &what),
            None => lacks(what),
        };
    };
    match serde_json::from_slice(blob) {
        Ok(facts) => Ok(facts),
        Err(_) => lacks(format!(
            "the facts of the verdict of the server's record {index} cannot be read"
        )),
    }
}

/// INVARIANT: of a machine nothing is said that its verdict does not, but what its agent reads in its kernel, and the
/// pool, which is the estate's to say.
fn as_proved(
    (issuance, facts): (&Issuance, &FactSet),
    verdict: &FactSet,
    estate: &Estate,
) -> Again {
    let of_agent = |name: &str| OF_AGENT.iter().any(|head| name.starts_with(head));
    for fact in facts.iter() {
        let name = fact.name.as_str();
        if !name.starts_with("machine.") || of_agent(name) || name == names::MACHINE_POOL {
            continue;
        }
        if verdict.fact(name).map(timeless) == Some(timeless(fact)) {
            continue;
        }
        if issuance.kind == SvidKind::Jwt {
            // A token is issued on what the workload was attested with, and names the newest verdict.
            return lacks("its facts are of an earlier verdict of the machine");
        }
        return differs(format!(
            "it says {name} of the machine, and its verdict does not"
        ));
    }
    let declared = estate.references();
    let machine = match (
        facts.text(names::MACHINE_TPM_EK),
        facts.text(names::MACHINE_TPM_AK),
    ) {
        (Some(ek), _) => Some(declared.machine_of_ek(ek)),
        (None, Some(ak)) => Some(declared.machine_of_ak(ak)),
        (None, None) => None,
    };
    let pool = match machine {
        Some(machine) => machine.and_then(|machine| machine.pool.as_deref()),
        None => verdict.text(names::MACHINE_POOL),
    };
    let said = facts.text(names::MACHINE_POOL);
    if said.is_some() && said != pool {
        return differs(format!(
            "it says that the machine is in the pool {:?}, and it is in {}",
            said.unwrap_or_default(),
            pool.map_or_else(|| "none".to_owned(), |pool| format!("{pool:?}"))
        ));
    }
    Ok(())
}

/// A fact without when it was observed, which no policy sees.
fn timeless(fact: &Fact) -> Fact {
    Fact {
        observed_at: facts::Timestamp::EPOCH,
        ..fact.clone()
    }
}
