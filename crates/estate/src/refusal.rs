//! A refused `assume` as findings: what the nearest policies expected and what the facts were.

use crate::authorize::{Case, Unanswerable};
use crate::decision::{Decision, Effect};
use crate::estate::Estate;
use crate::explain::Miss;
use crate::policy::known_as_names;
use facts::{FactSet, Finding, names};
use std::borrow::Cow;

impl Estate {
    pub(crate) fn unanswerable_assume(&self, unanswerable: &Unanswerable) -> Decision {
        let mut decision = unanswerable.decision();
        let finding = Finding {
            code: Cow::Borrowed(unanswerable.code),
            message: unanswerable.message.clone(),
            expected: None,
            observed: None,
            next: Some(next_after(unanswerable.code).to_owned()),
        };
        decision.findings.push(finding);
        decision
    }

    pub(crate) fn explain_refusal(
        &self,
        case: &Case<'_>,
        facts: &FactSet,
        path: &str,
        decision: &mut Decision,
    ) {
        for error in &decision.errors {
            decision
                .findings
                .push(Finding::new("ASSUME-EVALUATION", error.clone()));
        }
        for policy in &decision.policies {
            let message = format!("{policy} forbids that this workload becomes {path}");
            decision
                .findings
                .push(Finding::new("ASSUME-FORBIDDEN", message));
        }
        if !decision.findings.is_empty() {
            return;
        }
        self.add_near(case, decision);
        let misses = self.misses(case);
        // Only policies about this very identity: what others ask for explains nothing.
        let own = misses.iter().filter(|miss| {
            miss.info.reference.effect == Effect::Permit
                && self.in_scope(&miss.info.resource, &case.resource, case.resource_lineage())
        });
        decision
            .findings
            .extend(own.map(|miss| self.finding(miss, facts, path)));
        if decision.findings.is_empty() {
            let message = format!("no policy lets a workload become {path}");
            let next = "add a policy for `assume` in policies/ and apply the estate";
            decision
                .findings
                .push(Finding::new("ASSUME-NO-POLICY", message).next(next));
        }
    }

    fn finding(&self, miss: &Miss<'_>, facts: &FactSet, path: &str) -> Finding {
        let policy = &miss.info.reference;
        let wanted = miss
            .conjunct
            .as_ref()
            .map(|conjunct| known_as_names(conjunct))
            .unwrap_or_default();
        let message = format!("{policy} does not let this workload become {path}");
        let next = format!("look at {}:{}", policy.file, policy.line);
        if miss.out_of_scope {
            let seen = [names::MACHINE_NAME, names::MACHINE_POOL]
                .map(|name| format!("{name} is {}", facts.text(name).unwrap_or("absent")));
            return Finding::new("ASSUME-PLACEMENT", message)
                .expected(miss.condition.text.clone())
                .observed(seen.join(", "))
                .next(next);
        }
        if wanted.is_empty() {
            let seen: Vec<_> = miss
                .condition
                .observed
                .iter()
                .map(|seen| format!("{} is {}", seen.name, seen.value))
                .collect();
            return Finding::new("ASSUME-CONDITION", message)
                .expected(miss.condition.text.clone())
                .observed(seen.join(", "))
                .next(next);
        }
        let expected: Vec<_> = wanted.iter().map(|name| self.digests_of(name)).collect();
        let observed = facts.text(names::CODE_SHA256).unwrap_or("no code digest");
        Finding::new(
            "ASSUME-CODE-DIGEST",
            format!("the running executable is not what {path} is declared to be ({policy})"),
        )
        .expected(expected.join(" or "))
        .observed(observed)
        .next("if this build is meant, add its digest to references/ and apply the estate")
    }

    /// `payments-api (sha256 …, …)`
    fn digests_of(&self, name: &str) -> String {
        match self.model.references.code.get(name) {
            Some(code) if !code.sha256.is_empty() || !code.fsverity.is_empty() => {
                let sha256 = code.sha256.iter().map(|digest| format!("sha256 {digest}"));
                let measured = code
                    .fsverity
                    .iter()
                    .map(|digest| format!("fs-verity {digest}"));
                let digests: Vec<_> = sha256.chain(measured).collect();
                format!("{name} ({})", digests.join(", "))
            }
            _ => format!("{name} (no digest is declared)"),
        }
    }
}

fn next_after(code: &str) -> &'static str {
    match code {
        "ASSUME-TEMPLATE-FACT" => {
            "make the template of facts that are stated of such workloads, or declare the identity by itself"
        }
        "ASSUME-TEMPLATE-VALUE" => {
            "name it by letters, digits, `.`, `-` and `_`, or declare the identity by itself"
        }
        "ASSUME-PERSON" => {
            "let the person delegate to an identity of the workload's own (delegations/)"
        }
        "ASSUME-TEMPLATE-PATH" => "ask for the identity that its facts make",
        _ => "declare the identity in identities/ and apply the estate",
    }
}
