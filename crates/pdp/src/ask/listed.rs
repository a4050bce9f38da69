//! Questions whose answer is a list: how a part of it is found, and how it stands in a document or line by line.
//!
//! A document has the items of a page in the lists in which the whole has them, so that pages one after another come
//! to it; a line names its list by its kind.

use super::{after, cannot_go_on, proposed, read_cursor, version};
use crate::decider::Version;
use crate::names::shown;
use crate::question::Refused;
use estate::{
    Access, Action, BlastItem, Cursor, Diff, EstateFiles, Named, Remark, ResourceRef, Taken,
};
use facts::Finding;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone)]
pub(super) enum Listed {
    Who(Action, ResourceRef),
    What(String),
    Blast(Taken),
    /// Made as a whole.
    Made(Arc<Made>),
}

/// Which part is wanted.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) limit: usize,
    pub(super) tries: usize,
    pub(super) after: Option<String>,
}

/// A part of an answer.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// Where the rest begins.
    pub(super) next: Option<String>,
}

/// One of an answer.
#[derive(Clone)]
pub(super) struct Item {
    /// Its list in a document: names of members, the outermost first.
    list: Vec<&'static str>,
    /// In that list.
    value: Value,
    /// As a line.
    line: Value,
}

impl Item {
    fn new(list: &[&'static str], line: &str, value: &impl Serialize) -> Self {
        // Nothing that answers hold can fail to be written.
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        Self {
            list: list.to_vec(),
            line: json!({ line: value }),
            value,
        }
    }

    fn access(access: &Access) -> Self {
        Self::new(&["accesses"], "access", access)
    }

    fn error(error: &str) -> Self {
        Self::new(&["errors"], "error", &error)
    }

    fn is_error(&self) -> bool {
        self.list.last() == Some(&"errors")
    }
}

impl From<&BlastItem> for Item {
    fn from(item: &BlastItem) -> Self {
        match item {
            BlastItem::Path(path) => Self::new(&["paths"], "path", path),
            BlastItem::Identity(reach) => Self::new(&["identities"], "identity", reach),
            BlastItem::ActsFor(one) => Self::new(&["acts_for"], "acts_for", one),
            BlastItem::Access(access) => Self::access(access),
            BlastItem::Error(error) => Self::error(error),
        }
    }
}

impl Page {
    pub(super) fn errors(&self) -> usize {
        self.items.iter().filter(|item| item.is_error()).count()
    }

    pub(super) fn lines(&self) -> String {
        let lines = self.items.iter().map(|item| format!("{}\n", item.line));
        lines.collect()
    }

    /// Its items in their lists, and how to go on.
    pub(super) fn document(self, document: &mut Map<String, Value>) {
        let count = self.items.len() - self.errors();
        document.insert(
            "page".to_owned(),
            json!({"count": count, "next": self.next}),
        );
        for item in self.items {
            let Some((last, above)) = item.list.split_last() else {
                continue;
            };
            let mut members = Some(&mut *document);
            for name in above {
                let below =
                    members.map(|members| members.entry(*name).or_insert_with(|| json!({})));
                members = below.and_then(Value::as_object_mut);
            }
            let list = members.map(|members| members.entry(*last).or_insert_with(|| json!([])));
            if let Some(list) = list.and_then(Value::as_array_mut) {
                list.push(item.value);
            }
        }
    }
}

impl Listed {
    pub(super) fn page(&self, version: &Version, part: &Part) -> Result<Page, Refused> {
        let estate = version.estate();
        let after_cursor = part.after.as_deref();
        let accesses = match self {
            Self::Who(action, resource) => estate.accesses_to(*action, resource),
            Self::What(principal) => estate.accesses_of(principal),
            Self::Blast(taken) => {
                let mut blast = estate.blast(taken.clone()).map_err(unknown)?;
                if let Some(cursor) = read_cursor(after_cursor)? {
                    blast = blast.after(&cursor).map_err(cannot_go_on)?;
                }
                let (items, next) = blast.part(part.limit, part.tries);
                let items = items.iter().map(Item::from).collect();
                return Ok(Page { items, next });
            }
            Self::Made(made) => return made.page(version, part),
        };
        let mut accesses = after(accesses, after_cursor)?;
        let page = accesses.page(part.limit, part.tries);
        let errors = page.errors.iter().map(|error| Item::error(error));
        Ok(Page {
            items: page
                .accesses
                .iter()
                .map(Item::access)
                .chain(errors)
                .collect(),
            next: page.next,
        })
    }

    /// What the record says that was asked.
    pub(super) fn about(&self) -> String {
        match self {
            Self::Who(action, resource) => format!("{action} {resource}"),
            Self::What(principal) => principal.clone(),
            Self::Blast(taken) => format!("{taken:?}"),
            Self::Made(_) => "estate".to_owned(),
        }
    }

    /// What is said once of the whole.
    pub(super) fn head(&self, of: &Version) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("estate".to_owned(), version(of));
        match self {
            Self::Who(_, resource) => {
                if let Some(said) = of.estate().undeclared(resource) {
                    head.insert("undeclared".to_owned(), said.into());
                }
            }
            Self::What(_) => {}
            Self::Blast(taken) => {
                head.insert("taken".to_owned(), json!(taken));
            }
            Self::Made(made) => head.extend(made.head.clone()),
        }
        head
    }

    /// The lists of a document, with nothing in them.
    pub(super) fn lists(&self) -> Map<String, Value> {
        let empty = |names: &[&str]| {
            names
                .iter()
                .map(|name| ((*name).to_owned(), json!([])))
                .collect()
        };
        match self {
            Self::Who(..) | Self::What(_) => empty(&["accesses", "errors"]),
            Self::Blast(_) => empty(&["paths", "identities", "acts_for", "accesses", "errors"]),
            Self::Made(made) => made.lists.clone(),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn unknown(message: String) -> Refused {
    Refused::unknown(
        Finding::new("BLAST-UNKNOWN", shown(&message)).next("name it as the estate does"),
    )
}

/// An answer that is found as a whole.
pub(super) struct Made {
    question: String,
    head: Map<String, Value>,
    lists: Map<String, Value>,
    items: Vec<Item>,
}

impl Made {
    pub(super) fn lint(version: &Version) -> Self {
        let remarks = version.estate().lint();
        let mut lists = Map::new();
        lists.insert("remarks".to_owned(), json!([]));
        let item = |remark: &Remark| Item::new(&["remarks"], "remark", remark);
        Self {
            question: "lint".to_owned(),
            head: Map::new(),
            lists,
            items: remarks.iter().map(item).collect(),
        }
    }

    /// # Errors
    /// `QUESTION-ESTATE`: the proposed estate does not compile.
    pub(super) fn diff(
        version: &Version,
        files: BTreeMap<String, String>,
    ) -> Result<Self, Refused> {
        let proposed = proposed(&EstateFiles(files))?;
        let diff = estate::diff(version.estate(), &proposed);
        let mut items = Vec::new();
        items.extend(diff.declared().map(|(of, how, name)| Item {
            list: vec!["diff", of, how],
            value: name.into(),
            line: json!({"declared": {"of": of, "how": how, "name": name}}),
        }));
        let changes = [
            (&diff.widened, "widened", &["diff", "widened"]),
            (&diff.narrowed, "narrowed", &["diff", "narrowed"]),
        ];
        for (changes, name, list) in changes {
            items.extend(changes.iter().map(|change| Item::new(list, name, change)));
        }
        let errors = diff.errors.iter();
        items.extend(errors.map(|error| Item::new(&["diff", "errors"], "error", error)));
        let mut head = Map::new();
        head.insert("proposed".to_owned(), proposed.version().into());
        let mut lists = Map::new();
        lists.insert("diff".to_owned(), json!(emptied(diff)));
        Ok(Self {
            question: format!("diff {}", proposed.version()),
            head,
            lists,
            items,
        })
    }

    fn page(&self, version: &Version, part: &Part) -> Result<Page, Refused> {
        let now = version.estate().version();
        let from = match read_cursor(part.after.as_deref())? {
            None => 0,
            Some(cursor) => cursor.given(now, &self.question).map_err(cannot_go_on)?,
        };
        let rest = self.items.iter().skip(from);
        let items: Vec<Item> = rest.take(part.limit).cloned().collect();
        let until = from.saturating_add(items.len());
        let more = until < self.items.len();
        let next = Cursor::in_list(now, &self.question, until);
        Ok(Page {
            items,
            next: more.then(|| next.to_string()),
        })
    }
}

/// With its lists empty.
fn emptied(diff: Diff) -> Diff {
    Diff {
        settings: Named::default(),
        identities: Named::default(),
        resources: Named::default(),
        references: Named::default(),
        policies: Named::default(),
        invariants: Named::default(),
        delegations: Named::default(),
        widened: Vec::new(),
        narrowed: Vec::new(),
        errors: Vec::new(),
        ..diff
    }
}
