//! Whether some bytes are the document that was asked for, and signed by whom it has to be.

use super::{Anchors, Answer, Artefact, Endorsement};
use crate::{intel, snp};
use crypto::Sha256;
use facts::Timestamp;

/// From when to when a document counts by its own word, in seconds since the Unix epoch.
pub(crate) type Window = (i64, i64);

impl Endorsement {
    /// Takes an answer for the document that was asked for, if it is that, leads to a root of `anchors`, and
    /// counts now. What an authority revoked is for the verifier to say, which has the lists together.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(
        artefact: &Artefact,
        answer: Answer,
        anchors: &Anchors,
        now: Timestamp,
    ) -> Result<Self, String> {
        let (issued, until) = window(artefact, &answer, anchors, now)?;
        let at = |seconds: i64| {
            // Before 1970 is never now.
            Timestamp::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let checked = Self {
            artefact: artefact.clone(),
            answer,
            issued: at(issued),
            until: at(until),
        };
        if checked.is_current(now) {
            Ok(checked)
        } else {
            Err(format!(
                "it counts from {} to {}",
                checked.issued, checked.until
            ))
        }
    }
}

fn window(
    artefact: &Artefact,
    answer: &Answer,
    anchors: &Anchors,
    now: Timestamp,
) -> Result<Window, String> {
    let (body, chain) = (answer.body.as_slice(), answer.chain.as_str());
    let text = || str::from_utf8(body).map_err(|_| "not text".to_owned());
    match (artefact, anchors) {
        (
            Artefact::SnpKey {
                generation,
                chip,
                tcb,
            },
            Anchors::Amd(roots),
        ) => snp::certifies(body, roots, *generation, (*chip, *tcb), now),
        (Artefact::SnpCrl { generation }, Anchors::Amd(roots)) => {
            Ok(roots.list(*generation, body)?.span())
        }
        (Artefact::TcbInfo { tdx, fmspc }, Anchors::Intel(roots)) => {
            intel::tcb_info_window(text()?, chain, roots, (*tdx, *fmspc), now)
        }
        (Artefact::QeIdentity { tdx }, Anchors::Intel(roots)) => {
            intel::identity_window(text()?, chain, roots, *tdx, now)
        }
        (Artefact::PckCrl { ca }, Anchors::Intel(roots)) => {
            intel::pck_list_window(body, chain, roots, *ca, now)
        }
        (Artefact::IntelRootCrl, Anchors::Intel(roots)) => intel::root_list_window(body, roots),
        _ => Err("of another vendor than the roots".to_owned()),
    }
}

impl Anchors {
    /// Of the root that the document leads to: what is kept under one root is nothing under another.
    #[must_use]
    pub fn digest(&self, artefact: &Artefact) -> [u8; 32] {
        let mut digest = Sha256::new();
        match (self, artefact) {
            (
                Self::Amd(roots),
                Artefact::SnpKey { generation, .. } | Artefact::SnpCrl { generation },
            ) => digest.update(roots.root(*generation).unwrap_or_default()),
            (Self::Intel(roots), _) => digest.update(roots.der()),
            (Self::Amd(_), _) => {}
        }
        digest.finish()
    }
}
