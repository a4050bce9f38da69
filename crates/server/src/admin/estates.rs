//! Plans and applies: compile, test, prove, compare; and what becomes current is all of it or none.

mod effect;
mod parts;

use super::again::again;
use super::approving::{self, Approved};
use super::questions::cannot_go_on;
use super::{Admitted, act};
use crate::core::{Core, draft};
use crate::current::Current;
use crate::journal::Entry;
use crate::node::rejudge;
use crate::prover::{self, Proved};
use crate::refusal::Refusal;
use crate::state::State;
use crypto::{hex, sha256};
use effect::Effect;
use estate::{Action, Administrator, Estate, EstateFiles, ResourceRef, Severity};
use facts::Finding;
use ledger::body::{self, Body as _};
use ledger::{Decimal, HexDigest};
use ledger_store::Intended;
use proto::v1;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use store::EstateRow;
use tokio_util::sync::CancellationToken;

/// What a set of files would be.
struct Planned {
    blob: Vec<u8>,
    /// Absent when the files do not compile.
    estate: Option<Arc<Estate>>,
    report: Option<Proved>,
    millis: u32,
    document: Value,
    /// What two authors have signed, if they had to.
    approval: Option<Approved>,
    /// What it would do to what runs; nothing of the first version.
    effect: Option<Effect>,
    /// Why it cannot be applied, if so. The document says so as well, in full.
    refused: Option<Finding>,
}

pub(super) async fn plan(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::EstateRequest,
) -> Result<Value, Refusal> {
    let files = request.files;
    // Whoever applies has looked, and does not wait for it again.
    let planned = planned(
        core,
        admitted,
        files,
        &request.approvals,
        Looks::AtWitnesses,
    );
    Ok(planned.await?.document)
}

/// As [`plan`], in parts of any size.
pub(super) async fn plan_parts(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::EstatePlanPartsRequest,
) -> Result<Vec<v1::Document>, Refusal> {
    let asked = request.plan.unwrap_or_default();
    let files = hex::encode(&sha256(&asked.files));
    // The version that it is planned against, before anything is asked.
    let version = core.current.load_full();
    let version = version.map_or_else(
        || files.clone(),
        |current| current.estate.version().to_owned(),
    );
    let document = plan(core, admitted, asked).await?;
    let wanted = parts::Wanted {
        limit: request.limit,
        after: &request.after,
        version: &version,
        files: &files,
    };
    parts::parts(document, &wanted, cannot_go_on)
}

/// Whether a plan looks for requests that are decided otherwise over any data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    AtWitnesses,
    Away,
}

async fn planned(
    core: &Arc<Core>,
    admitted: &Admitted,
    blob: Vec<u8>,
    approvals: &[Vec<u8>],
    looks: Looks,
) -> Result<Planned, Refusal> {
    let approvals = approving::read(approvals)?;
    let files = files(&blob)?;
    let compiled = tokio::task::spawn_blocking(move || Estate::compile(&files))
        .await
        .map_err(|error| Refusal::internal("compiling the estate", &error))?;
    let estate = match compiled {
        Ok(estate) => Arc::new(estate),
        Err(problems) => {
            let reasons: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let refused = inapplicable(
                Finding::new("ESTATE-PROBLEMS", "the estate does not compile"),
                &reasons,
                "correct the lines that are named; trilith estate lint DIR looks without the server",
            );
            return Ok(Planned {
                blob,
                estate: None,
                report: None,
                millis: 0,
                approval: None,
                effect: None,
                document: json!({
                    "applicable": false,
                    "finding": refused,
                    "reasons": reasons,
                    "problems": problems,
                }),
                refused: Some(refused),
            });
        }
    };
    of_this_domain(core, &estate)?;
    let current = core.current.load_full();
    let (asking, asked) = (Arc::clone(core), Arc::clone(&estate));
    let before = current.clone();
    // Beside the proof, which takes as long.
    let compared = tokio::task::spawn_blocking(move || {
        let tests = asked.run_tests();
        let lint = remarks(&asked);
        let effect = before.as_ref().map(|old| Effect::of(&asking, old, &asked));
        let diff = before.map(|before| estate::diff(&before.estate, &asked));
        (tests, lint, diff, effect)
    });
    let old = current.as_ref().map(|current| Arc::clone(&current.estate));
    let looking = old.clone().filter(|_| looks == Looks::AtWitnesses);
    let looking = looking.map(|old| tokio::spawn(prover::witnesses(core, old, &estate)));
    let begun = Instant::now();
    let report = prover::prove(core, old, &estate).await?;
    let subject = approving::subject(core, current.as_deref(), &estate, &report.governed);
    let judged = subject
        .as_ref()
        .map(|subject| approving::judge(core, current.as_deref(), subject, &approvals));
    let millis = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
    let (tests, lint, diff, effect) = compared
        .await
        .map_err(|error| Refusal::internal("comparing estates", &error))?;
    let witnesses = match looking {
        // INVARIANT: it informs. That it is not known keeps nobody from anything.
        Some(looking) => looking.await.ok().flatten(),
        None => None,
    };
    let failed: Vec<String> = tests
        .iter()
        .filter(|test| !test.passed)
        .map(|test| {
            let failure = test.failure.as_deref().unwrap_or("failed");
            format!("{}:{} {}: {failure}", test.file, test.line, test.name)
        })
        .collect();
    let (refused, reasons) = if !failed.is_empty() {
        let finding = Finding::new("ESTATE-TESTS", "expected decisions do not come out");
        let next =
            "correct the policy or the test; trilith estate test DIR tries it without the server";
        (Some(inapplicable(finding, &failed, next)), failed)
    } else if !(report.accepted || report.open && !approvals.is_empty()) {
        let reasons = report.reasons.clone();
        let mut finding = if report.ungiven {
            let finding = Finding::new(
                "ESTATE-GIVEN",
                "what an invariant takes for granted does not hold of what is declared",
            );
            inapplicable(finding, &reasons, GIVE)
        } else {
            let finding = Finding::new("ESTATE-UNPROVED", "an invariant is not proved");
            inapplicable(finding, &reasons, MEND)
        };
        if report.open {
            finding = finding
                .next("mend it; or have two authors answer for it: trilith estate approve DIR --author NAME --keys KEYS");
        }
        if reasons
            .iter()
            .any(|reason| reason.contains("PROVE-SOLVER-START"))
        {
            finding = finding.next("apt install cvc5, or name `solver` in server.toml");
        }
        (Some(finding), reasons)
    } else {
        let unsigned = || judged.as_ref()?.as_ref().err().cloned();
        let refused = erased(core, &estate)
            .or_else(|| lockout(core, &estate, &admitted.who))
            .or_else(unsigned);
        let reasons = refused.iter().map(ToString::to_string).collect();
        (refused, reasons)
    };
    let approval = judged.and_then(Result::ok);
    let document = json!({
        "applicable": refused.is_none(),
        "finding": refused,
        "reasons": reasons,
        "version": estate.version(),
        "base": diff.as_ref().map(|diff| diff.from.clone()),
        "same": diff.as_ref().is_some_and(|diff| diff.from == estate.version()),
        "problems": [],
        "tests": tests,
        "lint": lint,
        "proof": report.document,
        "proof_millis": millis,
        "governed": report.governed,
        "subject": subject,
        "approved_by": approval.as_ref().map(Approved::authors),
        "diff": diff,
        "witnesses": witnesses,
        "machines": effect.as_ref().and_then(Effect::machines),
        "running": effect.as_ref().map(Effect::running),
        "acknowledge": effect.as_ref().map(Effect::acknowledge),
    });
    Ok(Planned {
        blob,
        estate: Some(estate),
        report: Some(report),
        millis,
        approval,
        effect,
        document,
        refused,
    })
}

/// How many remarks there are on the text and the declarations. A solver is asked for invariants alone:
/// whoever plans does not wait for it twice.
fn remarks(estate: &Estate) -> Value {
    let remarks = estate.lint();
    let of = |severity| {
        remarks
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    json!({ "errors": of(Severity::Error), "warnings": of(Severity::Warning) })
}

/// Conditions nest deep, and Cedar recurses.
const STACK_BYTES: usize = 64 << 20;

/// Where versions stand.
pub(super) const VERSIONS: &str = "trilith ledger search --ledger server --type estate-version";

/// What was erased does not come back, byte for byte. Of whoever applies, `applying` is held: nothing is erased meanwhile.
fn erased(core: &Core, estate: &Estate) -> Option<Finding> {
    let version = estate.version().parse().ok()?;
    let erased = crate::erase::told(core, &version)?;
    Some(
        erased
            .finding()
            .clone()
            .next("change a line, a comment will do: what was erased does not come back"),
    )
}

/// An estate under which its own author may apply nothing more could be changed by nobody for ever.
fn lockout(core: &Core, estate: &Estate, who: &Administrator) -> Option<Finding> {
    let whole = ResourceRef::estate(core.trust_domain.as_str());
    let decision = estate.decide_administrator(who, Action::Apply, &whole);
    if decision.allow {
        return None;
    }
    let observed = if decision.policies.is_empty() {
        "no policy permits it".to_owned()
    } else {
        format!("forbidden by {}", decision.policy_places().join("; "))
    };
    Some(
        Finding::new(
            "ESTATE-LOCKOUT",
            "whoever applies this estate could apply no other after it",
        )
        .expected(format!(
            "an estate under which Admin::\"{who}\" may still apply"
        ))
        .observed(observed)
        .next("declare the administrator and permit it to apply; or let an administrator who stays apply this"),
    )
}

/// INVARIANT: no version becomes current whose tests fail, whose invariants are not all proved, which takes
/// from the invariants of the one in force, or under which its author could undo nothing. For what is not known
/// of an invariant, and what is taken from one, two authors may answer. Nor one that evicts machines or revokes
/// most of what stands, unless whoever applies has seen how many.
pub(super) async fn apply(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::EstateRequest,
) -> Result<Value, Refusal> {
    let gone = CancellationToken::new();
    let _here = gone.clone().drop_guard();
    let (core, admitted) = (Arc::clone(core), admitted.clone());
    let applying = async move {
        // One at a time, until what is recorded is in force and judged by; whoever waited finds another base than the
        // one it planned against.
        let prepared = async {
            let alone = core.applying.lock().await;
            Ok((alone, prepared(&core, &admitted, request).await?))
        };
        let prepared: Result<_, Refusal> = tokio::select! {
            prepared = prepared => prepared,
            () = gone.cancelled() => Err(left()),
        };
        let (_alone, prepared) = prepared?;
        match prepared {
            Prepared::Told(document) => Ok(document),
            // INVARIANT: a version that is recorded is taken up and judged by, also when whoever applied it goes away.
            Prepared::Ready(ready) => in_force(&core, &admitted, *ready).await,
        }
    };
    let applied = tokio::spawn(applying).await;
    applied.map_err(|error| Refusal::internal("applying an estate", &error))?
}

/// Whoever applied has gone away before the version was recorded. Nobody reads it.
fn left() -> Refusal {
    let finding = Finding::new("ESTATE-LEFT", "whoever applied the estate went away");
    Refusal::Unavailable(finding.next("nothing was applied; apply it again"))
}

/// What comes of the files before anything is in force.
enum Prepared {
    /// Nothing more is to be done.
    Told(Value),
    Ready(Box<Ready>),
}

/// A version that may be recorded and put in force.
struct Ready {
    entry: Entry,
    estate: Arc<Estate>,
    version: HexDigest,
    old: Option<Arc<Current>>,
    document: Value,
    proof_index: Option<u64>,
    approval_index: Option<Decimal>,
    /// What was put for these records.
    intended: Vec<Intended>,
}

/// Plans, proves, and records why the version may be; `applying` is held.
async fn prepared(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::EstateRequest,
) -> Result<Prepared, Refusal> {
    again(core, admitted).await?;
    core.signing.check()?;
    let old = core.current.load_full();
    based(core, &request.base, old.as_deref())?;
    let files = request.files;
    let mut planned = planned(core, admitted, files, &request.approvals, Looks::Away).await?;
    let seen = (request.evict, request.revoke);
    if planned.refused.is_none()
        && let Some(finding) = planned
            .effect
            .as_ref()
            .and_then(|effect| effect.unseen(seen))
    {
        if let Value::Object(fields) = &mut planned.document {
            fields.insert("applicable".to_owned(), json!(false));
            fields.insert("finding".to_owned(), json!(finding));
            fields.insert("reasons".to_owned(), json!([finding.to_string()]));
        }
        planned.refused = Some(finding);
    }
    if let Some(finding) = planned.refused {
        if request.document {
            return Ok(Prepared::Told(planned.document));
        }
        return Err(Refusal::Precondition(finding));
    }
    let (Some(estate), Some(report)) = (planned.estate, planned.report) else {
        return Ok(Prepared::Told(planned.document));
    };
    let reissue = request.reissue;
    if !reissue
        && old
            .as_ref()
            .is_some_and(|old| old.estate.version() == estate.version())
    {
        // Whoever applies what is in force has what they want.
        return Ok(Prepared::Told(planned.document));
    }
    let version: HexDigest = estate
        .version()
        .parse()
        .map_err(|_| Refusal::Invalid(Finding::new("ESTATE-VERSION", "not a digest")))?;
    let blob: Arc<[u8]> = planned.blob.as_slice().into();
    let mut intended = Vec::new();
    let (named, new) = core.put_intended(planned.blob).await?;
    intended.extend(new);
    let proved = serde_json::to_vec(&report.document)
        .map_err(|error| Refusal::internal("writing the proof", &error))?;
    let (proved, new) = core.put_intended(proved).await?;
    intended.extend(new);
    // The proof may have taken minutes.
    again(core, admitted).await?;

    let by = |record: ledger::RecordBuilder| draft(record.actor(&admitted.name(), admitted.auth));
    let mut approval_index = None;
    if let Some(approval) = planned.approval {
        let (named, new) = core.put_intended(approval.subject.clone()).await?;
        intended.extend(new);
        let approval = by(approval.record(version, old.as_deref(), named).record())?;
        let detail = format!("version {version}: what it does to invariants is signed by two");
        let committed = core.append(vec![act(admitted, &detail)?, approval]).await?;
        approval_index = committed.last().map(|one| Decimal(one.index()));
    }
    let proof = body::Proof {
        version,
        outcome: if report.accepted { "proved" } else { "unknown" }.to_owned(),
        approval_index,
        invariants: report.invariants,
        blob: Some(proved),
        millis: planned.millis,
    };
    let seen = planned.effect.as_ref().map(Effect::recorded);
    let seen = seen.unwrap_or_default();
    let detail = format!("version {version}: {}{seen}", request.message);
    let committed = core
        .append(vec![act(admitted, &detail)?, by(proof.record())?])
        .await?;
    let proof_index = committed.last().map(ledger_store::Committed::index);
    let floor = old.as_ref().map_or(0, |old| {
        if reissue {
            // Whatever was issued under the version before is too old.
            return old.index + 1;
        }
        core.state().estate().map_or(0, |row| row.floor)
    });
    let record = body::EstateVersion {
        version,
        blob: named,
        parent: old.as_ref().map(|old| old.version),
        author: admitted.name(),
        message: request.message.chars().take(1_024).collect(),
        proof_index: proof_index.map(Decimal),
        floor: Decimal(floor),
    };
    let entry = Entry::with_blob(by(record.record())?, blob);
    Ok(Prepared::Ready(Box::new(Ready {
        entry,
        estate,
        version,
        old,
        document: planned.document,
        proof_index,
        approval_index,
        intended,
    })))
}

/// Records the version, takes it up, and judges by it what runs.
async fn in_force(core: &Arc<Core>, admitted: &Admitted, ready: Ready) -> Result<Value, Refusal> {
    let Ready {
        entry,
        estate,
        version,
        old,
        mut document,
        proof_index,
        approval_index,
        intended,
    } = ready;
    // INVARIANT: right before the record, after all that waits.
    again(core, admitted).await?;
    let committed = core.journal.append_one(entry).await?;
    core.named(intended).await;
    let current = Arc::new(Current::new(estate, committed.index(), version));
    let installing = (Arc::clone(core), Arc::clone(&current));
    tokio::task::spawn_blocking(move || install(&installing.0, &installing.1))
        .await
        .map_err(|error| Refusal::internal("taking up the estate", &error))??;
    let (revoked, reconsidered) = rejudge(core, old, Arc::clone(&current)).await?;
    if let Value::Object(fields) = &mut document {
        fields.insert("index".to_owned(), json!(current.index));
        fields.insert("proof_index".to_owned(), json!(proof_index));
        fields.insert(
            "approval_index".to_owned(),
            json!(approval_index.map(|at| at.0)),
        );
        fields.insert("revoked".to_owned(), json!(revoked));
        fields.insert("reconsidered".to_owned(), json!(reconsidered));
    }
    Ok(document)
}

/// Puts a recorded version in force. Reads keys: blocks.
pub(crate) fn install(core: &Core, current: &Arc<Current>) -> Result<(), Refusal> {
    let settings = current.estate.settings();
    let (x509, jwt) = (settings.x509_lifetime, settings.jwt_lifetime);
    core.authority
        .limit(x509.as_secs(), jwt.as_secs())
        .map_err(|error| Refusal::internal("taking up the estate's lifetimes", &error))?;
    core.metrics
        .estate_index
        .set(i64::try_from(current.index).unwrap_or(i64::MAX));
    core.current.store(Some(Arc::clone(current)));
    stand(core, current);
    core.people.keep(&current.estate);
    Ok(())
}

/// Says what of the version in force does not hold of what it declares. An apply has tried the same before it; a start
/// may be that of another program than proved the version. Nothing waits for it, and nothing is taken out of force: an
/// estate that is broken goes on to be enforced, and the next apply has to mend it.
fn stand(core: &Core, current: &Arc<Current>) {
    let gauge = core.metrics.estate_invariants_broken.clone();
    let current = Arc::clone(current);
    let tried = move || {
        let broken = current.stand().iter().filter(|one| one.is_broken());
        let mut count = 0;
        for standing in broken {
            count += 1;
            tracing::error!(
                code = "ESTATE-INVARIANT-TODAY",
                version = %current.version,
                "an invariant of the estate in force does not hold today: {standing}; run: trilith estate plan DIR"
            );
        }
        gauge.set(count);
    };
    let thread = std::thread::Builder::new().name("estate-today".to_owned());
    if let Err(error) = thread.stack_size(STACK_BYTES).spawn(tried) {
        tracing::error!(%error, "the invariants of the estate in force are not tried");
    }
}

/// An empty base means: whatever is current. Whoever comes too late is told what came before: which version, by whom.
fn based(core: &Core, base: &str, old: Option<&Current>) -> Result<(), Refusal> {
    let current = old.map_or_else(String::new, |old| old.estate.version().to_owned());
    if base.is_empty() || base == current {
        return Ok(());
    }
    Err(Refusal::Precondition(
        Finding::new(
            "ESTATE-BASE",
            "the estate has changed since the change was planned",
        )
        .expected(format!("base {base}"))
        .observed(match core.state().estate().filter(|_| old.is_some()) {
            None => "no estate".to_owned(),
            Some(row) => format!(
                "current {}, applied by {} as record {}: {}",
                row.version, row.author, row.index, row.message
            ),
        })
        .next("plan again: trilith estate plan DIR"),
    ))
}

/// What to do about what an invariant takes for granted.
const GIVE: &str = "declare what the `given` asks for of the identity or resource that is named (add its label, tag or \
    group), or take the `given` out; trilith estate prove DIR tries it without the server";
/// What to do about an invariant that does not hold.
const MEND: &str = "change the policy that breaks it, which the plan names with a request, or the invariant, which two \
    authors sign; trilith estate prove DIR tries it without the server";

/// In short: a status has room for a few lines. The plan's document says all of it.
fn inapplicable(finding: Finding, reasons: &[String], next: &'static str) -> Finding {
    let first = reasons.first().cloned().unwrap_or_default();
    let observed = match reasons.len() {
        0 | 1 => first,
        count => format!("{first}; and {} more", count - 1),
    };
    finding
        .expected("an estate that compiles, passes its tests and whose invariants are proved")
        .observed(observed)
        .next(next)
}

pub(super) async fn export(core: &Arc<Core>, version: &str) -> Result<v1::EstateFiles, Refusal> {
    let row = {
        let state = core.state();
        let found = if version.is_empty() {
            state.estate().cloned()
        } else {
            named(&state, version)?
        };
        found.ok_or_else(|| {
            Refusal::Unknown(
                Finding::new("ESTATE-VERSION-UNKNOWN", "there was no such version")
                    .observed(version.to_owned())
                    .next(VERSIONS),
            )
        })?
    };
    Ok(v1::EstateFiles {
        files: blob(core, &row.blob)?,
        index: row.index,
        version: row.version,
    })
}

/// An estate's files, as they were sent.
pub(super) fn files(blob: &[u8]) -> Result<EstateFiles, Refusal> {
    EstateFiles::from_blob(blob).map_err(|problem| {
        Refusal::Invalid(
            Finding::new("ESTATE-FILES", "the estate's files cannot be taken")
                .observed(problem.to_string()),
        )
    })
}

/// Refuses an estate that is not this server's.
pub(super) fn of_this_domain(core: &Core, estate: &Estate) -> Result<(), Refusal> {
    if estate.trust_domain() == core.trust_domain.as_str() {
        return Ok(());
    }
    Err(Refusal::Invalid(
        Finding::new(
            "ESTATE-TRUST-DOMAIN",
            "the estate is of another trust domain",
        )
        .expected(core.trust_domain.to_string())
        .observed(estate.trust_domain().to_owned()),
    ))
}

/// The version whose digest is `version` or begins so. Of a version that was current more than once, the
/// newest record.
fn named(state: &State, version: &str) -> Result<Option<EstateRow>, Refusal> {
    const SHORTEST: usize = 8;
    if version.len() < SHORTEST {
        return Err(Refusal::Invalid(
            Finding::new("ESTATE-VERSION-SHORT", "this could be one of many versions")
                .expected(format!("{SHORTEST} digits of the version, or more"))
                .observed(version.to_owned()),
        ));
    }
    let mut found: Option<&EstateRow> = None;
    for row in state
        .estates()
        .filter(|row| row.version.starts_with(version))
    {
        if found.is_some_and(|found| found.version != row.version) {
            return Err(Refusal::Invalid(
                Finding::new("ESTATE-VERSION-SHORT", "more than one version begins so")
                    .observed(version.to_owned())
                    .next("give more of its digits"),
            ));
        }
        if found.is_none_or(|found| found.index < row.index) {
            found = Some(row);
        }
    }
    Ok(found.cloned())
}

pub(super) fn blob(core: &Core, digest: &str) -> Result<Vec<u8>, Refusal> {
    let gone = || {
        Refusal::Unavailable(
            Finding::new("SERVER-BLOB", "a blob that a record names is not there")
                .expected(format!("blob {digest}"))
                .next("restore it from a backup or a mirror"),
        )
    };
    let digest: HexDigest = digest.parse().map_err(|_| gone())?;
    core.blobs
        .get(&digest)
        .map_err(|error| Refusal::internal("reading a blob", &error))?
        .ok_or_else(|| crate::erase::told(core, &digest).unwrap_or_else(gone))
}
