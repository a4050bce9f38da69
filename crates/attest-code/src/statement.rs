//! in-toto statements (version 0.1 and 1): who signs one says something, the predicate, about subjects that
//! are named by digest. Names of subjects count for nothing; the one of the code that was asked for is kept.

use crate::Artifact;
use crypto::chain::Hash;
use facts::Finding;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The payload type of an envelope that holds one.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const MAX_SUBJECTS: usize = 16_384;

/// What somebody said of some code. Made only from an envelope whose signature was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    predicate_type: String,
    subject: Option<String>,
    pub(crate) predicate: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct Subject {
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl Statement {
    /// Reads the payload of an envelope, which has to be about `artifact`.
    ///
    /// # Errors
    /// `STATEMENT-TYPE`, `STATEMENT-STRUCTURE`, `STATEMENT-SUBJECT`.
    pub(crate) fn parse(
        payload_type: &str,
        payload: &[u8],
        artifact: &Artifact<'_>,
    ) -> Result<Self, Finding> {
        if payload_type != PAYLOAD_TYPE {
            return Err(Finding::new(
                "STATEMENT-TYPE",
                "the envelope does not hold an in-toto statement",
            )
            .expected(PAYLOAD_TYPE)
            .observed(payload_type.chars().take(128).collect::<String>()));
        }
        let document: Document =
            serde_json::from_slice(payload).map_err(|error| malformed(error.to_string()))?;
        if !matches!(
            document.kind.as_str(),
            "https://in-toto.io/Statement/v0.1" | "https://in-toto.io/Statement/v1"
        ) {
            return Err(malformed(format!("_type {:?}", document.kind)));
        }
        if document.subject.len() > MAX_SUBJECTS {
            return Err(malformed(format!("{} subjects", document.subject.len())));
        }
        let Some(subject) = document.subject.iter().find(|one| one.is(artifact)) else {
            let named = document.subject.iter().take(4).map(Subject::shown);
            let named: Vec<String> = named.collect();
            return Err(
                Finding::new("STATEMENT-SUBJECT", "the statement is about other code")
                    .expected(artifact.to_string())
                    .observed(named.join(", "))
                    .next("attach the statement that was made for this build"),
            );
        };
        Ok(Self {
            subject: subject.name.clone(),
            predicate_type: document.predicate_type,
            predicate: document.predicate,
        })
    }

    #[must_use]
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// What it calls the code.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }
}

impl Subject {
    /// Whether it names `artifact`: by at least one digest that is known, and by none that differs.
    fn is(&self, artifact: &Artifact<'_>) -> bool {
        let mut agreed = false;
        for (name, hash) in [
            ("sha256", Hash::Sha256),
            ("sha384", Hash::Sha384),
            ("sha512", Hash::Sha512),
        ] {
            let Some(named) = self.digest.get(name) else {
                continue;
            };
            let Some(known) = artifact.digest(hash) else {
                continue;
            };
            if crypto::hex::decode(named).ok() != Some(known) {
                return false;
            }
            agreed = true;
        }
        agreed
    }

    fn shown(&self) -> String {
        let digests = self.digest.iter();
        let shown: Vec<String> = digests
            .take(2)
            .map(|(name, digest)| {
                let text = format!("{name}:{digest}");
                text.chars().take(80).collect()
            })
            .collect();
        shown.join(" ")
    }
}

fn malformed(observed: String) -> Finding {
    Finding::new("STATEMENT-STRUCTURE", "the statement cannot be read")
        .expected("an in-toto statement of version 0.1 or 1")
        .observed(observed)
}
