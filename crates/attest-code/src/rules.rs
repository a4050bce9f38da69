//! The rules from observation to facts, and the reasons for what is missing.

use crate::{Caller, Digest, Observed, Program, is_interpreter};
use facts::{FactSet, Finding, Source, Timestamp, Value, names};

/// A longer text is not stated: facts travel and are recorded.
const MAX_TEXT: usize = 1024;
/// A process in more groups than this has no group fact at all, rather than some of its groups.
const MAX_GROUPS: usize = 256;

/// The facts of `observed`, seen at `now`.
///
/// `workload.path`, `code.sha256` and `code.fsverity` are those of the program that the process runs; for a helper those
/// of the program that it is about to execute, with `workload.helper = "exec"`. The digest of Trilith
/// itself and that of an interpreter are never stated: neither is anybody's code.
#[must_use]
pub fn workload_facts(observed: &Observed, now: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    let mut state = |name: &str, value: Value| facts.state(name, value, Source::Asserted, now);

    state(names::WORKLOAD_UID, observed.uid.into());
    state(names::WORKLOAD_GID, observed.gid.into());
    if observed.groups.len() <= MAX_GROUPS {
        let groups: Vec<String> = observed.groups.iter().map(u32::to_string).collect();
        state(names::WORKLOAD_GROUPS, groups.into());
    }
    let caller = match observed.caller {
        Caller::Pidfd => "pidfd",
        Caller::Raceable => "raceable",
    };
    state(names::WORKLOAD_CALLER, caller.into());
    for (name, text) in [
        (names::WORKLOAD_CGROUP, &observed.cgroup),
        (names::WORKLOAD_UNIT, &observed.unit),
    ] {
        if let Some(text) = text.as_deref().filter(|text| fit(text)) {
            state(name, text.into());
        }
    }

    if observed.on_behalf_of.is_some() {
        state(names::WORKLOAD_HELPER, "exec".into());
    }
    let program = subject(observed);
    if let Some(path) = program.path.as_deref().filter(|path| fit(path)) {
        state(names::WORKLOAD_PATH, path.into());
    }
    state(names::WORKLOAD_INTERPRETER, interprets(program).into());
    if speaks_for_itself(observed) {
        if let Some(digest) = sha256(program) {
            state(names::CODE_SHA256, crypto::hex::encode(digest).into());
        }
        if let Some(digest) = &program.fsverity {
            state(names::CODE_FSVERITY, digest.to_string().into());
        }
    }
    facts
}

/// Why facts that a policy may want are absent from [`workload_facts`]. They refuse nothing by
/// themselves; a refusal shows them beside the policy that did not hold.
#[must_use]
pub fn notes(observed: &Observed) -> Vec<Finding> {
    let program = subject(observed);
    let name = program.name.clone().unwrap_or_else(|| "?".to_owned());
    let mut notes = Vec::new();
    if observed.is_helper && observed.on_behalf_of.is_none() {
        notes.push(
            Finding::new(
                "CODE-HELPER",
                "Trilith asked for itself; its digest is nobody's code",
            )
            .observed(name.clone())
            .next("use `trilith exec -- CMD`, or name the uid or unit in the policy"),
        );
    } else if interprets(program) {
        notes.push(
            Finding::new(
                "CODE-INTERPRETER",
                "an interpreter's digest says nothing of the code that it runs",
            )
            .observed(name.clone())
            .next("name the uid or unit in the policy instead of code.sha256"),
        );
    }
    if let Digest::Absent(reason) = &program.digest {
        notes.push(
            Finding::new("CODE-DIGEST", "the executable could not be hashed")
                .observed(reason.clone()),
        );
    }
    if program.path.is_none() {
        notes.push(
            Finding::new(
                "WORKLOAD-PATH",
                "the file at the executable's path on this machine is not the one that runs",
            )
            .observed(name)
            .next("restart the program if it was replaced; a container's path is not stated"),
        );
    }
    if observed.groups.len() > MAX_GROUPS {
        notes.push(
            Finding::new("WORKLOAD-GROUPS", "too many supplementary groups to state")
                .expected(format!("at most {MAX_GROUPS}"))
                .observed(observed.groups.len().to_string()),
        );
    }
    if observed.caller == Caller::Raceable {
        notes.push(
            Finding::new(
                "WORKLOAD-RACEABLE",
                "the kernel cannot name the caller by pidfd",
            )
            .expected("SO_PEERPIDFD")
            .next("run Linux 6.5 or later"),
        );
    }
    notes
}

/// The program that the facts are about.
fn subject(observed: &Observed) -> &Program {
    observed.on_behalf_of.as_ref().unwrap_or(&observed.program)
}

fn interprets(program: &Program) -> bool {
    program.name.as_deref().is_some_and(is_interpreter)
}

fn speaks_for_itself(observed: &Observed) -> bool {
    let asks_for_itself_as_helper = observed.is_helper && observed.on_behalf_of.is_none();
    !asks_for_itself_as_helper && !interprets(subject(observed))
}

const fn sha256(program: &Program) -> Option<&[u8; 32]> {
    match &program.digest {
        Digest::Sha256(digest) => Some(digest),
        Digest::Absent(_) => None,
    }
}

fn fit(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests;
