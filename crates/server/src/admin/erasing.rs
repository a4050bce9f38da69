//! `trilith ledger erase`: what goes, what has to stay and why, who has to agree, and the record of it.
//!
//! Records stay, each of them, so that every proof does. What they name by commitment or digest goes: openings, sets of
//! facts, evidence, and versions of the estate that are not in force any more.

mod plan;

use self::plan::{Plan, Whom};
use super::again::again;
use super::{Admitted, act, approving};
use crate::core::{Core, draft};
use crate::current::Current;
use crate::refusal::Refusal;
use estate::{ApprovalSubject, GovernedChange, GovernedKind, approved};
use facts::Finding;
use ledger::HexDigest;
use ledger::body::{AuthorSignature, BlobRef, Body as _, ErasedItem, Erasure};
use proto::v1;
use serde_json::{Value, json};
use std::sync::Arc;

/// Contents that one record has room for.
const OF_A_RECORD: usize = 100;
/// Contents of one act.
const MOST: usize = 4_000;
/// Begins the change of a subject that says why.
const SIGNED_REASON: &str = "reason: ";
/// From here on who signs estates signs erasures too.
const AUTHORS: usize = 2;

pub(super) async fn erase(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::EraseRequest,
) -> Result<Value, Refusal> {
    core.signing.check()?;
    let words = words(&request.reason)?;
    let whom = whom(core, &request)?;
    if !request.act {
        let current = core.current.load_full();
        let plan = planned(core, whom).await?;
        let subject = plan.governed(core, current.as_deref(), &words);
        return Ok(told(&plan, subject.as_ref()));
    }
    // INVARIANT: whoever asked may go away; what is recorded is removed all the same.
    let (core, admitted) = (Arc::clone(core), admitted.clone());
    let acting = tokio::spawn(async move { done(&core, &admitted, whom, request).await });
    acting
        .await
        .map_err(|error| Refusal::internal("erasing", &error))?
}

/// Whose, or which records'. Refused while somebody lives by it as a whole.
fn whom(core: &Core, request: &v1::EraseRequest) -> Result<Whom, Refusal> {
    if request.identity.is_empty() && request.records.is_empty() || request.records.len() > MOST {
        return Err(Refusal::Invalid(
            Finding::new("ERASE-WHAT", "the request does not say what to erase")
                .expected(format!("an identity, or up to {MOST} records, or both"))
                .next("trilith ledger erase --identity PATH --reason TEXT"),
        ));
    }
    let records = request.records.clone();
    if request.identity.is_empty() {
        return Ok(Whom {
            path: None,
            records,
        });
    }
    let path = super::acts::identity_path(core, &request.identity)?;
    let id = format!("spiffe://{}/{path}", core.trust_domain);
    let current = core.current.load_full();
    let declared = current
        .as_ref()
        .and_then(|current| current.estate.identity(&path))
        .is_some_and(|identity| identity.login.is_some());
    if declared {
        return Err(Refusal::Precondition(
            Finding::new(
                "ERASE-IN-FORCE",
                "the estate in force says how the person logs in: it cannot go while it is in force",
            )
            .observed(path)
            .next("take the person out of the estate's files and apply them; then erase"),
        ));
    }
    let now = core.now().as_millis();
    let lives = {
        let state = core.state();
        let mut svids = state.svids_of(&id);
        svids.any(|svid| state.stands(svid) && svid.not_after > now)
    };
    if lives {
        let how = match path.strip_prefix("trilith/node/") {
            None => format!("trilith revoke identity {path} --reason TEXT"),
            Some(name) => format!("trilith revoke machine {name} --reason TEXT"),
        };
        return Err(Refusal::Precondition(
            Finding::new("ERASE-LIVE", "the identity has SVIDs that stand")
                .observed(id)
                .next(format!("{how}; or wait until they have ended")),
        ));
    }
    Ok(Whom {
        path: Some((path, id)),
        records,
    })
}

async fn planned(core: &Arc<Core>, whom: Whom) -> Result<Plan, Refusal> {
    let core = Arc::clone(core);
    tokio::task::spawn_blocking(move || Plan::find(&core, &whom)?.judged(&core, None))
        .await
        .map_err(|error| Refusal::internal("reading what is to be erased", &error))?
}

/// `ERASE-NOTHING` and `ERASE-NEEDED` say why an act would be none.
fn acts(plan: &Plan) -> Result<(), Refusal> {
    if !plan.items.is_empty() && plan.items.len() <= MOST {
        return Ok(());
    }
    if plan.items.len() > MOST {
        return Err(Refusal::Limited(
            Finding::new("ERASE-MANY", "this is more than one act erases")
                .expected(format!("at most {MOST} contents"))
                .observed(plan.items.len().to_string())
                .next("name records: trilith ledger erase --record INDEX --reason TEXT"),
        ));
    }
    if let Some(kept) = plan.kept.first() {
        return Err(Refusal::Precondition(
            Finding::new("ERASE-NEEDED", "all that could be erased is needed")
                .observed(format!("{} {}: {}", kept.item.kind, kept.item.sha256, kept.why))
                .next("revoke or replace what needs it first; the same command without --yes lists all that has to stay"),
        ));
    }
    Err(Refusal::Unknown(
        Finding::new(
            "ERASE-NOTHING",
            "nothing that can be erased stands behind these records",
        )
        .observed(format!("{} records say it in clear", plan.clear))
        .next("docs/operate/erasure.md says what records hold themselves, which stays"),
    ))
}

async fn done(
    core: &Arc<Core>,
    admitted: &Admitted,
    whom: Whom,
    request: v1::EraseRequest,
) -> Result<Value, Refusal> {
    let words = words(&request.reason)?;
    if words.is_empty() {
        return Err(unreasoned("no reason"));
    }
    let approvals = approving::read(&request.approvals)?;
    let _alone = core.busy("erasure".to_owned())?;
    // The whole ledger is read before anybody has to wait; of what comes meanwhile the end is read again below.
    let plan = {
        let (core, whom) = (Arc::clone(core), whom);
        tokio::task::spawn_blocking(move || Plan::find(&core, &whom))
            .await
            .map_err(|error| Refusal::internal("reading what is to be erased", &error))??
    };
    let said = words.to_lowercase();
    if plan.secrets.iter().any(|secret| said.contains(secret)) {
        return Err(unreasoned("what is to be erased"));
    }
    // Estates change by others meanwhile: what is in force decides what has to stay, and who signs.
    let _applying = core.applying.lock().await;
    let current = core.current.load_full();
    // INVARIANT: marked first, and only then asked who lives by it.
    let marked = crate::erase::mark(core, plan.digests());
    let (plan, _marked) = {
        let core = Arc::clone(core);
        tokio::task::spawn_blocking(move || {
            Ok::<_, Refusal>((plan.judged(&core, Some(&marked))?, marked))
        })
        .await
        .map_err(|error| Refusal::internal("reading who needs what", &error))??
    };
    acts(&plan)?;
    let subject = plan.governed(core, current.as_deref(), &words);
    let (signed, signatures) = match (&subject, &current) {
        (Some(subject), Some(current)) => signed(core, subject, &approvals, current)?,
        _ => (None, Vec::new()),
    };
    let named = match signed {
        Some(bytes) => Some(core.put_blob(bytes).await?),
        None => None,
    };
    again(core, admitted).await?;
    let digests: Vec<HexDigest> = plan.items.iter().map(|item| item.sha256).collect();
    let (first, last) = recorded(
        core,
        admitted,
        (&plan, current.as_deref()),
        &words,
        (named, signatures),
    )
    .await?;
    let removed = {
        let (core, places) = (Arc::clone(core), plan.places());
        tokio::task::spawn_blocking(move || crate::erase::remove(&core, &digests, places))
            .await
            .map_err(|error| Refusal::internal("removing what is erased", &error))??
    };
    let mut document = told(&plan, None);
    if let Value::Object(fields) = &mut document {
        fields.insert("done".to_owned(), json!(true));
        fields.insert("index".to_owned(), json!(first));
        fields.insert("last_index".to_owned(), json!(last));
        fields.insert("removed".to_owned(), json!(removed.contents));
        fields.insert("certificates".to_owned(), json!(removed.certificates));
    }
    Ok(document)
}

/// The reason, as it is signed and recorded.
fn words(reason: &str) -> Result<String, Refusal> {
    super::reason::whole(reason.trim())
}

fn unreasoned(what: &str) -> Refusal {
    Refusal::Invalid(
        Finding::new("ERASE-REASON", "the reason stays in the ledger for good")
            .expected("why, or at whose request, as the number of a case: never a name, and nothing of what goes")
            .observed(what.to_owned())
            .next("trilith ledger erase --identity PATH --reason 'case 2026-117'"),
    )
}

/// What two authors of the version in force have signed: exactly this.
fn signed(
    core: &Core,
    subject: &ApprovalSubject,
    approvals: &[estate::Approval],
    current: &Current,
) -> Result<(Option<Vec<u8>>, Vec<AuthorSignature>), Refusal> {
    const NEXT: &str = "have each of two authors run: trilith ledger erase --identity PATH --reason TEXT --author NAME \
        --keys DIR --sign-to FILE; then erase the same with --approval FILE for both";
    let now = core.now().as_millis();
    let authors = current.estate.authors();
    let found = approved(subject, approvals, authors, now).map_err(|mut finding| {
        if finding.code == "ESTATE-APPROVAL-ALONE" {
            "an erasure needs two authors of the estate in force".clone_into(&mut finding.message);
        }
        Refusal::Precondition(finding.next(NEXT))
    })?;
    let unwritten = || {
        Refusal::Invalid(
            Finding::new("ESTATE-APPROVAL-FORM", "what was signed cannot be written").next(NEXT),
        )
    };
    let signatures = approving::signatures(found).ok_or_else(unwritten)?;
    let bytes = subject.to_bytes().map_err(|_| unwritten())?;
    Ok((Some(bytes), signatures))
}

/// One commit: the act, and what is gone by it. Returns the first and the last of the erasure's records.
async fn recorded(
    core: &Core,
    admitted: &Admitted,
    (plan, current): (&Plan, Option<&Current>),
    reason: &str,
    (subject, signatures): (Option<BlobRef>, Vec<AuthorSignature>),
) -> Result<(u64, u64), Refusal> {
    let detail = format!("{} contents: {reason}", plan.items.len());
    let mut drafts = vec![act(admitted, &detail)?];
    for items in plan.items.chunks(OF_A_RECORD) {
        let erasure = Erasure {
            reason: reason.to_owned(),
            by: admitted.name(),
            erased: items
                .iter()
                .map(plan::Item::recorded)
                .collect::<Vec<ErasedItem>>(),
            subject,
            signatures: signatures.clone(),
        };
        // Whoever reads a pack asks the authors of this version for the signatures.
        let mut record = erasure.record().actor(&admitted.name(), admitted.auth);
        if let Some(current) = current {
            record = record.estate(current.reference());
        }
        drafts.push(draft(record)?);
    }
    let committed = core.append(drafts).await?;
    let first = committed.get(1).or(committed.last());
    let place =
        |one: Option<&ledger_store::Committed>| one.map_or(0, ledger_store::Committed::index);
    Ok((place(first), place(committed.last())))
}

/// What it comes to, for whoever asked. The digests say nothing of what they are of.
fn told(plan: &Plan, subject: Option<&ApprovalSubject>) -> Value {
    let item = |item: &plan::Item| json!({ "kind": item.kind, "sha256": item.sha256.to_string(), "record": item.record });
    let kept = plan.kept.iter().map(|kept| {
        let mut document = item(&kept.item);
        if let Value::Object(fields) = &mut document {
            fields.insert("why".to_owned(), json!(kept.why));
        }
        document
    });
    let mut document = json!({
        "done": false,
        "erased": plan.items.iter().map(item).collect::<Vec<_>>(),
        "kept": kept.collect::<Vec<_>>(),
        "before": plan.before,
        "in_clear": plan.clear,
        "subject": subject,
    });
    if let (Some(pruned), Value::Object(fields)) = (&plan.pruned, &mut document) {
        fields.insert("pruned".to_owned(), json!(pruned));
    }
    document
}

impl Plan {
    /// What there is to sign, where the estate in force has two authors.
    fn governed(
        &self,
        core: &Core,
        current: Option<&Current>,
        reason: &str,
    ) -> Option<ApprovalSubject> {
        let current = current.filter(|current| current.estate.authors().len() >= AUTHORS)?;
        let mut changes: Vec<_> = self
            .items
            .iter()
            .map(|item| GovernedChange {
                kind: GovernedKind::Erased,
                of: format!("{} of record {}", item.kind, item.record),
                before: Some(item.sha256.to_string()),
                after: None,
            })
            .collect();
        if changes.is_empty() {
            return None;
        }
        // INVARIANT: what the record says for good is signed as well.
        changes.push(GovernedChange {
            kind: GovernedKind::Erased,
            of: format!("{SIGNED_REASON}{reason}"),
            before: None,
            after: None,
        });
        changes.sort();
        changes.dedup();
        Some(ApprovalSubject {
            trust_domain: core.trust_domain.to_string(),
            version: current.estate.version().to_owned(),
            base: current.estate.version().to_owned(),
            base_index: current.index,
            changes,
        })
    }
}
