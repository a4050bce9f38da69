//! Permits on tables that cover none of their columns, where columns are decided on.

use super::{Means, Remark, Severity};
use crate::action::Action;
use crate::decision::Effect;
use crate::estate::Estate;
use crate::policy::{PolicyInfo, Scope};

pub(super) fn check(estate: &Estate, info: &PolicyInfo, remarks: &mut Vec<Remark>) {
    let by_column = info.actions.as_ref().is_some_and(|actions| {
        let mut actions = actions.iter();
        actions.any(|action: &Action| action.is_by_column())
    });
    let alone = match &info.resource {
        Scope::Eq(uid) if uid.type_name().to_string() == "Table" => {
            format!("`resource == {uid}`")
        }
        Scope::Is(name) if name == "Table" => "`resource is Table`".to_owned(),
        _ => return,
    };
    if !estate.decides_columns() || !by_column || info.reference.effect != Effect::Permit {
        return;
    }
    remarks.push(Remark::of_policy(
        Severity::Warning,
        Means::Text,
        "LINT-COLUMNS-UNCOVERED",
        &info.reference,
        format!("{alone} covers no column, and columns are decided on"),
        "write `resource in Table::\"…\"`, or `in` what the tables lie in, if its columns are meant as well",
    ));
}
