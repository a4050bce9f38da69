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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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

    /// How many questions it knows something of: that they are proved, or refuted.
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

/// A policy with the digest of its text, hex: it is in many questions.
#[derive(Clone)]
struct Known<'a> {
    single: Single<'a>,
    digest: Arc<str>,
    /// Its group ends with it, if groups are of so many and this is divisible by it.
    ends: u16,
}

impl<'a> Known<'a> {
    fn new(single: Single<'a>) -> Self {
        let digest = cedar::digest([single.text()]);
        let [first, second, ..] = digest;
        Self {
            single,
            digest: hex(&digest).into(),
            ends: u16::from_be_bytes([first, second]),
        }
    }
}

/// Everything that is asked of one version.
pub(crate) struct Questions<'a> {
    pub(crate) estate: &'a Estate,
    singles: Vec<Known<'a>>,
    /// What answers: the schema and the engines.
    ground: [u8; 32],
}

impl<'a> Questions<'a> {
    pub(crate) fn new(estate: &'a Estate, solvers: &[String]) -> Self {
        let cedar = cedar_policy::get_sdk_version().to_string();
        let engines = std::iter::once(cedar.as_str()).chain(solvers.iter().map(String::as_str));
        Self {
            estate,
            singles: cedar::singles(estate).map(Known::new).collect(),
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
        let action = env.action().id().unescaped();
        let concerned = self.singles.iter().filter(|known| {
            known.single.concerns(action) && !cedar::apart(invariant, known.single)
        });
        let concerned = concerned.cloned();
        if invariant.kind == InvariantKind::Always {
            return vec![self.question(invariant, env, concerned.collect())];
        }
        let (permits, forbids): (Vec<_>, Vec<_>) =
            concerned.partition(|known| known.single.policy().effect() == Effect::Permit);
        // INVARIANT: on machines that a permit for `assume` does not name, nothing that an agent asserts keeps
        // anybody out: a forbid that rests on it is as if it were not there.
        let assumes = action == Action::Assume.as_str();
        let (placed, elsewhere): (Vec<_>, Vec<_>) = permits
            .into_iter()
            .partition(|permit| !assumes || permit.single.is_placed());
        let mut certain = forbids.clone();
        certain.retain(|forbid| !forbid.single.reads_asserted());
        let mut questions = self.grouped(invariant, env, placed, &forbids);
        questions.extend(self.grouped(invariant, env, elsewhere, &certain));
        questions
    }

    fn grouped(
        &self,
        invariant: &Invariant,
        env: &RequestEnv,
        permits: Vec<Known<'a>>,
        forbids: &[Known<'a>],
    ) -> Vec<Question<'a>> {
        let most = GROUP.max(forbids.len()).next_power_of_two();
        let mut questions = Vec::new();
        let mut group = Vec::new();
        for permit in permits {
            let ends = usize::from(permit.ends) % most == 0;
            group.push(permit);
            if ends || group.len() >= 4 * most {
                group.extend_from_slice(forbids);
                questions.push(self.question(invariant, env, std::mem::take(&mut group)));
            }
        }
        if !group.is_empty() {
            group.extend_from_slice(forbids);
            questions.push(self.question(invariant, env, group));
        }
        questions
    }

    fn question(
        &self,
        invariant: &Invariant,
        env: &RequestEnv,
        policies: Vec<Known<'a>>,
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
        let texts = policies.iter().map(|known| &*known.digest);
        Question {
            digest: cedar::digest(head.into_iter().chain(texts)),
            policies: policies.into_iter().map(|known| known.single).collect(),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
