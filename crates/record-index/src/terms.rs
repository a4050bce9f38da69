//! What a record is about: a fold over the records of one ledger, in order. The index keeps what comes of it, and
//! whoever verifies an answer folds again.
//!
//! A record of a session is about the session's identity, and an outcome about what its intent was about. A
//! list that was cut may have held anything, so such a record is about [`CUT`] as well, and every search
//! for a resource finds it; so does any search one whose body cannot be read.

use ledger::body::{self, ActionOn, FactValue};
use ledger::{Record, RecordType};
use std::collections::{BTreeMap, HashMap, VecDeque};
use store::index::{Batch, Dimension, Entry, SessionTerm, UseDelta};

/// The resource of a record whose list of resources was cut, and anything of one that cannot be read. Nothing is called
/// so.
pub(crate) const CUT: &str = "\u{1}cut";
/// What stands in a record for columns that it has no room for.
const ANY_COLUMN: &str = "Column::\"*\"";
/// Intents that wait for their outcomes in memory; an older one is read again.
const INTENTS: usize = 65_536;
/// The last millisecond that the index tells from the ones before it.
const LATEST: u64 = (1 << 63) - 2;
/// Sessions that are kept in memory; of an older one the index knows.
const SESSIONS: usize = 65_536;

type Term = (Dimension, String);

/// Where the fold finds what it does not remember.
pub(crate) trait Before {
    type Error;

    /// Where a session first began, and its terms, as [`SessionTerm`] has them.
    fn session(&mut self, session: &str) -> Result<Option<(u64, String)>, Self::Error>;

    /// A record that was read before.
    fn record(&mut self, index: u64) -> Result<Option<Record>, Self::Error>;
}

/// What an outcome is about.
#[derive(Debug, Clone, Default)]
struct Intended {
    terms: Vec<Term>,
    uses: Vec<UseDelta>,
}

pub(crate) struct Fold {
    /// Sessions that are kept in memory.
    most: usize,
    /// By name, where it first began: whoever uses a name again does not change what came before.
    sessions: HashMap<String, (u64, Vec<Term>)>,
    intents: HashMap<u64, Intended>,
    order: VecDeque<u64>,
    pub(crate) batch: Batch,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            most: SESSIONS,
            sessions: HashMap::new(),
            intents: HashMap::new(),
            order: VecDeque::new(),
            batch: Batch::default(),
        }
    }
}

impl Fold {
    /// One that forgets no session, for whoever asks the ledger alone.
    pub(crate) fn whole() -> Self {
        Self {
            most: usize::MAX,
            ..Self::default()
        }
    }

    /// Takes the record at `index`. A record that this version cannot read is indexed by its time alone.
    pub(crate) fn take<B: Before>(
        &mut self,
        index: u64,
        bytes: &[u8],
        before: &mut B,
    ) -> Result<(), B::Error> {
        let mut entry = Entry {
            record: index,
            ..Entry::default()
        };
        if let Ok(record) = Record::parse(bytes) {
            entry.time = time_of(&record);
            entry.terms = self.terms(index, &record, before)?;
            entry.terms.sort();
            entry.terms.dedup();
        }
        self.batch.entries.push(entry);
        Ok(())
    }

    fn terms<B: Before>(
        &mut self,
        index: u64,
        record: &Record,
        before: &mut B,
    ) -> Result<Vec<Term>, B::Error> {
        let mut terms = own_terms(index, record);
        match record.kind() {
            RecordType::SessionStart => match record.expect_body::<body::SessionStart>() {
                Ok(start) => self.begin(index, start, &mut terms, before)?,
                Err(_) => terms.extend(unread()),
            },
            RecordType::SessionEnd => match record.expect_body::<body::SessionEnd>() {
                Ok(end) => terms.extend(self.session(&end.session, index, before)?),
                Err(_) => terms.extend(unread()),
            },
            RecordType::Intent | RecordType::Decision => {
                let operation = self.operation(index, record, before)?;
                let at = time_of(record);
                for on in &operation.uses {
                    self.batch.uses.push((on.clone(), index, at));
                }
                if operation.allowed {
                    for policy in &operation.policies {
                        self.batch.policies.push((policy.clone(), index, at));
                    }
                }
                terms.extend(operation.terms.iter().cloned());
                if record.kind() == RecordType::Intent {
                    self.remember(record.seq(), operation);
                }
            }
            RecordType::Outcome => match record.expect_body::<body::Outcome>() {
                Ok(outcome) => {
                    let intended = self.intended(index, record, outcome.intent.0, before)?;
                    terms.extend(intended.terms);
                    // Another outcome follows: only the last one counts.
                    if outcome.transaction.as_deref() != Some("pending") {
                        let good = outcome.result == "ok";
                        let uses = intended.uses.into_iter();
                        self.batch.outcomes.extend(uses.map(|on| (on, good)));
                    }
                }
                Err(_) => terms.extend(unread()),
            },
            RecordType::Issuance => {
                if let Ok(issuance) = record.expect_body::<body::Issuance>() {
                    for policy in issuance.policies {
                        self.batch.policies.push((policy, index, time_of(record)));
                    }
                }
            }
            _ => {}
        }
        Ok(terms)
    }

    fn begin<B: Before>(
        &mut self,
        index: u64,
        start: body::SessionStart,
        terms: &mut Vec<Term>,
        before: &mut B,
    ) -> Result<(), B::Error> {
        let mut of_session = vec![(Dimension::Identity, start.spiffe_id)];
        if let Some(issuance) = start.issuance {
            of_session.push((Dimension::Issuance, issuance.0.to_string()));
        }
        let proven = start.on_behalf_of.into_iter().map(|one| one.spiffe_id);
        let others = start.claimed_on_behalf_of.into_iter().chain(proven);
        of_session.extend(others.map(|other| (Dimension::Behalf, other)));
        terms.extend(of_session.iter().cloned());
        terms.push((Dimension::Resource, start.resource));
        if self.began(&start.session, before)?.is_some() {
            return Ok(());
        }
        self.batch.sessions.push(SessionTerm {
            session: start.session.clone(),
            record: index,
            terms: written(&of_session),
        });
        self.know(start.session, (index, of_session));
        Ok(())
    }

    /// The terms of a session that began before the record at `at`.
    fn session<B: Before>(
        &mut self,
        session: &str,
        at: u64,
        before: &mut B,
    ) -> Result<Vec<Term>, B::Error> {
        let began = self.began(session, before)?;
        Ok(began
            .filter(|(start, _)| *start < at)
            .map_or_else(Vec::new, |(_, terms)| terms))
    }

    fn began<B: Before>(
        &mut self,
        session: &str,
        before: &mut B,
    ) -> Result<Option<(u64, Vec<Term>)>, B::Error> {
        if let Some(known) = self.sessions.get(session) {
            return Ok(Some(known.clone()));
        }
        let kept = before.session(session)?;
        let of_batch = || {
            let mut began = self.batch.sessions.iter();
            let began = began.find(|began| began.session == session)?;
            Some((began.record, began.terms.clone()))
        };
        let Some((record, terms)) = kept.or_else(of_batch) else {
            return Ok(None);
        };
        let found = (record, read(&terms));
        self.know(session.to_owned(), found.clone());
        Ok(Some(found))
    }

    fn know(&mut self, session: String, began: (u64, Vec<Term>)) {
        if self.sessions.len() >= self.most {
            self.sessions.clear();
        }
        self.sessions.insert(session, began);
    }

    fn operation<B: Before>(
        &mut self,
        index: u64,
        record: &Record,
        before: &mut B,
    ) -> Result<Operation, B::Error> {
        let Some(told) = Told::of(record) else {
            return Ok(Operation {
                terms: unread().collect(),
                ..Operation::default()
            });
        };
        let mut terms = self.session(&told.session, index, before)?;
        let (on_behalf_of, proven) = told.chain();
        terms.extend(
            on_behalf_of
                .iter()
                .map(|other| (Dimension::Behalf, other.clone())),
        );
        let on_behalf_of = on_behalf_of.join(",");
        if let Some(about) = told.about {
            // Of an answer to a question the actor is who asked.
            terms.push((Dimension::Identity, about.spiffe_id));
            if let Some(issuance) = about.issuance {
                terms.push((Dimension::Issuance, issuance.0.to_string()));
            }
            code(&about.stated, &mut terms);
        }
        let identity = terms
            .iter()
            .rev()
            .find(|(dimension, _)| *dimension == Dimension::Identity)
            .map_or_else(|| record.actor().to_owned(), |(_, text)| text.clone());
        let issuance = terms
            .iter()
            .rev()
            .find(|(dimension, _)| *dimension == Dimension::Issuance)
            .and_then(|(_, text)| text.parse().ok());
        let mut uses = Vec::new();
        for on in told.actions {
            if on.more.is_some() {
                terms.push((Dimension::Resource, CUT.to_owned()));
            }
            terms.push((Dimension::Action, on.action.clone()));
            if on.columns.iter().any(|column| column == ANY_COLUMN) {
                terms.push((Dimension::Resource, CUT.to_owned()));
            }
            for resource in on.resources.into_iter().chain(on.columns) {
                terms.push((Dimension::Resource, resource.clone()));
                uses.push(UseDelta {
                    identity: identity.clone(),
                    resource,
                    action: on.action.clone(),
                    allowed: told.allow,
                    issuance,
                    on_behalf_of: on_behalf_of.clone(),
                    proven,
                });
            }
        }
        uses.sort();
        uses.dedup();
        terms.push((Dimension::Decision, word(told.allow)));
        let policies = told.policies.iter();
        terms.extend(policies.map(|policy| (Dimension::Policy, policy.clone())));
        Ok(Operation {
            terms,
            uses,
            allowed: told.allow,
            policies: told.policies,
        })
    }

    fn remember(&mut self, seq: u64, operation: Operation) {
        let Operation { terms, uses, .. } = operation;
        if self.order.len() >= INTENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.intents.remove(&oldest);
        }
        self.order.push_back(seq);
        self.intents.insert(seq, Intended { terms, uses });
    }

    /// Records are numbered without gaps in the order of the ledger, so an intent stands as far before its
    /// outcome as its number is lower.
    fn intended<B: Before>(
        &mut self,
        index: u64,
        record: &Record,
        seq: u64,
        before: &mut B,
    ) -> Result<Intended, B::Error> {
        if let Some(known) = self.intents.get(&seq) {
            return Ok(known.clone());
        }
        let place = record.seq().checked_sub(seq);
        let place = place.and_then(|back| index.checked_sub(back));
        let Some(place) = place.filter(|place| *place < index) else {
            return Ok(Intended::default());
        };
        match before.record(place)? {
            Some(intent) if intent.kind() == RecordType::Intent && intent.seq() == seq => {
                let Operation { terms, uses, .. } = self.operation(place, &intent, before)?;
                Ok(Intended { terms, uses })
            }
            _ => Ok(Intended::default()),
        }
    }
}

#[derive(Default)]
struct Operation {
    terms: Vec<Term>,
    uses: Vec<UseDelta>,
    allowed: bool,
    policies: Vec<String>,
}

/// What intents and decisions have in common.
pub(crate) struct Told {
    pub(crate) session: String,
    pub(crate) actions: Vec<ActionOn>,
    pub(crate) policies: Vec<String>,
    pub(crate) allow: bool,
    pub(crate) about: Option<body::About>,
    claimed_on_behalf_of: Vec<String>,
    on_behalf_of: Vec<body::OnBehalfOf>,
}

impl Told {
    /// On whose behalf, and whether that was proven.
    fn chain(&self) -> (Vec<String>, bool) {
        let (proven, claimed) = match &self.about {
            Some(about) => (&about.on_behalf_of, &about.claimed_on_behalf_of),
            None => (&self.on_behalf_of, &self.claimed_on_behalf_of),
        };
        if proven.is_empty() {
            return (claimed.clone(), false);
        }
        let proven = proven.iter().map(|one| one.spiffe_id.clone());
        (proven.collect(), true)
    }

    /// By which SVID each let the next one act, where a delegation showed that.
    pub(crate) fn hops(&self) -> BTreeMap<String, Option<u64>> {
        let proven = match &self.about {
            Some(about) => &about.on_behalf_of,
            None => &self.on_behalf_of,
        };
        let each = proven.iter();
        each.map(|one| (one.spiffe_id.clone(), one.issuance.map(|index| index.0)))
            .collect()
    }

    pub(crate) fn of(record: &Record) -> Option<Self> {
        match record.kind() {
            RecordType::Intent => {
                let intent: body::Intent = record.expect_body().ok()?;
                Some(Self {
                    session: intent.session,
                    actions: intent.actions,
                    policies: intent.policies,
                    allow: true,
                    about: None,
                    claimed_on_behalf_of: intent.claimed_on_behalf_of,
                    on_behalf_of: intent.on_behalf_of,
                })
            }
            RecordType::Decision => {
                let decision: body::Decision = record.expect_body().ok()?;
                Some(Self {
                    session: decision.session,
                    actions: decision.actions,
                    policies: decision.policies,
                    allow: decision.allow,
                    about: decision.about,
                    claimed_on_behalf_of: decision.claimed_on_behalf_of,
                    on_behalf_of: decision.on_behalf_of,
                })
            }
            _ => None,
        }
    }
}

/// What the record says by itself.
fn own_terms(index: u64, record: &Record) -> Vec<Term> {
    let mut terms = vec![(Dimension::Type, record.kind().as_str().to_owned())];
    if !record.actor().is_empty() {
        terms.push((Dimension::Identity, record.actor().to_owned()));
    }
    if let Some(estate) = record.estate() {
        terms.push((Dimension::Estate, estate.version.to_string()));
    }
    if body_terms(index, record, &mut terms).is_err() {
        terms.extend(unread());
        if record.kind() == RecordType::Anchor {
            terms.push((Dimension::Resource, format!("{ANCHORED}{CUT}")));
        }
    }
    terms
}

/// What a record may be about whose body this version cannot read: one field more, and nothing else is sure. Every search
/// by what a body says finds it.
fn unread() -> impl Iterator<Item = Term> {
    let of_bodies = [
        Dimension::Identity,
        Dimension::Behalf,
        Dimension::Issuance,
        Dimension::Machine,
        Dimension::Code,
        Dimension::Resource,
        Dimension::Action,
        Dimension::Decision,
        Dimension::Policy,
    ];
    of_bodies.into_iter().map(|of| (of, CUT.to_owned()))
}

fn body_terms(
    index: u64,
    record: &Record,
    terms: &mut Vec<Term>,
) -> Result<(), ledger::RecordError> {
    let mut add = |dimension, text: String| terms.push((dimension, text));
    match record.kind() {
        RecordType::Issuance => {
            let issuance: body::Issuance = record.expect_body()?;
            add(Dimension::Identity, issuance.spiffe_id);
            add(Dimension::Machine, issuance.node);
            add(Dimension::Issuance, index.to_string());
            add(Dimension::Decision, word(true));
            for policy in issuance.policies {
                add(Dimension::Policy, policy);
            }
            code(&issuance.facts, terms);
        }
        RecordType::Delegation => {
            let delegation: body::Delegation = record.expect_body()?;
            for one in delegation.chain {
                add(Dimension::Identity, one);
            }
        }
        RecordType::AssumeRefused => {
            let refused: body::AssumeRefused = record.expect_body()?;
            if let Some(identity) = refused.spiffe_id {
                add(Dimension::Identity, identity);
            }
            add(Dimension::Machine, refused.node);
            add(Dimension::Decision, word(false));
            for policy in refused.policies {
                add(Dimension::Policy, policy);
            }
        }
        RecordType::Revocation => {
            let revocation: body::Revocation = record.expect_body()?;
            match revocation.target.kind {
                body::TargetKind::Identity => add(Dimension::Identity, revocation.target.value),
                body::TargetKind::Machine => add(Dimension::Machine, revocation.target.value),
                body::TargetKind::Serial => {}
            }
        }
        RecordType::Verdict => {
            let verdict: body::Verdict = record.expect_body()?;
            add(Dimension::Machine, verdict.node);
            let affirmed = verdict.outcome == body::VerdictOutcome::Affirmed;
            add(Dimension::Decision, word(affirmed));
            let facts = verdict.facts.into_iter();
            code(&facts.map(|fact| (fact.name, fact.value)).collect(), terms);
        }
        RecordType::Attested => {
            add(
                Dimension::Machine,
                record.expect_body::<body::Attested>()?.node,
            );
        }
        RecordType::TokenCreated => {
            add(
                Dimension::Machine,
                record.expect_body::<body::TokenCreated>()?.node,
            );
        }
        RecordType::TokenSpent => {
            add(
                Dimension::Machine,
                record.expect_body::<body::TokenSpent>()?.node,
            );
        }
        RecordType::NodeState => {
            add(
                Dimension::Machine,
                record.expect_body::<body::NodeState>()?.node,
            );
        }
        RecordType::Lock => add(Dimension::Machine, record.expect_body::<body::Lock>()?.node),
        RecordType::Readmit => {
            add(
                Dimension::Machine,
                record.expect_body::<body::Readmit>()?.node,
            );
        }
        RecordType::JoinRefused => add(Dimension::Decision, word(false)),
        RecordType::EstateVersion => {
            let version: body::EstateVersion = record.expect_body()?;
            add(Dimension::Estate, version.version.to_string());
            add(Dimension::Identity, version.author);
        }
        RecordType::Proof => {
            let proof: body::Proof = record.expect_body()?;
            add(Dimension::Estate, proof.version.to_string());
        }
        RecordType::Admin => {
            let admin: body::Admin = record.expect_body()?;
            add(Dimension::Identity, admin.principal);
            add(Dimension::Action, admin.action);
            add(Dimension::Resource, admin.resource);
            add(Dimension::Decision, word(admin.allow));
        }
        RecordType::Anchor => {
            let anchor: body::Anchor = record.expect_body()?;
            add(Dimension::Resource, anchored(&anchor.origin));
            add(Dimension::Identity, anchor.gateway);
        }
        RecordType::Misbehaviour => {
            add(
                Dimension::Identity,
                record.expect_body::<body::Misbehaviour>()?.by,
            );
        }
        _ => {}
    }
    Ok(())
}

/// Whether records name a column by this.
pub(crate) fn is_column(resource: &str) -> bool {
    resource.starts_with("Column::")
}

/// Whether it stands for columns that the record does not name.
pub(crate) fn is_any_column(resource: &str) -> bool {
    resource == ANY_COLUMN || (is_column(resource) && resource.ends_with("/*\""))
}

/// All whose right an access was: those on whose behalf it was made, then who made it.
pub(crate) fn principals(who: &UseDelta) -> impl Iterator<Item = &str> {
    let others = who
        .on_behalf_of
        .split(',')
        .filter(|other| !other.is_empty());
    others.chain([who.identity.as_str()])
}

/// On whose behalf an access was made, as it was told and as it was proven: one of them is empty.
pub(crate) fn behalf(who: &UseDelta) -> (Vec<String>, Vec<String>) {
    let others = who
        .on_behalf_of
        .split(',')
        .filter(|other| !other.is_empty());
    let others = others.map(str::to_owned).collect();
    if who.proven {
        (Vec::new(), others)
    } else {
        (others, Vec::new())
    }
}

fn word(allow: bool) -> String {
    if allow { "allow" } else { "deny" }.to_owned()
}

/// Digests of code among the facts that a record shows.
fn code(facts: &BTreeMap<String, FactValue>, terms: &mut Vec<Term>) {
    for (name, value) in facts {
        if !name.starts_with("code.") || !estate::is_digest_of_code(name) {
            continue;
        }
        let texts: &[String] = match value {
            FactValue::Text(text) => std::slice::from_ref(text),
            FactValue::List(list) => list,
            FactValue::Bool(_) | FactValue::Integer(_) => &[],
        };
        let digests = texts.iter().map(|text| text.to_ascii_lowercase());
        terms.extend(digests.map(|digest| (Dimension::Code, digest)));
    }
}

/// When a record says that it was made, within what SQLite can count: a clock that is beyond it is at its end.
fn time_of(record: &Record) -> u64 {
    record.stamp().wall.min(LATEST)
}

/// The terms of a session as text. A name is a stranger's: it stands in quotes.
fn written(terms: &[Term]) -> String {
    let words = terms.iter().map(|(dimension, text)| {
        let word = match dimension {
            Dimension::Issuance => "issuance",
            Dimension::Behalf => "behalf",
            _ => "identity",
        };
        (word, text.as_str())
    });
    serde_json::to_string(&words.collect::<Vec<_>>()).unwrap_or_default()
}

fn read(text: &str) -> Vec<Term> {
    let words: Vec<(String, String)> = serde_json::from_str(text).unwrap_or_default();
    let terms = words.into_iter().map(|(word, text)| match word.as_str() {
        "issuance" => (Dimension::Issuance, text),
        "behalf" => (Dimension::Behalf, text),
        _ => (Dimension::Identity, text),
    });
    terms.collect()
}

/// Of what the server has anchored, whichever log of it: by these, what has to be here is found. Of an anchor that cannot be
/// read, [`CUT`] follows.
pub(crate) const ANCHORED: &str = "Ledger::\"";

fn anchored(origin: &str) -> String {
    format!("{ANCHORED}{}\"", ledger::line(origin))
}
