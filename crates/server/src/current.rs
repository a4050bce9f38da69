//! The estate version in force, compiled, with what it has answered already.

mod said;

use crate::join::{TeeStanding, chip, tee_stands};
use crate::warranted;
use appraise::Demands;
use estate::{Certifies, Estate, Subject, is_derived_of_code};
use estate_prove::Standing;
use facts::{Affirmed, Fact, FactSet, Finding, Source, Timestamp, Value, Verdict, names};
use ledger::{EstateRef, HexDigest};
use said::Said;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

/// Answers remembered at once; beyond, all are forgotten: they cost some 50 µs each to find again.
const REMEMBERED: usize = 65_536;

/// How long what is known of code is not asked again: a reference value may end meanwhile.
const CODE_KNOWN: Duration = Duration::from_secs(30);

/// Identities that a refused workload is compared with: of more, those that it comes nearest to. Each costs some
/// 100 µs.
const MOST_COMPARED: usize = 256;

/// Findings that say more than that a policy is about others.
const TELLING: [&str; 2] = ["ASSUME-CODE-DIGEST", "ASSUME-FORBIDDEN"];

/// Immutable but for its memory. A new version is a new value.
pub(crate) struct Current {
    pub(crate) estate: Arc<Estate>,
    /// Of the record that made it current.
    pub(crate) index: u64,
    pub(crate) version: HexDigest,
    /// By digest of the facts. Sound, because an answer depends on the version and the facts alone.
    answers: RwLock<HashMap<[u8; 32], Answer>>,
    /// What is known of code, by what it is known from.
    code: RwLock<HashMap<[u8; 32], Code>>,
    /// What came of the signatures over it, which is what costs.
    said: Said,
    /// By ring, which are the estate's pools and that of machines in none.
    demands: RwLock<HashMap<String, Arc<Demands>>>,
    /// What holds today of its invariants.
    standing: OnceLock<Vec<Standing>>,
    /// The version in force, of one that is only tried beside it.
    in_force: Option<Arc<Self>>,
}

/// What the estate makes of the digests of some code.
#[derive(Clone)]
struct Code {
    at: Timestamp,
    facts: Arc<Affirmed>,
    /// What was wrong with it.
    findings: Arc<[Finding]>,
}

/// What the estate says to one set of facts.
#[derive(Clone)]
struct Answer {
    allowed: Arc<[Allowed]>,
    /// Made at the first question for it.
    near: Arc<OnceLock<Arc<[NearMiss]>>>,
}

/// An identity that a workload may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// `payments/api`
    pub(crate) path: String,
    pub(crate) policies: Vec<String>,
    pub(crate) hint: String,
    pub(crate) dns_names: Vec<String>,
    /// Names of facts that the record shows.
    pub(crate) visible: Vec<String>,
}

/// An identity that a workload nearly may become.
#[derive(Debug, Clone)]
pub(crate) struct NearMiss {
    pub(crate) path: String,
    pub(crate) findings: Vec<Finding>,
    /// Worth a record: the workload is not the program that was declared, or is forbidden.
    pub(crate) telling: bool,
}

impl Current {
    pub(crate) fn new(estate: Arc<Estate>, index: u64, version: HexDigest) -> Self {
        Self {
            estate,
            index,
            version,
            answers: RwLock::default(),
            code: RwLock::default(),
            said: Said::default(),
            demands: RwLock::default(),
            standing: OnceLock::new(),
            in_force: None,
        }
    }

    /// Tries the invariants, and what their proofs take for granted, on everything that is declared. Takes as long as
    /// a plan does without its proof: for threads of its own.
    pub(crate) fn stand(&self) -> &[Standing] {
        self.standing
            .get_or_init(|| estate_prove::standing_blocking(&self.estate))
    }

    /// What [`Current::stand`] found, once it has.
    pub(crate) fn stood(&self) -> Option<&[Standing]> {
        self.standing.get().map(Vec::as_slice)
    }

    /// A version that is only tried, as the one after `in_force`: newer than every record there is.
    pub(crate) fn tried(estate: Arc<Estate>, in_force: Arc<Self>) -> Self {
        Self {
            in_force: Some(in_force),
            ..Self::new(estate, u64::MAX, HexDigest([0; 32]))
        }
    }

    /// The version that this one is tried beside, if it is only tried.
    pub(crate) fn in_force(&self) -> Option<&Self> {
        self.in_force.as_deref()
    }

    /// What reference values ask of machines of `ring`. Made at the first question for it, which takes
    /// some milliseconds: for threads of the pool.
    pub(crate) fn demands(&self, ring: &str) -> Arc<Demands> {
        if let Ok(demands) = self.demands.read()
            && let Some(known) = demands.get(ring)
        {
            return Arc::clone(known);
        }
        let made = Arc::new(Demands::of(&self.estate.references().values, ring));
        if let Ok(mut demands) = self.demands.write() {
            demands.insert(ring.to_owned(), Arc::clone(&made));
        }
        made
    }

    /// The ring of the machine with these facts: its pool, as this version places it.
    pub(crate) fn ring(&self, facts: &FactSet) -> String {
        chip::machine(self.estate.references(), facts)
            .and_then(|machine| machine.pool.clone())
            .unwrap_or_default()
    }

    pub(crate) const fn reference(&self) -> EstateRef {
        EstateRef {
            version: self.version,
            index: self.index,
        }
    }

    /// The identities that a workload of which `facts` hold may become, in order of their paths.
    pub(crate) fn assumable(&self, facts: &FactSet) -> Arc<[Allowed]> {
        self.answer(facts, &digest(facts)).allowed
    }

    /// As [`Current::assumable`], with the refusals worth telling: an identity whose policies a
    /// workload fails by its code alone; and, to one that may become nothing, whatever it came near.
    /// `digest` is that of `facts`.
    pub(crate) fn judged(
        &self,
        facts: &FactSet,
        digest: &[u8; 32],
    ) -> (Arc<[Allowed]>, Arc<[NearMiss]>) {
        let answer = self.answer(facts, digest);
        let near = answer
            .near
            .get_or_init(|| self.near_misses(facts, &answer.allowed));
        (Arc::clone(&answer.allowed), Arc::clone(near))
    }

    /// The facts of a machine, or of a workload on it, as this version places it: its pool is what the
    /// estate says of its TPM's key now. One whose key is pinned no longer, or of whose vendors none
    /// is trusted any more, keeps nothing but its name. (Which of several vendors signed its certificate
    /// is looked at when it proves itself again.) So it is with one of a pool that asks for confidential
    /// hardware that it has not shown, or not as this version asks for it.
    pub(crate) fn placed<'a>(&self, facts: &'a Affirmed) -> Cow<'a, Affirmed> {
        let references = self.estate.references();
        let Some(known) = chip::fact(facts) else {
            // It joined by token, which shows nothing of hardware; or it is an enclave, whose pool asks for just that.
            let ring = facts.text(names::MACHINE_POOL).unwrap_or_default();
            return match tee_stands(references, ring, facts) {
                TeeStanding::Good => Cow::Borrowed(facts),
                TeeStanding::Forgotten | TeeStanding::Lacking => Cow::Owned(unplaced(facts)),
            };
        };
        let machine = chip::machine(references, facts);
        let (chain, certifies) = if known.name == names::MACHINE_TPM_EK {
            (names::MACHINE_TPM_EK_CHAIN, Certifies::EndorsementKeys)
        } else {
            (names::MACHINE_TPM_AK_CHAIN, Certifies::AttestationKeys)
        };
        let mut roots = references.tpm_roots.values();
        let pool = machine.and_then(|machine| machine.pool.as_deref());
        let tee = tee_stands(references, pool.unwrap_or_default(), facts);
        let trusted = match facts.text(chain) {
            Some("pinned") => machine.is_some(),
            // By the hardware alone, if it stands as this version asks for it.
            Some("vouched") => {
                tee == TeeStanding::Good && facts.fact(names::MACHINE_TEE_KIND).is_some()
            }
            _ => roots.any(|root| root.certifies == certifies),
        };
        if !trusted || tee == TeeStanding::Lacking {
            return Cow::Owned(unplaced(facts));
        }
        if facts.text(names::MACHINE_POOL) == pool && tee == TeeStanding::Good {
            return Cow::Borrowed(facts);
        }
        let kept = facts.only(|fact| {
            fact.name != names::MACHINE_POOL
                && (tee == TeeStanding::Good || !fact.name.starts_with("machine.tee."))
        });
        Cow::Owned(kept.and(&warranted::placed(None, pool, known.observed_at)))
    }

    /// The facts of a workload as this version has them: placed, and with what it makes of the digests of its
    /// code now. What another version made of them is left out. Beside them, what is wrong with its code.
    pub(crate) fn known<'a>(
        &self,
        facts: &'a Affirmed,
        now: Timestamp,
    ) -> (Cow<'a, Affirmed>, Arc<[Finding]>) {
        let placed = self.placed(facts);
        let stale = placed.iter().any(|fact| is_derived_of_code(&fact.name));
        if !self.estate.judges_code() && !stale {
            return (placed, Arc::default());
        }
        let known = placed.only(|fact| !is_derived_of_code(&fact.name));
        let code = self.code(&known, now);
        let known = known.and(&code.facts);
        if digest(&known) == digest(&placed) {
            return (placed, code.findings);
        }
        (Cow::Owned(known), code.findings)
    }

    fn code(&self, facts: &FactSet, now: Timestamp) -> Code {
        self.code_by(facts, now, |subject| {
            self.estate.judge_evidence(subject, now)
        })
    }

    fn code_by(
        &self,
        facts: &FactSet,
        now: Timestamp,
        judge: impl Fn(&Subject) -> Verdict,
    ) -> Code {
        let from = [
            names::CODE_SHA256,
            names::CODE_FSVERITY,
            names::MACHINE_POOL,
            names::WORKLOAD_PATH,
            names::WORKLOAD_INTERPRETER,
        ];
        let from: FactSet = from
            .iter()
            .filter_map(|name| facts.fact(name))
            .cloned()
            .collect();
        let key = digest(&from);
        if let Ok(code) = self.code.read()
            && let Some(known) = code.get(&key)
            && now.since(known.at) < CODE_KNOWN
        {
            return known.clone();
        }
        let said = |subject: &Subject| self.said.verdict(subject, (now, CODE_KNOWN), &judge);
        let (facts, findings) = self.estate.code_facts_by(facts, now, &said);
        let known = Code {
            at: now,
            facts: Arc::new(facts),
            findings: findings.into(),
        };
        if let Ok(mut code) = self.code.write() {
            if code.len() >= REMEMBERED {
                code.clear();
            }
            code.insert(key, known.clone());
        }
        known
    }

    fn answer(&self, facts: &FactSet, digest: &[u8; 32]) -> Answer {
        if let Ok(answers) = self.answers.read()
            && let Some(answer) = answers.get(digest)
        {
            return answer.clone();
        }
        let allowed = self
            .estate
            .assumable(facts)
            .into_iter()
            .map(|(identity, decision)| Allowed {
                path: identity.path.clone(),
                policies: decision.policy_ids(),
                hint: identity.hint.clone().unwrap_or_default(),
                dns_names: identity.dns_names.clone(),
                visible: identity.visible.iter().cloned().collect(),
            })
            .collect();
        let answer = Answer {
            allowed,
            near: Arc::default(),
        };
        if let Ok(mut answers) = self.answers.write() {
            if answers.len() >= REMEMBERED {
                answers.clear();
            }
            answers.insert(*digest, answer.clone());
        }
        answer
    }

    fn near_misses(&self, facts: &FactSet, allowed: &[Allowed]) -> Arc<[NearMiss]> {
        // Nothing but the name of the workload stands against these.
        let unfilled = self.estate.unfilled(facts).into_iter();
        let unfilled = unfilled.map(|(template, decision)| NearMiss {
            path: template.path.clone(),
            findings: decision.findings,
            telling: false,
        });
        self.estate
            .nearest(facts, MOST_COMPARED)
            .into_iter()
            .filter_map(|identity| self.estate.path_for(identity, facts))
            .filter(|path| allowed.iter().all(|held| held.path != **path))
            .filter_map(|path| {
                let decision = self.estate.assume(facts, &path);
                let telling = decision
                    .findings
                    .iter()
                    .any(|finding| TELLING.contains(&finding.code.as_ref()));
                let near = !decision.near.is_empty() && allowed.is_empty();
                (telling || near && !decision.allow).then(|| NearMiss {
                    path: path.into_owned(),
                    findings: decision.findings,
                    telling,
                })
            })
            .chain(unfilled)
            .collect()
    }
}

/// What is left of a machine that this version does not take: its name, and what it says of workloads.
fn unplaced(facts: &Affirmed) -> Affirmed {
    facts.only(|fact| match fact.name.as_str() {
        names::MACHINE_NAME => true,
        names::CODE_MEASURED_BY | names::CODE_ROOTED_IN_HARDWARE | names::CODE_ENFORCEMENT => false,
        name => !name.starts_with("machine."),
    })
}

/// Over names, values and sources; not over the times of observation, which no policy sees.
pub(crate) fn digest(facts: &FactSet) -> [u8; 32] {
    crypto::sha256(&canonical(facts))
}

/// One line a fact: name, source and value as JSON.
pub(crate) fn canonical(facts: &FactSet) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(facts.len() * 64);
    for fact in facts.iter() {
        let line = (&fact.name, &fact.source, &fact.value);
        // Names and values are plain data: writing them to memory cannot fail.
        drop(serde_json::to_writer(&mut bytes, &line));
        bytes.push(b'\n');
    }
    bytes
}

/// The facts that [`canonical`] wrote, observed at no time.
pub(crate) fn from_canonical(bytes: &[u8]) -> Option<FactSet> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let facts = lines.filter(|line| !line.is_empty()).map(|line| {
        let (name, source, value): (String, Source, Value) = serde_json::from_slice(line).ok()?;
        Some(Fact {
            name,
            value,
            source,
            observed_at: Timestamp::from_millis(0),
        })
    });
    facts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_values_and_sources_apart_but_not_times() {
        let set = |value: &str, source, at| {
            let mut facts = FactSet::new();
            facts.state("machine.pool", value, source, Timestamp::from_secs(at));
            digest(&facts)
        };
        let base = set("web", Source::Verified, 1);
        assert_eq!(base, set("web", Source::Verified, 2));
        assert_ne!(base, set("db", Source::Verified, 1));
        assert_ne!(base, set("web", Source::Asserted, 1));
    }

    /// Programs that somebody signed, in a pool.
    fn signed(programs: u8) -> (Current, Vec<String>) {
        use crypto::Signer as _;
        let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
        let der = crypto::base64::encode(key.public_key().spki_der());
        let mut text = format!(
            "[[pool]]\nname = \"demo\"\n[[signer]]\nname = \"release key\"\n\
             key = \"\"\"\n-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n\"\"\"\n"
        );
        let mut digests = Vec::new();
        for program in 0..programs {
            let sha256 = crypto::hex::encode(&crypto::sha256(&[program]));
            let signature = crypto::base64::encode(&key.sign(&[program]).unwrap());
            text += &format!(
                "[[evidence]]\nsha256 = \"{sha256}\"\nform = \"signature\"\ncontent = \"{signature}\"\n"
            );
            digests.push(sha256);
        }
        let mut files = estate::EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"example.org\"\n");
        files.insert("references/signed.toml", text);
        let estate = Arc::new(Estate::compile(&files).unwrap());
        (Current::new(estate, 0, HexDigest([0; 32])), digests)
    }

    /// Each path under which a program was started had its signatures verified again.
    #[test]
    fn signatures_are_verified_once_in_a_while_whatever_else_an_agent_says() {
        let (current, digests) = signed(3);
        let verified = std::cell::Cell::new(0);
        let start = Timestamp::from_secs(1_800_000_000);
        let ask = |sha256: &str, said: u32, now: Timestamp| {
            let mut facts = FactSet::new();
            let source = Source::Asserted;
            facts.state(names::CODE_SHA256, sha256, source, now);
            let measured = format!("sha256:{said:064x}");
            facts.state(names::CODE_FSVERITY, measured, source, now);
            let path = format!("/tmp/{said}/program");
            facts.state(names::WORKLOAD_PATH, path, source, now);
            facts.state(
                names::WORKLOAD_INTERPRETER,
                said.is_multiple_of(2),
                source,
                now,
            );
            let code = current.code_by(&facts, now, |subject| {
                verified.set(verified.get() + 1);
                current.estate.judge_evidence(subject, now)
            });
            assert_eq!(
                code.facts.text(names::CODE_APPROVED_BY),
                (sha256 != "0".repeat(64)).then_some("release key"),
            );
        };
        for said in 0..100 {
            for sha256 in &digests {
                ask(sha256, said, start);
            }
            // Nobody said anything of this one.
            ask(&"0".repeat(64), said, start);
        }
        assert_eq!(verified.get(), 3);
        ask(&digests[0], 0, start.plus_secs(31));
        ask(&digests[0], 1, start.plus_secs(31));
        assert_eq!(verified.get(), 4);
    }

    /// Another version of the estate begins with nothing.
    #[test]
    fn what_one_estate_holds_good_is_judged_anew_by_the_next() {
        let (old, digests) = signed(1);
        let (new, _) = signed(1);
        let now = Timestamp::from_secs(1_800_000_000);
        let mut facts = FactSet::new();
        facts.state(
            names::CODE_SHA256,
            digests[0].as_str(),
            Source::Asserted,
            now,
        );
        let facts = warranted::told(&facts);
        let approved = old
            .known(&facts, now)
            .0
            .text(names::CODE_APPROVED_BY)
            .map(str::to_owned);
        assert_eq!(approved.as_deref(), Some("release key"));
        // The same digest, and a signature by another key of the same name: what the old version held is not asked.
        let judged = std::cell::Cell::new(false);
        let code = new.code_by(&facts, now, |subject| {
            judged.set(true);
            new.estate.judge_evidence(subject, now)
        });
        assert!(judged.get());
        let key = |facts: &FactSet| facts.text(names::CODE_SIGNER_KEY).map(str::to_owned);
        assert_ne!(key(&code.facts), key(&old.known(&facts, now).0));
    }

    #[test]
    fn what_was_committed_to_reads_back() {
        let now = Timestamp::from_secs(1);
        let mut facts = FactSet::new();
        facts.state("machine.name", "m\n1", Source::Verified, now);
        facts.state("workload.uid", 1000_u32, Source::Asserted, now);
        let kept = canonical(&facts);
        assert_eq!(canonical(&from_canonical(&kept).unwrap()), kept);
        assert!(from_canonical(b"[1]\n").is_none());
    }
}
