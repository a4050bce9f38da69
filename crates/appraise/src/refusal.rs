//! What a refusal is about, what would have been good in its place, and what to run so that it is.

use crate::allow::{Printed, commands};
use crate::boot::compare;
use crate::files::sha256;
use crate::listed::{self, Listed};
use crate::presented::{Asked, Presented};
use crate::rules;
use crate::view::View;
use attest_tpm::ima::{self, List};
use facts::Finding;
use references::{At, Digest, Found, Known, Lapse, References, moment};
use serde::{Deserialize, Serialize};

/// Files that are looked at; findings name sixteen.
const MOST: usize = 256;

/// One finding, and what is known beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub finding: Finding,
    /// Absent where it is about the evidence as a whole.
    pub subject: Option<Subject>,
    /// The package or image whose values would have matched: the one that did and does not count, else the
    /// nearest that does.
    pub would_match: Option<Package>,
    /// Commands that allow it, in their order; empty where nothing should.
    pub allow: Vec<String>,
    /// What is to be known before they are run, or done instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    Pcr {
        index: u32,
        /// Place in the log of the first event that is not as the nearest prediction has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<usize>,
        /// What that event is of, as the log has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    File {
        entry: u64,
        path: String,
        digest: Option<String>,
    },
}

/// Where values of reference stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Of the artefact as a whole.
    pub sha256: String,
    pub source: String,
    pub signed_by: Vec<String>,
    pub generation: String,
    pub rings: Vec<String>,
    pub valid_from: String,
    pub valid_until: Option<String>,
    /// Why it is known and not good; absent for the nearest that is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapsed: Option<String>,
}

impl Package {
    fn of(found: &Found<'_>, lapse: Option<&Lapse>) -> Self {
        let (artefact, generation) = (found.artefact, found.generation);
        Self {
            name: artefact.name.clone(),
            version: artefact.version.clone(),
            architecture: artefact.architecture.clone(),
            sha256: artefact.sha256.to_string(),
            source: found
                .source()
                .map(|one| one.name.clone())
                .unwrap_or_default(),
            signed_by: found
                .source()
                .map(|one| one.signed_by.clone())
                .unwrap_or_default(),
            generation: generation.name.clone(),
            rings: generation.rings.clone(),
            valid_from: moment::text(generation.valid_from),
            valid_until: generation.valid_until.map(moment::text),
            lapsed: lapse.map(describe),
        }
    }

    /// `busybox-static 1:1.35.0-4`
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
            .trim_end()
            .to_owned()
    }
}

fn describe(lapse: &Lapse) -> String {
    match lapse {
        Lapse::OtherRing(rings) => format!("it holds for {}", rings.join(", ")),
        Lapse::NotYet(from) => format!("it begins at {}", moment::text(*from)),
        Lapse::Over(until) => format!("it ended at {}", moment::text(*until)),
        Lapse::Withdrawn { at, reason } => {
            format!("it was withdrawn at {}: {reason}", moment::text(*at))
        }
    }
}

/// What is known of a refusal before its commands are written.
pub(crate) struct Seen<'a> {
    /// Nothing, of a rule that does not hold now.
    pub(crate) subject: Option<Subject>,
    pub(crate) found: Option<Found<'a>>,
    pub(crate) lapse: Option<Lapse>,
    /// If it is a rule's lists that do not allow it.
    pub(crate) listed: Option<Listed>,
    pub(crate) finding: Finding,
}

impl Seen<'_> {
    pub(crate) fn is_violation(&self) -> bool {
        self.finding.code == "IMA-VIOLATION"
    }
}

/// The findings of [`judge`](crate::judge) on the same evidence, each with what is known beside it.
#[must_use]
pub fn refusals(
    findings: &[Finding],
    presented: &Presented<'_>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> Vec<Refusal> {
    let view = presented.booted.map(View::from);
    let list = List::parse_binary(presented.list.list, presented.list.first).ok();
    let known = look(view.as_ref(), list.as_ref(), asked);
    told(findings.to_vec(), view.as_ref(), known, asked, printed)
}

/// What [`judge`](crate::judge) would say of files that nobody signed, with what is known beside it: for
/// people who look at a machine before it is enrolled.
#[must_use]
pub fn claimed(
    view: Option<&View<'_>>,
    list: Option<&List<'_>>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> Vec<Refusal> {
    let known = look(view, list, asked);
    let findings = known.iter().map(|one| one.finding.clone()).collect();
    told(findings, view, known, asked, printed)
}

fn told(
    findings: Vec<Finding>,
    view: Option<&View<'_>>,
    mut known: Vec<Seen<'_>>,
    asked: &Asked<'_>,
    printed: &Printed<'_>,
) -> Vec<Refusal> {
    let refusals = findings.into_iter().map(|finding| {
        let place = known.iter().position(|one| is_of(&finding, &one.finding));
        let Some(one) = place.map(|place| known.swap_remove(place)) else {
            return Refusal {
                finding,
                subject: None,
                would_match: None,
                allow: Vec::new(),
                note: None,
            };
        };
        let (allow, note) = commands(&one, view, asked, printed);
        Refusal {
            finding,
            would_match: one
                .found
                .map(|found| Package::of(&found, one.lapse.as_ref())),
            subject: one.subject,
            allow,
            note,
        }
    });
    refusals.collect()
}

/// The last of many findings says how many more there are, behind what it says of its own; and what a record
/// holds is cut.
fn is_of(finding: &Finding, of: &Finding) -> bool {
    finding.code == of.code && finding.message.starts_with(&of.message)
}

/// Everything that is not good, from the same functions that judge.
fn look<'a>(view: Option<&View<'_>>, list: Option<&List<'_>>, asked: &Asked<'a>) -> Vec<Seen<'a>> {
    let at = At {
        now: asked.now,
        ring: asked.ring,
    };
    let mut known = Vec::new();
    if let Some(view) = view {
        let (allowed, findings) = compare(view, asked.demands.pcrs.clone(), asked.values, at);
        let fits = findings.is_empty();
        let pcrs = findings.into_iter();
        known.extend(pcrs.map(|(index, finding)| pcr(index, finding, view, asked.values, at)));
        let rules = &asked.demands.rules;
        if let (true, Some((rule, faults))) =
            (fits, rules::faults(view, rules, &allowed, asked.now))
        {
            let faults = faults.into_iter();
            known.extend(faults.map(|finding| of_rule(rule, finding, view, asked.values)));
        }
    }
    if let (Some(list), Some(files)) = (list, &asked.demands.files) {
        let faults = ima::faults(list, files, asked.now, MOST);
        known.extend(faults.into_iter().map(|(entry, finding)| {
            let digest = sha256(entry).map(Digest);
            let (found, lapse) = file(&entry.path, digest.as_ref(), asked.values, at);
            Seen {
                subject: Some(Subject::File {
                    entry: entry.index,
                    path: entry.path.clone(),
                    digest: digest.map(|digest| digest.to_string()),
                }),
                found,
                lapse,
                listed: None,
                finding,
            }
        }));
    }
    known
}

/// What was expected is named by its digest where it has one.
fn of_rule<'a>(rule: &str, finding: Finding, view: &View<'_>, values: &'a References) -> Seen<'a> {
    let (subject, listed) = listed::of(rule, &finding, view);
    let expected = finding.expected.as_deref().unwrap_or_default();
    let digest = expected
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok());
    Seen {
        subject,
        found: digest.and_then(|digest: Digest| values.part(&digest)),
        lapse: None,
        listed: Some(listed),
        finding,
    }
}

fn pcr<'a>(
    index: u8,
    finding: Finding,
    view: &View<'_>,
    values: &'a References,
    at: At<'_>,
) -> Seen<'a> {
    let number = u32::from(index);
    let value = view.value(number).map(Digest);
    let known = value.map(|value| values.look_up_pcr(index, &value, at));
    let subject = |event, name, digest| {
        Some(Subject::Pcr {
            index: number,
            event,
            name,
            digest,
        })
    };
    if let Some(Known::Lapsed(found, lapse)) = known {
        return Seen {
            subject: subject(None, None, None),
            found: Some(found),
            lapse: Some(lapse),
            listed: None,
            finding,
        };
    }
    let events = crate::boot::events(view, number);
    let closest = values.closest(index, &events, at);
    let position = closest.as_ref().map_or(0, |(_, _, position)| *position);
    let mut measured = view.measurements.iter().filter(|one| one.pcr == number);
    let differs = measured.nth(position);
    let naming = crate::naming::Naming::default();
    let account = differs.map(|one| crate::account::told(one, view, &naming));
    Seen {
        subject: subject(
            account.as_ref().map(|told| told.event),
            account.as_ref().map(|told| told.name.clone()),
            account.map(|told| told.digest),
        ),
        found: closest.map(|(found, _, _)| found),
        lapse: None,
        listed: None,
        finding,
    }
}

fn file<'a>(
    path: &str,
    digest: Option<&Digest>,
    values: &'a References,
    at: At<'_>,
) -> (Option<Found<'a>>, Option<Lapse>) {
    match digest.map(|digest| values.look_up(digest, at)) {
        Some(Known::Lapsed(found, lapse)) => (Some(found), Some(lapse)),
        _ => (values.nearest(path, at).into_iter().next(), None),
    }
}
