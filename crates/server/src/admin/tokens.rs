//! By which delegation tokens somebody acted, as a record has it: who let whom act, and what each token was narrowed
//! to.

mod ended;

use self::ended::{Ended, ended, sought};
use crate::core::Core;
use crate::delegating::stands;
use crate::refusal::Refusal;
use estate::{Chain, Link, Scope};
use ledger::body;
use ledger::{Decimal, Record, RecordType};
use ledger_store::StoreError;
use serde::Serialize;
use serde_json::{Value, json};

/// One on whose behalf it was asked: the next one acts for it.
pub(super) struct Acting {
    pub(super) spiffe_id: String,
    /// Of the SVID by which it let the next one act, where it was one.
    pub(super) issuance: Option<Decimal>,
    /// How that was proved; nothing where whoever asked only said so.
    token: Option<Token>,
}

/// A delegation that was presented.
#[derive(Debug, Clone, Default, Serialize)]
struct Token {
    jti: String,
    /// Its record in the server's ledger; nothing where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
    /// Who lets whom act by it, who began it first: SPIFFE IDs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<String>,
    /// `jti` of each that it rests on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rests_on: Vec<String>,
    /// What it was narrowed to beside what the estate grants. `null`: any.
    actions: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    /// Until when it is or was good, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<u64>,
    /// By what it ended; nothing while it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

impl Token {
    /// By which somebody acted at `at`, Unix milliseconds. Blocks on the disk.
    fn of(core: &Core, jti: String, at: u64) -> Result<Self, Refusal> {
        let unread = |error: &StoreError| Refusal::internal("reading a delegation", error);
        let reader = core.journal.reader();
        let row = core.state().delegation(&jti).cloned();
        let found = match &row {
            Some(row) => {
                let record = reader.record(row.index).map_err(|error| unread(&error))?;
                let body = record.expect_body::<body::Delegation>().ok();
                body.map(|body| (row.index, body))
            }
            None => sought(reader, &jti, at).map_err(|error| unread(&error))?,
        };
        let Some((index, body)) = found else {
            return Ok(Self {
                jti,
                ..Self::default()
            });
        };
        let now = core.now().as_millis();
        // What stands was not taken back: no record is looked for.
        let good = row.is_some_and(|row| row.not_after > now && stands(core, &row));
        let ended = match good {
            true => None,
            false => ended(reader, (index, &body), now).map_err(|error| unread(&error))?,
        };
        Ok(Self {
            jti,
            record: Some(index),
            chain: body.chain,
            rests_on: body.rests_on,
            actions: body.actions,
            resources: body.resources,
            ends: Some(body.not_after.saturating_mul(1_000)),
            ended,
        })
    }

    fn scope(&self) -> Result<Scope, Refusal> {
        let scope = Scope::from_words(self.actions.as_deref(), self.resources.as_deref());
        scope.map_err(Refusal::Invalid)
    }
}

/// On whose behalf it was asked, who began it first: as delegations proved, or as somebody told.
///
/// # Errors
/// The ledger cannot be read.
pub(super) fn acted_for(
    core: &Core,
    record: &Record,
    about: Option<&body::About>,
) -> Result<Vec<Acting>, Refusal> {
    let (proven, told) = match about {
        Some(about) => (
            about.on_behalf_of.clone(),
            about.claimed_on_behalf_of.clone(),
        ),
        None => match record.kind() {
            RecordType::Intent => record
                .expect_body::<body::Intent>()
                .map(|intent| (intent.on_behalf_of, intent.claimed_on_behalf_of))
                .unwrap_or_default(),
            _ => record
                .expect_body::<body::Decision>()
                .map(|decision| (decision.on_behalf_of, decision.claimed_on_behalf_of))
                .unwrap_or_default(),
        },
    };
    if proven.is_empty() {
        let told = told.into_iter().map(|spiffe_id| Acting {
            spiffe_id,
            issuance: None,
            token: None,
        });
        return Ok(told.collect());
    }
    let at = record.stamp().wall;
    let proven = proven.into_iter().map(|one| {
        Ok(Acting {
            spiffe_id: one.spiffe_id,
            issuance: one.issuance,
            token: Some(Token::of(core, one.jti, at)?),
        })
    });
    proven.collect()
}

/// The chain that ends with `last`, each link narrowed as its token is.
pub(super) fn chain(core: &Core, others: &[Acting], last: &str) -> Result<Chain, Refusal> {
    let prefix = format!("spiffe://{}/", core.trust_domain);
    let path = |id: &str| id.strip_prefix(&prefix).unwrap_or(id).to_owned();
    let Some((first, between)) = others.split_first() else {
        return Ok(Chain::of(path(last)));
    };
    let mut chain = Chain::of(path(&first.spiffe_id));
    let next = between.iter().map(|one| one.spiffe_id.as_str());
    for (by, to) in others.iter().zip(next.chain([last])) {
        let scope = by
            .token
            .as_ref()
            .map_or_else(|| Ok(Scope::default()), Token::scope)?;
        chain = chain.then(path(to), scope).map_err(Refusal::Invalid)?;
    }
    Ok(chain)
}

/// The links of one access, each with its token.
pub(super) fn told(links: &[Link], others: &[Acting]) -> Vec<Value> {
    let each = links.iter().zip(others).map(|(link, by)| {
        let mut link = json!(link);
        if let (Some(token), Value::Object(members)) = (&by.token, &mut link) {
            members.insert("token".to_owned(), json!(token));
        }
        link
    });
    each.collect()
}
