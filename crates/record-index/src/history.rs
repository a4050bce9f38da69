//! Since when, by which change of the estate and by whom: every version that the server's ledger has, in order.
//!
//! What an identity may do comes and goes, so each version is looked at, and none is sought by halving. A version is
//! compiled only if a file that has to do with use differs from the version before it.

use crate::follow::record_at;
use crate::replay::estate_files;
use crate::site::Site;
use crate::{Error, Filter};
use estate::{Access, Action, Estate, EstateFiles, PolicyRef, ResourceRef};
use ledger::body::EstateVersion;
use ledger::{Receipt, RecordType};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the history is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// May this identity do this to that?
    Access {
        principal: String,
        action: Action,
        resource: ResourceRef,
    },
    /// All that an identity may do.
    Principal(String),
    /// All that may be done to a resource, by whom.
    Resource(ResourceRef),
    /// A policy's text.
    Policy(String),
}

/// A version in which something about it became other than before.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The record that made the version current.
    pub record: u64,
    /// Unix milliseconds.
    pub time: u64,
    pub version: String,
    pub author: String,
    pub message: String,
    /// What came, what went, and what holds under other policies or conditions: one line each.
    pub gained: Vec<String>,
    pub lost: Vec<String>,
    pub changed: Vec<String>,
    #[serde(skip)]
    pub receipt: Option<Box<Receipt>>,
}

/// All changes, oldest first.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    pub changes: Vec<Change>,
    /// What holds now, one line each.
    pub now: Vec<String>,
    /// Records since which what holds now has held without a break, by line of `now`.
    pub since: Vec<u64>,
    /// Versions in all, and how many had to be compiled.
    pub versions: usize,
    pub compiled: usize,
    /// Versions that could not be looked at, with why: what changed in them is told with the next one.
    pub unread: Vec<(u64, String)>,
    /// Records of the server's ledger that were looked through.
    pub size: u64,
}

/// By line that names it, what is said of it.
type State = BTreeMap<String, Said>;

/// What something rests on.
struct Said {
    /// Where it stands in that version's files.
    shown: String,
    /// Without places: lines of files move without anything changing.
    meant: String,
}

/// Walks the versions. Call [`Site::catch_up`] first.
pub fn history(site: &Site, about: &About, receipts: bool) -> Result<History, Error> {
    let server = site.needs_server("versions of the estate")?;
    let mut versions = Vec::new();
    let filter = Filter {
        types: vec![RecordType::EstateVersion.as_str().to_owned()],
        ..Filter::default()
    };
    let clauses = filter.clauses(&site.trust_domain, None);
    crate::search::every_match(server, &clauses, |matched| {
        versions.push((matched.record, matched.time));
        Ok(())
    })?;
    let mut history = History {
        changes: Vec::new(),
        now: Vec::new(),
        since: Vec::new(),
        versions: versions.len(),
        compiled: 0,
        unread: Vec::new(),
        size: server.size(),
    };
    let mut state = State::new();
    let mut since: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen: Option<[u8; 32]> = None;
    for (record, time) in versions {
        let Some(read) = record_at(server.reader(), record)? else {
            continue;
        };
        let Ok(version) = read.expect_body::<EstateVersion>() else {
            let why = "its body is not one that this version reads".to_owned();
            history.unread.push((record, why));
            continue;
        };
        let Some(files) = estate_files(site, &version.blob.sha256)? else {
            let erased = site.erased(&version.blob.sha256)?;
            let why = erased.map_or_else(
                || "its files are not among the blobs that are here".to_owned(),
                |erased| format!("its files were {erased}"),
            );
            history.unread.push((record, why));
            continue;
        };
        let relevant = relevant(&files);
        if seen == Some(relevant) {
            continue;
        }
        history.compiled += 1;
        let estate = match Estate::compile_recorded(&files) {
            Ok(estate) => estate,
            Err(problems) => {
                let first = problems
                    .first()
                    .map_or_else(String::new, ToString::to_string);
                history.unread.push((
                    record,
                    format!("it does not compile in this version: {first}"),
                ));
                continue;
            }
        };
        seen = Some(relevant);
        let now = match state_of(&estate, about) {
            Ok(now) => now,
            Err(why) => {
                history.unread.push((record, why));
                continue;
            }
        };
        let mut change = Change {
            record,
            time,
            version: version.version.to_string(),
            author: version.author,
            message: version.message,
            gained: Vec::new(),
            lost: Vec::new(),
            changed: Vec::new(),
            receipt: None,
        };
        for (name, said) in &now {
            match state.get(name) {
                None => {
                    change.gained.push(line(name, said));
                    since.insert(name.clone(), record);
                }
                Some(before) if before.meant != said.meant => change.changed.push(line(name, said)),
                Some(_) => {}
            }
        }
        for (name, said) in &state {
            if !now.contains_key(name) {
                change.lost.push(line(name, said));
                since.remove(name);
            }
        }
        state = now;
        if !(change.gained.is_empty() && change.lost.is_empty() && change.changed.is_empty()) {
            if receipts {
                change.receipt = Some(Box::new(server.receipt(record)?));
            }
            history.changes.push(change);
        }
    }
    for (name, said) in &state {
        history.now.push(line(name, said));
        history
            .since
            .push(since.get(name).copied().unwrap_or_default());
    }
    Ok(history)
}

fn line(name: &str, said: &Said) -> String {
    if said.shown.is_empty() {
        name.to_owned()
    } else {
        format!("{name}, {}", said.shown)
    }
}

/// A digest of the files that have to do with use: not tests, invariants and what machines are held against.
fn relevant(files: &EstateFiles) -> [u8; 32] {
    const OTHERS: [&str; 3] = ["tests/", "invariants/", "references/"];
    let mut bytes = Vec::new();
    for (path, text) in &files.0 {
        if OTHERS.iter().any(|other| path.starts_with(other)) {
            continue;
        }
        for part in [path, text] {
            bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
    }
    crypto::sha256(&bytes)
}

fn state_of(estate: &Estate, about: &About) -> Result<State, String> {
    let accesses: Vec<Access> = match about {
        About::Access {
            principal,
            action,
            resource,
        } => {
            if estate.identity(principal).is_none() {
                return Ok(State::new());
            }
            // An action or kind that a version did not know yet could not be allowed by it.
            estate
                .can(principal, *action, resource)
                .unwrap_or_default()
                .into_iter()
                .collect()
        }
        About::Principal(principal) => {
            if estate.identity(principal).is_none() {
                return Ok(State::new());
            }
            let answer = estate.what_can(principal);
            if let Some(error) = answer.errors.first() {
                return Err(format!("not all of it can be evaluated: {error}"));
            }
            answer.accesses
        }
        About::Resource(resource) => {
            let mut all = Vec::new();
            for action in estate.uses() {
                if !estate.resource_kinds(action).contains(&resource.kind) {
                    continue;
                }
                let answer = estate.who_can(action, resource);
                if let Some(error) = answer.errors.first() {
                    return Err(format!("not all of it can be evaluated: {error}"));
                }
                all.extend(answer.accesses);
            }
            all
        }
        About::Policy(id) => {
            let said = estate.text_of(id).map(|text| Said {
                shown: text.clone(),
                meant: text,
            });
            return Ok(said.map(|said| (id.clone(), said)).into_iter().collect());
        }
    };
    Ok(accesses.iter().map(said).collect())
}

/// The access as a line, and what it rests on.
fn said(access: &Access) -> (String, Said) {
    let name = format!("{} {} {}", access.identity, access.action, access.resource);
    let kinds = [
        ("when", &access.when),
        ("unless", &access.unless),
        ("if defined", &access.if_defined),
    ];
    let conditions: Vec<String> = kinds
        .into_iter()
        .flat_map(|(word, residuals)| {
            let conditions = residuals.iter().map(|residual| &residual.condition);
            conditions.map(move |condition| format!("{word} {condition}"))
        })
        .collect();
    let because = |policy: &dyn Fn(&PolicyRef) -> String| {
        let policies = access.policies.iter().map(|one| policy(one));
        let all: Vec<String> = policies.chain(conditions.iter().cloned()).collect();
        format!("because of {}", all.join("; "))
    };
    let said = Said {
        shown: because(&|policy| policy.to_string()),
        meant: because(&|policy| format!("{:?}", policy.id)),
    };
    (name, said)
}
