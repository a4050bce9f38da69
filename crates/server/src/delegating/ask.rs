//! A delegation that somebody asks for: judged by the estate, recorded, signed, in this order.

use super::{chain, right, stands};
use crate::core::{Core, draft};
use crate::current::Current;
use crate::metrics::Kind;
use crate::people::LoggedIn;
use crate::refusal::Refusal;
use estate::{Chain, Login, Scope};
use facts::{Finding, Timestamp};
use identity::PreparedDelegation;
use ledger::body::{Body as _, Delegation};
use ledger::{Digest, Draft};
use spiffe_core::delegation::{DelegationToken, Issued, Link, Narrowed, Terms};
use spiffe_core::{Serial, SpiffeId, ValidatedSvid};
use std::sync::Arc;
use store::SvidRow;

/// Of one delegator at once: as many as an agent may have helpers, and no more records than that.
const MOST_LIVE: usize = 1_000;

/// To whom, for what, for how long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// Path or SPIFFE ID.
    pub(crate) to: String,
    /// Empty: any.
    pub(crate) actions: Vec<String>,
    pub(crate) resources: Vec<String>,
    /// Seconds; 0: as long as it may last.
    pub(crate) ttl_s: u64,
}

/// A delegation that was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) token: String,
    pub(crate) jti: String,
    pub(crate) expires_at: Timestamp,
    /// Of its record.
    pub(crate) index: u64,
}

/// Who delegates, as the record says it, and what shows it.
pub(super) struct By {
    pub(super) id: SpiffeId,
    pub(super) auth: String,
    /// Machine of its SVID.
    pub(super) node: String,
    pub(super) shown: Shown,
    /// What its SVID shows of it.
    pub(super) issued: Option<Issued>,
}

/// What shows who delegates. The right to it lasts as long as this does.
pub(super) enum Shown {
    /// The login of a person's session.
    Login(Login),
    Svid(Box<SvidRow>),
}

/// What the issuance of a delegate's SVID showed, from the receipt in it; `None` of one that does not say it.
pub(super) fn issued(core: &Core, svid: &ValidatedSvid) -> Option<Issued> {
    let verified = spiffe_core::receipt::check(svid, &core.ledger_key).ok()?;
    Some(Issued {
        serial: svid.serial.clone(),
        issuance: verified.receipt.index,
        estate: verified.receipt.record.estate()?.index,
        facts: verified.issuance.facts,
    })
}

/// What a delegation rests on, its last record's index beside it.
pub(super) struct Before {
    terms: Terms,
    index: u64,
    chain: Chain,
}

/// The first link: a person lets somebody act.
///
/// # Errors
/// Those of the estate. Whether the person is declared, of that login and not revoked is asked where
/// `person` was made, at this call.
pub(crate) async fn first(core: &Arc<Core>, person: &LoggedIn, ask: Ask) -> Result<Made, Refusal> {
    let current = core.estate()?;
    let id = core.trust_domain.identity(person.person());
    let id = id.map_err(|error| Refusal::internal("naming a person", &error))?;
    let by = By {
        id,
        auth: "oidc".to_owned(),
        node: String::new(),
        shown: Shown::Login(person.login().clone()),
        issued: None,
    };
    make(core, &current, by, None, ask).await
}

/// The next link: whoever `token` lets act, and has authenticated by `svid`, lets another.
///
/// # Errors
/// `DELEGATION-TOKEN-…`, and those of the estate.
pub(crate) async fn next(
    core: &Arc<Core>,
    svid: &SvidRow,
    issued: Option<Issued>,
    token: &str,
    ask: Ask,
) -> Result<Made, Refusal> {
    let current = core.estate()?;
    let id: SpiffeId = svid
        .spiffe_id
        .parse()
        .map_err(|error: spiffe_core::IdError| Refusal::internal("reading a SPIFFE ID", &error))?;
    let before = presented(core, token, &id)?;
    let by = By {
        id,
        auth: format!("x509:{}", svid.serial),
        node: svid.node.clone(),
        shown: Shown::Svid(Box::new(svid.clone())),
        issued,
    };
    make(core, &current, by, Some(before), ask).await
}

/// What `presenter` may delegate on: a token of its own, which this ledger has, and which stands.
fn presented(core: &Core, token: &str, presenter: &SpiffeId) -> Result<Before, Refusal> {
    let parsed = DelegationToken::parse(token).map_err(Refusal::Invalid)?;
    let recorded = parsed
        .verify(&core.authority.bundle(), presenter, core.now())
        .and_then(|presented| presented.recorded(&core.ledger_key))
        .map_err(Refusal::Denied)?;
    let index = recorded.receipt.index;
    let row = core.state().delegation(&recorded.delegation.jti).cloned();
    // A ledger that was rolled back, or forked, has another record there.
    let row = row.filter(|row| row.index == index && row.chain == recorded.delegation.chain);
    let row = row.ok_or_else(|| {
        Refusal::Denied(
            Finding::new(
                "DELEGATION-TOKEN-UNRECORDED",
                "this ledger has no such delegation",
            )
            .observed(recorded.delegation.jti.clone())
            .next("ask whoever delegated to do so again"),
        )
    })?;
    if !stands(core, &row) {
        return Err(revoked(&row.jti));
    }
    let state = core.state();
    let links = state.delegation_links(&row).unwrap_or_default();
    let chain = chain(&links, core.trust_domain.as_str()).map_err(Refusal::Denied)?;
    Ok(Before {
        terms: recorded.terms,
        index,
        chain,
    })
}

pub(super) fn revoked(jti: &str) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "DELEGATION-TOKEN-REVOKED",
            "the delegation is revoked, or one that it rests on",
        )
        .observed(jti.to_owned())
        .next("ask whoever delegated to do so again"),
    )
}

async fn make(
    core: &Arc<Core>,
    current: &Current,
    by: By,
    before: Option<Before>,
    ask: Ask,
) -> Result<Made, Refusal> {
    let decided = decide(core, current, &by, before.as_ref(), ask)?;
    conclude(core, current, &by, decided).await
}

/// What the estate grants, and neither recorded nor signed yet.
pub(super) struct Decided {
    prepared: PreparedDelegation,
    record: Draft,
    jti: String,
    expires_at: Timestamp,
}

pub(super) fn decide(
    core: &Core,
    current: &Current,
    by: &By,
    before: Option<&Before>,
    ask: Ask,
) -> Result<Decided, Refusal> {
    core.signing.check()?;
    let to = delegate(core, &ask.to)?;
    let list = |words: Vec<String>| (!words.is_empty()).then_some(words);
    let (actions, resources) = (list(ask.actions), list(ask.resources));
    let scope =
        Scope::from_words(actions.as_deref(), resources.as_deref()).map_err(Refusal::Invalid)?;
    let chain = match before {
        Some(before) => before.chain.clone(),
        None => Chain::of(by.id.identity_path()),
    };
    let chain = chain
        .then(to.identity_path(), scope.clone())
        .map_err(Refusal::Denied)?;
    // INVARIANT: the estate grants every link, the ones before again by the version in force.
    let longest = current
        .estate
        .may_delegate(&chain)
        .map_err(Refusal::Denied)?;
    let prefix = format!("spiffe://{}/", core.trust_domain);
    let principals = chain.principals().iter();
    let principals: Vec<String> = principals.map(|path| format!("{prefix}{path}")).collect();
    right::holds(core, current, by, &principals)?;
    let living = core
        .state()
        .delegations_of(by.id.as_str(), core.now().as_millis());
    if living >= MOST_LIVE {
        return Err(Refusal::Limited(
            Finding::new(
                "DELEGATION-TOO-MANY",
                "too many delegations of one identity live at once",
            )
            .expected(format!("fewer than {MOST_LIVE}"))
            .next("use one for more than one request, or ask for shorter ones"),
        ));
    }
    let stamp = core.stamp();
    let now = Timestamp::from_millis(stamp.wall);
    let (actions, resources) = scope.to_words();
    let link = Link {
        to,
        jti: Serial::from_random(crypto::random()),
        issued_at: Timestamp::from_secs(now.as_secs()),
        expires_at: ends(core, now, longest.as_secs(), ask.ttl_s, before)?,
        scope: Narrowed { actions, resources },
        record: None,
        by: by.issued.clone(),
    };
    let (jti, expires_at) = (link.jti.to_string(), link.expires_at);
    let rests_on = before.iter().flat_map(|before| before.terms.links());
    let body = Delegation {
        jti: jti.clone(),
        tbs: Digest([0; 32]),
        issuer: Digest([0; 32]),
        not_before: link.issued_at.as_secs(),
        not_after: expires_at.as_secs(),
        chain: Vec::new(),
        rests_on: rests_on.map(|link| link.jti.to_string()).collect(),
        actions: link.scope.actions.clone(),
        resources: link.scope.resources.clone(),
        node: by.node.clone(),
    };
    let terms = match before {
        Some(before) => before.terms.then(before.index, link),
        None => Terms::new(by.id.clone(), vec![link]),
    };
    let terms = terms.map_err(Refusal::Invalid)?;
    let prepared = core
        .authority
        .prepare_delegation(&terms, now)
        .map_err(|error| Refusal::internal("building a delegation", &error))?;
    let body = Delegation {
        tbs: Digest(prepared.digest()),
        issuer: Digest(prepared.issuer()),
        chain: terms.principals().map(ToString::to_string).collect(),
        ..body
    };
    let record = body
        .record()
        .actor(by.id.as_str(), &by.auth)
        .at(stamp)
        .estate(current.reference());
    Ok(Decided {
        prepared,
        record: draft(record)?,
        jti,
        expires_at,
    })
}

/// Records, asks again, signs.
pub(super) async fn conclude(
    core: &Arc<Core>,
    current: &Current,
    by: &By,
    decided: Decided,
) -> Result<Made, Refusal> {
    let Decided {
        prepared,
        record,
        jti,
        expires_at,
    } = decided;
    let committed = core.append_one(record).await?;
    // INVARIANT: a right that ended before the record came into the ledger is none.
    right::confirm(core, current, by, &jti).await?;
    // INVARIANT 1: nothing is signed whose record is not in the ledger.
    let token = prepared
        .finish(&committed.receipt())
        .map_err(|error| Refusal::internal("signing a delegation", &error))?;
    let kind = Kind { kind: "delegation" };
    core.metrics.issued.get_or_create(&kind).inc();
    Ok(Made {
        token,
        jti,
        expires_at,
        index: committed.index(),
    })
}

/// Whom it lets act, who is declared.
fn delegate(core: &Core, text: &str) -> Result<SpiffeId, Refusal> {
    let id = if text.starts_with("spiffe:") {
        text.parse()
    } else {
        core.trust_domain.identity(text)
    };
    let id: Result<SpiffeId, _> = id;
    let wrong = |observed: String| {
        Refusal::Invalid(
            Finding::new("DELEGATION-TO", "this names nobody who can be delegated to")
                .expected("the path of an identity of this trust domain, such as agents/helper")
                .observed(observed),
        )
    };
    let id = id.map_err(|error| wrong(error.to_string()))?;
    if !id.is_member_of(&core.trust_domain) || id.is_root() {
        return Err(wrong(id.to_string()));
    }
    Ok(id)
}

/// As long as was asked for, as the estate lets it, as what it rests on, and as the key that signs it.
fn ends(
    core: &Core,
    now: Timestamp,
    longest: u64,
    asked: u64,
    before: Option<&Before>,
) -> Result<Timestamp, Refusal> {
    let wanted = if asked == 0 {
        longest
    } else {
        asked.min(longest)
    };
    let until = core.authority.jwt_until(now);
    let until = until.map_err(|error| Refusal::internal("finding the key of tokens", &error))?;
    let mut ends = now.plus_secs(wanted).min(until);
    if let Some(last) = before.and_then(|before| before.terms.last()) {
        ends = ends.min(last.expires_at);
    }
    let ends = Timestamp::from_secs(ends.as_secs());
    if ends.as_secs() <= now.as_secs() {
        return Err(Refusal::Denied(
            Finding::new(
                "DELEGATION-TTL",
                "the delegation would end before it begins",
            )
            .expected("a second or more")
            .next("ask for a longer one, or for a new one of what it rests on"),
        ));
    }
    Ok(ends)
}
