//! What an estate can speak of: the base schema, and what the files under `schema/` add to it: kinds of
//! resources, actions on them, and attributes of identities and tables.

mod fragments;

pub(crate) use fragments::unreadable;

use crate::action::Action;
use crate::files::EstateFiles;
use crate::problem::Problem;
use crate::resource::ResourceKind;
use crate::word::Word;
use cedar_policy::{Entity, EntityUid, Schema};
use facts::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

pub(crate) const BASE_SCHEMA: &str = include_str!("base/base.cedarschema");

/// INVARIANT: everything in `kinds` and `actions` stands in `schema`.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    pub(crate) schema: Schema,
    kinds: BTreeMap<Word, OwnKind>,
    /// In order of their names.
    actions: Vec<OwnAction>,
    /// What stands for several actions in a policy's scope, by name.
    groups: BTreeMap<String, Vec<Action>>,
    pub(crate) identity_attributes: Shape,
    pub(crate) table_attributes: Shape,
    /// Columns are decided on.
    pub(crate) columns: bool,
}

/// A kind of resources that the estate adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnKind {
    /// What it can lie in.
    pub(crate) parents: BTreeSet<ResourceKind>,
    pub(crate) in_groups: bool,
    pub(crate) labels: bool,
    pub(crate) owner: bool,
    /// Beside its classification and its owner.
    pub(crate) shape: Shape,
}

#[derive(Debug, Clone)]
struct OwnAction {
    action: Action,
    uid: EntityUid,
    kinds: Vec<ResourceKind>,
    /// With the groups that it is in; nothing to say without any.
    entity: Option<Entity>,
}

pub(crate) type Shape = BTreeMap<String, Attribute>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) holds: AttributeType,
    pub(crate) required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttributeType {
    Text,
    Integer,
    Bool,
    Texts,
}

impl AttributeType {
    pub(crate) const fn fits(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Text, Value::Text(_))
                | (Self::Integer, Value::Integer(_))
                | (Self::Bool, Value::Bool(_))
                | (Self::Texts, Value::List(_))
        )
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "an integer",
            Self::Bool => "true or false",
            Self::Texts => "a list of texts",
        }
    }
}

static BASE: LazyLock<Option<Vocabulary>> = LazyLock::new(|| {
    let schema = Schema::from_cedarschema_str(BASE_SCHEMA).ok()?.0;
    Some(Vocabulary {
        schema,
        kinds: BTreeMap::new(),
        actions: Vec::new(),
        groups: BTreeMap::new(),
        identity_attributes: Shape::new(),
        table_attributes: Shape::new(),
        columns: false,
    })
});

impl Vocabulary {
    /// How many actions an estate can have of its own: the index gives each action one bit of 128.
    pub(crate) const MOST_ACTIONS: usize = 128 - Action::BASE.len();

    /// What every estate has.
    pub(crate) fn base() -> Result<Self, Problem> {
        let broken = || Problem::new("ESTATE-SCHEMA", "", 0, "the built-in schema does not parse");
        BASE.clone().ok_or_else(broken)
    }

    /// # Errors
    /// Every problem of `schema/*.cedarschema`.
    pub(crate) fn of(files: &EstateFiles) -> Result<Self, Vec<Problem>> {
        fragments::extend(files)
    }

    /// What identities do to resources, those of the base schema first.
    pub(crate) fn uses(&self) -> impl Iterator<Item = Action> {
        let own = self.actions.iter().map(|own| own.action);
        Action::USES.into_iter().chain(own)
    }

    pub(crate) fn knows(&self, action: Action) -> bool {
        action.number().is_some() || self.own(action).is_some()
    }

    /// The names of all actions that requests can be about.
    pub(crate) fn action_names(&self) -> impl Iterator<Item = &str> {
        let own = self.actions.iter().map(|own| own.action.as_str());
        Action::BASE.iter().map(Action::as_str).chain(own)
    }

    /// What the action can be done to; nothing of one that is not known.
    pub(crate) fn kinds_of(&self, action: Action) -> &[ResourceKind] {
        match self.own(action) {
            Some(own) => &own.kinds,
            None if self.columns && action.is_by_column() => {
                &[ResourceKind::Table, ResourceKind::Column]
            }
            None => action.base_kinds(),
        }
    }

    /// The bit that stands for the action in the index; none for one that is not known.
    pub(crate) fn bit(&self, action: Action) -> u128 {
        let number = action.number().or_else(|| {
            let place = self
                .actions
                .binary_search_by(|own| own.action.as_str().cmp(action.as_str()));
            Some(Action::BASE.len() + place.ok()?)
        });
        number
            .and_then(|number| 1_u128.checked_shl(u32::try_from(number).ok()?))
            .unwrap_or_default()
    }

    pub(crate) fn action_uid(&self, action: Action) -> EntityUid {
        match self.own(action) {
            Some(own) => own.uid.clone(),
            None => crate::entities::action_uid(action),
        }
    }

    /// What evaluation has to know of the action: the groups that it is in.
    pub(crate) fn action_entity(&self, action: Action) -> Option<Entity> {
        self.own(action)?.entity.clone()
    }

    /// The actions that a policy's scope means by this name: of a group, its members.
    pub(crate) fn meant_by(&self, name: &str) -> Vec<Action> {
        let itself = name
            .parse()
            .ok()
            .filter(|action: &Action| self.knows(*action));
        let members = self.groups.get(name).into_iter().flatten().copied();
        itself.into_iter().chain(members).collect()
    }

    pub(crate) fn own_kind(&self, kind: ResourceKind) -> Option<&OwnKind> {
        match kind {
            ResourceKind::Own(word) => self.kinds.get(&word),
            _ => None,
        }
    }

    /// The types of what `[[resource]]` can declare.
    pub(crate) fn resource_names(&self) -> impl Iterator<Item = &str> {
        let base = ["Api", "Route", "Tool", "ToolServer"].into_iter();
        base.chain(self.kinds.keys().map(Word::as_str))
    }

    fn own(&self, action: Action) -> Option<&OwnAction> {
        if action.number().is_some() {
            return None;
        }
        let place = self
            .actions
            .binary_search_by(|own| own.action.as_str().cmp(action.as_str()));
        self.actions.get(place.ok()?)
    }
}
