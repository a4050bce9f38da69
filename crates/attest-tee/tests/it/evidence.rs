//! Where recorded evidence is, and how its files are read.

use crypto::{base64, hex};
use facts::{Finding, Outcome, Timestamp, Verdict};
use std::fs;
use std::path::PathBuf;

/// The folder of all evidence, if it has every one of `names`; else the test says that it skips.
pub(crate) fn folder(test: &str, names: &[&str]) -> Option<Folder> {
    let folder = testkit::evidence();
    if let Some(folder) = folder
        && names.iter().all(|name| folder.join(name).is_dir())
    {
        return Some(Folder(folder));
    }
    testkit::skip(
        test,
        &format!("no evidence folder with {}", names.join(", ")),
    );
    None
}

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// The first certificate of a PEM file.
    pub(crate) fn pem(&self, name: &str) -> Vec<u8> {
        attest::x509::pem(&self.text(name)).unwrap().remove(0)
    }

    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }
}

/// Either alphabet, padded or not, as other projects write it.
pub(crate) fn base64_of(text: &str) -> Vec<u8> {
    let url = text.replace('+', "-").replace('/', "_");
    base64::decode_url(url.trim_end_matches('=')).unwrap()
}

pub(crate) fn hex_of(text: &str) -> Vec<u8> {
    hex::decode(text.trim()).unwrap()
}

/// `text` padded with zeros: what quick tests put into report data.
pub(crate) fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut output = [0; N];
    output[..bytes.len()].copy_from_slice(bytes);
    output
}

/// Midnight UTC.
pub(crate) fn day(year: u64, month: u64, day: u64) -> Timestamp {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
        + before
        + u64::from(leap && month > 2)
        + day
        - 1;
    Timestamp::from_secs(days * 86_400)
}

pub(crate) fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|one| one.code.as_ref()).collect()
}

/// The codes of a refusal, none of an affirmation.
pub(crate) fn outcome(verdict: &Verdict) -> Vec<&str> {
    if verdict.outcome() == Outcome::Affirmed {
        assert!(verdict.findings.is_empty());
    } else {
        assert!(verdict.facts.is_empty() && !verdict.findings.is_empty());
    }
    codes(&verdict.findings)
}

/// Facts, a line each: name, value and a source that is not hardware. Of a digest its beginning: what
/// was recorded stays where it is.
pub(crate) fn facts(verdict: &Verdict) -> String {
    let line = |fact: &facts::Fact| {
        let value = fact.value.to_string();
        let value = match hex::decode(&value) {
            Ok(bytes) if bytes.len() >= 8 => format!("{}… {} bytes", &value[..6], bytes.len()),
            _ => value,
        };
        let source = match fact.source {
            facts::Source::Hardware => String::new(),
            other => format!(" ({other})"),
        };
        format!("{} = {value}{source}\n", fact.name)
    };
    verdict.facts.iter().map(line).collect()
}

/// Every byte of these, one bit of it changed, is refused.
pub(crate) fn every_byte_counts(
    what: &str,
    bytes: &[u8],
    range: std::ops::Range<usize>,
    verify: impl Fn(&[u8]) -> Verdict,
) {
    assert_eq!(
        verify(bytes).outcome(),
        Outcome::Affirmed,
        "{what} has to be good"
    );
    let mut changed = bytes.to_vec();
    for at in range {
        let bit = 1 << (at % 8);
        changed[at] ^= bit;
        let outcome = verify(&changed).outcome();
        assert_eq!(outcome, Outcome::Refused, "{what}: byte {at}");
        changed[at] ^= bit;
    }
}
