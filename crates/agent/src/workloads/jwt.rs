//! JWT-SVIDs: requests under way, and a short cache by (workload, identity, audience) until half life.
//!
//! A cached token is as secret as an issued one; it is dropped with whatever it rests on.

use facts::{Finding, Timestamp};
use proto::v1;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::oneshot;
use workload_api::{JwtQuery, JwtSvid, Refusal};

const MAX_WAITING: usize = 1024;
const MAX_CACHED: usize = 2048;

pub(crate) type JwtReply = Result<Vec<JwtSvid>, Refusal>;

pub(crate) enum JwtAnswer {
    Now(Vec<JwtSvid>),
    Later(oneshot::Receiver<JwtReply>),
}

/// Audiences in order: the same set asked for twice is the same token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    workload: String,
    spiffe_id: Option<String>,
    audience: Vec<String>,
}

impl Question {
    fn new(workload: &str, query: &JwtQuery) -> Self {
        let mut audience = query.audience.clone();
        audience.sort();
        audience.dedup();
        Self {
            workload: workload.to_owned(),
            spiffe_id: query.spiffe_id.clone(),
            audience,
        }
    }
}

struct Waiting {
    question: Question,
    reply: oneshot::Sender<JwtReply>,
}

struct Cached {
    svids: Vec<JwtSvid>,
    until: Timestamp,
}

#[derive(Default)]
pub(super) struct Jwts {
    waiting: HashMap<u64, Waiting>,
    cache: BTreeMap<Question, Cached>,
}

impl std::fmt::Debug for Jwts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwts")
            .field("cached", &self.cache.len())
            .finish_non_exhaustive()
    }
}

impl Jwts {
    pub(super) fn cached(
        &self,
        name: &str,
        query: &JwtQuery,
        now: Timestamp,
    ) -> Option<Vec<JwtSvid>> {
        let found = self.cache.get(&Question::new(name, query))?;
        (found.until > now).then(|| copies(&found.svids))
    }

    pub(super) fn wait(
        &mut self,
        request: u64,
        name: &str,
        query: &JwtQuery,
    ) -> Result<oneshot::Receiver<JwtReply>, Refusal> {
        // Callers that gave up leave their place.
        self.waiting.retain(|_, waiting| !waiting.reply.is_closed());
        if self.waiting.len() >= MAX_WAITING {
            return Err(Refusal::unavailable(
                "AGENT-BUSY",
                "too many tokens asked for at once",
            ));
        }
        let (reply, receiver) = oneshot::channel();
        let question = Question::new(name, query);
        self.waiting.insert(request, Waiting { question, reply });
        Ok(receiver)
    }

    pub(super) fn audience(&self, request: u64) -> Option<String> {
        self.waiting
            .get(&request)?
            .question
            .audience
            .first()
            .cloned()
    }

    pub(super) fn issued(&mut self, issued: v1::JwtIssued, now: Timestamp) {
        let Some(Waiting { question, reply }) = self.waiting.remove(&issued.request) else {
            return;
        };
        // Half of what is left of the shortest.
        let until = issued
            .svids
            .iter()
            .map(|svid| now.as_millis() + svid.not_after.saturating_sub(now.as_millis()) / 2)
            .min();
        let svids: Vec<JwtSvid> = issued
            .svids
            .into_iter()
            .map(|svid| JwtSvid {
                spiffe_id: svid.spiffe_id,
                token: svid.token,
                hint: svid.hint,
            })
            .collect();
        if let Some(until) = until {
            if self.cache.len() >= MAX_CACHED {
                self.cache.clear();
            }
            let cached = Cached {
                svids: copies(&svids),
                until: Timestamp::from_millis(until),
            };
            self.cache.insert(question, cached);
        }
        // An error here is a caller that gave up.
        drop(reply.send(Ok(svids)));
    }

    /// Whether `request` was one for tokens.
    pub(super) fn refused(&mut self, request: u64, finding: &Finding) -> bool {
        let Some(waiting) = self.waiting.remove(&request) else {
            return false;
        };
        drop(
            waiting
                .reply
                .send(Err(Refusal::Denied(vec![finding.clone()]))),
        );
        true
    }

    pub(super) fn disconnected(&mut self, offline: &Refusal) {
        for (_, waiting) in self.waiting.drain() {
            drop(waiting.reply.send(Err(offline.clone())));
        }
    }

    pub(super) fn forget_workload(&mut self, name: &str) {
        self.cache.retain(|question, _| question.workload != name);
    }

    pub(super) fn forget_identity(&mut self, spiffe_id: &str) {
        self.cache
            .retain(|_, cached| cached.svids.iter().all(|svid| svid.spiffe_id != spiffe_id));
    }

    pub(super) fn forget_all(&mut self) {
        self.cache.clear();
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.cache.retain(|_, cached| cached.until > now);
    }
}

fn copies(svids: &[JwtSvid]) -> Vec<JwtSvid> {
    svids
        .iter()
        .map(|svid| JwtSvid {
            spiffe_id: svid.spiffe_id.clone(),
            token: svid.token.clone(),
            hint: svid.hint.clone(),
        })
        .collect()
}
