//! The declared estate as Cedar entities, built once, and the short-lived ones that a request adds.

use crate::action::Action;
use crate::administrator::Administrator;
use crate::fact_schema::{FactError, expression, workload_pairs};
use crate::model::{Identity, Model, TableInfo};
use crate::problem::Problem;
use crate::resource::{ResourceKind, ResourceRef};
use crate::vocabulary::Vocabulary;
use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use facts::{FactSet, Value, names};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

/// Position of an entity in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) uid: EntityUid,
    pub(crate) entity: Entity,
    /// Itself first, then every ancestor once.
    pub(crate) lineage: Box<[NodeId]>,
    /// How many nodes have this one in their lineage: its selectivity as a scope.
    pub(crate) descendants: u32,
    /// Text attributes by name, tags by `tag:name`: what the index compares.
    pub(crate) texts: BTreeMap<String, String>,
}

impl Node {
    /// Of an identity or a resource.
    pub(crate) fn path(&self) -> &str {
        self.uid.id().unescaped()
    }
}

/// INVARIANT: `entities` holds exactly the nodes' entities, with the transitive closure computed.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    by_uid: HashMap<EntityUid, NodeId>,
    /// The same, by what requests are made of: hashing an `EntityUid` costs as much as a decision.
    by_path: HashMap<String, NodeId>,
    by_resource: HashMap<ResourceRef, NodeId>,
    /// Resources, identities among them, in order of their paths.
    by_kind: BTreeMap<ResourceKind, Vec<NodeId>>,
    pub(crate) entities: Entities,
}

/// The entity types of the base schema. INVARIANT: each is an identifier, so each parses.
static TYPES: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
    [
        "Action",
        "Admin",
        "Api",
        "Database",
        "Estate",
        "Function",
        "Group",
        "Identity",
        "Machine",
        "Pool",
        "Route",
        "Schema",
        "Column",
        "Table",
        "Tool",
        "ToolServer",
        "Workload",
    ]
    .into_iter()
    .filter_map(|name| Some((name, name.parse().ok()?)))
    .collect()
});

/// In the order of [`Action::BASE`], which is that of the variants.
static ACTIONS: LazyLock<[EntityUid; Action::BASE.len()]> =
    LazyLock::new(|| Action::BASE.map(|action| uid("Action", action.as_str())));

/// `type_name` is one of the base schema's, or an identifier.
pub(crate) fn uid(type_name: &str, id: &str) -> EntityUid {
    let own = || type_name.parse().ok();
    #[expect(
        clippy::expect_used,
        reason = "INVARIANT: callers pass literals that TYPES lists, or a `Word::kind`, which is an identifier"
    )]
    let type_name = TYPES
        .get(type_name)
        .cloned()
        .or_else(own)
        .expect("an entity type");
    EntityUid::from_type_name_and_id(type_name, EntityId::new(id))
}

pub(crate) fn resource_uid(resource: &ResourceRef) -> EntityUid {
    uid(resource.kind.type_name(), &resource.path)
}

/// An estate's own actions have their uids in its vocabulary.
pub(crate) fn action_uid(action: Action) -> EntityUid {
    action
        .number()
        .and_then(|number| ACTIONS.get(number).cloned())
        .unwrap_or_else(|| uid("Action", action.as_str()))
}

pub(crate) fn admin_uid(who: &Administrator) -> EntityUid {
    uid("Admin", &who.to_string())
}

/// The one workload that an `assume` is about; it has no name of its own.
pub(crate) fn workload_uid() -> EntityUid {
    uid("Workload", "caller")
}

impl Graph {
    pub(crate) fn build(model: &Model, vocabulary: &Vocabulary) -> Result<Self, Problem> {
        let failed = |error: &dyn std::fmt::Display| {
            Problem::new(
                "ESTATE-ENTITIES",
                "",
                0,
                format!("the entities do not fit: {error}"),
            )
        };
        let drafts = drafts(model, vocabulary).map_err(|error| failed(&error))?;
        let by_uid: HashMap<_, _> = drafts
            .iter()
            .zip(0..)
            .map(|(draft, index)| (draft.uid.clone(), NodeId(index)))
            .collect();
        let parents: Vec<Vec<NodeId>> = drafts
            .iter()
            .map(|draft| {
                draft
                    .parents
                    .iter()
                    .filter_map(|uid| by_uid.get(uid).copied())
                    .collect()
            })
            .collect();
        let entities = Entities::from_entities(
            drafts.iter().map(|draft| draft.entity.clone()),
            Some(&vocabulary.schema),
        )
        .map_err(|error| failed(&error))?;
        let mut nodes: Vec<Node> = drafts
            .into_iter()
            .zip(0..)
            .map(|(draft, index)| Node {
                // From the closed set, so that small stores made of it are closed as well.
                entity: entities.get(&draft.uid).cloned().unwrap_or(draft.entity),
                uid: draft.uid,
                lineage: lineage(NodeId(index), &parents),
                descendants: 0,
                texts: draft.texts,
            })
            .collect();
        let lineages: Vec<NodeId> = nodes
            .iter()
            .flat_map(|node| node.lineage.to_vec())
            .collect();
        for NodeId(index) in lineages {
            if let Some(node) = nodes.get_mut(index as usize) {
                node.descendants += 1;
            }
        }
        let found = |uid: &EntityUid| by_uid.get(uid).copied();
        let by_path = model
            .identities
            .keys()
            .filter_map(|path| Some((path.clone(), found(&uid("Identity", path))?)))
            .collect();
        let by_resource = nodes
            .iter()
            .filter_map(|node| Some((resource_of(&node.uid)?, found(&node.uid)?)))
            .collect();
        let mut by_kind: BTreeMap<ResourceKind, Vec<NodeId>> = BTreeMap::new();
        for (node, index) in nodes.iter().zip(0..) {
            let kind = ResourceKind::from_type_name(&node.uid.type_name().to_string());
            if let Some(kind) = kind {
                by_kind.entry(kind).or_default().push(NodeId(index));
            }
        }
        for list in by_kind.values_mut() {
            list.sort_by_key(|NodeId(index)| nodes.get(*index as usize).map(Node::path));
        }
        Ok(Self {
            nodes,
            by_uid,
            by_path,
            by_resource,
            by_kind,
            entities,
        })
    }

    pub(crate) fn find(&self, uid: &EntityUid) -> Option<NodeId> {
        self.by_uid.get(uid).copied()
    }

    /// The identity of this path.
    pub(crate) fn identity(&self, path: &str) -> Option<&Node> {
        self.node(*self.by_path.get(path)?)
    }

    pub(crate) fn resource(&self, resource: &ResourceRef) -> Option<&Node> {
        self.node(*self.by_resource.get(resource)?)
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    /// Everything of this kind that is declared, in order of paths.
    pub(crate) fn of_kind(&self, kind: ResourceKind) -> &[NodeId] {
        self.by_kind.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// The kinds of which something is declared, in their order.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = ResourceKind> {
        self.by_kind.keys().copied()
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The entities of `lineage`, each once, and `extra`.
    pub(crate) fn store<'a>(
        &self,
        lineage: impl IntoIterator<Item = &'a NodeId>,
        extra: impl IntoIterator<Item = Entity>,
    ) -> Result<Entities, String> {
        let unique: HashSet<NodeId> = lineage.into_iter().copied().collect();
        let known = unique
            .into_iter()
            .filter_map(|id| Some(self.node(id)?.entity.clone()));
        Entities::from_entities(known.chain(extra), None).map_err(|error| error.to_string())
    }
}

fn lineage(start: NodeId, parents: &[Vec<NodeId>]) -> Box<[NodeId]> {
    let mut found = vec![start];
    let mut next = 0;
    while let Some(NodeId(index)) = found.get(next).copied() {
        next += 1;
        for parent in parents.get(index as usize).into_iter().flatten() {
            if !found.contains(parent) {
                found.push(*parent);
            }
        }
    }
    found.into()
}

/// An entity before the closure is computed.
struct Draft {
    uid: EntityUid,
    parents: Vec<EntityUid>,
    entity: Entity,
    texts: BTreeMap<String, String>,
}

type BuildError = Box<dyn std::error::Error>;

fn drafts(model: &Model, vocabulary: &Vocabulary) -> Result<Vec<Draft>, BuildError> {
    let mut drafts = vec![bare(
        uid("Estate", &model.settings.trust_domain),
        Vec::new(),
    )];
    drafts.extend(
        model
            .references
            .pools
            .iter()
            .map(|pool| bare(uid("Pool", pool), Vec::new())),
    );
    for (group, parents) in &model.groups {
        let parents = parents.iter().map(|parent| uid("Group", parent)).collect();
        drafts.push(bare(uid("Group", group), parents));
    }
    for machine in model.references.machines.values() {
        let parents = machine.pool.iter().map(|pool| uid("Pool", pool)).collect();
        drafts.push(bare(uid("Machine", &machine.name), parents));
    }
    for (who, groups) in &model.administrators {
        let entity = administrator(who, groups.iter().map(String::as_str))?;
        let parents = groups.iter().map(|group| uid("Group", group)).collect();
        drafts.push(Draft {
            uid: admin_uid(who),
            parents,
            entity,
            texts: BTreeMap::new(),
        });
    }
    let nested = !vocabulary.identity_attributes.is_empty();
    for identity in model.identities.values() {
        drafts.push(identity_draft(identity, nested)?);
    }
    for (resource, container) in &model.containers {
        let most_restricted = model.settings.most_restricted();
        drafts.push(resource_draft(&Shown {
            parents: resource.parent().into_iter().collect(),
            groups: &container.groups,
            classification: container
                .classification
                .as_deref()
                .unwrap_or(most_restricted),
            owner: container.owner.as_deref(),
            labels: &container.labels,
            attributes: Given::None,
            resource,
        })?);
    }
    for info in model.objects.values() {
        let parent = info.resource.parent();
        drafts.push(resource_draft(&shown(info, parent.as_ref(), vocabulary))?);
        // Where nobody decides on columns, they cost nothing.
        for name in info.columns.keys().filter(|_| vocabulary.columns) {
            let column = model.undeclared(&info.resource.column(name));
            let drawn = shown(&column, Some(&info.resource), vocabulary);
            drafts.push(resource_draft(&drawn)?);
        }
    }
    for other in model.others.values() {
        drafts.push(resource_draft(&Shown {
            parents: other.parents.clone(),
            groups: &other.groups,
            classification: &other.classification,
            owner: other.owner.as_deref(),
            labels: &other.labels,
            attributes: Given::Flat(&other.attributes),
            resource: &other.resource,
        })?);
    }
    Ok(drafts)
}

fn bare(uid: EntityUid, parents: Vec<EntityUid>) -> Draft {
    Draft {
        entity: Entity::new_no_attrs(uid.clone(), parents.iter().cloned().collect()),
        uid,
        parents,
        texts: BTreeMap::new(),
    }
}

/// `nested`: the estate's own schema gives identities attributes.
fn identity_draft(identity: &Identity, nested: bool) -> Result<Draft, BuildError> {
    let own = uid("Identity", &identity.path);
    let parents: Vec<_> = identity
        .groups
        .iter()
        .map(|group| uid("Group", group))
        .collect();
    let mut texts = BTreeMap::from([
        ("kind".to_owned(), identity.kind.as_str().to_owned()),
        ("owner".to_owned(), identity.owner.clone()),
    ]);
    let mut attributes = text_attributes(&texts);
    if nested {
        attributes.insert("attributes".to_owned(), record(&identity.attributes)?);
    }
    let tags = tags(&identity.labels);
    let entity = Entity::new_with_tags(own.clone(), attributes, parents.to_vec(), tags)?;
    texts.extend(label_texts(&identity.labels));
    Ok(Draft {
        uid: own,
        parents,
        entity,
        texts,
    })
}

/// A resource as policies see it.
pub(crate) struct Shown<'a> {
    resource: &'a ResourceRef,
    parents: BTreeSet<ResourceRef>,
    groups: &'a BTreeSet<String>,
    classification: &'a str,
    owner: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    attributes: Given<'a>,
}

/// What the estate's own schema gives a resource.
enum Given<'a> {
    None,
    /// Beside its classification.
    Flat(&'a BTreeMap<String, Value>),
    /// In the record `attributes`.
    Nested(&'a BTreeMap<String, Value>),
}

/// A database object, declared or not, under `parent`.
pub(crate) fn shown<'a>(
    info: &'a TableInfo,
    parent: Option<&ResourceRef>,
    vocabulary: &Vocabulary,
) -> Shown<'a> {
    let nested = matches!(
        info.resource.kind,
        ResourceKind::Table | ResourceKind::Column
    ) && !vocabulary.table_attributes.is_empty();
    Shown {
        resource: &info.resource,
        parents: parent.cloned().into_iter().collect(),
        groups: &info.groups,
        classification: &info.classification,
        owner: info.owner.as_deref(),
        labels: &info.labels,
        attributes: if nested {
            Given::Nested(&info.attributes)
        } else {
            Given::None
        },
    }
}

impl Shown<'_> {
    /// What the index compares.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let mut texts =
            BTreeMap::from([("classification".to_owned(), self.classification.to_owned())]);
        if let Some(owner) = self.owner {
            texts.insert("owner".to_owned(), owner.to_owned());
        }
        texts.extend(label_texts(self.labels));
        texts
    }

    fn parents(&self) -> Vec<EntityUid> {
        let groups = self.groups.iter().map(|group| uid("Group", group));
        self.parents
            .iter()
            .map(resource_uid)
            .chain(groups)
            .collect()
    }

    pub(crate) fn entity(&self) -> Result<Entity, BuildError> {
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let mut attributes =
            HashMap::from([("classification".to_owned(), text(self.classification))]);
        if let Some(owner) = self.owner {
            attributes.insert("owner".to_owned(), text(owner));
        }
        match self.attributes {
            Given::None => {}
            Given::Flat(given) => {
                let given = given.iter();
                attributes.extend(given.map(|(name, value)| (name.clone(), expression(value))));
            }
            Given::Nested(given) => {
                attributes.insert("attributes".to_owned(), record(given)?);
            }
        }
        let uid = resource_uid(self.resource);
        let tags = tags(self.labels);
        Ok(Entity::new_with_tags(
            uid,
            attributes,
            self.parents(),
            tags,
        )?)
    }
}

fn resource_draft(shown: &Shown<'_>) -> Result<Draft, BuildError> {
    Ok(Draft {
        uid: resource_uid(shown.resource),
        parents: shown.parents(),
        entity: shown.entity()?,
        texts: shown.texts(),
    })
}

fn record(values: &BTreeMap<String, Value>) -> Result<RestrictedExpression, BuildError> {
    let pairs = values.iter();
    let pairs = pairs.map(|(name, value)| (name.clone(), expression(value)));
    Ok(RestrictedExpression::new_record(pairs)?)
}

fn tags(labels: &BTreeMap<String, String>) -> Vec<(String, RestrictedExpression)> {
    let text = |text: &String| RestrictedExpression::new_string(text.clone());
    labels
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Labels under the names that guards give them.
fn label_texts(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    labels
        .iter()
        .map(|(name, value)| (format!("tag:{name}"), value.clone()))
}

fn text_attributes(texts: &BTreeMap<String, String>) -> HashMap<String, RestrictedExpression> {
    texts
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                RestrictedExpression::new_string(value.clone()),
            )
        })
        .collect()
}

pub(crate) fn administrator<'a>(
    who: &Administrator,
    groups: impl Iterator<Item = &'a str>,
) -> Result<Entity, BuildError> {
    let attributes = HashMap::from([(
        "uid".to_owned(),
        RestrictedExpression::new_long(who.number()),
    )]);
    let parents = groups.map(|group| uid("Group", group)).collect();
    Ok(Entity::new(admin_uid(who), attributes, parents)?)
}

/// The workload that these facts describe, and the pool it stands in.
pub(crate) fn workload(
    facts: &FactSet,
    model: &Model,
) -> Result<(Entity, Option<EntityUid>), FactError> {
    let attributes = workload_pairs(facts, &model.references)?
        .into_iter()
        .collect();
    let pool = facts
        .text(names::MACHINE_POOL)
        .map(|pool| uid("Pool", pool));
    let parents = pool.iter().cloned().collect();
    let entity = Entity::new(workload_uid(), attributes, parents)
        .map_err(|error| FactError::Entity(error.to_string()))?;
    Ok((entity, pool))
}

/// Which declared resources an entity uid names.
pub(crate) fn resource_of(uid: &EntityUid) -> Option<ResourceRef> {
    let kind = ResourceKind::from_type_name(&uid.type_name().to_string())?;
    Some(ResourceRef::new(kind, uid.id().unescaped()))
}
