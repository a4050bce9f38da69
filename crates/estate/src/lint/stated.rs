//! Facts that nobody states under the declarations of today: of a TPM where no machine joins by one, of
//! confidential hardware that no `[[tee]]` asks for, of provenance without a rule for it. What a policy asks
//! for in `when` nobody has, so it never applies; what it exempts in `unless` nobody has, so it applies to all.

use super::declared::Declared;
use super::reading::{Role, comparisons_by_role, fact_of, paths_by_role};
use super::{Means, Remark, Severity};
use crate::decision::Effect;
use crate::declare::Cloud;
use crate::estate::Estate;
use crate::model::References;
use crate::policy::{PolicyInfo, Scope};
use facts::names;
use std::collections::BTreeSet;

/// What stands for a branch of facts: `machine.tpm` for `machine.tpm.kind`.
const OF_TPM: [&str; 5] = [
    "machine.tpm",
    "machine.boot",
    "machine.ima",
    names::CODE_ROOTED_IN_HARDWARE,
    names::MACHINE_IPE_ROOTED,
];
const OF_PROVENANCE: [&str; 6] = [
    names::CODE_SOURCE,
    names::CODE_REF,
    names::CODE_COMMIT,
    names::CODE_WORKFLOW,
    names::CODE_BUILDER,
    names::CODE_BUILD_TYPE,
];

/// What could state facts, as things are declared.
struct Witnesses<'a> {
    references: &'a References,
    declared: &'a Declared,
    /// Pools of machines that are known by a TPM's key; `None` for machines in no pool.
    pinned: BTreeSet<Option<&'a str>>,
}

impl<'a> Witnesses<'a> {
    fn of(references: &'a References, declared: &'a Declared) -> Self {
        let pinned = references
            .machines
            .values()
            .filter(|machine| !machine.ek_sha256.is_empty() || !machine.ak_sha256.is_empty());
        Self {
            references,
            declared,
            pinned: pinned.map(|machine| machine.pool.as_deref()).collect(),
        }
    }
}

pub(super) fn check(estate: &Estate, declared: &Declared, remarks: &mut Vec<Remark>) {
    let witnesses = Witnesses::of(estate.references(), declared);
    for info in &estate.policies.list {
        let pool = pool_of(info);
        let mut told: Vec<(String, Role)> = Vec::new();
        for (path, role) in paths_by_role(&info.body) {
            let Some(fact) = fact_of(&path) else {
                continue;
            };
            if let Some((why, next)) = witnesses.unstated(&fact, pool) {
                let one = (why, role);
                if !told.contains(&one) {
                    remarks.push(remark(info, &format!("`{fact}`"), &one.0, role, next));
                    told.push(one);
                }
            }
        }
        for (comparison, role) in comparisons_by_role(&info.body) {
            let fact = fact_of(&comparison.path).unwrap_or_default();
            for value in &comparison.texts {
                if let Some((why, next)) = witnesses.unyielded(&fact, value, pool) {
                    let what = format!("`{fact}` as {value:?}");
                    remarks.push(remark(info, &what, &why, role, next));
                }
            }
        }
    }
}

fn remark(info: &PolicyInfo, what: &str, why: &str, role: Role, next: &str) -> Remark {
    let so = match (info.reference.effect, role) {
        (Effect::Permit, Role::Wanted) => "what needs it is granted to nobody",
        (Effect::Permit, Role::Exempting) => {
            "what it is to keep from being granted is kept from nobody: it is granted as if the exception \
             were not there"
        }
        (Effect::Forbid, Role::Wanted) => "what needs it is forbidden to nobody",
        (Effect::Forbid, Role::Exempting) => {
            "what it is to exempt is exempted for nobody: it is forbidden to everybody in the policy's scope"
        }
    };
    Remark::of_policy(
        Severity::Warning,
        Means::Declarations,
        "LINT-FACT-UNSTATED",
        &info.reference,
        format!("nobody states {what}: {why}; {so}"),
        next,
    )
}

/// The pool that the scope names, of policies about `assume`.
fn pool_of(info: &PolicyInfo) -> Option<&str> {
    match &info.principal {
        Scope::In(_, uid) if uid.type_name().to_string() == "Pool" => Some(uid.id().unescaped()),
        _ => None,
    }
}

fn is_of(fact: &str, branches: &[&str]) -> bool {
    branches.iter().any(|branch| {
        fact == *branch
            || fact
                .strip_prefix(branch)
                .is_some_and(|rest| rest.starts_with('.'))
    })
}

impl Witnesses<'_> {
    /// Why nobody states `fact` of machines of `pool`, or of any, and what would make somebody.
    fn unstated(&self, fact: &str, pool: Option<&str>) -> Option<(String, &'static str)> {
        let (references, declared) = (self.references, self.declared);
        if is_of(fact, &OF_TPM) {
            return self.without_tpm(pool);
        }
        if is_of(fact, &["machine.tee"]) {
            let asked = match pool {
                Some(pool) => references.tees_of(pool).next().is_some(),
                None => !references.tees.is_empty(),
            };
            let whom = pool.map_or_else(String::new, |pool| format!(" for pool `{pool}`"));
            return (!asked).then(|| {
                let why = format!("no `[[tee]]` of references/ asks{whom}");
                (
                    why,
                    "declare what the machines' hardware has to show: `[[tee]]`",
                )
            });
        }
        if is_of(fact, &["machine.cloud"]) {
            let by_root = references
                .tpm_roots
                .values()
                .any(|root| root.cloud.is_some());
            let by_paravisor = references
                .tees
                .iter()
                .any(|tee| tee.kind().as_str().starts_with("azure-"));
            return (!by_root && !by_paravisor).then(|| {
                let why =
                    "no `[[tpm_root]]` names a cloud, and no `[[tee]]` a paravisor".to_owned();
                (why, "declare the cloud's root: `[[tpm_root]]` with `cloud`")
            });
        }
        let own = fact.replacen("code.image.", "code.", 1);
        if is_of(&own, &OF_PROVENANCE) && declared.provenance.is_empty() {
            let why = "no `[[provenance]]` of references/ says whose word counts".to_owned();
            return Some((why, "declare whose provenance counts: `[[provenance]]`"));
        }
        if is_of(&own, &["code.signer", names::CODE_APPROVED_BY])
            && declared.signers.is_empty()
            && declared.provenance.is_empty()
        {
            let why = "no `[[signer]]` of references/ says who may vouch for code".to_owned();
            return Some((why, "declare who may vouch for code: `[[signer]]`"));
        }
        None
    }

    /// A machine comes into a pool by its pinned key, or by the token that it joined with, which shows nothing
    /// of a TPM.
    fn without_tpm(&self, pool: Option<&str>) -> Option<(String, &'static str)> {
        let references = self.references;
        match pool {
        Some(pool) if !self.pinned.contains(&Some(pool)) => Some((
            format!("no machine of pool `{pool}` is declared with a TPM's key: all join by token"),
            "pin the machines' keys: `[[machine]]` with `pool` and `ek_sha256`",
        )),
        Some(_) => None,
        None if references.tpm_roots.is_empty()
            && self.pinned.is_empty()
            && references.tees.is_empty() =>
        {
            Some((
                "no `[[tpm_root]]` and no `[[machine]]` with a TPM's key is declared: all join by token"
                    .to_owned(),
                "declare whose TPMs count, `[[tpm_root]]`, or pin keys: `[[machine]]`",
            ))
        }
        None => None,
    }
    }

    /// Why nobody states `fact` with this value, which verifiers know.
    fn unyielded(
        &self,
        fact: &str,
        value: &str,
        pool: Option<&str>,
    ) -> Option<(String, &'static str)> {
        let references = self.references;
        match (fact, value) {
            (names::MACHINE_JOIN, "tpm")
            | (names::MACHINE_KEY, "tpm" | "memory-vouched-by-tpm") => self.without_tpm(pool),
            (names::MACHINE_JOIN, "enclave") | (names::MACHINE_KEY, "memory-of-enclave") => {
                let mut asked = references.tees.iter();
                let placed = asked
                    .any(|tee| tee.kind().is_enclave() && pool.is_none_or(|pool| tee.pool == pool));
                (!placed).then(|| {
                    (
                        "no `[[tee]]` of references/ places enclaves".to_owned(),
                        "declare which enclaves stand in the pool: `[[tee]]` with `kind = \"nitro\"` or `\"sgx\"`",
                    )
                })
            }
            (names::MACHINE_TEE_KIND, kind) => {
                let mut asked = references
                    .tees
                    .iter()
                    .filter(|tee| pool.is_none_or(|pool| tee.pool == pool))
                    .peekable();
                // Without any the fact itself is remarked on.
                asked.peek()?;
                (!asked.any(|tee| tee.kind().as_str() == kind)).then(|| {
                    (
                        format!("no `[[tee]]` of references/ asks for `{kind}`"),
                        "declare what such machines have to show: `[[tee]]` with `kind`",
                    )
                })
            }
            (names::MACHINE_CLOUD_PROVIDER, "google") => {
                let mut roots = references.tpm_roots.values();
                let google = roots.any(|root| root.cloud == Some(Cloud::Google));
                let others = !references.tees.is_empty() || !references.tpm_roots.is_empty();
                (!google && others).then(|| {
                    (
                        "no `[[tpm_root]]` is Google's".to_owned(),
                        "declare it: `[[tpm_root]]` with `cloud = \"google\"`",
                    )
                })
            }
            _ => None,
        }
    }
}
