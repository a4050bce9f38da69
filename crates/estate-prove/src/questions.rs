//! An invariant cut into questions that stay the same while nothing that they touch changes, and which of
//! them are known to be proved.
//!
//! `never` over all policies is `never` over each permit with all forbids: a request is allowed if some
//! permit allows it and no forbid does not. So permits are asked about in small groups, cut where a policy's own
//! text says, which moves with no other policy. `always` is asked about the whole at once.

use cedar_policy::{Effect, RequestEnv};
use estate::cedar::{self, Single};
use estate::{Action, Estate, Invariant, InvariantKind};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Questions that are known to be proved. A day's changes, not a history: at the bound it begins anew.
const MOST_KNOWN: usize = 100_000;
/// Permits in a group, about; with many forbids more, as each group is encoded with all of them.
const GROUP: usize = 16;

/// What was proved once and need not be asked again, as nothing that the question is made of has changed.
/// Holds digests alone. Share it between proofs, and between estates if you like.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashSet<[u8; 32]>>);

impl Memory {
    pub(crate) fn knows(&self, question: &[u8; 32]) -> bool {
        self.0.lock().is_ok_and(|known| known.contains(question))
    }

    pub(crate) fn learn(&self, question: [u8; 32]) {
        if let Ok(mut known) = self.0.lock() {
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(question);
        }
    }

    /// How many questions are known to be proved.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().map_or(0, |known| known.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Policies that are asked about together.
pub(crate) struct Question<'a> {
    pub(crate) policies: Vec<Single<'a>>,
    pub(crate) digest: [u8; 32],
}

impl Question<'_> {
    /// That it is proved by fewer than all that it names.
    pub(crate) fn by_fewer(&self) -> [u8; 32] {
        cedar::digest(["by fewer", &hex(&self.digest)])
    }

    /// That something breaks it.
    pub(crate) fn refuted(&self) -> [u8; 32] {
        cedar::digest(["refuted", &hex(&self.digest)])
    }
}

/// Everything that is asked of one version.
pub(crate) struct Questions<'a> {
    pub(crate) estate: &'a Estate,
    singles: Vec<Single<'a>>,
    /// What answers: the schema and the engines.
    ground: [u8; 32],
}

impl<'a> Questions<'a> {
    pub(crate) fn new(estate: &'a Estate, solvers: &[String]) -> Self {
        let cedar = cedar_policy::get_sdk_version().to_string();
        let engines = std::iter::once(cedar.as_str()).chain(solvers.iter().map(String::as_str));
        Self {
            estate,
            singles: cedar::singles(estate).collect(),
            ground: cedar::digest(engines.chain(cedar::schema_texts(estate))),
        }
    }

    /// The next invariant that nobody has begun with.
    pub(crate) fn take(&self, next: &AtomicUsize) -> Option<(usize, &'a Invariant)> {
        let place = next.fetch_add(1, Ordering::Relaxed);
        Some((place, self.estate.invariants().get(place)?))
    }

    /// What has to be proved of one kind of request. Nothing, if no policy can allow what `never` forbids.
    pub(crate) fn about(&self, invariant: &Invariant, env: &RequestEnv) -> Vec<Question<'a>> {
        let concerned = self.singles.iter().copied().filter(|single| {
            single.concerns(env.action().id().unescaped()) && !cedar::apart(invariant, *single)
        });
        if invariant.kind == InvariantKind::Always {
            return vec![self.question(invariant, env, concerned.collect())];
        }
        let (permits, forbids): (Vec<_>, Vec<_>) =
            concerned.partition(|single| single.policy().effect() == Effect::Permit);
        // INVARIANT: on machines that a permit for `assume` does not name, nothing that an agent asserts keeps
        // anybody out: a forbid that rests on it is as if it were not there.
        let assumes = env.action().id().unescaped() == Action::Assume.as_str();
        let (placed, elsewhere): (Vec<_>, Vec<_>) = permits
            .into_iter()
            .partition(|permit| !assumes || permit.is_placed());
        let mut certain = forbids.clone();
        certain.retain(|forbid| !forbid.reads_asserted());
        let mut questions = self.grouped(invariant, env, placed, &forbids);
        questions.extend(self.grouped(invariant, env, elsewhere, &certain));
        questions
    }

    fn grouped(
        &self,
        invariant: &Invariant,
        env: &RequestEnv,
        permits: Vec<Single<'a>>,
        forbids: &[Single<'a>],
    ) -> Vec<Question<'a>> {
        let most = GROUP.max(forbids.len()).next_power_of_two();
        let mut questions = Vec::new();
        let mut group = Vec::new();
        for permit in permits {
            let ends = ends_a_group(permit, most);
            group.push(permit);
            if ends || group.len() >= 4 * most {
                group.extend(forbids);
                questions.push(self.question(invariant, env, std::mem::take(&mut group)));
            }
        }
        if !group.is_empty() {
            group.extend(forbids);
            questions.push(self.question(invariant, env, group));
        }
        questions
    }

    fn question(
        &self,
        invariant: &Invariant,
        env: &RequestEnv,
        policies: Vec<Single<'a>>,
    ) -> Question<'a> {
        let ground = hex(&self.ground);
        let kind = format!(
            "{:?} {} {} {}",
            invariant.kind,
            env.principal(),
            env.action(),
            env.resource()
        );
        let head = [ground.as_str(), kind.as_str(), cedar::text(invariant)];
        let texts = policies.iter().map(|single| single.text());
        Question {
            digest: cedar::digest(head.into_iter().chain(texts)),
            policies,
        }
    }
}

/// By the policy's own text, one of `most`.
fn ends_a_group(single: Single<'_>, most: usize) -> bool {
    let [first, second, ..] = cedar::digest([single.text()]);
    usize::from(u16::from_be_bytes([first, second])) % most == 0
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
