//! Acting for others, proved: from the text of a delegation token, and who presents it, to a chain that the
//! estate decides over.
//!
//! It proves who agreed. What the chain may do is not decided here: that is the estate's conjunction, by the
//! grants and policies in force when something is asked.

use crate::Following;
use crate::admission::CATCH_UP;
use crate::follow::Current;
use estate::{Chain, ChainFacts, Scope};
use facts::{FactSet, Finding, Timestamp};
use ledger::Decimal;
use ledger::body::OnBehalfOf;
use spiffe_core::SpiffeId;
use spiffe_core::delegation::{DelegationToken, Terms};

/// A chain that was agreed to, link by link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// For the estate: who began it first, the presenter last, each link within its scope.
    pub chain: Chain,
    /// When the first of its links ends.
    pub expires_at: Timestamp,
    /// The first link first.
    pub links: Vec<DelegatedLink>,
}

/// One link: who let whom act, and by which record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedLink {
    pub from: SpiffeId,
    pub to: SpiffeId,
    pub jti: String,
    /// Index in the server's ledger.
    pub record: u64,
    /// What is known of `from` when it let `to` act; nothing of a person.
    pub shown: Option<Shown>,
}

/// The SVID by which somebody delegated on, and what its issuance showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub serial: String,
    /// Index of its record in the server's ledger.
    pub issuance: u64,
    /// Index of the record of the estate that it was issued under.
    pub estate: u64,
    pub facts: FactSet,
}

impl Delegated {
    /// As records have it: who delegated, and by what.
    #[must_use]
    pub fn on_behalf_of(&self) -> Vec<OnBehalfOf> {
        let links = self.links.iter().map(|link| OnBehalfOf {
            spiffe_id: link.from.to_string(),
            jti: link.jti.clone(),
            issuance: link.shown.as_ref().map(|shown| Decimal(shown.issuance)),
        });
        links.collect()
    }

    /// By whose facts each of the chain is decided: who delegated on by its own, as it was then.
    ///
    /// INVARIANT: facts that an SVID was issued on under an estate below the floor show too little, as that SVID
    /// would; then nothing is known.
    #[must_use]
    pub fn facts(&self, current: &Current, session: ChainFacts) -> ChainFacts {
        let shown = self.links.iter().filter_map(|link| {
            let shown = link.shown.as_ref()?;
            (shown.estate >= current.floor).then_some((link.from.identity_path(), shown))
        });
        shown.fold(session, |known, (path, shown)| {
            known.with(path, current.estate.prepare(&shown.facts))
        })
    }
}

impl Following {
    /// The chain that `token` proves. `presenter` is whoever has shown its SVID on this connection and was
    /// admitted: the token is no bearer's and counts with nobody else.
    ///
    /// # Errors
    /// `GATEWAY-STALE`, `GATEWAY-UNWITNESSED`, `GATEWAY-NO-ESTATE`, `FOLLOW-FORKED`, `FOLLOW-CHECKPOINT-UNKNOWN`,
    /// `DELEGATION-TOKEN-…`, `DELEGATION-WORDS`, `DELEGATION-CHAIN`.
    pub async fn delegated(
        &self,
        token: &str,
        presenter: &SpiffeId,
        now: Timestamp,
    ) -> Result<Delegated, Finding> {
        self.fresh(now)?;
        self.seen_by_others(now)?;
        let parsed = DelegationToken::parse(token)?;
        let bundle = self.bundle().ok_or_else(|| {
            Finding::new(
                "GATEWAY-NO-BUNDLE",
                "no trust bundle has come from the server yet",
            )
            .next("look at the connection to the server")
        })?;
        let recorded = parsed
            .verify(&bundle, presenter, now)?
            .recorded(&self.ledger_key())?;
        // INVARIANT 1: neither the key of JWTs alone, nor a forked ledger, makes a delegation.
        self.on_chain(&recorded.receipt.checkpoint, CATCH_UP)
            .await?;
        let delegated = read(&recorded.terms, recorded.receipt.index)?;
        self.still_delegated(&delegated, now)?;
        Ok(delegated)
    }

    /// Whether nobody of a chain that is only told, but its last, was revoked: that one has shown its SVID.
    ///
    /// # Errors
    /// `DELEGATION-CLAIM-REVOKED`.
    pub fn none_revoked(&self, chain: &Chain) -> Result<(), Finding> {
        let others = chain.principals().split_last().map(|(_, others)| others);
        let mut others = others.into_iter().flatten();
        // INVARIANT 7: whoever was revoked is acted for no more on somebody's word.
        let hit = self.revocations(|revocations| others.find(|path| revocations.hit_claimed(path)));
        hit.map_or(Ok(()), |path| {
            let what = "somebody for whom it is said to act was revoked";
            Err(Finding::new("DELEGATION-CLAIM-REVOKED", what)
                .observed(path.clone())
                .next(
                    "where they were restored since, present a delegation token: trilith delegate",
                ))
        })
    }

    /// Whether what was proved before still holds: for a session, before each of its operations.
    ///
    /// # Errors
    /// `DELEGATION-TOKEN-EXPIRED`, `DELEGATION-TOKEN-REVOKED`.
    pub fn still_delegated(&self, delegated: &Delegated, now: Timestamp) -> Result<(), Finding> {
        if now >= delegated.expires_at {
            return Err(
                Finding::new("DELEGATION-TOKEN-EXPIRED", "the delegation has ended")
                    .expected(format!("a time before {}", delegated.expires_at))
                    .observed(now.to_string())
                    .next("ask for a new one: trilith delegate, or have the person log in again"),
            );
        }
        // INVARIANT 7: what rests on a link that was revoked falls with it.
        let hit = delegated.links.iter().find_map(|link| {
            let why = self.revocations(|revocations| revocations.hit_link(link))?;
            Some((link, why))
        });
        hit.map_or(Ok(()), |(link, why)| {
            let what = format!("the delegation is revoked: {why}");
            Err(Finding::new("DELEGATION-TOKEN-REVOKED", what)
                .observed(format!("{} to {}, {}", link.from, link.to, link.jti))
                .next("ask whoever delegated to do so again"))
        })
    }
}

fn read(terms: &Terms, last: u64) -> Result<Delegated, Finding> {
    let mut chain = Chain::of(terms.person().identity_path());
    let mut links = Vec::with_capacity(terms.links().len());
    let mut expires_at = None;
    for (from, link) in terms.principals().zip(terms.links()) {
        let scope = Scope::from_words(
            link.scope.actions.as_deref(),
            link.scope.resources.as_deref(),
        )?;
        chain = chain.then(link.to.identity_path(), scope)?;
        let ends = expires_at.map_or(link.expires_at, |ends: Timestamp| ends.min(link.expires_at));
        expires_at = Some(ends);
        links.push(DelegatedLink {
            from: from.clone(),
            to: link.to.clone(),
            jti: link.jti.to_string(),
            record: link.record.unwrap_or(last),
            shown: link.by.as_ref().map(|by| Shown {
                serial: by.serial.clone(),
                issuance: by.issuance,
                estate: by.estate,
                facts: spiffe_core::shown::facts_of(&by.facts, link.issued_at),
            }),
        });
    }
    Ok(Delegated {
        chain,
        expires_at: expires_at.unwrap_or(Timestamp::EPOCH),
        links,
    })
}
