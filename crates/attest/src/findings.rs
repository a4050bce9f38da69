//! Gathers the findings of one verification, so that a refusal names all that is wrong at once.

use facts::Finding;

/// The findings so far. An empty one is no verdict: facts are stated by the verifier itself.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Notes `finding` unless `holds`.
    pub fn check(&mut self, holds: bool, finding: impl FnOnce() -> Finding) {
        if !holds {
            self.0.push(finding());
        }
    }

    /// The value, or its absence after noting why.
    pub fn take<T>(&mut self, result: Result<T, Finding>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(finding) => {
                self.0.push(finding);
                None
            }
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}
