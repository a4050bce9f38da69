//! One version of the estate, compiled: what servers, gateways and agents hold.

use crate::action::Action;
use crate::administrator::Administrator;
use crate::ask::Below;
use crate::authorize::{Case, Prepared, Unanswerable};
use crate::decision::{Decision, Explanation, Request};
use crate::entities::{Graph, Node};
use crate::expectations::{TestOutcome, run};
use crate::fact_schema::code_names;
use crate::files::EstateFiles;
use crate::index::{AssumeIndex, ScopeIndex};
use crate::invariant::{Invariant, parse_invariants};
use crate::model::{Identity, Model, References, Resource, Settings, TableInfo};
use crate::policy::{Policies, check_visible, parse_policies, unreadable_statements};
use crate::problem::Problem;
use crate::resolve::{PlacedTest, resolve, unreadable_declarations};
use crate::resource::{ResourceKind, ResourceRef};
use crate::sieve::Sides;
use crate::vocabulary::{Vocabulary, unreadable};
use cedar_policy::{Authorizer, PartialEntities};
use facts::FactSet;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

/// Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Estate {
    version: String,
    files: EstateFiles,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) model: Model,
    pub(crate) policies: Policies,
    pub(crate) invariants: Vec<Invariant>,
    pub(crate) graph: Graph,
    pub(crate) index: ScopeIndex,
    pub(crate) assume_index: AssumeIndex,
    pub(crate) authorizer: Authorizer,
    pub(crate) tests: Vec<PlacedTest>,
    /// Made at the first question that evaluates partially.
    pub(crate) partial: OnceLock<Option<PartialEntities>>,
    /// Questions that were evaluated partially before that.
    pub(crate) asked_partially: AtomicUsize,
    pub(crate) below: OnceLock<Below>,
    pub(crate) sides: OnceLock<Vec<Sides>>,
}

impl Estate {
    /// # Errors
    /// Everything that is wrong with the files, in order of file and line.
    pub fn compile(files: &EstateFiles) -> Result<Self, Vec<Problem>> {
        Self::compile_by(files, false)
    }

    /// As [`Estate::compile`], for a version that a ledger has as applied: rules that came later than it,
    /// of identities' paths and DNS names, are for the next apply to enforce. What its policies name as resources were
    /// written in its time is what is written otherwise now.
    ///
    /// # Errors
    /// As [`Estate::compile`].
    pub fn compile_recorded(files: &EstateFiles) -> Result<Self, Vec<Problem>> {
        Self::compile_by(files, true)
    }

    fn compile_by(files: &EstateFiles, recorded: bool) -> Result<Self, Vec<Problem>> {
        on_a_deep_stack(|| {
            Self::assemble(files, recorded).map_err(|problems| unreadable_first(files, problems))
        })
        .map_err(|mut problems| {
            problems.sort();
            problems.dedup();
            problems
        })
    }

    fn assemble(files: &EstateFiles, recorded: bool) -> Result<Self, Vec<Problem>> {
        let vocabulary = Vocabulary::of(files)?;
        let resolved = resolve(files, &vocabulary, recorded)?;
        let model = resolved.model;
        // Policies and entities take the same time, and neither needs the other.
        let (read, graph) = std::thread::scope(|scope| {
            let graph = scope.spawn(|| Graph::build(&model, &vocabulary));
            let policies = parse_policies(files, &vocabulary, &model, recorded);
            let invariants = parse_invariants(files, &vocabulary.schema, &model, recorded);
            ((policies, invariants), graph.join())
        });
        let (policies, invariants) = match read {
            (Ok(policies), Ok(invariants)) => (policies, invariants),
            (Err(mut problems), Err(more)) => {
                problems.extend(more);
                return Err(problems);
            }
            (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => return Err(problems),
        };
        let ended = || Problem::new("ESTATE-THREAD", "", 0, "the entities were not made");
        let graph = graph.unwrap_or_else(|_| Err(ended()));
        let graph = graph.map_err(|problem| vec![problem])?;
        let hidden = check_visible(&policies, &model, &graph);
        if !hidden.is_empty() {
            return Err(hidden);
        }
        let index = ScopeIndex::build(&policies, &graph, &vocabulary)
            .map_err(|error| vec![Problem::new("ESTATE-INDEX", "", 0, error.to_string())])?;
        let assume_index = AssumeIndex::build(&policies, &model, &graph);
        let estate = Self {
            version: files.version(),
            files: files.clone(),
            vocabulary,
            model,
            policies,
            invariants,
            graph,
            index,
            assume_index,
            authorizer: Authorizer::new(),
            tests: resolved.tests,
            partial: OnceLock::new(),
            asked_partially: AtomicUsize::new(0),
            below: OnceLock::new(),
            sides: OnceLock::new(),
        };
        // Among a million resources it takes longer than a first answer may, and a hundredth of compiling them.
        estate.below();
        Ok(estate)
    }

    /// SHA-256 of the blob, lower-case hex.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    #[must_use]
    pub const fn files(&self) -> &EstateFiles {
        &self.files
    }

    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.model.settings.trust_domain
    }

    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.model.settings
    }

    #[must_use]
    pub const fn references(&self) -> &References {
        &self.model.references
    }

    /// By path, `payments/api`. Of an instance: its template.
    #[must_use]
    pub fn identity(&self, path: &str) -> Option<&Identity> {
        self.model.identity(path)
    }

    /// In order of their paths, templates as they are declared.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.model.identities.values()
    }

    /// What is declared of a table, by escaped path, `shop/public/cards`.
    #[must_use]
    pub fn table(&self, path: &str) -> Option<TableInfo> {
        self.model.objects.get(&ResourceRef::table(path)).cloned()
    }

    /// Whether columns are decided on beside their tables.
    #[must_use]
    pub const fn decides_columns(&self) -> bool {
        self.vocabulary.columns
    }

    /// The columns that a file lists of a table.
    pub fn columns_of(&self, table: &ResourceRef) -> impl Iterator<Item = &str> {
        let table = self.model.objects.get(table);
        table
            .into_iter()
            .flat_map(|table| table.columns.keys().map(String::as_str))
    }

    /// What a table, function or column counts as, declared or not.
    #[must_use]
    pub fn object(&self, resource: &ResourceRef) -> TableInfo {
        self.model
            .objects
            .get(resource)
            .cloned()
            .unwrap_or_else(|| self.model.undeclared(resource))
    }

    /// What is declared beside databases, in order of kind and name.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.model.others.values()
    }

    /// What identities can do to resources: the actions of the base schema, and the estate's own.
    pub fn uses(&self) -> impl Iterator<Item = Action> {
        self.vocabulary.uses()
    }

    /// What the action can be done to; nothing of one that the estate does not know.
    #[must_use]
    pub fn resource_kinds(&self, action: Action) -> &[ResourceKind] {
        self.vocabulary.kinds_of(action)
    }

    /// Declared tables and functions, in order of kind and path.
    pub fn objects(&self) -> impl Iterator<Item = &TableInfo> {
        self.model.objects.values()
    }

    /// Whose signatures count under what weakens an invariant, by name.
    #[must_use]
    pub const fn authors(&self) -> &BTreeMap<String, crypto::PublicKey> {
        &self.model.authors
    }

    #[must_use]
    pub fn invariants(&self) -> &[Invariant] {
        &self.invariants
    }

    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.policies.list.len()
    }

    /// May a workload of which `facts` hold become the identity `path`? A refusal says in `findings`
    /// what was expected and seen.
    pub fn assume(&self, facts: &FactSet, path: &str) -> Decision {
        let case = match self.assume_case(facts, path) {
            Ok(case) => case,
            Err(unanswerable) => return self.unanswerable_assume(&unanswerable),
        };
        let mut decision = case.decide(self);
        if !decision.allow {
            self.explain_refusal(&case, facts, path, &mut decision);
        }
        decision
    }

    /// The identities that such a workload may become, in order of their paths; an instance of a template with
    /// the path that the facts make. Looks at those that the facts lead to, however many are declared.
    #[must_use]
    pub fn assumable(&self, facts: &FactSet) -> Vec<(Cow<'_, Identity>, Decision)> {
        let Ok(workload) = self.workload(facts) else {
            return Vec::new();
        };
        in_order(self.reached(facts).filter_map(|(node, identity)| {
            let identity = self.instance(identity, facts).ok()?;
            let decision = self.assume_node(&workload, node).ok()?.decide(self);
            decision.allow.then_some((identity, decision))
        }))
    }

    /// The templates that policies would give such a workload, and whose paths its facts do not fill in, with
    /// why not; in order of their paths.
    #[must_use]
    pub fn unfilled(&self, facts: &FactSet) -> Vec<(&Identity, Decision)> {
        let Ok(workload) = self.workload(facts) else {
            return Vec::new();
        };
        self.reached(facts)
            .filter_map(|(node, identity)| {
                if !identity.is_template() {
                    return None;
                }
                let why_not = self.instance(identity, facts).err()?;
                let decision = self.assume_node(&workload, node).ok()?.decide(self);
                let refused = self.unanswerable_assume(&why_not);
                decision.allow.then_some((identity, refused))
            })
            .collect()
    }

    /// The identities worth comparing a refused workload with, `most` at most, in order of their paths: all if
    /// there are no more, else those whose permits lack the fewest of what they need of its facts.
    #[must_use]
    pub fn nearest(&self, facts: &FactSet, most: usize) -> Vec<&Identity> {
        if self.model.identities.len() <= most {
            return self.identities().collect();
        }
        let names = code_names(facts, &self.model.references);
        let nearest = self.assume_index.nearest(facts, names, &self.graph, most);
        let paths = nearest.into_iter().filter_map(|id| self.graph.node(id));
        let mut found: Vec<_> = paths
            .filter_map(|node| self.model.identities.get(node.path()))
            .collect();
        found.sort_by(|left, right| left.path.cmp(&right.path));
        found
    }

    /// The identities that some permit could give such a workload.
    fn reached(&self, facts: &FactSet) -> impl Iterator<Item = (&Node, &Identity)> {
        let known_as = code_names(facts, &self.model.references);
        let reached = self.assume_index.reached(facts, known_as, &self.graph);
        reached.into_iter().filter_map(|id| {
            let node = self.graph.node(id)?;
            let identity = self.model.identities.get(node.uid.id().unescaped())?;
            Some((node, identity))
        })
    }

    /// As [`Estate::assumable`] by asking of one identity after another, each by the scope index: what the benchmark
    /// compares with, where by all policies it would take an hour.
    #[must_use]
    pub fn assumable_one_by_one(&self, facts: &FactSet) -> Vec<(Cow<'_, Identity>, Decision)> {
        in_order(self.identities().filter_map(|identity| {
            let identity = self.instance(identity, facts).ok()?;
            let decision = self.assume_case(facts, &identity.path).ok()?.decide(self);
            decision.allow.then_some((identity, decision))
        }))
    }

    /// As [`Estate::assumable`] by every identity and all policies, without any index: the slow truth.
    #[must_use]
    pub fn assumable_plainly(&self, facts: &FactSet) -> Vec<(Cow<'_, Identity>, Decision)> {
        in_order(self.identities().filter_map(|identity| {
            let identity = self.instance(identity, facts).ok()?;
            let decision = self.assume_plainly(facts, &identity.path);
            decision.allow.then_some((identity, decision))
        }))
    }

    /// The path by which a workload of these facts would be this identity; `None` of a template that the facts do
    /// not fill in.
    #[must_use]
    pub fn path_for<'a>(&'a self, identity: &'a Identity, facts: &FactSet) -> Option<Cow<'a, str>> {
        match self.instance(identity, facts).ok()? {
            Cow::Borrowed(identity) => Some(Cow::Borrowed(&identity.path)),
            Cow::Owned(identity) => Some(Cow::Owned(identity.path)),
        }
    }

    /// May the request happen? The one-off form of [`Estate::decide_prepared`].
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let prepared = self.prepare(request.facts);
        self.decide_prepared(
            request.principal,
            request.action,
            &request.resource,
            &prepared,
        )
    }

    /// The hot path: no allocation for facts, no search of all policies. Where columns are decided on, a column is
    /// allowed if its table is as well.
    pub fn decide_prepared(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
        prepared: &Prepared,
    ) -> Decision {
        let alone =
            |resource: &ResourceRef| self.decide_alone(principal, action, resource, prepared);
        self.with_table(alone(resource), action, resource, alone)
    }

    pub(crate) fn decide_alone(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
        prepared: &Prepared,
    ) -> Decision {
        answer(
            self.use_case(principal, action, resource, prepared),
            |case| case.decide(self),
        )
    }

    /// May the local user `uid` do this to the estate, or to an identity or machine of it?
    pub fn decide_admin(&self, uid: u32, action: Action, resource: &ResourceRef) -> Decision {
        self.decide_administrator(&Administrator::Uid(uid), action, resource)
    }

    /// As [`Estate::decide_admin`], of whoever administers. A person whom no `[[administrator]]` names may
    /// nothing, whatever the policies say.
    pub fn decide_administrator(
        &self,
        who: &Administrator,
        action: Action,
        resource: &ResourceRef,
    ) -> Decision {
        answer(self.admin_case(who, action, resource), |case| {
            case.decide(self)
        })
    }

    /// As [`Estate::decide`] by all policies, without the index: the slow truth that tests and the
    /// benchmark compare with.
    pub fn decide_plainly(&self, request: &Request<'_>) -> Decision {
        let prepared = self.prepare(request.facts);
        let (action, resource) = (request.action, &request.resource);
        let alone = |resource: &ResourceRef| {
            let case = self.use_case(request.principal, action, resource, &prepared);
            answer(case, |case| case.decide_plainly(self))
        };
        self.with_table(alone(resource), action, resource, alone)
    }

    /// As [`Estate::assume`] by all policies, without the index.
    pub fn assume_plainly(&self, facts: &FactSet, path: &str) -> Decision {
        answer(self.assume_case(facts, path), |case| {
            case.decide_plainly(self)
        })
    }

    /// As [`Estate::decide_admin`] by all policies, without the index.
    pub fn decide_admin_plainly(
        &self,
        uid: u32,
        action: Action,
        resource: &ResourceRef,
    ) -> Decision {
        let who = Administrator::Uid(uid);
        answer(self.admin_case(&who, action, resource), |case| {
            case.decide_plainly(self)
        })
    }

    /// The decision with its reasons; of a denial, what came nearest and which condition failed.
    #[must_use]
    pub fn why(&self, request: &Request<'_>) -> Explanation {
        self.explain(request)
    }

    /// Runs `tests/*`, in order of file and line.
    #[must_use]
    pub fn run_tests(&self) -> Vec<TestOutcome> {
        self.tests.iter().map(|test| run(self, test)).collect()
    }
}

fn in_order<'a>(
    found: impl Iterator<Item = (Cow<'a, Identity>, Decision)>,
) -> Vec<(Cow<'a, Identity>, Decision)> {
    let mut found: Vec<_> = found.collect();
    found.sort_by(|(left, _), (right, _)| left.path.cmp(&right.path));
    found
}

/// If a file cannot be read, what follows from what stands in it is not known: then the problems are
/// those of each file by itself, of all files.
fn unreadable_first(files: &EstateFiles, problems: Vec<Problem>) -> Vec<Problem> {
    /// What is wrong with a file whatever stands in the others.
    const BY_ITSELF: [&str; 12] = [
        "ESTATE-CEDAR-SIZE",
        "ESTATE-CLASSIFICATION",
        "ESTATE-DIGEST",
        "ESTATE-DUPLICATE",
        "ESTATE-IDENTITY-OWNER",
        "ESTATE-IDENTITY-PATH",
        "ESTATE-IDENTITY-RESERVED",
        "ESTATE-LAYOUT",
        "ESTATE-NAME",
        "ESTATE-TEMPLATE",
        "ESTATE-TEMPLATE-KIND",
        "ESTATE-TRUST-DOMAIN",
    ];
    if files.check().is_err() {
        return problems;
    }
    let mut unreadable = [unreadable(files), unreadable_declarations(files)].concat();
    unreadable.extend(unreadable_statements(files));
    if unreadable.is_empty() {
        return problems;
    }
    let others = problems.into_iter();
    unreadable.extend(others.filter(|problem| BY_ITSELF.contains(&problem.code.as_str())));
    unreadable
}

/// Cedar's parser and validator recurse, at up to 50 KiB a level in unoptimised builds, and do not
/// look at the stack; statements are capped to `policy::MAX_DEPTH` levels. Pages that are not touched
/// cost nothing.
pub(crate) fn on_a_deep_stack<T: Send>(
    run: impl FnOnce() -> Result<T, Vec<Problem>> + Send,
) -> Result<T, Vec<Problem>> {
    const STACK_BYTES: usize = 128 * 1024 * 1024;
    let failed = |message: &str| vec![Problem::new("ESTATE-THREAD", "", 0, message)];
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("estate-compile".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, run)
            .map_err(|error| failed(&error.to_string()))?
            .join()
            .unwrap_or_else(|_| Err(failed("compiling the estate did not end as it should")))
    })
}

fn answer<'a>(
    case: Result<Case<'a>, Unanswerable>,
    decide: impl FnOnce(&Case<'a>) -> Decision,
) -> Decision {
    match case {
        Ok(case) => decide(&case),
        Err(unanswerable) => unanswerable.decision(),
    }
}
