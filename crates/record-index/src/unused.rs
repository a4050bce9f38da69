//! What is granted and not used in a window, and the smaller estate without it: a patch that is proved not to
//! widen, and replayed so that it denies nothing of what was observed.

use crate::Error;
use crate::accesses::{Asked, uses};
use crate::changes::unified;
use crate::hops::Hops;
use crate::replay::{Again, Outcome};
use crate::site::Site;
use crate::terms::{is_any_column, is_column, principals};
use estate::{Access, Action, Effect, Estate, EstateFiles, PolicyRef, ResourceKind, cedar};
use estate_prove::{Options, Widening};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::index::{TimeRange, Use};

/// An access that is granted and was not seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Grant {
    pub identity: String,
    pub action: String,
    pub resource: String,
    /// The permits that give it.
    pub policies: Vec<String>,
    /// When it was last seen before the window, and in which record of which ledger.
    pub last: Option<(u64, String)>,
}

/// A permit by which nothing was allowed.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyUnused {
    pub policy: Arc<PolicyRef>,
    /// When something was last allowed by it before the window: Unix milliseconds, and the record.
    pub last: Option<(u64, String)>,
    /// Why the patch leaves it in; `None` if it takes it out.
    pub kept: Option<String>,
}

/// What the estate grants and the records of the window do not show.
#[derive(Debug, Clone, Serialize)]
pub struct Unused {
    /// The version, hex.
    pub estate: String,
    pub policies: Vec<PolicyUnused>,
    pub grants: Vec<Grant>,
    /// Identities of which not all grants could be evaluated.
    pub errors: Vec<String>,
    /// Grants in all.
    pub granted: usize,
    /// Records of accesses in the window.
    pub observed: u64,
    /// When the oldest record of all ledgers was made: a window that begins earlier was not observed whole.
    pub observed_since: Option<u64>,
}

/// A smaller estate.
#[derive(Debug, Clone, Serialize)]
pub struct Patch {
    /// Unified diff of the estate's folder; empty if nothing can be taken out.
    pub diff: String,
    /// Permits that it takes out, by id.
    pub removed: Vec<String>,
    /// What the solver says of whether anything is newly allowed.
    pub widening: Widening,
    /// Observed accesses that came out allowed again, of all that were replayed.
    pub replayed: u64,
    /// Policy tests that pass today and would fail.
    pub tests: Vec<String>,
    #[serde(skip)]
    pub files: EstateFiles,
}

/// What `estate` grants and nobody used in `times`. Call [`Site::catch_up`] first.
pub fn unused(site: &Site, estate: &Estate, times: TimeRange) -> Result<Unused, Error> {
    let prefix = format!("spiffe://{}/", site.trust_domain);
    let mut observed = 0;
    let mut observed_since: Option<u64> = None;
    // By identity, action and resource: whether in the window, and when last.
    let mut seen: BTreeMap<(String, String, String), (bool, u64, String)> = BTreeMap::new();
    let mut policies: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for source in site.all()? {
        if let Some(first) = source
            .index
            .store
            .matching(&[], TimeRange::default(), 0, 1, 1)?
            .first()
        {
            observed_since = Some(observed_since.map_or(first.time, |since| since.min(first.time)));
        }
        for used in source.index.store.policy_uses()? {
            let last = (used.last.1, format!("{}:{}", source.name, used.last.0));
            let known = policies.entry(used.policy).or_insert_with(|| last.clone());
            if known.0 < last.0 {
                *known = last;
            }
        }
        for one in uses(site, source, &Asked::default())? {
            let column = is_column(&one.who.resource);
            if !one.who.allowed || (column && !estate.decides_columns()) {
                continue;
            }
            let within = one.last.1 >= times.since.unwrap_or_default();
            // With its columns a table is accessed once.
            if within && !column {
                observed += one.count;
            }
            let place = format!("{}:{}", source.name, one.last.0);
            // The right of those on whose behalf it was done was used as well.
            for identity in principals(&one.who) {
                let identity = identity.strip_prefix(&prefix).unwrap_or(identity);
                let key = (
                    identity.to_owned(),
                    one.who.action.clone(),
                    one.who.resource.clone(),
                );
                let known = seen.entry(key).or_insert((false, 0, String::new()));
                known.0 |= within;
                if known.1 <= one.last.1 {
                    (known.1, known.2) = (one.last.1, place.clone());
                }
            }
        }
    }
    let since = times.since.unwrap_or_default();
    let mut found = Unused {
        estate: estate.version().to_owned(),
        policies: Vec::new(),
        grants: Vec::new(),
        errors: Vec::new(),
        granted: 0,
        observed,
        observed_since,
    };
    for single in cedar::singles(estate) {
        let reference = single.reference();
        if reference.effect != Effect::Permit || !is_about_use(single, estate) {
            continue;
        }
        let last = policies.get(&reference.id).cloned();
        if last.as_ref().is_some_and(|(time, _)| *time >= since) {
            continue;
        }
        let kept = single.is_fragile().then(|| {
            "it can err at run time, which denies: without it something could be newly allowed"
                .to_owned()
        });
        found.policies.push(PolicyUnused {
            policy: Arc::clone(reference),
            last,
            kept,
        });
    }
    let unlisted: BTreeSet<&str> = seen
        .keys()
        .filter(|(_, _, of)| !is_column(of))
        .filter(|(_, _, of)| of.parse().is_ok_and(|of| estate.undeclared(&of).is_some()))
        .map(|(_, _, of)| of.as_str())
        .collect();
    for identity in estate.identities() {
        let answer = estate.what_can(&identity.path);
        found.errors.extend(answer.errors);
        for access in answer.accesses {
            found.granted += 1;
            let resource = access.resource.to_string();
            let last = last_of(&seen, &unlisted, &access, &resource);
            if last.as_ref().is_some_and(|(within, _, _)| *within) {
                continue;
            }
            found.grants.push(Grant {
                identity: access.identity,
                action: access.action.to_string(),
                resource,
                policies: access
                    .policies
                    .iter()
                    .map(|policy| policy.id.clone())
                    .collect(),
                last: last.map(|(_, time, place)| (time, place)),
            });
        }
    }
    Ok(found)
}

/// Whether it speaks of uses alone. Who may become what and what administrators may do is not looked for in
/// gateways' records.
fn is_about_use(single: cedar::Single<'_>, estate: &Estate) -> bool {
    let mut others = Action::BASE
        .into_iter()
        .filter(|action| !estate.uses().any(|known| known == *action));
    !others.any(|action| single.concerns(action.as_str()))
}

type Seen = BTreeMap<(String, String, String), (bool, u64, String)>;

/// When it was last seen: of a container, which stands for what no file lists in it, anything such below it.
fn last_of(
    seen: &Seen,
    unlisted: &BTreeSet<&str>,
    access: &Access,
    resource: &str,
) -> Option<(bool, u64, String)> {
    let action = access.action.to_string();
    let key = (access.identity.clone(), action, resource.to_owned());
    let mut last = seen.get(&key).cloned();
    if access.resource.kind == ResourceKind::Column
        && let Some(table) = access.resource.parent()
    {
        // Who used all of a table's columns used each.
        let every = (key.0.clone(), key.1.clone(), table.column("*").to_string());
        let every = seen.get(&every);
        let later = |one: &&(bool, u64, String)| last.as_ref().is_none_or(|last| last.1 < one.1);
        if let Some(every) = every.filter(later) {
            last = Some(every.clone());
        }
    }
    let below = match access.resource.path.as_str() {
        "*" => "\"".to_owned(),
        path => format!("\"{path}/"),
    };
    let first = (key.0.clone(), key.1.clone(), String::new());
    for ((who, what, of), known) in seen.range(first..) {
        if *who != key.0 || *what != key.1 {
            break;
        }
        let later = last.as_ref().is_none_or(|last| last.1 < known.1);
        if later && unlisted.contains(of.as_str()) && of.contains(&below) {
            last = Some(known.clone());
        }
    }
    last
}

/// The estate without the permits that nothing was allowed by, if the solver proves that it allows nothing new, and
/// if every observed access comes out as it was. A permit that an observed access needs after all stays in.
/// Blocks the thread, on which no async runtime may be running.
pub fn patch(
    site: &Site,
    estate: &Estate,
    unused: &mut Unused,
    times: TimeRange,
    options: &Options,
) -> Result<Patch, Error> {
    let observed = observed(site, estate, times)?;
    let mut out: BTreeSet<String> = unused
        .policies
        .iter()
        .filter(|policy| policy.kept.is_none())
        .map(|policy| policy.policy.id.clone())
        .collect();
    loop {
        let (files, uncut) = without(estate, &out);
        for id in uncut {
            out.remove(&id);
            keep(
                unused,
                &id,
                "its text does not stand by itself on lines of its own",
            );
        }
        let smaller = match Estate::compile(&files) {
            Ok(smaller) => smaller,
            Err(problems) => {
                let first = problems
                    .first()
                    .map_or_else(String::new, ToString::to_string);
                return Err(facts::Finding::new(
                    "UNUSED-COMPILE",
                    "the estate without what is not used does not compile",
                )
                .observed(first)
                .next(
                    "take the policies out by hand; the list of them: trilith unused --folder DIR",
                )
                .into());
            }
        };
        let denied = denied(site, estate, &smaller, &observed, &out)?;
        if !denied.is_empty() {
            for id in denied {
                out.remove(&id);
                keep(
                    unused,
                    &id,
                    "an observed access is allowed by it today, though another policy was recorded",
                );
            }
            continue;
        }
        return Ok(finish(estate, &smaller, files, out, &observed, options));
    }
}

fn keep(unused: &mut Unused, id: &str, why: &str) {
    for policy in unused
        .policies
        .iter_mut()
        .filter(|policy| policy.policy.id == id)
    {
        policy.kept = Some(why.to_owned());
    }
}

/// What was allowed in the window and is allowed today.
fn observed(site: &Site, estate: &Estate, times: TimeRange) -> Result<Vec<Use>, Error> {
    let mut again = Again::new(site);
    let mut observed = Vec::new();
    for source in site.all()? {
        for one in uses(site, source, &Asked::default())? {
            let named = !is_column(&one.who.resource)
                || (estate.decides_columns() && !is_any_column(&one.who.resource));
            let within = one.who.allowed && one.last.1 >= times.since.unwrap_or_default();
            if within && named && may_be_allowed(&mut again, estate, &one)? {
                observed.push(one);
            }
        }
    }
    Ok(observed)
}

/// Whether it is allowed, or would be by facts that are not here.
fn may_be_allowed(again: &mut Again<'_>, estate: &Estate, one: &Use) -> Result<bool, Error> {
    Ok(match again.decide(estate, one, &Hops::new())? {
        Outcome::Decided(made) => made.allow,
        Outcome::Not(_) | Outcome::Delegator(_) => true,
    })
}

/// The permits among `out` that observed accesses need: where one is denied without them, or where facts that are
/// not here decide, all that could give it today.
fn denied(
    site: &Site,
    estate: &Estate,
    smaller: &Estate,
    observed: &[Use],
    out: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Error> {
    let prefix = format!("spiffe://{}/", site.trust_domain);
    let mut again = Again::new(site);
    let mut needed = BTreeSet::new();
    for one in observed {
        if matches!(again.decide(smaller, one, &Hops::new())?, Outcome::Decided(made) if made.allow)
        {
            continue;
        }
        let (Ok(action), Ok(resource)) = (one.who.action.parse(), one.who.resource.parse()) else {
            continue;
        };
        let each = principals(&one.who).filter_map(|id| {
            let path = id.strip_prefix(&prefix).unwrap_or(id);
            estate.can(path, action, &resource).ok().flatten()
        });
        let given = each.flat_map(|access| {
            let whens: Vec<_> = access
                .when
                .into_iter()
                .map(|residual| residual.policy)
                .collect();
            access.policies.into_iter().chain(whens)
        });
        needed.extend(
            given
                .map(|policy| policy.id.clone())
                .filter(|id| out.contains(id)),
        );
    }
    Ok(needed)
}

fn finish(
    estate: &Estate,
    smaller: &Estate,
    files: EstateFiles,
    out: BTreeSet<String>,
    observed: &[Use],
    options: &Options,
) -> Patch {
    let widening = estate_prove::newly_allowed_blocking(estate, smaller, options);
    let passing: BTreeSet<String> = estate
        .run_tests()
        .iter()
        .filter(|test| test.passed)
        .map(|test| test.name.clone())
        .collect();
    let tests = smaller.run_tests();
    let failing = tests
        .iter()
        .filter(|test| !test.passed && passing.contains(&test.name));
    let mut diff = String::new();
    for (path, old) in &estate.files().0 {
        diff.push_str(&unified(path, old, files.0.get(path).map(String::as_str)));
    }
    Patch {
        diff,
        removed: out.into_iter().collect(),
        widening,
        replayed: observed.iter().map(|one| one.count).sum(),
        tests: failing.map(|test| test.name.clone()).collect(),
        files,
    }
}

/// The files without these permits, and those that cannot be cut out of their files by whole lines.
fn without(estate: &Estate, out: &BTreeSet<String>) -> (EstateFiles, Vec<String>) {
    let mut files = estate.files().clone();
    let mut uncut = Vec::new();
    let mut gone: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
    for single in cedar::singles(estate) {
        let reference = single.reference();
        if !out.contains(&reference.id) {
            continue;
        }
        let whole = files.0.get(&reference.file);
        match whole.and_then(|whole| lines_of(whole, reference.line, single.text())) {
            Some(lines) => gone.entry(reference.file.clone()).or_default().push(lines),
            None => uncut.push(reference.id.clone()),
        }
    }
    for (path, mut ranges) in gone {
        ranges.sort_unstable();
        let Some(text) = files.0.get_mut(&path) else {
            continue;
        };
        let kept = text
            .split_inclusive('\n')
            .enumerate()
            .filter(|(number, _)| {
                !ranges
                    .iter()
                    .any(|(first, end)| (*first..*end).contains(number))
            });
        *text = kept.map(|(_, line)| line).collect();
    }
    (files, uncut)
}

/// The lines from 0 that hold `text`, which begins in line `first` (from 1), and nothing else; with the blank line
/// behind it.
fn lines_of(whole: &str, first: u32, text: &str) -> Option<(usize, usize)> {
    let first = usize::try_from(first).ok()?.checked_sub(1)?;
    let start: usize = whole.split_inclusive('\n').take(first).map(str::len).sum();
    let rest = whole.get(start..)?;
    let lead = rest.find(text)?;
    let (before, behind) = (rest.get(..lead)?, rest.get(lead + text.len()..)?);
    let tail = behind.split('\n').next().unwrap_or_default();
    // Cedar's text may end before the semicolon.
    let tail = tail.trim().trim_start_matches(';').trim();
    if !before.trim().is_empty() || before.contains('\n') || !tail.is_empty() {
        return None;
    }
    let mut end = first + text.matches('\n').count() + 1;
    let next = whole.split_inclusive('\n').nth(end);
    if next.is_some_and(|line| line.trim().is_empty()) {
        end += 1;
    }
    Some((first, end))
}
