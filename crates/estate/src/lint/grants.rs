//! Grants to everybody of everything.

use super::{Means, Remark, Severity};
use crate::decision::Effect;
use crate::policy::{PolicyInfo, Scope};

pub(super) fn check(info: &PolicyInfo, remarks: &mut Vec<Remark>) {
    if info.reference.effect != Effect::Permit || !is_of_uses(info) {
        return;
    }
    let open = [
        (everybody(&info.principal), "every identity"),
        (info.actions.is_none(), "every action"),
        (everything(&info.resource), "every resource"),
    ];
    let open: Vec<&str> = open
        .into_iter()
        .filter_map(|(open, what)| open.then_some(what))
        .collect();
    let conditional = !info.body.clauses().is_empty();
    let (severity, code) = match (open.len(), conditional) {
        (3, false) => (Severity::Error, "LINT-GRANTS-ALL"),
        (2 | 3, _) => (Severity::Warning, "LINT-GRANTS-WIDE"),
        _ => return,
    };
    let under = if conditional {
        ", and its conditions alone limit it"
    } else {
        ""
    };
    let message = format!("its scope takes in {}{under}", open.join(" and "));
    let next = "name whom, what and where in the scope: `principal in Group::\"…\"`, \
                `action == Action::\"select\"`, `resource in Schema::\"…\"`";
    remarks.push(Remark::of_policy(
        severity,
        Means::Text,
        code,
        &info.reference,
        message,
        next,
    ));
}

/// Whether identities' use of resources is among what it concerns: not becoming an identity, and not what
/// administrators do.
fn is_of_uses(info: &PolicyInfo) -> bool {
    let actions = info.actions.as_ref().is_none_or(|actions| {
        actions
            .iter()
            .any(|action| *action != crate::Action::Assume && !action.is_administrative())
    });
    let principal = match &info.principal {
        Scope::Any => true,
        Scope::Is(name) | Scope::In(Some(name), _) => name == "Identity",
        Scope::Eq(uid) => uid.type_name().to_string() == "Identity",
        // Administrators can be in groups as well.
        Scope::In(None, uid) => uid.type_name().to_string() == "Group",
    };
    actions && principal
}

fn everybody(principal: &Scope) -> bool {
    match principal {
        Scope::Any => true,
        Scope::Is(name) => name == "Identity",
        Scope::Eq(_) | Scope::In(..) => false,
    }
}

const fn everything(resource: &Scope) -> bool {
    matches!(resource, Scope::Any | Scope::Is(_))
}
