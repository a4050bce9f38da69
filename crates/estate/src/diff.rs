//! What a change of the estate comes to: declarations and policies that differ, and the accesses
//! that differ today, by enumeration.

mod columns;
mod touched;

use crate::action::Action;
use crate::ask::Access;
use crate::cedar::schema_texts;
use crate::declare::ColumnMode;
use crate::estate::Estate;
use crate::model::Settings;
use crate::resource::ResourceRef;
use columns::Beside;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use touched::Side;

/// From an older version to a newer one.
#[derive(Debug, Clone, Serialize)]
pub struct Diff {
    /// Versions, SHA-256 hex.
    pub from: String,
    pub to: String,
    pub settings_changed: bool,
    /// Of `estate.toml`, those that stand for something else: `columns: by-table before, decided now`.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub settings: Named,
    pub identities: Named,
    /// Tables, functions and what is in no database, as `Table::"shop/public/cards"`.
    pub resources: Named,
    /// Machines, pools, hardware roots and code, as `code payments-api`.
    pub references: Named,
    /// By `@id`.
    pub policies: Named,
    /// By `@id`. Removing or weakening one is its own kind of change.
    pub invariants: Named,
    /// Who may act for whom, by id. They widen nobody's own rights.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub delegations: Named,
    /// Newly possible, or under a condition that differs.
    pub widened: Vec<AccessChange>,
    /// No longer possible, or under a condition that differs.
    pub narrowed: Vec<AccessChange>,
    /// What could not be evaluated of what the change touches: with any, the lists above are not complete.
    pub errors: Vec<String>,
}

impl Diff {
    /// What is declared otherwise, each by itself: which list of this document, `added`, `removed` or `changed`, its name.
    pub fn declared(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        [
            ("settings", &self.settings),
            ("identities", &self.identities),
            ("resources", &self.resources),
            ("references", &self.references),
            ("policies", &self.policies),
            ("invariants", &self.invariants),
            ("delegations", &self.delegations),
        ]
        .into_iter()
        .flat_map(|(of, named)| named.each().map(move |(how, name)| (of, how, name)))
    }
}

/// Names that were added, removed, or stand for something else than before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

impl Named {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("added", &self.added),
            ("removed", &self.removed),
            ("changed", &self.changed),
        ]
        .into_iter()
        .flat_map(|(how, names)| names.iter().map(move |name| (how, name.as_str())))
    }

    fn between(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Self {
        let missing = |from: &BTreeMap<String, String>, to: &BTreeMap<String, String>| {
            from.keys()
                .filter(|key| !to.contains_key(*key))
                .cloned()
                .collect()
        };
        Self {
            added: missing(new, old),
            removed: missing(old, new),
            changed: old
                .iter()
                .filter(|(key, value)| new.get(*key).is_some_and(|now| now != *value))
                .map(|(key, _)| key.clone())
                .collect(),
        }
    }
}

/// One access before and after; one of the two may be missing.
#[derive(Debug, Clone, Serialize)]
pub struct AccessChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Access>,
}

/// Compares two versions, either of which may be the newer one.
#[must_use]
pub fn diff(old: &Estate, new: &Estate) -> Diff {
    let mut diff = Diff {
        from: old.version().to_owned(),
        to: new.version().to_owned(),
        settings_changed: old.settings() != new.settings(),
        settings: settings(old, new),
        identities: Named::between(&identities(old), &identities(new)),
        resources: Named::between(&resources(old), &resources(new)),
        references: Named::between(&references(old), &references(new)),
        policies: Named::between(&policies(old), &policies(new)),
        invariants: Named::between(&invariants(old), &invariants(new)),
        delegations: Named::between(&delegations(old), &delegations(new)),
        widened: Vec::new(),
        narrowed: Vec::new(),
        errors: Vec::new(),
    };
    let schemas_differ = !schema_texts(old).eq(schema_texts(new));
    let (mut before, mut after) = (Side::new(old, new), Side::new(new, old));
    for side in [&mut before, &mut after] {
        // What no file lists is as restricted as the settings say.
        side.everything |= diff.settings_changed || schemas_differ;
    }
    let paths: BTreeSet<&str> = old
        .identities()
        .chain(new.identities())
        .map(|identity| identity.path.as_str())
        .collect();
    for path in paths {
        let mut keys = before.touched(path);
        keys.extend(after.touched(path));
        if keys.is_empty() {
            continue;
        }
        let mut was = before.accesses(path, &keys, &mut diff.errors);
        let mut now = after.accesses(path, &keys, &mut diff.errors);
        let beside = Beside {
            path,
            old,
            new,
            before: &before,
            after: &after,
        };
        beside.add(&mut was, &mut now, &mut diff.errors);
        compare(was, now, &mut diff);
    }
    diff
}

type Accesses = BTreeMap<(Action, ResourceRef), Access>;

fn compare(mut before: Accesses, after: Accesses, diff: &mut Diff) {
    for (key, now) in after {
        let was = before.remove(&key);
        if was
            .as_ref()
            .is_some_and(|was| conditions(was) == conditions(&now))
        {
            continue;
        }
        let narrows = was
            .as_ref()
            .is_some_and(|was| !now.is_unconditional() || was.is_unconditional());
        let widens = was.as_ref().is_none_or(|was| !was.is_unconditional());
        let change = AccessChange {
            before: was,
            after: Some(now),
        };
        if widens {
            diff.widened.push(change.clone());
        }
        if narrows {
            diff.narrowed.push(change);
        }
    }
    diff.narrowed
        .extend(before.into_values().map(|was| AccessChange {
            before: Some(was),
            after: None,
        }));
}

/// The access without the policies' places, which move without meaning anything.
fn conditions(access: &Access) -> [BTreeSet<&str>; 3] {
    [&access.when, &access.unless, &access.if_defined].map(|list| {
        list.iter()
            .map(|residual| residual.condition.as_str())
            .collect()
    })
}

/// What `estate.toml` says otherwise, with both.
fn settings(old: &Estate, new: &Estate) -> Named {
    let (was, now) = (old.settings(), new.settings());
    let seconds = |lifetime: std::time::Duration| format!("{} s", lifetime.as_secs());
    let told = |settings: &Settings| {
        let columns = match settings.columns {
            ColumnMode::ByTable => "by-table",
            ColumnMode::Decided => "decided",
        };
        [
            ("trust_domain", settings.trust_domain.clone()),
            ("classifications", settings.classifications.join(" < ")),
            ("columns", columns.to_owned()),
            ("x509 lifetime", seconds(settings.x509_lifetime)),
            ("jwt lifetime", seconds(settings.jwt_lifetime)),
            ("recording", format!("{:?}", settings.recording)),
            ("session_max", seconds(settings.session_max)),
            ("max_staleness", seconds(settings.max_staleness)),
            ("evidence_max_age", seconds(settings.evidence_max_age)),
        ]
    };
    let both = told(was).into_iter().zip(told(now));
    let mut changed: Vec<String> = both
        .filter(|(was, now)| was != now)
        .map(|((name, was), (_, now))| format!("{name}: {was} before, {now} now"))
        .collect();
    if old.authors() != new.authors() {
        changed.push("authors".to_owned());
    }
    Named {
        changed,
        ..Named::default()
    }
}

fn identities(estate: &Estate) -> BTreeMap<String, String> {
    estate
        .identities()
        .map(|identity| {
            let mut placeless = identity.clone();
            placeless.file = "".into();
            placeless.line = 0;
            (identity.path.clone(), format!("{placeless:?}"))
        })
        .collect()
}

fn resources(estate: &Estate) -> BTreeMap<String, String> {
    let objects = estate
        .objects()
        .map(|info| (info.resource.to_string(), format!("{info:?}")));
    let others = estate.resources().map(|other| {
        let mut placeless = other.clone();
        placeless.file = "".into();
        placeless.line = 0;
        (other.resource.to_string(), format!("{placeless:?}"))
    });
    objects.chain(others).collect()
}

fn references(estate: &Estate) -> BTreeMap<String, String> {
    let references = estate.references();
    let pools = references
        .pools
        .iter()
        .map(|name| (format!("pool {name}"), String::new()));
    let machines = references
        .machines
        .iter()
        .map(|(name, machine)| (format!("machine {name}"), format!("{machine:?}")));
    let roots = references
        .tpm_roots
        .iter()
        .map(|(name, root)| (format!("tpm_root {name}"), format!("{root:?}")));
    let tees = references.tees.iter().map(|tee| {
        let kind = tee.kind().as_str();
        let name = match tee.pool.as_str() {
            "" => format!("tee {kind} of machines in no pool"),
            pool => format!("tee {kind} of {pool}"),
        };
        (name, format!("{tee:?}"))
    });
    let tee_roots = references
        .tee_roots
        .iter()
        .map(|(name, root)| (format!("tee_root {name}"), format!("{root:?}")));
    let code = references
        .code
        .iter()
        .map(|(name, code)| (format!("code {name}"), format!("{code:?}")));
    let generations = references
        .values
        .generations()
        .iter()
        .map(|one| (format!("generation {}", one.name), one.digest().to_string()));
    let boots = references
        .values
        .rules()
        .iter()
        .map(|one| (format!("boot {}", one.name), format!("{one:?}")));
    let withdrawn = references.values.withdrawn().iter().map(|one| {
        let version = one.version.as_deref().unwrap_or("*");
        (
            format!("withdrawn {} {version}", one.name),
            format!("{one:?}"),
        )
    });
    pools
        .chain(machines)
        .chain(roots)
        .chain(tees)
        .chain(tee_roots)
        .chain(code)
        .chain(generations)
        .chain(boots)
        .chain(withdrawn)
        .collect()
}

fn policies(estate: &Estate) -> BTreeMap<String, String> {
    estate
        .policies
        .list
        .iter()
        .map(|info| (info.reference.id.clone(), info.text.clone()))
        .collect()
}

fn delegations(estate: &Estate) -> BTreeMap<String, String> {
    estate
        .delegations()
        .iter()
        .map(|delegation| {
            let mut placeless = delegation.clone();
            placeless.file = "".into();
            placeless.line = 0;
            (delegation.id.clone(), format!("{placeless:?}"))
        })
        .collect()
}

fn invariants(estate: &Estate) -> BTreeMap<String, String> {
    estate
        .invariants()
        .iter()
        .map(|invariant| (invariant.reference.id.clone(), invariant.text.clone()))
        .collect()
}
