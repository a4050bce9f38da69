//! A person who has logged in. Only what judges logins makes one.

/// By which provider, and as whom it knows the person; the estate says who that is.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    issuer: String,
    subject: String,
}

impl LoggedIn {
    /// INVARIANT: called with what a verified login says, and with nothing else.
    pub(crate) fn new(issuer: String, subject: String) -> Self {
        Self { issuer, subject }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }
}
