//! Who can, on behalf of others.

use super::{Chain, Link};
use crate::action::Action;
use crate::ask::Access;
use crate::estate::Estate;
use crate::model::Scope;
use crate::resource::ResourceRef;
use serde::Serialize;

/// One who can do it on behalf of a chain: what each hop needs for it, and who lets it act.
#[derive(Debug, Clone, Serialize)]
pub struct ChainAccess {
    /// Identity path of the one who acts.
    pub identity: String,
    /// Of every hop, in order, the one who acts last: the conditions of all have to hold.
    pub hops: Vec<Access>,
    pub links: Vec<Link>,
}

/// All that were asked for, in order of identity.
#[derive(Debug, Clone, Serialize)]
pub struct ChainAnswer {
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub on_behalf_of: Vec<String>,
    pub accesses: Vec<ChainAccess>,
    /// What could not be evaluated. An answer with errors is not complete, and says so.
    pub errors: Vec<String>,
}

impl Estate {
    /// Who may do this on behalf of the chain, as its next hop.
    #[must_use]
    pub fn who_can_for(
        &self,
        on_behalf_of: &Chain,
        action: Action,
        resource: &ResourceRef,
    ) -> ChainAnswer {
        let answer = self.who_can(action, resource);
        let table = self.table_asked(action, resource);
        let reached = table.as_ref().unwrap_or(resource);
        let of = |path: &String| {
            // Instances stand in answers by their template.
            let declared = self.identity(path)?;
            let found = |access: &&Access| access.identity == declared.path;
            answer.accesses.iter().find(found).cloned()
        };
        let mut errors = answer.errors.clone();
        for unknown in on_behalf_of.principals() {
            if self.identity(unknown).is_none() {
                errors.push(format!("no identity `{unknown}` is declared"));
            }
        }
        let before: Option<Vec<Access>> = on_behalf_of.principals().iter().map(of).collect();
        // One principal more, whoever it is, has to fit. Nobody has this path.
        if let Err(finding) = on_behalf_of.clone().then("", Scope::default()) {
            errors.push(finding.to_string());
        }
        let accesses = before.map_or_else(Vec::new, |before| {
            answer
                .accesses
                .iter()
                .filter_map(|last| {
                    let chain = on_behalf_of.clone();
                    let chain = chain.then(&last.identity, Scope::default()).ok()?;
                    let links = self.links(&chain, Some((action, reached)));
                    let granted = links.iter().all(|link| link.refused.is_none());
                    granted.then(|| ChainAccess {
                        identity: last.identity.clone(),
                        hops: before.iter().chain([last]).cloned().collect(),
                        links,
                    })
                })
                .collect()
        });
        ChainAnswer {
            estate: answer.estate,
            on_behalf_of: on_behalf_of.principals().to_vec(),
            accesses,
            errors,
        }
    }
}
