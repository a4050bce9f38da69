//! Composition of verdicts: `cloud AND tpm`. Never OR: which of two roots a machine must have is
//! policy's to say.

use facts::{Finding, Source, Stated, Value, Verdict, Warrant};

/// Whatever the parts state.
const WARRANT: Warrant = Warrant::of(Source::Hardware, &[""]);

/// One verdict out of several, all of which must be affirmed.
///
/// - Any refused part refuses the whole, and the whole carries the findings of every part.
/// - A part that is refused without a finding (it stated nothing) adds `ATTEST-EMPTY`.
/// - No parts at all is a refusal: nothing was verified.
/// - Facts are merged by the strength of their source. Two parts of equal strength that contradict
///   one another refuse the whole with `ATTEST-CONFLICT`: evidence of two machines does not
///   describe one.
/// - Evidence is concatenated in the order of the parts, without repetition.
#[must_use]
pub fn compose(parts: Vec<Verdict>) -> Verdict {
    let whole = merged(parts.into_iter().map(Verdict::into_stated).collect());
    if whole.findings.is_empty() {
        Verdict::affirmed(&WARRANT, whole.facts, whole.evidence)
    } else {
        Verdict::refused(whole.findings, whole.evidence)
    }
}

/// As [`compose`], of what verdicts say, for whoever makes a verdict again and issues nothing on it. Refused if it
/// has findings.
#[must_use]
pub fn merged(parts: Vec<Stated>) -> Stated {
    let mut whole = Stated::default();
    if parts.is_empty() {
        whole.findings.push(nothing_verified());
    }
    for part in parts {
        if part.facts.is_empty() && part.findings.is_empty() {
            whole.findings.push(nothing_verified());
        }
        whole.findings.extend(part.findings);
        for fact in part.facts.iter() {
            match whole.facts.fact(&fact.name) {
                Some(held) if held.source == fact.source && held.value != fact.value => {
                    let finding = conflict(&fact.name, &held.value, &fact.value);
                    whole.findings.push(finding);
                }
                _ => whole.facts.insert(fact.clone()),
            }
        }
        for digest in part.evidence {
            if !whole.evidence.contains(&digest) {
                whole.evidence.push(digest);
            }
        }
    }
    whole
}

fn nothing_verified() -> Finding {
    Finding::new(
        "ATTEST-EMPTY",
        "a verifier stated neither facts nor findings",
    )
    .expected("at least one fact from each kind of evidence")
    .next("present the evidence that the trust domain asks of this machine")
}

fn conflict(name: &str, held: &Value, other: &Value) -> Finding {
    Finding::new(
        "ATTEST-CONFLICT",
        format!("two kinds of evidence disagree about {name}"),
    )
    .expected(held.to_string())
    .observed(other.to_string())
    .next("check that all evidence was collected on the same machine")
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{EvidenceDigest, FactSet, Outcome, Timestamp};

    fn affirmed(name: &str, value: &str, source: Source) -> Verdict {
        let mut facts = FactSet::new();
        facts.state(name, value, source, Timestamp::EPOCH);
        let evidence = EvidenceDigest {
            kind: name.to_owned(),
            sha256: "00".repeat(32),
            length: 0,
        };
        Verdict::affirmed(&WARRANT, facts, vec![evidence])
    }

    fn refused(code: &'static str) -> Verdict {
        Verdict::refused(vec![Finding::new(code, "no")], Vec::new())
    }

    fn codes(verdict: &Verdict) -> Vec<&str> {
        verdict.findings.iter().map(|f| f.code.as_ref()).collect()
    }

    #[test]
    fn all_parts_affirmed_is_affirmed_with_the_facts_of_each() {
        let whole = compose(vec![
            affirmed("a", "1", Source::Hardware),
            affirmed("b", "2", Source::Verified),
        ]);
        assert_eq!(whole.outcome(), Outcome::Affirmed);
        assert_eq!(
            (whole.facts.text("a"), whole.facts.text("b")),
            (Some("1"), Some("2"))
        );
        assert_eq!(whole.evidence.len(), 2);
    }

    #[test]
    fn one_refused_part_refuses_the_whole_and_leaves_no_fact_standing() {
        let whole = compose(vec![affirmed("a", "1", Source::Hardware), refused("X-Y")]);
        assert_eq!(whole.outcome(), Outcome::Refused);
        assert!(whole.facts.is_empty());
        assert_eq!(codes(&whole), ["X-Y"]);
    }

    #[test]
    fn nothing_composed_affirms_nothing() {
        assert_eq!(codes(&compose(Vec::new())), ["ATTEST-EMPTY"]);
        assert_eq!(
            codes(&compose(vec![
                affirmed("a", "1", Source::Hardware),
                Verdict::default()
            ])),
            ["ATTEST-EMPTY"]
        );
    }

    #[test]
    fn the_stronger_source_wins_in_either_order() {
        let strong = affirmed("a", "strong", Source::Hardware);
        let weak = affirmed("a", "weak", Source::Asserted);
        for parts in [vec![strong.clone(), weak.clone()], vec![weak, strong]] {
            assert_eq!(compose(parts).facts.text("a"), Some("strong"));
        }
    }

    #[test]
    fn equals_that_contradict_one_another_are_refused() {
        let whole = compose(vec![
            affirmed("a", "1", Source::Verified),
            affirmed("a", "2", Source::Verified),
        ]);
        assert_eq!(codes(&whole), ["ATTEST-CONFLICT"]);
    }
}
