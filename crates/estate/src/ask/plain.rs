//! The same answers by asking of every pair, each by the scope index: the slow truth that tests compare with.

use super::{Access, Answer, Partial, elsewhere, unlisted_in};
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
        let ask = |asked: &ResourceRef, shown: &ResourceRef| {
            self.ask_alone(principal, action, [asked, shown], prepared)
        };
        let found = match (ask(resource, shown), self.table_asked(action, resource)) {
            (Ok(Some(own)), Some(table)) => {
                ask(&table, &table).map(|of_table| of_table.map(|of_table| own.and(of_table)))
            }
            (own, _) => own,
        };
        match found {
            Ok(access) => answer.accesses.extend(access),
            Err(errors) => answer.errors.extend(errors),
        }
    }

    fn ask_alone(
        &self,
        principal: &str,
        action: Action,
        [resource, shown]: [&ResourceRef; 2],
        prepared: &Prepared,
    ) -> Result<Option<Access>, Vec<String>> {
        let outcome = match self.use_case(principal, action, resource, prepared) {
            Err(unanswerable) => Err(unanswerable.message),
            Ok(case) => self.partially(&case),
        };
        self.possible(
            principal,
            action,
            shown,
            outcome.as_ref().map(Option::as_ref),
        )
    }

    /// The access that there can be, or what denies it by an error.
    pub(super) fn possible(
        &self,
        principal: &str,
        action: Action,
        shown: &ResourceRef,
        outcome: Result<Option<&Partial>, &String>,
    ) -> Result<Option<Access>, Vec<String>> {
        match outcome {
            Err(error) => Err(vec![error.clone()]),
            Ok(Some(partial)) if partial.possible() => {
                let access = self.access(principal, action, shown.clone(), partial);
                Ok(Some(access))
            }
            Ok(Some(partial)) => {
                let errors = errors(partial, principal, action, shown);
                if errors.is_empty() {
                    Ok(None)
                } else {
                    Err(errors)
                }
            }
            Ok(None) => Ok(None),
        }
    }
}

/// Of what errs: that it denies.
fn errors(partial: &Partial, principal: &str, action: Action, on: &ResourceRef) -> Vec<String> {
    let errors = partial.errors.iter().map(|id| {
        format!(
            "policy {:?} errs, which denies {principal} {action} on {on}",
            id.to_string()
        )
    });
    errors.collect()
}
