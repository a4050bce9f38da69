//! The few things that this server states of machines and workloads itself, beside what verifiers make of
//! evidence. Nothing else in the server can: see [`facts::Warrant`].
//!
//! Each function takes what it states as plain values, or says which names it is about; whatever else is in
//! what it is given is left out. What was stated before is read back here as well, from the server's own
//! store, by the digest under which the ledger names it.

use crate::current::from_canonical;
use facts::{Affirmed, FactSet, Source, Timestamp, Verdict, Warrant, names};

/// A token that this server made, and a key that is held.
const TOKEN: Warrant = Warrant::of(
    Source::Verified,
    &[
        names::MACHINE_JOIN,
        names::MACHINE_NAME,
        names::MACHINE_POOL,
        names::MACHINE_KEY,
    ],
);

/// An enclave that speaks for itself, and the key that was made in it.
const ENCLAVE: Warrant = Warrant::of(
    Source::Verified,
    &[
        names::MACHINE_JOIN,
        names::MACHINE_NAME,
        names::MACHINE_POOL,
        names::MACHINE_KEY,
    ],
);

/// What the estate calls a machine.
const PLACE: Warrant = Warrant::of(
    Source::Verified,
    &[names::MACHINE_NAME, names::MACHINE_POOL],
);

/// A node agent's word.
const WORD: Warrant = Warrant::of(
    Source::Asserted,
    &[
        "workload.",
        names::CODE_SHA256,
        names::CODE_FSVERITY,
        names::CODE_MEASURED_BY,
    ],
);

/// A list that a machine's TPM quoted.
const MEASURED: Warrant = Warrant::of(
    Source::Verified,
    &[
        names::CODE_SHA256,
        names::CODE_FSVERITY,
        names::CODE_MEASURED_BY,
        names::CODE_ROOTED_IN_HARDWARE,
    ],
);

/// What a machine's agent, where a list that was quoted shows that it is the agent, reads in its kernel.
const ENFORCED: Warrant = Warrant::of(
    Source::Verified,
    &[
        names::MACHINE_ENFORCEMENT,
        "machine.ipe.",
        names::CODE_ENFORCEMENT,
    ],
);

/// The server's own store.
const RECORDED: Warrant = Warrant::of(Source::Hardware, &[""]);

/// A machine that spent a token for `node`: it proves nothing of the machine, and the facts say so.
pub(crate) fn by_token(node: &str, pool: &str, now: Timestamp) -> Verdict {
    let mut facts = FactSet::new();
    for (name, value) in [
        (names::MACHINE_JOIN, "token"),
        (names::MACHINE_NAME, node),
        (names::MACHINE_POOL, pool),
        (names::MACHINE_KEY, "memory"),
    ] {
        facts.state(name, value, Source::Verified, now);
    }
    Verdict::affirmed(&TOKEN, facts, Vec::new())
}

/// A machine that joined by token, seen again now: it still holds its key.
pub(crate) fn seen_again(known: &Affirmed, now: Timestamp) -> Verdict {
    let mut facts = FactSet::new();
    for fact in known.iter() {
        facts.state(&fact.name, fact.value.clone(), Source::Verified, now);
    }
    Verdict::affirmed(&TOKEN, facts, Vec::new())
}

/// An enclave whose evidence is affirmed, and bound to the key that it joins with: what it is called, and the pool
/// whose image it is.
pub(crate) fn by_enclave(name: &str, pool: &str, now: Timestamp) -> Affirmed {
    Affirmed::by(&ENCLAVE, recheck::tee::enclave::joined(name, pool, now))
}

/// What the estate calls a machine whose key is known, and its pool.
pub(crate) fn placed(name: Option<&str>, pool: Option<&str>, at: Timestamp) -> Affirmed {
    let mut facts = FactSet::new();
    for (fact, value) in [(names::MACHINE_NAME, name), (names::MACHINE_POOL, pool)] {
        if let Some(value) = value {
            facts.state(fact, value, Source::Verified, at);
        }
    }
    Affirmed::by(&PLACE, facts)
}

/// What a node agent says of a workload and the digests of its code, as its own word. How a digest was taken follows
/// from which digests there are: what an agent says of that is not heard.
pub(crate) fn told(facts: &FactSet) -> Affirmed {
    let heard = facts
        .iter()
        .filter(|fact| fact.name != names::CODE_MEASURED_BY);
    let mut facts: FactSet = heard.cloned().collect();
    let way = [
        (names::CODE_FSVERITY, "fs-verity"),
        (names::CODE_SHA256, "file-hash"),
    ];
    let way = way
        .into_iter()
        .find_map(|(digest, way)| Some((facts.fact(digest)?.observed_at, way)));
    if let Some((at, way)) = way {
        facts.state(names::CODE_MEASURED_BY, way, Source::Asserted, at);
    }
    Affirmed::by(&WORD, facts)
}

/// The digests of code among `known` that the kernel of its machine has measured in this boot.
pub(crate) fn measured(known: &Affirmed, now: Timestamp) -> Affirmed {
    let mut facts = FactSet::new();
    for name in [names::CODE_SHA256, names::CODE_FSVERITY] {
        if let Some(value) = known.value(name).cloned() {
            facts.state(name, value, Source::Verified, now);
        }
    }
    facts.state(names::CODE_MEASURED_BY, "ima", Source::Verified, now);
    facts.state(names::CODE_ROOTED_IN_HARDWARE, true, Source::Verified, now);
    Affirmed::by(&MEASURED, facts)
}

/// What the kernel of a machine enforces.
pub(crate) fn enforced(facts: FactSet) -> Affirmed {
    Affirmed::by(&ENFORCED, facts)
}

/// Facts of a verdict, as the blob that its record names has them.
pub(crate) fn recorded(blob: &[u8]) -> Option<Affirmed> {
    let facts = serde_json::from_slice(blob).ok()?;
    Some(Affirmed::by(&RECORDED, facts))
}

/// What issuances rested on, as the opening of their commitment has it.
pub(crate) fn committed(opened: &[u8]) -> Option<Affirmed> {
    Some(Affirmed::by(&RECORDED, from_canonical(opened)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(facts: &FactSet) -> Vec<String> {
        let line = |fact: &facts::Fact| format!("{} {} {}", fact.source, fact.name, fact.value);
        facts.iter().map(line).collect()
    }

    /// An agent's request is refused for them; if it were not, nothing would be issued on them.
    #[test]
    fn an_agent_speaks_of_workloads_and_as_its_own_word() {
        let mut facts = FactSet::new();
        let at = Timestamp::EPOCH;
        facts.state(names::MACHINE_POOL, "prod", Source::Verified, at);
        facts.state(names::CODE_REFERENCE, "nginx", Source::Verified, at);
        facts.state(names::CODE_ROOTED_IN_HARDWARE, true, Source::Verified, at);
        facts.state(names::WORKLOAD_UID, 1000_u32, Source::Hardware, at);
        assert_eq!(shown(&told(&facts)), ["asserted workload.uid 1000"]);
    }

    #[test]
    fn how_a_digest_was_taken_is_not_for_an_agent_to_say() {
        let at = Timestamp::EPOCH;
        let told = |digests: &[&str], said: Option<&str>| {
            let mut facts = FactSet::new();
            for name in digests {
                facts.state(name, "00", Source::Asserted, at);
            }
            if let Some(said) = said {
                facts.state(names::CODE_MEASURED_BY, said, Source::Hardware, at);
            }
            told(&facts)
        };
        let way = |known: &Affirmed| known.text(names::CODE_MEASURED_BY).map(str::to_owned);
        let (content, both) = (
            &[names::CODE_SHA256][..],
            &[names::CODE_SHA256, names::CODE_FSVERITY][..],
        );
        for said in [None, Some("ima"), Some("anything")] {
            assert_eq!(way(&told(content, said)).as_deref(), Some("file-hash"));
            assert_eq!(way(&told(both, said)).as_deref(), Some("fs-verity"));
            assert_eq!(way(&told(&[], said)), None);
        }
        let known = told(both, None);
        let rooted = known.clone().and(&measured(&known, at));
        assert_eq!(way(&rooted).as_deref(), Some("ima"));
        let fact = rooted.fact(names::CODE_MEASURED_BY).unwrap();
        assert_eq!(fact.source, Source::Verified);
    }

    #[test]
    fn a_machine_that_joined_by_token_gains_nothing_by_being_seen_again() {
        let mut more = FactSet::new();
        let at = Timestamp::EPOCH;
        more.state(names::MACHINE_TPM_KIND, "discrete", Source::Hardware, at);
        more.state(names::MACHINE_POOL, "web", Source::Verified, at);
        let known = Affirmed::by(&RECORDED, more);
        let again = seen_again(&known, at.plus_secs(9));
        assert_eq!(shown(&again.facts), ["verified machine.pool web"]);
    }

    #[test]
    fn what_a_kernel_enforces_says_nothing_else() {
        let mut facts = FactSet::new();
        let at = Timestamp::EPOCH;
        facts.state(names::MACHINE_ENFORCEMENT, "enforced", Source::Hardware, at);
        facts.state(names::CODE_REFERENCE, "nginx", Source::Hardware, at);
        assert_eq!(
            shown(&enforced(facts)),
            ["verified machine.enforcement enforced"]
        );
    }
}
