//! On whose behalf a subject acts, and whether that has to be proved.

use crate::config::Delegation;
use crate::question::{OnBehalfOf, Question, Refused};
use crate::service::Plane;
use facts::{Finding, Timestamp};
use gateway::Principal;
use spiffe_core::SpiffeId;

impl Plane {
    /// Whether what was shown of the question's subject still counts.
    ///
    /// # Errors
    /// `GATEWAY-REVOKED`, and those of [`gateway::Following::still_delegated`].
    pub(crate) fn still(
        &self,
        question: &Question,
        presenter: Option<&Principal>,
    ) -> Result<(), Refused> {
        let following = self.core.following();
        if let Some(presenter) = presenter {
            following
                .refuse_revoked(presenter)
                .map_err(Refused::forbidden)?;
        }
        match &question.on_behalf_of {
            Some(OnBehalfOf::Proven(delegated)) => following
                .still_delegated(delegated, Timestamp::now())
                .map_err(Refused::forbidden),
            Some(OnBehalfOf::Claimed(_)) | None => Ok(()),
        }
    }

    /// What counts of what was told and what was presented. `presenter` is the subject, if it has shown its SVID.
    ///
    /// # Errors
    /// `PDP-DELEGATION-TWICE`, `PDP-DELEGATION-CLAIMED`, `PDP-DELEGATION-SVID`, `DELEGATION-CLAIM-REVOKED`, and those of
    /// [`gateway::Following::delegated`].
    pub(crate) async fn acting(
        &self,
        told: Option<OnBehalfOf>,
        token: Option<&str>,
        presenter: Option<&SpiffeId>,
    ) -> Result<Option<OnBehalfOf>, Refused> {
        let Some(token) = token else {
            // INVARIANT: nothing is recorded as agreed to that nobody has shown to be.
            return match told {
                Some(_) if self.config.delegation == Delegation::Proven => Err(unproven()),
                Some(told) => {
                    let following = self.core.following();
                    following
                        .none_revoked(told.chain())
                        .map_err(Refused::forbidden)?;
                    Ok(Some(told))
                }
                None => Ok(None),
            };
        };
        if told.is_some() {
            // Both would leave open which of them decided.
            return Err(Refused::malformed(
                Finding::new(
                    "PDP-DELEGATION-TWICE",
                    "a delegation token was presented, so nobody has to say for whom it is",
                )
                .next("send the token alone"),
            ));
        }
        let presenter = presenter.ok_or_else(|| {
            Refused::forbidden(
                Finding::new(
                    "PDP-DELEGATION-SVID",
                    "a delegation token counts with the SVID of whom it lets act, and none was shown",
                )
                .next("show the subject's SVID as subject.properties.x5c"),
            )
        })?;
        let following = self.core.following();
        let proven = following
            .delegated(token, presenter, Timestamp::now())
            .await;
        let proven = proven.map_err(Refused::forbidden)?;
        Ok(Some(OnBehalfOf::Proven(Box::new(proven))))
    }
}

fn unproven() -> Refused {
    Refused::forbidden(
        Finding::new(
            "PDP-DELEGATION-CLAIMED",
            "it is only told on whose behalf the subject acts, and here it has to be proved",
        )
        .expected("a delegation token")
        .next(
            "present what `trilith delegate` printed; or set delegation = \"claimed\" in pdp.toml",
        ),
    )
}
