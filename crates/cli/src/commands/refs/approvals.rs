//! The boots that the authority has approved for a ring, so that its machines open what they have sealed.

use super::write_whole;
use crate::arguments::{ApprovalsArguments, Global};
use crate::{Failure, admin, output};
use attest_tpm::seal::ApprovalSet;
use proto::v1;

/// Asks the server, verifies every signature, and shows or writes what it says.
pub(super) async fn show(arguments: ApprovalsArguments, global: &Global) -> Result<(), Failure> {
    let request = v1::BootApprovalsRequest {
        ring: arguments.ring.clone(),
    };
    let answer = admin::connect(global)
        .await?
        .boot_approvals(request)
        .await
        .map_err(|status| admin::refusal(&status))?;
    let answer = answer.into_inner();
    if let Ok(finding) = serde_json::from_str::<facts::Finding>(&answer.finding) {
        output::note(format_args!("{finding}"));
    }
    let text = answer.json;
    let set = ApprovalSet::parse(text.as_bytes())?;
    if let Some(out) = &arguments.out {
        write_whole(out, text.as_bytes())?;
        output::note(format_args!(
            "{} approved boots in {}; on a machine: put it into the agent's DATA_DIR/approvals/",
            set.approvals().len(),
            out.display()
        ));
        return Ok(());
    }
    if global.json {
        let document = serde_json::from_str(&text)
            .map_err(|error| admin::unusable(format!("it is not JSON: {error}")))?;
        output::json(&document);
        return Ok(());
    }
    let ring = match set.scope.ring.as_str() {
        "" => "machines in no pool".to_owned(),
        ring => format!("ring {ring}"),
    };
    output::line(format_args!(
        "{ring}, epoch {}, key {}: {} approved boots",
        set.scope.epoch,
        crypto::hex::encode(&set.approver.key.spki_sha256()),
        set.approvals().len()
    ));
    for approval in set.approvals() {
        output::line(format_args!("{}", output::value(&approval.label)));
        for (index, value) in approval.pcrs.iter() {
            output::line(format_args!(
                "  PCR {index:2}  {}",
                crypto::hex::encode(value)
            ));
        }
    }
    Ok(())
}
