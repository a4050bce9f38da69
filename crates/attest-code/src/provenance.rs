//! SLSA provenance (v0.2 and v1): which builder built some code, from which source. It is what the signer
//! says; a rule of the references says whose word counts for which builder and source.

mod repository;
mod slsa;

use crate::signer::is_plain;
use crate::statement::Statement;
use crate::vouched::Vouched;
use attest::Findings;
use facts::{FactSet, Finding, Source, Timestamp, names};
pub(crate) use repository::Repository;
use std::collections::BTreeSet;

/// What a provenance states; what it does not state, or not clearly, is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// URI of the builder.
    builder: String,
    /// URI of the kind of build.
    build_type: String,
    /// `github.com/acme/payments`
    source: Option<String>,
    /// `refs/tags/v1.2.3`
    reference: Option<String>,
    /// The commit, lower-case hexadecimal.
    commit: Option<String>,
    /// Path of the workflow in the source: `.github/workflows/release.yml`.
    workflow: Option<String>,
}

impl Provenance {
    /// Whether a statement of that type is provenance at all, of whatever version.
    pub(crate) fn is_one(statement: &Statement) -> bool {
        let kind = statement.predicate_type();
        kind.starts_with("https://slsa.dev/provenance/")
    }

    /// # Errors
    /// `SLSA-STRUCTURE`, `SLSA-VERSION`.
    pub(crate) fn read(statement: &Statement) -> Result<Self, Finding> {
        match statement.predicate_type() {
            "https://slsa.dev/provenance/v1" => slsa::version_1(&statement.predicate),
            "https://slsa.dev/provenance/v0.2" => slsa::version_0_2(&statement.predicate),
            other => Err(Finding::new(
                "SLSA-VERSION",
                "provenance of a version that is not read here",
            )
            .expected("https://slsa.dev/provenance/v1 or v0.2")
            .observed(other)
            .next("let the builder write provenance of SLSA v1")),
        }
    }
}

/// Whose provenance counts, for which builder and source. All of these have to hold; what is not pinned
/// becomes a fact, for policies to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceRule {
    label: String,
    signers: BTreeSet<String>,
    builder: String,
    source: String,
    reference: Option<Text>,
    workflow: Option<String>,
    build_type: Option<String>,
}

/// Exactly this, or anything below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Exact(String),
    Below(String),
}

impl ProvenanceRule {
    /// Whether what this signer says counts by this rule.
    #[must_use]
    pub fn lists(&self, signer: &str) -> bool {
        self.signers.contains(signer)
    }

    /// `signers` are labels of the references' signers, at least one. `builder` is the builder's URI as the
    /// provenance writes it. `source` is a repository: `github.com/acme/payments`, or its URL.
    ///
    /// # Errors
    /// `CODE-REFERENCE-PROVENANCE`.
    pub fn new(
        label: &str,
        signers: &[&str],
        builder: &str,
        source: &str,
    ) -> Result<Self, Finding> {
        let plain = is_plain(label) && is_plain(builder) && signers.iter().all(|one| is_plain(one));
        let source = Repository::parse(source).filter(|one| one.reference.is_none());
        match source {
            Some(source) if plain && !signers.is_empty() => Ok(Self {
                label: label.to_owned(),
                signers: signers.iter().map(|one| (*one).to_owned()).collect(),
                builder: builder.to_owned(),
                source: source.name,
                reference: None,
                workflow: None,
                build_type: None,
            }),
            _ => Err(unusable(label)),
        }
    }

    /// The ref that was built, exactly, or with a `*` at the end: `refs/tags/*`.
    ///
    /// # Errors
    /// `CODE-REFERENCE-PROVENANCE`.
    pub fn of_reference(mut self, reference: &str) -> Result<Self, Finding> {
        let (text, prefix) = match reference.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (reference, false),
        };
        if !text.starts_with("refs/") || text.contains('*') || !is_plain(text) {
            return Err(unusable(&self.label));
        }
        self.reference = Some(if prefix {
            Text::Below(text.to_owned())
        } else {
            Text::Exact(text.to_owned())
        });
        Ok(self)
    }

    /// The path of the workflow in the source.
    #[must_use]
    pub fn by_workflow(mut self, path: &str) -> Self {
        self.workflow = Some(path.to_owned());
        self
    }

    /// The kind of build.
    #[must_use]
    pub fn by_build_type(mut self, build_type: &str) -> Self {
        self.build_type = Some(build_type.to_owned());
        self
    }

    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn signers(&self) -> impl Iterator<Item = &str> {
        self.signers.iter().map(String::as_str)
    }

    pub(crate) fn is_by(&self, signer: &str) -> bool {
        self.signers.contains(signer)
    }

    /// Checks a provenance that one of the rule's signers signed.
    ///
    /// # Errors
    /// `SLSA-BUILDER`, `-SOURCE`, `-REF`, `-WORKFLOW`, `-BUILD-TYPE`, one for each that differs.
    pub(crate) fn check(&self, provenance: &Provenance) -> Result<(), Vec<Finding>> {
        let mut findings = Findings::new();
        let mut same = |code, what: &str, expected: String, observed: Option<&str>, holds: bool| {
            findings.check(holds, || {
                Finding::new(code, format!("the code was built {what}"))
                    .expected(expected)
                    .observed(observed.unwrap_or("nothing that the provenance states clearly"))
                    .next(format!(
                        "change the rule {:?}, if this is right",
                        self.label
                    ))
            });
        };
        let Provenance {
            builder,
            build_type,
            source,
            reference,
            commit: _,
            workflow,
        } = provenance;
        same(
            "SLSA-BUILDER",
            "by another builder",
            self.builder.clone(),
            Some(builder),
            *builder == self.builder,
        );
        same(
            "SLSA-SOURCE",
            "from another source",
            self.source.clone(),
            source.as_deref(),
            source.as_ref() == Some(&self.source),
        );
        if let Some(expected) = &self.reference {
            same(
                "SLSA-REF",
                "from another ref",
                expected.to_string(),
                reference.as_deref(),
                reference
                    .as_deref()
                    .is_some_and(|one| expected.matches(one)),
            );
        }
        if let Some(expected) = &self.workflow {
            same(
                "SLSA-WORKFLOW",
                "by another workflow",
                expected.clone(),
                workflow.as_deref(),
                workflow.as_ref() == Some(expected),
            );
        }
        if let Some(expected) = &self.build_type {
            same(
                "SLSA-BUILD-TYPE",
                "in another way",
                expected.clone(),
                Some(build_type),
                build_type == expected,
            );
        }
        if findings.is_empty() {
            Ok(())
        } else {
            Err(findings.into_vec())
        }
    }
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Below(prefix) => text
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Checks that the certificate's authority wrote down the same source as the provenance: it had it from the
/// builder's own token, before anything was signed.
///
/// # Errors
/// `SLSA-CERTIFICATE`, one for each part that differs.
pub(crate) fn check_claims(vouched: &Vouched, provenance: &Provenance) -> Result<(), Vec<Finding>> {
    let Some(claims) = vouched.claims() else {
        return Ok(());
    };
    let mut findings = Findings::new();
    let repository = claims.repository.as_deref().map(|claimed| {
        Repository::parse(claimed).map_or_else(|| claimed.to_owned(), |one| one.name)
    });
    for (what, claimed, stated) in [
        ("source", repository.as_ref(), provenance.source.as_ref()),
        ("commit", claims.digest.as_ref(), provenance.commit.as_ref()),
        (
            "ref",
            claims.reference.as_ref(),
            provenance.reference.as_ref(),
        ),
    ] {
        let (Some(claimed), Some(stated)) = (claimed, stated) else {
            continue;
        };
        findings.check(claimed == stated, || {
            Finding::new(
                "SLSA-CERTIFICATE",
                format!("provenance and certificate name another {what}"),
            )
            .expected(claimed.clone())
            .observed(stated.clone())
            .next("do not trust this signer: it signs what it did not build")
        });
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings.into_vec())
    }
}

/// States what a provenance says that a rule accepted.
pub(crate) fn state(provenance: &Provenance, facts: &mut FactSet, now: Timestamp) {
    let mut state = |name: &str, value: &str| facts.state(name, value, Source::Verified, now);
    state(names::CODE_BUILDER, &provenance.builder);
    state(names::CODE_BUILD_TYPE, &provenance.build_type);
    for (name, value) in [
        (names::CODE_SOURCE, &provenance.source),
        (names::CODE_REF, &provenance.reference),
        (names::CODE_COMMIT, &provenance.commit),
        (names::CODE_WORKFLOW, &provenance.workflow),
    ] {
        if let Some(value) = value {
            state(name, value);
        }
    }
}

fn unusable(label: &str) -> Finding {
    Finding::new(
        "CODE-REFERENCE-PROVENANCE",
        "a rule for provenance does not say whose word counts for what",
    )
    .expected("a label, signers, a builder's URI, a repository, and a ref below refs/")
    .observed(format!("{label:?}"))
}
