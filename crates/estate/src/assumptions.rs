//! What an `assume` can depend on, compared between two versions.

use crate::action::Action;
use crate::estate::Estate;

/// The folders whose declarations facts and identities are resolved by.
const FOLDERS: [&str; 3] = ["identities/", "references/", "schema/"];

impl Estate {
    /// Nothing differs that an `assume` could depend on: neither identities and references, as they are
    /// written, nor what a policy says whose scope can include `assume`. Names, notes and places of
    /// policies do not count. False when in doubt.
    #[must_use]
    pub fn assumes_as(&self, other: &Self) -> bool {
        let same_policies = match (self.assume_policies(), other.assume_policies()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => false,
        };
        same_policies
            && self.trust_domain() == other.trust_domain()
            && self.declared().eq(other.declared())
    }

    fn declared(&self) -> impl Iterator<Item = (&String, &String)> {
        let files = self.files().0.iter();
        files.filter(|(path, _)| FOLDERS.iter().any(|folder| path.starts_with(folder)))
    }

    /// Without their annotations, in an order of their own.
    fn assume_policies(&self) -> Option<Vec<String>> {
        let relevant = self.policies.list.iter().filter(|info| {
            let actions = info.actions.as_ref();
            actions.is_none_or(|actions| actions.contains(&Action::Assume))
        });
        let written = relevant.map(|info| {
            let mut policy = info.policy.to_json().ok()?;
            policy.as_object_mut()?.remove("annotations");
            Some(policy.to_string())
        });
        let mut written = written.collect::<Option<Vec<_>>>()?;
        written.sort();
        Some(written)
    }
}
