//! The same answers by asking of every pair, each by the scope index: the slow truth that tests compare with.

use super::accesses::errors;
use super::{Answer, elsewhere, unlisted_in};
use crate::action::Action;
use crate::authorize::Prepared;
use crate::entities::resource_of;
use crate::estate::Estate;
use crate::resource::ResourceRef;
use facts::FactSet;

impl Estate {
    /// As [`Estate::who_can`] by asking of one identity after another.
    #[must_use]
    pub fn who_can_plainly(&self, action: Action, resource: &ResourceRef) -> Answer {
        let mut answer = self.empty_answer();
        if !action.is_use() || !self.vocabulary.kinds_of(action).contains(&resource.kind) {
            answer
                .errors
                .push(format!("`{action}` does not apply to {resource}"));
            return answer;
        }
        let prepared = self.prepare(&FactSet::new());
        for identity in self.identities() {
            self.ask(
                &identity.path,
                action,
                resource,
                resource,
                &prepared,
                &mut answer,
            );
        }
        answer.accesses.sort();
        answer
    }

    /// As [`Estate::what_can`] by asking of one resource after another.
    #[must_use]
    pub fn what_can_plainly(&self, principal: &str) -> Answer {
        let mut answer = self.empty_answer();
        if self.identity(principal).is_none() {
            answer
                .errors
                .push(format!("no identity `{principal}` is declared"));
            return answer;
        }
        let prepared = self.prepare(&FactSet::new());
        for node in self.graph.nodes() {
            let Some(resource) = resource_of(&node.uid).filter(|found| found.kind.is_classified())
            else {
                continue;
            };
            for action in self.vocabulary.uses() {
                let kinds = self.vocabulary.kinds_of(action);
                if kinds.contains(&resource.kind) {
                    self.ask(
                        principal,
                        action,
                        &resource,
                        &resource,
                        &prepared,
                        &mut answer,
                    );
                }
                for unlisted in unlisted_in(kinds, &resource) {
                    self.ask(
                        principal,
                        action,
                        &unlisted,
                        &resource,
                        &prepared,
                        &mut answer,
                    );
                }
            }
        }
        for elsewhere in &elsewhere() {
            for action in self.vocabulary.uses() {
                for unlisted in unlisted_in(self.vocabulary.kinds_of(action), elsewhere) {
                    self.ask(
                        principal,
                        action,
                        &unlisted,
                        elsewhere,
                        &prepared,
                        &mut answer,
                    );
                }
            }
        }
        answer.accesses.sort();
        // `define` applies to a schema and to each kind of thing in it.
        answer.accesses.dedup();
        answer
    }

    /// Adds the access of `principal` to `resource`, shown as `shown`, if there can be one.
    pub(super) fn ask(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
        shown: &ResourceRef,
        prepared: &Prepared,
        answer: &mut Answer,
    ) {
        let outcome = match self.use_case(principal, action, resource, prepared) {
            Err(unanswerable) => Err(unanswerable.message),
            Ok(case) => self.partially(&case),
        };
        match outcome {
            Err(error) => answer.errors.push(error),
            Ok(Some(partial)) if partial.possible() => {
                answer
                    .accesses
                    .push(self.access(principal, action, shown.clone(), &partial));
            }
            Ok(Some(partial)) => {
                let errors = errors(&partial, principal, action, shown);
                answer.errors.extend(errors);
            }
            Ok(None) => {}
        }
    }
}
