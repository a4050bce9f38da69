//! Which identities a workload could become at all, found by its facts rather than by asking of each.
//!
//! Each permit about `assume` is filed under what it needs of the facts: of its needs, the one that the
//! fewest permits share. A workload meets the permits that are filed under what it has, and of these the ones
//! whose other needs it has as well; the identities in their scopes, with the texts that they ask for, are
//! reached. Each identity that is reached is then decided on as any other request is, by all policies.
//!
//! An identity that is not reached can only be denied. For an allow some permit has to be satisfied: its
//! scope and each of its conjuncts true. Of each permit that did not reach it, the scope does not take in the
//! workload or the identity, or a conjunct is false or errs; a permit that is not satisfied allows nothing,
//! and errors and forbids only deny. So it does not matter here in what order conditions stand, which the
//! scope index has to heed: leaving out a policy that errs would turn a denial into an allow there, while here
//! an identity that is left out *is* the denial. Tests hold it equal to asking of every identity.

use crate::decision::Effect;
use crate::entities::{Graph, NodeId};
use crate::model::Model;
use crate::policy::{
    Atom, Need, Policies, PolicyInfo, Scope, TextNeed, Wanted, allows_assume, atoms, needs,
};
use facts::FactSet;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Whom a permit lets become what.
#[derive(Debug)]
struct Entry {
    filed_under: Option<Need>,
    /// Beside what it is filed under.
    needs: Vec<Need>,
    reach: Reach,
    /// Beside what `reach` looks for.
    texts: Vec<TextNeed>,
}

#[derive(Debug)]
enum Reach {
    One(NodeId),
    /// The members of a group, or all identities; of them those with this text.
    Members(Option<NodeId>, Option<TextNeed>),
}

/// The identities in one scope, in order of their paths.
#[derive(Debug, Default)]
struct Members {
    all: Vec<NodeId>,
    /// By name of a text, by text: of the names that some permit looks for here.
    by_text: HashMap<String, HashMap<String, Vec<NodeId>>>,
}

#[derive(Debug, Default)]
pub(crate) struct AssumeIndex {
    entries: Vec<Entry>,
    filed: HashMap<Atom, Vec<usize>>,
    /// What needs nothing that could be looked up.
    everywhere: Vec<usize>,
    /// By group; under none, all identities.
    members: HashMap<Option<NodeId>, Members>,
}

impl AssumeIndex {
    pub(crate) fn build(policies: &Policies, model: &Model, graph: &Graph) -> Self {
        let permits: Vec<_> = policies
            .list
            .iter()
            .filter(|info| info.reference.effect == Effect::Permit && allows_assume(info))
            .map(|info| (info, needs(info)))
            .collect();
        let mut shared: HashMap<&Atom, usize> = HashMap::new();
        for atom in permits
            .iter()
            .flat_map(|(_, needs)| needs.facts.iter().flatten())
        {
            *shared.entry(atom).or_default() += 1;
        }
        let cost = |need: &Need| -> usize {
            let shares = need.iter().filter_map(|atom| shared.get(atom));
            shares.sum()
        };
        let mut index = Self::default();
        for (info, needs) in &permits {
            let Some(reach) = reach(info, graph, &needs.texts) else {
                continue;
            };
            let mut others = needs.facts.clone();
            let best = others
                .iter()
                .enumerate()
                .min_by_key(|(_, need)| cost(need))
                .map(|(place, _)| place);
            let filed_under = best.map(|place| others.remove(place));
            let number = index.entries.len();
            match &filed_under {
                Some(need) => {
                    for atom in need {
                        index.filed.entry(atom.clone()).or_default().push(number);
                    }
                }
                None => index.everywhere.push(number),
            }
            let looked_for = match &reach {
                Reach::Members(_, text) => text.as_ref(),
                Reach::One(_) => None,
            };
            let texts = needs.texts.iter();
            index.entries.push(Entry {
                filed_under,
                needs: others,
                texts: texts
                    .filter(|text| Some(*text) != looked_for)
                    .cloned()
                    .collect(),
                reach,
            });
        }
        index.gather(model, graph);
        index
    }

    /// The identities of every scope that an entry reaches.
    fn gather(&mut self, model: &Model, graph: &Graph) {
        let mut wanted: BTreeMap<Option<NodeId>, BTreeSet<&str>> = BTreeMap::new();
        for entry in &self.entries {
            if let Reach::Members(scope, text) = &entry.reach {
                let names = wanted.entry(*scope).or_default();
                names.extend(text.iter().map(|text| text.name.as_str()));
            }
        }
        let mut members: HashMap<Option<NodeId>, Members> = HashMap::new();
        for path in model.identities.keys() {
            let Some(node) = graph.identity(path) else {
                continue;
            };
            let Some(itself) = node.lineage.first().copied() else {
                continue;
            };
            let scopes = node.lineage.iter().copied().map(Some);
            for scope in scopes.chain([None]) {
                let Some(names) = wanted.get(&scope) else {
                    continue;
                };
                let members = members.entry(scope).or_default();
                members.all.push(itself);
                for name in names {
                    if let Some(text) = node.texts.get(*name) {
                        let by_text = members.by_text.entry((*name).to_owned()).or_default();
                        by_text.entry(text.clone()).or_default().push(itself);
                    }
                }
            }
        }
        self.members = members;
    }

    /// The identities, as nodes of `graph`, that some permit could give a workload of these facts. `known_as` are the names
    /// of its code.
    pub(crate) fn reached<'a>(
        &self,
        facts: &FactSet,
        known_as: impl IntoIterator<Item = &'a str>,
        graph: &Graph,
    ) -> BTreeSet<NodeId> {
        let atoms = atoms(facts, known_as);
        let filed = atoms.iter().filter_map(|atom| self.filed.get(atom));
        // A permit that is filed under several alternatives is met once.
        let mut numbers: Vec<usize> = filed.flatten().chain(&self.everywhere).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let has = |need: &Need| need.iter().any(|atom| atoms.contains(atom));
        let mut reached = BTreeSet::new();
        for entry in numbers
            .iter()
            .filter_map(|number| self.entries.get(*number))
        {
            if entry.needs.iter().all(has) {
                let found = self.within(&entry.reach, facts).iter().copied();
                reached.extend(found.filter(|id| fits(*id, &entry.texts, facts, graph)));
            }
        }
        reached
    }

    /// The identities that permits come nearest to giving a workload of these facts, `most` at most: those first
    /// whose permits lack the fewest of what they need. What no permit is about is not among them.
    pub(crate) fn nearest<'a>(
        &self,
        facts: &FactSet,
        known_as: impl IntoIterator<Item = &'a str>,
        graph: &Graph,
        most: usize,
    ) -> Vec<NodeId> {
        let atoms = atoms(facts, known_as);
        let has = |need: &&Need| need.iter().any(|atom| atoms.contains(atom));
        let mut ranked: Vec<(usize, usize)> = self
            .entries
            .iter()
            .enumerate()
            .map(|(number, entry)| {
                let needs = entry.filed_under.iter().chain(&entry.needs);
                (needs.filter(|need| !has(need)).count(), number)
            })
            .collect();
        ranked.sort_unstable();
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for entry in ranked
            .iter()
            .filter_map(|(_, number)| self.entries.get(*number))
        {
            for id in self.within(&entry.reach, facts) {
                if found.len() >= most {
                    return found;
                }
                if !seen.contains(id) && fits(*id, &entry.texts, facts, graph) {
                    seen.insert(*id);
                    found.push(*id);
                }
            }
        }
        found
    }

    fn within<'a>(&'a self, reach: &'a Reach, facts: &FactSet) -> &'a [NodeId] {
        let found = match reach {
            Reach::One(id) => return std::slice::from_ref(id),
            Reach::Members(scope, None) => self.members.get(scope).map(|members| &members.all),
            Reach::Members(scope, Some(text)) => self.members.get(scope).and_then(|members| {
                let by_text = members.by_text.get(&text.name)?;
                by_text.get(wanted(text, facts)?)
            }),
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// `None`: no identity lies in its scope.
fn reach(info: &PolicyInfo, graph: &Graph, texts: &[TextNeed]) -> Option<Reach> {
    let scope = match &info.resource {
        Scope::Is(name) | Scope::In(Some(name), _) if name != "Identity" => return None,
        Scope::Any | Scope::Is(_) => None,
        Scope::Eq(uid) | Scope::In(_, uid) => Some(graph.find(uid)?),
    };
    if let Some(id) = scope
        && let Some(node) = graph.node(id)
        && node.uid.type_name().to_string() == "Identity"
    {
        return Some(Reach::One(id));
    }
    // Kinds split an estate least.
    let finest = texts.iter().max_by_key(|text| text.name != "kind");
    Some(Reach::Members(scope, finest.cloned()))
}

fn wanted<'a>(text: &'a TextNeed, facts: &'a FactSet) -> Option<&'a str> {
    match &text.wanted {
        Wanted::Text(text) => Some(text),
        Wanted::Fact(name) => facts.text(name),
    }
}

fn fits(id: NodeId, texts: &[TextNeed], facts: &FactSet, graph: &Graph) -> bool {
    let Some(node) = graph.node(id) else {
        return true;
    };
    texts.iter().all(|text| {
        let has = node.texts.get(&text.name).map(String::as_str);
        has.is_some() && has == wanted(text, facts)
    })
}

#[cfg(test)]
mod tests {
    use crate::estate::Estate;
    use crate::files::EstateFiles;
    use facts::{FactSet, Source, Timestamp, names};

    /// Whoever administers, and whoever uses resources, is no workload: what lets them do anything whatever must not
    /// bring every identity into every question.
    #[test]
    fn permits_of_others_reach_nobody() {
        let mut files = EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"t\"\n");
        files.insert(
            "identities/a.toml",
            "[[group]]\nname = \"g\"\n\
             [[identity]]\npath = \"a\"\nkind = \"job\"\nowner = \"o\"\ngroups = [\"g\"]\n\
             [[identity]]\npath = \"b\"\nkind = \"job\"\nowner = \"o\"\n",
        );
        files.insert("references/a.toml", "[[pool]]\nname = \"p\"\n");
        files.insert(
            "policies/a.cedar",
            "permit (principal is Admin, action, resource);\n\
             permit (principal is Admin in Group::\"g\", action, resource);\n\
             permit (principal is Identity, action, resource);\n\
             permit (principal in Group::\"g\", action, resource);\n\
             permit (principal == Identity::\"a\", action, resource);\n\
             permit (principal in Pool::\"p\", action == Action::\"assume\", resource in Group::\"g\") \
             when { principal has uid && principal.uid == 0 };\n",
        );
        let estate = Estate::compile(&files).unwrap();
        let mut facts = FactSet::new();
        let now = Timestamp::EPOCH;
        facts.state(names::MACHINE_POOL, "p", Source::Verified, now);
        let reached = |facts: &FactSet| estate.assume_index.reached(facts, [], &estate.graph);
        assert!(reached(&facts).is_empty());
        facts.state(names::WORKLOAD_UID, 0_u32, Source::Asserted, now);
        let found: Vec<_> = reached(&facts)
            .into_iter()
            .filter_map(|id| Some(estate.graph.node(id)?.uid.id().unescaped().to_owned()))
            .collect();
        assert_eq!(found, ["a"]);
    }
    /// Whoever is refused was compared with every identity there is.
    #[test]
    fn those_are_nearest_whose_permits_lack_least() {
        let mut files = EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"t\"\n");
        let (mut identities, mut references) = (
            String::new(),
            String::from("[[pool]]\nname = \"p\"\n[[pool]]\nname = \"q\"\n"),
        );
        let mut policies = String::new();
        for number in 0..600 {
            identities +=
                &format!("[[identity]]\npath = \"i{number:03}\"\nkind = \"job\"\nowner = \"o\"\n");
            references +=
                &format!("[[code]]\nname = \"c{number:03}\"\nsha256 = [\"{number:064x}\"]\n");
            let pool = if number == 420 { "p" } else { "q" };
            policies += &format!(
                "permit (principal in Pool::\"{pool}\", action == Action::\"assume\", resource == Identity::\"i{number:03}\") \
                 when {{ principal has code && principal.code.known_as.contains(\"c{number:03}\") && principal has uid && principal.uid == 0 }};\n"
            );
        }
        files.insert("identities/a.toml", identities);
        files.insert("references/a.toml", references);
        files.insert("policies/a.cedar", policies);
        let estate = Estate::compile(&files).unwrap();
        let mut facts = FactSet::new();
        let now = Timestamp::EPOCH;
        facts.state(names::MACHINE_POOL, "p", Source::Verified, now);
        facts.state(names::WORKLOAD_UID, 0_u32, Source::Asserted, now);
        facts.state(names::CODE_SHA256, "f".repeat(64), Source::Asserted, now);
        let nearest = |facts: &FactSet, most| -> Vec<String> {
            let found = estate.nearest(facts, most).into_iter();
            found.map(|identity| identity.path.clone()).collect()
        };
        // In the pool of one, with the code of none.
        assert_eq!(nearest(&facts, 1), ["i420"]);
        let some = nearest(&facts, 64);
        assert_eq!(some.len(), 64);
        assert!(some.contains(&"i420".to_owned()));
        // With the code of another as well, which lacks one thing, too.
        facts.state(
            names::CODE_SHA256,
            format!("{:064x}", 7),
            Source::Asserted,
            now,
        );
        assert_eq!(nearest(&facts, 2), ["i007", "i420"]);
        assert_eq!(nearest(&facts, 600).len(), 600);
    }
}
