//! The policies of an estate as somebody wrote them, by name: for who reads what decided, not for deciding.

use crate::decision::PolicyRef;
use crate::estate::on_a_deep_stack;
use crate::files::EstateFiles;
use crate::policy::{each_statement, parse_statement};
use crate::statements::Statement;

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    pub reference: PolicyRef,
    /// From its first annotation to its `;`.
    pub text: String,
}

/// Every statement in `policies/` that can be read; whoever needs to know of the others compiles the estate.
#[must_use]
pub fn policy_texts(files: &EstateFiles) -> Vec<PolicyText> {
    let read = || {
        let mut found = Vec::new();
        for (file, text) in &files.0 {
            let parsed = |statement: Statement<'_>, _: &mut Vec<_>| {
                if let Ok((reference, _)) = parse_statement(file, &statement, statement.text) {
                    let text = statement.text.to_owned();
                    found.push(PolicyText { reference, text });
                }
            };
            if file.starts_with("policies/") {
                each_statement(file, text, &mut Vec::new(), parsed);
            }
        }
        Ok(found)
    };
    on_a_deep_stack(read).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_is_found_by_its_name_as_it_was_written() {
        let mut files = EstateFiles::new();
        let text = "// who\n@id(\"a\")\npermit (principal, action, resource);\n\n  forbid (principal, action, resource)\n  when { context.x };\n";
        files.insert("policies/p.cedar", text);
        files.insert("policies/q.cedar", "permit (principal, action");
        files.insert(
            "invariants/i.cedar",
            "@id(\"i\")\nnever (principal, action, resource);",
        );
        let found = policy_texts(&files);
        let found: Vec<(&str, u32, &str)> = found
            .iter()
            .map(|policy| {
                let PolicyRef { id, line, .. } = &policy.reference;
                (id.as_str(), *line, policy.text.as_str())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("a", 2, "@id(\"a\")\npermit (principal, action, resource);"),
                (
                    "policies/p.cedar:5",
                    5,
                    "forbid (principal, action, resource)\n  when { context.x };"
                ),
            ]
        );
    }
}
