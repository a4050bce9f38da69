//! One request to Cedar: gather the slice and the entities, evaluate, and deny on any error.

use crate::action::Action;
use crate::administrator::Administrator;
use crate::decision::Decision;
use crate::entities::{
    Node, NodeId, action_uid, admin_uid, administrator, resource_uid, shown, workload, workload_uid,
};
use crate::estate::Estate;
use crate::fact_schema::context_pairs;
use crate::index::{Facts, Met};
use crate::model::{Identity, TableInfo};
use crate::resource::{ResourceKind, ResourceRef};
use crate::template::NoInstance;
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as CedarDecision, Entities, Entity,
    EntityUid, PolicyId, PolicySet, Request as CedarRequest,
};
use facts::FactSet;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The facts of a session in the form that decisions take. Make it once a session, not once a
/// request; it stays right for every version of the estate with the same code references, and
/// [`Estate::prepare`] is cheap enough to call again at each new version.
#[derive(Debug, Clone)]
pub struct Prepared(Result<Known, String>);

/// Facts as Cedar takes them, and those of them that are texts by their names.
#[derive(Debug, Clone)]
struct Known {
    context: Context,
    texts: Arc<BTreeMap<String, String>>,
}

/// Who asks to become somebody: made once, for however many identities.
pub(crate) struct Workload {
    entity: Entity,
    lineage: Vec<NodeId>,
}

/// Everything that one evaluation needs. Borrows from the estate where it can.
pub(crate) struct Case<'a> {
    pub(crate) principal: EntityUid,
    pub(crate) action: Action,
    pub(crate) action_uid: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) context: Context,
    /// What the context says in texts; nothing where the context is empty.
    texts: Arc<BTreeMap<String, String>>,
    pub(crate) entities: Cow<'a, Entities>,
    principal_side: OwnedMet<'a>,
    resource_side: OwnedMet<'a>,
}

/// [`Met`] with room for what is not declared.
pub(crate) struct OwnedMet<'a> {
    pub(crate) stranger: Option<EntityUid>,
    pub(crate) lineage: Cow<'a, [NodeId]>,
    pub(crate) texts: Cow<'a, BTreeMap<String, String>>,
}

impl OwnedMet<'_> {
    pub(crate) fn met(&self) -> Met<'_> {
        Met {
            stranger: self.stranger.as_ref(),
            lineage: &self.lineage,
            texts: &self.texts,
        }
    }
}

impl<'a> From<&'a Node> for OwnedMet<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            stranger: None,
            lineage: Cow::Borrowed(&node.lineage),
            texts: Cow::Borrowed(&node.texts),
        }
    }
}

/// Why a request cannot be put to the policies at all. It is a denial.
pub(crate) struct Unanswerable {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Unanswerable {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn decision(&self) -> Decision {
        Decision::error(self.code, &self.message)
    }
}

/// What the policies of a slice, or of the whole, say together.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) permits: Vec<PolicyId>,
    pub(crate) forbids: Vec<PolicyId>,
    pub(crate) errors: Vec<String>,
}

impl Verdicts {
    /// INVARIANT: an error anywhere is a denial. Cedar skips a policy that errs, so that a `forbid`
    /// made to err would let through what it forbids.
    pub(crate) fn allow(&self) -> bool {
        self.errors.is_empty() && self.forbids.is_empty() && !self.permits.is_empty()
    }

    /// Cedar's own answer for `policies`, added to this one.
    pub(crate) fn add(
        &mut self,
        authorizer: &Authorizer,
        request: &CedarRequest,
        policies: &PolicySet,
        entities: &Entities,
    ) {
        let response = authorizer.is_authorized(request, policies, entities);
        let diagnostics = response.diagnostics();
        self.errors.extend(diagnostics.errors().map(error_text));
        // A denial with a reason names forbids; an allow names permits.
        let determined = match response.decision() {
            CedarDecision::Allow => &mut self.permits,
            CedarDecision::Deny => &mut self.forbids,
        };
        determined.extend(diagnostics.reason().cloned());
    }
}

fn error_text(error: &AuthorizationError) -> String {
    match error {
        AuthorizationError::PolicyEvaluationError(error) => {
            format!(
                "ESTATE-EVALUATION: policy {:?}: {}",
                error.policy_id().to_string(),
                error.inner()
            )
        }
    }
}

impl Case<'_> {
    pub(crate) fn request(&self) -> Result<CedarRequest, Unanswerable> {
        CedarRequest::new(
            self.principal.clone(),
            self.action_uid.clone(),
            self.resource.clone(),
            self.context.clone(),
            None,
        )
        .map_err(|error| Unanswerable::new("ESTATE-REQUEST", error.to_string()))
    }

    /// What the case can meet with the facts that it has.
    fn slice<'e>(&'e self, estate: &'e Estate) -> impl Iterator<Item = &'e PolicySet> {
        self.slice_for(estate, Some(&self.texts))
    }

    /// What the case can meet with any facts at all.
    pub(crate) fn slice_for_any_facts<'e>(
        &'e self,
        estate: &'e Estate,
    ) -> impl Iterator<Item = &'e PolicySet> {
        self.slice_for(estate, None)
    }

    fn slice_for<'e>(
        &'e self,
        estate: &'e Estate,
        facts: Facts<'e>,
    ) -> impl Iterator<Item = &'e PolicySet> {
        estate.index.slice(
            estate.vocabulary.bit(self.action),
            self.principal_side.met(),
            self.resource_side.met(),
            facts,
        )
    }

    pub(crate) fn principal_lineage(&self) -> &[NodeId] {
        &self.principal_side.lineage
    }

    pub(crate) fn resource_lineage(&self) -> &[NodeId] {
        &self.resource_side.lineage
    }

    pub(crate) fn decide(&self, estate: &Estate) -> Decision {
        let request = match self.request() {
            Ok(request) => request,
            Err(unanswerable) => return unanswerable.decision(),
        };
        let mut verdicts = Verdicts::default();
        for policies in self.slice(estate) {
            verdicts.add(&estate.authorizer, &request, policies, &self.entities);
        }
        estate.decision(verdicts)
    }

    /// Over all policies, without the index: what the index is tested against.
    pub(crate) fn decide_plainly(&self, estate: &Estate) -> Decision {
        let request = match self.request() {
            Ok(request) => request,
            Err(unanswerable) => return unanswerable.decision(),
        };
        let mut verdicts = Verdicts::default();
        verdicts.add(
            &estate.authorizer,
            &request,
            &estate.policies.set,
            &self.entities,
        );
        estate.decision(verdicts)
    }
}

impl Estate {
    /// The facts of a session as decisions take them.
    #[must_use]
    pub fn prepare(&self, facts: &FactSet) -> Prepared {
        let known = || {
            let (pairs, texts) =
                context_pairs(facts, &self.model.references).map_err(|error| error.to_string())?;
            let context = Context::from_pairs(pairs).map_err(|error| error.to_string())?;
            let texts = Arc::new(texts);
            Ok(Known { context, texts })
        };
        Prepared(known())
    }

    fn decision(&self, verdicts: Verdicts) -> Decision {
        let allow = verdicts.allow();
        let determined = if allow {
            verdicts.permits
        } else {
            verdicts.forbids
        };
        let mut policies: Vec<_> = determined
            .iter()
            .filter_map(|id| Some(self.policies.find(id)?.reference.clone()))
            .collect();
        policies.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
        Decision {
            allow,
            policies,
            errors: verdicts.errors,
            ..Decision::deny()
        }
    }

    /// An identity that uses a resource.
    pub(crate) fn use_case<'a>(
        &'a self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
        prepared: &Prepared,
    ) -> Result<Case<'a>, Unanswerable> {
        let Some(node) = self.identity_node(principal) else {
            let message = format!("no identity `{principal}` is declared");
            return Err(Unanswerable::new("ESTATE-IDENTITY-UNKNOWN", message));
        };
        if !action.is_use() || !self.vocabulary.knows(action) {
            let message = format!("`{action}` is no use of a resource");
            return Err(Unanswerable::new("ESTATE-REQUEST", message));
        }
        let Known { context, texts } = prepared
            .0
            .clone()
            .map_err(|message| Unanswerable::new("ESTATE-FACT-TYPE", message))?;
        let (resource_uid, resource_side, extra) = self.target(action, resource)?;
        let entities = match extra {
            None => Cow::Borrowed(&self.graph.entities),
            Some(entity) => {
                let known = node.lineage.iter().chain(resource_side.lineage.iter());
                let groups = self.vocabulary.action_entity(action);
                Cow::Owned(self.store(known, std::iter::once(entity).chain(groups))?)
            }
        };
        Ok(Case {
            principal: node.uid.clone(),
            action,
            action_uid: self.vocabulary.action_uid(action),
            resource: resource_uid,
            context,
            texts,
            entities,
            principal_side: OwnedMet::from(node),
            resource_side,
        })
    }

    /// What stands in the graph for the identity: of an instance, its template.
    pub(crate) fn identity_node(&self, path: &str) -> Option<&Node> {
        let own = self.graph.identity(path);
        own.or_else(|| self.graph.identity(self.model.templates.of(path)?))
    }

    /// The resource side, and the entity to add if no file declares it.
    pub(crate) fn target<'a>(
        &'a self,
        action: Action,
        resource: &ResourceRef,
    ) -> Result<(EntityUid, OwnedMet<'a>, Option<Entity>), Unanswerable> {
        let kinds = self.vocabulary.kinds_of(action);
        if !kinds.contains(&resource.kind) || !resource.is_well_formed() {
            let message = format!("`{action}` does not apply to {resource}");
            return Err(Unanswerable::new("ESTATE-REQUEST", message));
        }
        let declared = match resource.kind {
            ResourceKind::Identity => self.identity_node(&resource.path),
            _ => self.graph.resource(resource),
        };
        if let Some(node) = declared {
            return Ok((node.uid.clone(), OwnedMet::from(node), None));
        }
        let uid = resource_uid(resource);
        let mut side = OwnedMet {
            stranger: Some(uid.clone()),
            lineage: Cow::Borrowed(&[]),
            texts: Cow::Owned(BTreeMap::new()),
        };
        let entity = match resource.kind {
            ResourceKind::Identity | ResourceKind::Estate | ResourceKind::Own(_) => {
                let message = format!("{resource} is not declared");
                return Err(Unanswerable::new("ESTATE-RESOURCE-UNKNOWN", message));
            }
            ResourceKind::Machine => Entity::with_uid(uid.clone()),
            _ => {
                let info = self.model.undeclared(resource);
                side.lineage = Cow::Owned(self.containers_of(resource));
                let (entity, texts) = self.undeclared_entity(&info)?;
                side.texts = Cow::Owned(texts);
                entity
            }
        };
        Ok((uid, side, Some(entity)))
    }

    /// The declared part of what an undeclared object lies in.
    fn containers_of(&self, resource: &ResourceRef) -> Vec<NodeId> {
        let mut above = resource.parent();
        while let Some(container) = above {
            if let Some(node) = self
                .graph
                .find(&resource_uid(&container))
                .and_then(|id| self.graph.node(id))
            {
                return node.lineage.to_vec();
            }
            above = container.parent();
        }
        Vec::new()
    }

    /// An undeclared schema stands between an undeclared table and a declared database.
    fn undeclared_entity(
        &self,
        info: &TableInfo,
    ) -> Result<(Entity, BTreeMap<String, String>), Unanswerable> {
        let failed = |error: String| Unanswerable::new("ESTATE-REQUEST", error);
        let mut parent = info.resource.parent();
        while let Some(container) = &parent {
            if self.graph.find(&resource_uid(container)).is_some() {
                break;
            }
            parent = container.parent();
        }
        let shown = shown(info, parent.as_ref(), &self.vocabulary);
        let entity = shown.entity().map_err(|error| failed(error.to_string()))?;
        Ok((entity, shown.texts()))
    }

    fn store<'a>(
        &self,
        lineage: impl IntoIterator<Item = &'a NodeId>,
        extra: impl IntoIterator<Item = Entity>,
    ) -> Result<Entities, Unanswerable> {
        self.graph
            .store(lineage, extra)
            .map_err(|error| Unanswerable::new("ESTATE-REQUEST", error))
    }

    /// A workload that asks to become an identity.
    pub(crate) fn assume_case(
        &self,
        facts: &FactSet,
        path: &str,
    ) -> Result<Case<'_>, Unanswerable> {
        let (Some(identity), Some(node)) = (self.identity(path), self.identity_node(path)) else {
            let message = format!("{} is not declared", ResourceRef::identity(path));
            return Err(Unanswerable::new("ESTATE-RESOURCE-UNKNOWN", message));
        };
        let instance = self.instance(identity, facts)?;
        // A template by its own path is whichever instance the facts make.
        if path != identity.path && path != instance.path {
            let message = format!(
                "the facts of this workload make it `{}`, not `{path}`",
                instance.path
            );
            return Err(Unanswerable::new("ASSUME-TEMPLATE-PATH", message));
        }
        self.assume_node(&self.workload(facts)?, node)
    }

    /// The identity as it is issued to a workload of these facts: an instance has its own path.
    ///
    /// INVARIANT: the path of an instance is what facts say, letter for letter, or there is none. No workload is a
    /// person, whatever a policy says, and whether the person logs in or not: versions of a time when this was
    /// allowed still compile, and are refused here.
    pub(crate) fn instance<'a>(
        &self,
        identity: &'a Identity,
        facts: &FactSet,
    ) -> Result<Cow<'a, Identity>, Unanswerable> {
        if identity.is_person() {
            let message = format!("`{}` is a person", identity.path);
            return Err(Unanswerable::new("ASSUME-PERSON", message));
        }
        let Some(template) = self.model.templates.get(&identity.path) else {
            return Ok(Cow::Borrowed(identity));
        };
        match template.fill(facts) {
            Ok(path) => Ok(Cow::Owned(Identity {
                path,
                ..identity.clone()
            })),
            Err(error) => {
                let code = match error {
                    NoInstance::Lacks(_) => "ASSUME-TEMPLATE-FACT",
                    NoInstance::Value { .. } | NoInstance::Long(_) => "ASSUME-TEMPLATE-VALUE",
                };
                let message = format!("`{}`: {error}", identity.path);
                Err(Unanswerable::new(code, message))
            }
        }
    }

    /// The workload that these facts describe.
    pub(crate) fn workload(&self, facts: &FactSet) -> Result<Workload, Unanswerable> {
        let (entity, pool) = workload(facts, &self.model)
            .map_err(|error| Unanswerable::new("ESTATE-FACT-TYPE", error.to_string()))?;
        let lineage = pool.and_then(|pool| self.graph.find(&pool));
        Ok(Workload {
            entity,
            lineage: lineage.into_iter().collect(),
        })
    }

    /// The workload becomes the identity that stands as `node`.
    pub(crate) fn assume_node<'a>(
        &self,
        workload: &Workload,
        node: &'a Node,
    ) -> Result<Case<'a>, Unanswerable> {
        let Workload { entity, lineage } = workload;
        let known = lineage.iter().chain(node.lineage.iter());
        Ok(Case {
            principal: workload_uid(),
            action: Action::Assume,
            action_uid: action_uid(Action::Assume),
            resource: node.uid.clone(),
            context: Context::empty(),
            texts: Arc::default(),
            entities: Cow::Owned(self.store(known, [entity.clone()])?),
            principal_side: OwnedMet {
                stranger: Some(workload_uid()),
                lineage: Cow::Owned(lineage.clone()),
                texts: Cow::Owned(BTreeMap::new()),
            },
            resource_side: OwnedMet::from(node),
        })
    }

    /// An administrator who does something to the estate.
    pub(crate) fn admin_case(
        &self,
        who: &Administrator,
        action: Action,
        resource: &ResourceRef,
    ) -> Result<Case<'_>, Unanswerable> {
        if !action.is_administrative() {
            let message = format!("`{action}` is no administrative action");
            return Err(Unanswerable::new("ESTATE-REQUEST", message));
        }
        let principal = admin_uid(who);
        let (resource, resource_side, extra) = self.target(action, resource)?;
        let (principal_side, own) = match self
            .graph
            .find(&principal)
            .and_then(|id| self.graph.node(id))
        {
            Some(node) => (OwnedMet::from(node), None),
            // A user of this machine may stand in a policy alone. Of a person that would let in everybody who
            // can log in, wherever a policy speaks of all administrators.
            None if matches!(who, Administrator::Person(_)) => {
                let message = format!("no [[administrator]] of the estate is {who}");
                return Err(Unanswerable::new("ESTATE-REQUEST", message));
            }
            None => {
                let side = OwnedMet {
                    stranger: Some(principal.clone()),
                    lineage: Cow::Borrowed(&[]),
                    texts: Cow::Owned(BTreeMap::new()),
                };
                let entity = administrator(who, std::iter::empty())
                    .map_err(|error| Unanswerable::new("ESTATE-REQUEST", error.to_string()))?;
                (side, Some(entity))
            }
        };
        let entities = if own.is_none() && extra.is_none() {
            Cow::Borrowed(&self.graph.entities)
        } else {
            let known = principal_side
                .lineage
                .iter()
                .chain(resource_side.lineage.iter());
            Cow::Owned(self.store(known, own.into_iter().chain(extra))?)
        };
        Ok(Case {
            principal,
            action,
            action_uid: action_uid(action),
            resource,
            context: Context::empty(),
            texts: Arc::default(),
            entities,
            principal_side,
            resource_side,
        })
    }
}
