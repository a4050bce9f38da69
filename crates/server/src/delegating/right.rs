//! The right to delegate, asked before the record of a delegation is made and again once it is in the ledger: what
//! came there between counts as well.

use super::ask::{By, Shown, revoked};
use super::settle::lost;
use super::{chain, stands};
use crate::core::Core;
use crate::current::Current;
use crate::node::withdraw;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::TargetKind;
use std::sync::Arc;

/// Whether everybody in `chain` may take part in a delegation now, and `by` is still who asks.
///
/// # Errors
/// `DELEGATION-OVERTAKEN`, and those of a caller whose SVID stands no more.
pub(super) fn holds(
    core: &Core,
    current: &Current,
    by: &By,
    chain: &[String],
) -> Result<(), Refusal> {
    {
        let state = core.state();
        let cut = |one: &&String| core.unrecorded.holds(TargetKind::Identity, one);
        let ahead = chain.iter().find(cut).map(String::as_str).or_else(|| {
            let cut = core.unrecorded.holds(TargetKind::Machine, &by.node);
            cut.then_some(by.node.as_str())
        });
        if let Some(whose) = ahead.or_else(|| state.delegation_barred(chain, &by.node)) {
            return Err(overtaken(whose));
        }
        if let Shown::Svid(svid) = &by.shown {
            core.standing(&state, svid)?;
        }
    }
    if let Shown::Login(login) = &by.shown {
        let known = current.estate.person(&login.issuer, &login.subject);
        let known = known.and_then(|person| core.trust_domain.identity(&person.path).ok());
        if chain.first().map(String::as_str) != known.as_ref().map(|id| id.as_str()) {
            return Err(overtaken("the person has another login now"));
        }
    }
    Ok(())
}

fn overtaken(whose: &str) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "DELEGATION-OVERTAKEN",
            "somebody whom the delegation names may take part in none",
        )
        .expected("identities that are not revoked, and a machine that is not locked")
        .observed(whose.to_owned())
        .next("let an administrator look at it: trilith ledger search --type revocation; then ask again"),
    )
}

/// Asks all of it again for the delegation `jti`, which is recorded, and was decided by `decided`. One that is
/// refused here is revoked: nobody has its token, and nothing that reads the ledger takes it for one that stands.
///
/// # Errors
/// As [`holds`], and those of the estate.
pub(super) async fn confirm(
    core: &Arc<Core>,
    decided: &Current,
    by: &By,
    jti: &str,
) -> Result<(), Refusal> {
    let Err(refusal) = still_right(core, decided, by, jti) else {
        return Ok(());
    };
    let row = {
        let state = core.state();
        let row = state.delegation(jti).cloned();
        row.filter(|_| state.revoked(TargetKind::Serial, jti).is_none())
    };
    if let Some(row) = row {
        let core = Arc::clone(core);
        // INVARIANT: also when whoever asked goes away.
        let taking_back = async move {
            let reason = "the right to it ended before it was recorded";
            withdraw(&core, vec![lost(&row)], reason).await
        };
        match tokio::spawn(taking_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, jti, "a refused delegation is not revoked"),
            Err(error) => tracing::error!(%error, jti, "a refused delegation is not revoked"),
        }
    }
    Err(refusal)
}

fn still_right(core: &Core, decided: &Current, by: &By, jti: &str) -> Result<(), Refusal> {
    let row = core.state().delegation(jti).cloned();
    let Some(row) = row.filter(|row| stands(core, row)) else {
        return Err(revoked(jti));
    };
    let now = core.estate()?;
    holds(core, &now, by, &row.chain)?;
    if now.index == decided.index {
        return Ok(());
    }
    let state = core.state();
    let links = state.delegation_links(&row).unwrap_or_default();
    let chain = chain(&links, core.trust_domain.as_str()).map_err(Refusal::Denied)?;
    now.estate.may_delegate(&chain).map_err(Refusal::Denied)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Ask, Made, conclude, decide};
    use super::*;
    use crate::revoke::{Revocation, revoke};
    use crate::trial::server;
    use estate::{Estate, EstateFiles, Login};

    const ISSUER: &str = "https://login.example.org";

    fn estate(subject: &str) -> Arc<Estate> {
        let mut files = EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"example.org\"\n");
        files.insert(
            "identities/all.toml",
            format!(
                "[[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"people\"\n\
                 login = {{ issuer = \"{ISSUER}\", subject = \"{subject}\" }}\n\
                 [[identity]]\npath = \"agents/helper\"\nkind = \"ai-agent\"\nowner = \"support\"\n"
            ),
        );
        files.insert(
            "delegations/all.toml",
            "[[delegation]]\nid = \"ada has a helper\"\nfrom = 'Identity::\"people/ada\"'\n\
             to = 'Identity::\"agents/helper\"'\n",
        );
        Arc::new(Estate::compile(&files).unwrap())
    }

    fn put_in_force(core: &Core, subject: &str, index: u64) -> Arc<Current> {
        let estate = estate(subject);
        let version = estate.version().parse().unwrap();
        let current = Arc::new(Current::new(estate, index, version));
        core.current.store(Some(Arc::clone(&current)));
        current
    }

    /// Ada lets the helper; `between` comes after that was decided and before it is recorded.
    async fn overtaken(core: &Arc<Core>, between: impl AsyncFnOnce()) -> Result<Made, String> {
        let current = put_in_force(core, "ada-1", 1);
        let login = Login {
            issuer: ISSUER.to_owned(),
            subject: "ada-1".to_owned(),
        };
        let by = By {
            id: "spiffe://example.org/people/ada".parse().unwrap(),
            auth: "oidc".to_owned(),
            node: String::new(),
            shown: Shown::Login(login),
            issued: None,
        };
        let ask = Ask {
            to: "agents/helper".to_owned(),
            ..Ask::default()
        };
        let decided = decide(core, &current, &by, None, ask).unwrap();
        between().await;
        let made = conclude(core, &current, &by, decided).await;
        made.map_err(|refusal| refusal.finding().code.to_string())
    }

    /// The newest delegation, and whether its `jti` is revoked.
    fn newest(core: &Core) -> (u64, bool) {
        let state = core.state();
        let row = state.delegations().last().unwrap();
        let revoked = state.revoked(TargetKind::Serial, &row.jti);
        (row.index, revoked.is_some_and(|at| at > row.index))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_came_between_the_decision_and_the_record_of_a_delegation_counts() {
        let dir = tempfile::tempdir().unwrap();
        let running = server(dir.path()).await;
        let core = Arc::clone(&running.core);
        let made = overtaken(&core, async || {}).await.unwrap();
        assert_eq!(newest(&core), (made.index, false));

        // Her login is somebody else's.
        let refused = overtaken(&core, async || drop(put_in_force(&core, "ada-2", 2))).await;
        assert_eq!(refused.unwrap_err(), "DELEGATION-OVERTAKEN");
        assert!(newest(&core).1, "nobody has its token, and it is revoked");

        // She is revoked: the revocation is in the ledger before the delegation, and so says nothing of it.
        let revocation = Revocation {
            kind: TargetKind::Identity,
            value: "spiffe://example.org/people/ada".to_owned(),
            reason: "left".to_owned(),
            by: "uid:0".to_owned(),
            auth: "peercred",
        };
        let revoking = async || {
            revoke(&core, revocation).await.unwrap();
        };
        let refused = overtaken(&core, revoking).await;
        assert_eq!(refused.unwrap_err(), "DELEGATION-OVERTAKEN");
        let (index, taken) = newest(&core);
        let id = "spiffe://example.org/people/ada";
        assert!(
            core.state()
                .revoked(TargetKind::Identity, id)
                .is_some_and(|at| at < index)
        );
        assert!(taken);
        drop(core);
        running.stop().await.unwrap();
    }
}
