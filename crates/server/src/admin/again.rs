//! An act that waits, or takes its time, is decided again right before it is done: whoever was an administrator when
//! it was asked for may be none any more.

use super::{Admitted, decided};
use crate::core::Core;
use crate::refusal::Refusal;
use estate::{Administrator, Login};
use facts::Finding;
use ledger::body::TargetKind;
use std::sync::Arc;

/// Decides once more, by the estate in force and the revocations until now.
///
/// # Errors
/// `ADMIN-OVERTAKEN` for a person who was revoked, or whose login is somebody else's now; those of [`super::admit`].
pub(super) async fn again(core: &Arc<Core>, admitted: &Admitted) -> Result<(), Refusal> {
    if let Administrator::Person(path) = &admitted.who {
        still_the_person(core, admitted, path)?;
    }
    let who = (admitted.who.clone(), admitted.auth);
    decided(core, who, admitted.action, admitted.resource.clone())
        .await
        .map(drop)
}

fn still_the_person(core: &Core, admitted: &Admitted, path: &str) -> Result<(), Refusal> {
    let id = format!("spiffe://{}/{path}", core.trust_domain);
    let cut = core.unrecorded.holds(TargetKind::Identity, &id);
    if cut || core.state().barred(&id).is_some() {
        return Err(overtaken(path, "the person's identity was revoked"));
    }
    let now = core.current.load_full();
    let before = admitted.by.as_ref();
    let unchanged = before.map(|by| by.index) == now.as_ref().map(|now| now.index);
    let login = |version: &crate::current::Current| -> Option<Login> {
        version.estate.identity(path)?.login.clone()
    };
    let now = now.as_deref().and_then(login);
    if unchanged || now.is_some() && before.and_then(|by| login(by)) == now {
        return Ok(());
    }
    Err(overtaken(path, "the person's login is another one now"))
}

fn overtaken(path: &str, what: &str) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "ADMIN-OVERTAKEN",
            "whoever asked for the act was no administrator any more when its turn came",
        )
        .expected(format!(
            "Admin::\"person:{path}\" as it was when it was asked for"
        ))
        .observed(what.to_owned())
        .next("nothing was done; log in again, or ask an administrator whom the estate names"),
    )
}
