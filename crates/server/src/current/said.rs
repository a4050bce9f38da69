//! What came of the evidence about code, for a while.
//!
//! Verifying what was said of a program or an image takes up to dozens of signatures. It depends on the estate
//! and on what it is about, and on nothing that a node agent can vary at will, such as the path of a program. So
//! whatever an agent says, each thing that the estate has evidence of is verified once in that while.

use estate::Subject;
use facts::{Timestamp, Verdict};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// An estate has no more pieces of evidence.
const REMEMBERED: usize = 4_096;

#[derive(Default)]
pub(super) struct Said(RwLock<HashMap<Subject, (Timestamp, Arc<Verdict>)>>);

impl Said {
    /// The verdict about `subject`, by `judge` if it was not judged within the last `known`.
    pub(super) fn verdict(
        &self,
        subject: &Subject,
        (now, known): (Timestamp, Duration),
        judge: impl FnOnce(&Subject) -> Verdict,
    ) -> Arc<Verdict> {
        if let Ok(held) = self.0.read()
            && let Some((at, verdict)) = held.get(subject)
            && now.since(*at) < known
        {
            return Arc::clone(verdict);
        }
        let verdict = Arc::new(judge(subject));
        if let Ok(mut held) = self.0.write() {
            if held.len() >= REMEMBERED {
                held.clear();
            }
            held.insert(subject.clone(), (now, Arc::clone(&verdict)));
        }
        verdict
    }
}
