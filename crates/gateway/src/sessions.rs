//! Open sessions, and ending them: at revocation and at expiry, at once, by waking who waits.

use crate::revocations::{concerns, is_identity, rests_on};
use crate::{Principal, Told};
use facts::Timestamp;
use ledger::body::{FactValue, Target};
use spiffe_core::shown;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Why a session ends before its client ends it. The names stand in `session-end` records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    Revoked,
    Expired,
    /// The delegation that the session acts by has ended, was revoked, or is no longer granted.
    Delegation,
    /// The estate took the identity away.
    Estate,
    /// The SVID was renewed on other facts than those that the session began with.
    Facts,
    /// Nothing was heard of the server for longer than the estate allows.
    Stale,
    /// Records cannot be kept.
    Recording,
    Shutdown,
}

impl CutReason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Delegation => "delegation",
            Self::Estate => "estate",
            Self::Facts => "facts",
            Self::Stale => "stale",
            Self::Recording => "error",
            Self::Shutdown => "shutdown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub reason: CutReason,
    /// For the record and the client's error message.
    pub detail: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

#[derive(Debug, Clone)]
struct Status {
    cut: Option<Cut>,
    /// When the SVID that the session rests on ends.
    not_after: Timestamp,
}

struct Open {
    principal: Principal,
    /// On whose behalf it acts.
    told: Option<Told>,
    /// Rests on a later SVID than the one that it was opened with.
    renewed: bool,
    status: watch::Sender<Status>,
}

/// All open sessions of this gateway. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    next: u64,
    open: HashMap<u64, Open>,
}

/// One open session; dropping it takes it off the list.
pub struct SessionHandle {
    sessions: Sessions,
    number: u64,
    status: watch::Receiver<Status>,
    /// However often the SVID is renewed, the session ends then.
    ends: Timestamp,
    /// When the delegation ends that it acts by.
    delegated: Option<Timestamp>,
}

impl Sessions {
    /// Lists a session that may last `longest`, renewals included.
    #[must_use]
    pub fn register(
        &self,
        principal: &Principal,
        longest: Duration,
        now: Timestamp,
    ) -> SessionHandle {
        self.register_for(principal, None, longest, now)
    }

    /// As [`Sessions::register`], of one that acts for others: it lasts no longer than that was delegated.
    #[must_use]
    pub fn register_for(
        &self,
        principal: &Principal,
        told: Option<&Told>,
        longest: Duration,
        now: Timestamp,
    ) -> SessionHandle {
        let (status, receiver) = watch::channel(Status {
            cut: None,
            not_after: principal.not_after,
        });
        let mut registry = self.lock();
        let number = registry.next;
        registry.next += 1;
        registry.open.insert(
            number,
            Open {
                principal: principal.clone(),
                told: told.cloned(),
                renewed: false,
                status,
            },
        );
        SessionHandle {
            sessions: self.clone(),
            number,
            status: receiver,
            ends: now.plus_secs(longest.as_secs()),
            delegated: told.and_then(Told::until),
        }
    }

    /// Cuts every session whose chain `hit` holds of; returns how many.
    pub fn cut_acting(&self, cut: &Cut, hit: impl Fn(&Told) -> bool) -> usize {
        self.cut_open(cut, |open| open.told.as_ref().is_some_and(&hit))
    }

    /// Cuts whomever `target` names; returns how many.
    pub fn cut(&self, target: &Target, cut: &Cut, before: u64) -> usize {
        let whole = self.cut_where(cut, |principal| {
            principal.issuance < before && concerns(target, principal)
        });
        // INVARIANT 7: what rests on a delegation that is revoked falls with it.
        let of_delegation = Cut {
            reason: CutReason::Delegation,
            detail: cut.detail.clone(),
        };
        whole
            + self.cut_acting(&of_delegation, |told| {
                let mut links = told.links().iter();
                links.any(|link| link.record < before && rests_on(target, link))
                    || told.claims(|path| is_identity(target, path))
            })
    }

    /// Cuts every session whose principal `hit` holds of; returns how many.
    pub fn cut_where(&self, cut: &Cut, hit: impl Fn(&Principal) -> bool) -> usize {
        self.cut_open(cut, |open| hit(&open.principal))
    }

    /// Cuts what rests, or may rest, on an SVID of the record `from` or a later one: which record a renewal
    /// has is not known here.
    pub(crate) fn abandon(&self, cut: &Cut, from: u64) -> usize {
        self.cut_open(cut, |open| {
            let mut links = open.told.iter().flat_map(Told::links);
            open.renewed || open.principal.issuance >= from || links.any(|link| link.record >= from)
        })
    }

    fn cut_open(&self, cut: &Cut, hit: impl Fn(&Open) -> bool) -> usize {
        let registry = self.lock();
        let hits = registry.open.values().filter(|open| hit(open));
        let mut count = 0;
        for open in hits {
            open.status.send_modify(|status| {
                status.cut.get_or_insert_with(|| cut.clone());
            });
            count += 1;
        }
        count
    }

    /// The SVID `serial` was renewed for the same workload: its sessions rest on `successor` now. Those
    /// whose facts are not `facts` are cut.
    pub fn renew(
        &self,
        serial: &str,
        successor: &str,
        not_after: Timestamp,
        facts: &BTreeMap<String, FactValue>,
    ) {
        let mut registry = self.lock();
        for open in registry.open.values_mut() {
            if open.principal.serial != serial {
                continue;
            }
            successor.clone_into(&mut open.principal.serial);
            open.principal.not_after = not_after;
            open.renewed = true;
            let changed = changed(&open.principal, facts);
            open.status.send_modify(|status| {
                status.not_after = not_after;
                if let Some(name) = changed {
                    status.cut.get_or_insert_with(|| Cut {
                        reason: CutReason::Facts,
                        detail: format!("{name} is not what it was: connect again"),
                    });
                }
            });
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionHandle {
    /// Resolves when the session must end. May be called again and dropped at any time.
    pub async fn cut(&mut self) -> Cut {
        loop {
            let (cut, not_after) = {
                let status = self.status.borrow_and_update();
                (status.cut.clone(), status.not_after)
            };
            if let Some(cut) = cut {
                return cut;
            }
            let left = self.end(not_after).since(Timestamp::now());
            if left.is_zero() {
                return self.expired(not_after);
            }
            tokio::select! {
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return self.expired(not_after);
                    }
                }
                // Wall clocks step: look again at least once a minute.
                () = tokio::time::sleep(left.min(Duration::from_secs(60))) => {}
            }
        }
    }

    /// Whether the session must end, without waiting.
    #[must_use]
    pub fn is_cut(&self) -> Option<Cut> {
        let status = self.status.borrow();
        status.cut.clone().or_else(|| {
            let end = self.end(status.not_after);
            (end <= Timestamp::now()).then(|| self.expired(status.not_after))
        })
    }

    fn end(&self, not_after: Timestamp) -> Timestamp {
        let end = not_after.min(self.ends);
        self.delegated.map_or(end, |delegated| end.min(delegated))
    }

    fn expired(&self, not_after: Timestamp) -> Cut {
        let others = not_after.min(self.ends);
        if self.delegated.is_some_and(|delegated| delegated < others) {
            return Cut {
                reason: CutReason::Delegation,
                detail: "the delegation that the session acts by has ended: connect with another"
                    .to_owned(),
            };
        }
        expired(not_after, self.ends)
    }
}

/// The first fact that is not the same in both.
fn changed(principal: &Principal, facts: &BTreeMap<String, FactValue>) -> Option<String> {
    let names = principal.facts.iter().map(|fact| &fact.name);
    let mut names = names.chain(facts.keys());
    names
        .find(|name| {
            let held = principal.facts.value(name);
            held != facts.get(*name).map(shown::value).as_ref()
        })
        .cloned()
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.sessions.lock().open.remove(&self.number);
    }
}

fn expired(not_after: Timestamp, ends: Timestamp) -> Cut {
    Cut {
        reason: CutReason::Expired,
        detail: if ends < not_after {
            "the session has lasted as long as a session may".to_owned()
        } else {
            "the SVID has expired and was not renewed".to_owned()
        },
    }
}
