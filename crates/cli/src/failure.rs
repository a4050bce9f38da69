//! Why a command failed, and with which exit code.

use facts::Finding;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// Refused or failed.
pub const EXIT_FAILED: u8 = 1;
/// Wrong usage; clap uses the same code.
pub const EXIT_USAGE: u8 = 2;
/// `verify`, `prove` or `plan` found something broken.
pub const EXIT_VERIFICATION: u8 = 3;
/// `monitor` found something that nobody expected.
pub const EXIT_UNEXPECTED: u8 = 4;
/// A log has signed two histories, and there is a proof.
pub const EXIT_MISBEHAVIOUR: u8 = 5;

/// What ends a command early: one or more findings, and the kind of exit.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    findings: Vec<Finding>,
    source: Option<anyhow::Error>,
}

impl Failure {
    /// Refused by a plane, or failed in a way that a finding describes.
    #[must_use]
    pub fn refused(finding: Finding) -> Self {
        Self {
            code: EXIT_FAILED,
            findings: vec![finding],
            source: None,
        }
    }

    /// As [`Failure::refused`], for several reasons.
    #[must_use]
    pub fn all(findings: Vec<Finding>) -> Self {
        Self {
            code: EXIT_FAILED,
            findings,
            source: None,
        }
    }

    /// A file or folder that was named and cannot be read.
    #[must_use]
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let what = format!("cannot read {}: {error}", path.display());
        Self::refused(
            Finding::new("CLI-FILE", what).next("name a path that exists and that you may read"),
        )
    }

    /// A proof, signature, invariant or test does not hold.
    #[must_use]
    pub fn verification(findings: Vec<Finding>) -> Self {
        Self {
            code: EXIT_VERIFICATION,
            findings,
            source: None,
        }
    }

    /// A finding with an exit code of its own.
    #[must_use]
    pub fn with_exit(code: u8, finding: Finding) -> Self {
        Self {
            code,
            findings: vec![finding],
            source: None,
        }
    }

    /// Arguments that clap could not judge.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: EXIT_USAGE,
            findings: vec![Finding::new("CLI-USAGE", message)],
            source: None,
        }
    }

    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in self.findings.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        if let Some(source) = &self.source {
            write!(f, "{source:#}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(source: anyhow::Error) -> Self {
        match source.downcast::<Finding>() {
            Ok(finding) => Self::refused(finding),
            Err(source) => Self {
                code: EXIT_FAILED,
                findings: Vec::new(),
                source: Some(source),
            },
        }
    }
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        Self::refused(finding)
    }
}
