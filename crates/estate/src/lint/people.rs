//! People who are nobody: no workload becomes a person, so one who does not log in neither acts nor delegates.

use super::{Means, Remark, Severity};
use crate::action::Action;
use crate::decision::Effect;
use crate::estate::Estate;
use crate::policy::{Scope, allows_assume};
use crate::problem::Problem;

pub(super) fn check(estate: &Estate, remarks: &mut Vec<Remark>) {
    for person in estate.identities().filter(|one| one.is_person()) {
        if person.login.is_some() {
            continue;
        }
        let message = format!(
            "`{}` is a person who does not log in: no workload becomes a person, so nothing ever acts for it",
            person.path
        );
        let problem = Problem::new("LINT-PERSON-NO-LOGIN", &*person.file, person.line, message).hint(
            "add `login = { issuer = \"…\", subject = \"…\" }`; or, if a program runs by this name, let its kind be `service`",
        );
        remarks.push(Remark::new(Severity::Error, Means::Declarations, problem));
    }
    for info in &estate.policies.list {
        let by_name = match &info.resource {
            Scope::Eq(uid) => estate.identity(uid.id().unescaped()),
            _ => None,
        };
        let assumes = info
            .actions
            .as_ref()
            .is_some_and(|actions| actions.contains(&Action::Assume));
        let permits = info.reference.effect == Effect::Permit && assumes && allows_assume(info);
        if let Some(person) = by_name.filter(|one| permits && one.is_person()) {
            remarks.push(Remark::of_policy(
                Severity::Error,
                Means::Declarations,
                "LINT-PERSON-ASSUMED",
                &info.reference,
                format!("no workload becomes `{}`, which is a person", person.path),
                "give the workload an identity of its own, and let the person delegate to it (delegations/)",
            ));
        }
    }
}
