//! Who may, what may be touched, and how: what is declared, tried one by one in a fixed order, page by page.
//!
//! A page ends when it is full or when enough was tried for one request; then its token says where the
//! next one begins, whether or not there will be anything on it. Nothing is left out without a token.

use super::evaluation::{ActionName, Resource, Subject, member, missing, read};
use super::page::Token;
use crate::decider::{Judge, Version};
use crate::names::{IDENTITY, SPIFFE, type_name};
use crate::question::{Known, Refused};
use estate::{Action, ResourceRef};
use facts::Finding;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use spiffe_core::TrustDomain;

/// What is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Subject,
    Resource,
    Action,
}

impl Target {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Resource => "resource",
            Self::Action => "action",
        }
    }
}

/// A search, read and complete.
#[derive(Debug, Clone)]
pub struct Search {
    target: Target,
    /// Type of what is sought.
    kind: String,
    subject: Option<Subject>,
    action: Option<ActionName>,
    resource: Option<Resource>,
    pub context: Option<Map<String, Value>>,
    page: Place,
    /// Digest of all but the page.
    of: String,
}

#[derive(Debug, Clone)]
struct Place {
    after: Option<String>,
    limit: usize,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    subject: Option<Value>,
    #[serde(default)]
    action: Option<Value>,
    #[serde(default)]
    resource: Option<Value>,
    #[serde(default)]
    context: Option<Map<String, Value>>,
    #[serde(default)]
    page: Option<PageBody>,
}

#[derive(Deserialize)]
struct PageBody {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    limit: Option<u64>,
}

/// What is sought is named by its type; an id is ignored.
#[derive(Deserialize)]
struct Sought {
    #[serde(rename = "type")]
    kind: String,
}

/// Pages have at most `most` results.
///
/// # Errors
/// `PDP-REQUEST`, `PDP-PAGE-TOKEN`.
pub fn parse(target: Target, body: &[u8], most: usize) -> Result<Search, Refused> {
    let body: Body = read(body)?;
    let of = digest(target, &body);
    let page = place(body.page, &of, most)?;
    let sought = |value: Option<Value>, name: &str| -> Result<String, Refused> {
        Ok(one::<Sought>(value, name)?.kind)
    };
    let mut search = Search {
        target,
        kind: String::new(),
        subject: None,
        action: None,
        resource: None,
        context: body.context,
        page,
        of,
    };
    match target {
        Target::Subject => {
            search.kind = sought(body.subject, "subject")?;
            search.action = Some(one(body.action, "action")?);
            search.resource = Some(one(body.resource, "resource")?);
        }
        Target::Resource => {
            search.subject = Some(one(body.subject, "subject")?);
            search.action = Some(one(body.action, "action")?);
            search.kind = sought(body.resource, "resource")?;
        }
        Target::Action => {
            search.subject = Some(one(body.subject, "subject")?);
            search.resource = Some(one(body.resource, "resource")?);
        }
    }
    Ok(search)
}

fn one<T: DeserializeOwned>(value: Option<Value>, name: &str) -> Result<T, Refused> {
    member(value.ok_or_else(|| missing(name))?, name)
}

/// Of everything that must stay as it is from page to page.
fn digest(target: Target, body: &Body) -> String {
    let all = json!([
        target.as_str(),
        body.subject,
        body.action,
        body.resource,
        body.context
    ]);
    let digest = crypto::sha256(all.to_string().as_bytes());
    crypto::hex::encode(digest.get(..16).unwrap_or_default())
}

fn place(page: Option<PageBody>, of: &str, most: usize) -> Result<Place, Refused> {
    let Some(PageBody { token, limit }) = page else {
        return Ok(Place {
            after: None,
            limit: most,
        });
    };
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(most).min(most));
    // An empty token is that of an end: nothing was asked to go on.
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(Place {
            after: None,
            limit: limit.unwrap_or(most),
        });
    };
    let token = Token::decode(&token, of)?;
    if limit.is_some_and(|limit| limit != token.limit) {
        return Err(Refused::malformed(Finding::new(
            "PDP-PAGE-TOKEN",
            "page.limit is another than that of the first page",
        )));
    }
    Ok(Place {
        after: Some(token.after),
        limit: token.limit.min(most),
    })
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub results: Vec<Value>,
    /// Empty at the end.
    pub next_token: String,
}

impl Found {
    /// The Search API Response.
    #[must_use]
    pub fn response(&self, known: &Known, version: &Version) -> Value {
        json!({
            "page": {"next_token": self.next_token, "count": self.results.len()},
            "context": {
                "facts": known.as_str(),
                "estate": {"version": version.estate().version(), "index": version.index()},
            },
            "results": self.results,
        })
    }
}

impl Search {
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Whose SVID may have been shown.
    #[must_use]
    pub const fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// What a record says was looked for.
    #[must_use]
    pub fn about(&self) -> String {
        let resource = self.resource.as_ref();
        let resource = resource.map(|resource| format!("{} {}", resource.kind, resource.id));
        crate::names::shown(&resource.unwrap_or_else(|| self.kind.clone()))
    }

    /// One page by `version` and what is `known`, after at most `tries` decisions.
    ///
    /// What names nothing finds nothing: a type that nobody knows is no mistake in a search.
    #[must_use]
    pub fn run(
        &self,
        version: &Version,
        known: &Known,
        trust_domain: &TrustDomain,
        tries: usize,
    ) -> Found {
        let judge = version.judge(known);
        let mut page = Page {
            search: self,
            tries,
            results: Vec::new(),
            last: None,
            full: false,
        };
        match self.target {
            Target::Subject => self.subjects(version, &judge, trust_domain, &mut page),
            Target::Resource => self.resources(version, &judge, trust_domain, &mut page),
            Target::Action => self.actions(version, &judge, trust_domain, &mut page),
        }
        page.done()
    }

    fn subjects(
        &self,
        version: &Version,
        judge: &Judge<'_>,
        domain: &TrustDomain,
        page: &mut Page<'_>,
    ) {
        let by_id = match self.kind.as_str() {
            IDENTITY => false,
            SPIFFE => true,
            _ => return,
        };
        let (Some(action), Some(resource)) = (self.asked_action(), self.asked_resource()) else {
            return;
        };
        for identity in version.estate().identities() {
            // A template has no SPIFFE ID, and which instances there are no estate knows.
            if by_id && identity.is_template() {
                continue;
            }
            let allowed = || {
                judge
                    .decide(&identity.path, action, &resource)
                    .decision
                    .allow
            };
            let shown = || {
                let id = domain.identity(&identity.path).ok().filter(|_| by_id);
                let id = id.map_or_else(|| identity.path.clone(), |id| id.to_string());
                json!({"type": self.kind, "id": id})
            };
            if !page.take(&identity.path, allowed, shown) {
                return;
            }
        }
    }

    fn resources(
        &self,
        version: &Version,
        judge: &Judge<'_>,
        domain: &TrustDomain,
        page: &mut Page<'_>,
    ) {
        let (Some(action), Some(subject)) = (self.asked_action(), self.asked_subject(domain))
        else {
            return;
        };
        let wanted = type_name(&self.kind);
        // In order of their paths within one kind.
        for resource in version.estate().used_resources() {
            if resource.kind.type_name() != wanted {
                continue;
            }
            let allowed = || judge.decide(&subject, action, &resource).decision.allow;
            let shown = || json!({"type": self.kind, "id": resource.path});
            if !page.take(&resource.path, allowed, shown) {
                return;
            }
        }
    }

    fn actions(
        &self,
        version: &Version,
        judge: &Judge<'_>,
        domain: &TrustDomain,
        page: &mut Page<'_>,
    ) {
        let (Some(subject), Some(resource)) = (self.asked_subject(domain), self.asked_resource())
        else {
            return;
        };
        let estate = version.estate();
        let applies = |action: &Action| estate.resource_kinds(*action).contains(&resource.kind);
        let uses = estate.uses().filter(applies);
        let mut actions: Vec<_> = uses.map(|action| (action.to_string(), action)).collect();
        actions.sort();
        for (name, action) in actions {
            let allowed = || judge.decide(&subject, action, &resource).decision.allow;
            if !page.take(&name, allowed, || json!({"name": name})) {
                return;
            }
        }
    }

    fn asked_subject(&self, domain: &TrustDomain) -> Option<String> {
        let subject = self.subject.as_ref()?;
        crate::subject(domain, &subject.kind, &subject.id).ok()
    }

    fn asked_action(&self) -> Option<Action> {
        crate::action(&self.action.as_ref()?.name).ok()
    }

    fn asked_resource(&self) -> Option<ResourceRef> {
        let resource = self.resource.as_ref()?;
        crate::resource(&resource.kind, &resource.id).ok()
    }
}

/// A page that is being filled.
struct Page<'a> {
    search: &'a Search,
    tries: usize,
    results: Vec<Value>,
    /// The last candidate that was tried.
    last: Option<String>,
    /// There is more, and no room or time for it.
    full: bool,
}

impl Page<'_> {
    /// Tries the next candidate, in ascending order of `key`; false once the page has to end before it.
    fn take(
        &mut self,
        key: &str,
        allowed: impl FnOnce() -> bool,
        shown: impl FnOnce() -> Value,
    ) -> bool {
        let page = &self.search.page;
        if page.after.as_deref().is_some_and(|after| key <= after) {
            return true;
        }
        if self.results.len() >= page.limit || self.tries == 0 {
            self.full = true;
            return false;
        }
        self.tries -= 1;
        if allowed() {
            self.results.push(shown());
        }
        self.last = Some(key.to_owned());
        true
    }

    fn done(self) -> Found {
        let page = &self.search.page;
        let next_token = if self.full {
            let after = self.last.as_ref().or(page.after.as_ref());
            let after = after.map_or("", String::as_str);
            Token::new(&self.search.of, after, page.limit).encode()
        } else {
            String::new()
        };
        Found {
            results: self.results,
            next_token,
        }
    }
}
