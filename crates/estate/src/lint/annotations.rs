//! Annotations that nobody will be told: misspelt ones, which no answer repeats, and ones that say nothing.

use super::{Means, Remark, Severity};
use crate::annotation::{ANNOTATIONS, meant_for};
use crate::decision::PolicyRef;

pub(super) fn check(reference: &PolicyRef, of_invariant: bool, remarks: &mut Vec<Remark>) {
    let mut known = vec!["id"];
    known.extend(ANNOTATIONS);
    if of_invariant {
        known.push("proof");
    }
    let mut remark = |code, message: String, next: String| {
        remarks.push(Remark::of_policy(
            Severity::Warning,
            Means::Text,
            code,
            reference,
            message,
            next,
        ));
    };
    for (name, value) in &reference.annotations {
        if let Some(meant) = meant_for(name, &known) {
            remark(
                "LINT-ANNOTATION-UNKNOWN",
                format!("`@{name}` is no annotation that answers repeat"),
                format!("did you mean `@{meant}`?"),
            );
        } else if ANNOTATIONS.contains(&name.as_str()) && value.trim().is_empty() {
            remark(
                "LINT-ANNOTATION-EMPTY",
                format!("`@{name}` says nothing"),
                format!("write `@{name}(\"…\")`, or leave it out"),
            );
        }
    }
}
