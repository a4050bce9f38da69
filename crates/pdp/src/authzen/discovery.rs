//! The metadata document of a policy decision point.

use serde::Serialize;

/// Where it stands.
pub const WELL_KNOWN: &str = "/.well-known/authzen-configuration";

/// Section "Policy Decision Point Metadata". `signed_metadata` is not offered: who asks has authenticated
/// this process by its SVID, or by the socket's place in the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discovery {
    pub policy_decision_point: String,
    pub access_evaluation_endpoint: String,
    pub access_evaluations_endpoint: String,
    pub search_subject_endpoint: String,
    pub search_resource_endpoint: String,
    pub search_action_endpoint: String,
}

impl Discovery {
    /// Of the decision point at `url`, `https://pdp.example.org:7444`, without a slash at its end.
    #[must_use]
    pub fn of(url: &str) -> Self {
        let at = |path: &str| format!("{url}{path}");
        Self {
            policy_decision_point: url.to_owned(),
            access_evaluation_endpoint: at(super::EVALUATION),
            access_evaluations_endpoint: at(super::EVALUATIONS),
            search_subject_endpoint: at(super::SEARCH_SUBJECT),
            search_resource_endpoint: at(super::SEARCH_RESOURCE),
            search_action_endpoint: at(super::SEARCH_ACTION),
        }
    }
}
