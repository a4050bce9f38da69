//! A plan in parts: what is said once of it, then what its lists hold, so that no answer is one message however large
//! the estate is. A part may be cut at a limit, and then says how to go on; nothing is left out without a word.
//!
//! The next part is planned anew: what was proved and compared by then comes out the same while the files and the
//! version in force are the same, which the cursor is held to. What runs may have changed meanwhile, and stands last.

use crate::refusal::Refusal;
use estate::{Cursor, CursorError};
use proto::v1;
use serde_json::{Map, Value, json};

/// Lists of a plan that grow with the estate, in the order in which they are told. Those of each invariant come
/// between them.
const LISTS: [&str; 6] = [
    "/problems",
    "/reasons",
    "/tests",
    "/governed",
    "/diff/widened",
    "/diff/narrowed",
];
const DECLARED: [&str; 6] = [
    "identities",
    "resources",
    "references",
    "policies",
    "invariants",
    "delegations",
];
const LAST: [&str; 2] = ["/diff/errors", "/running/identities"];

/// Bytes of items in one message, about, unless one alone has more.
const AT_ONCE: usize = 256 << 10;

/// Which part is asked for.
pub(super) struct Wanted<'a> {
    /// 0: all that there is.
    pub(super) limit: u64,
    pub(super) after: &'a str,
    /// Digests of what the answer rests on: the version in force, or the files where there is none, and the files.
    pub(super) version: &'a str,
    pub(super) files: &'a str,
}

/// One of a list.
struct Item {
    /// A JSON pointer.
    at: String,
    value: Value,
}

/// The messages of the part.
pub(super) fn parts(
    mut plan: Value,
    wanted: &Wanted<'_>,
    cannot_go_on: impl Fn(CursorError) -> Refusal,
) -> Result<Vec<v1::Document>, Refusal> {
    let question = format!("plan {}", wanted.files);
    let from = match wanted.after {
        "" => 0,
        text => text
            .parse()
            .and_then(|cursor: Cursor| cursor.given(wanted.version, &question))
            .map_err(cannot_go_on)?,
    };
    let passed = |test: &Value| test.get("passed").and_then(Value::as_bool) == Some(true);
    let tests = plan.pointer("/tests").and_then(Value::as_array);
    let failed = tests.map_or(0, |tests| tests.iter().filter(|one| !passed(one)).count());
    let items = taken_out(&mut plan);
    let mut lists = Map::new();
    for item in &items {
        let count = lists.entry(item.at.clone()).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or_default() + 1);
    }
    let all = items.len();
    let limit = match wanted.limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let from = from.min(all);
    let until = from.saturating_add(limit).min(all);
    if let Value::Object(fields) = &mut plan {
        let part = json!({ "from": from, "until": until, "of": all, "lists": lists, "failed_tests": failed });
        fields.insert("part".to_owned(), part);
    }
    let mut messages = vec![json!({ "head": plan }).to_string()];
    let here = items.into_iter().skip(from).take(until - from);
    grouped(here, &mut messages);
    let next = Cursor::in_list(wanted.version, &question, until);
    let next = (until < all).then(|| next.to_string());
    messages.push(json!({ "end": { "shown": until - from, "of": all, "next": next } }).to_string());
    let documents = messages.into_iter().map(|json| v1::Document { json });
    Ok(documents.collect())
}

/// Items of one list that stand side by side, in messages of some size.
fn grouped(items: impl Iterator<Item = Item>, messages: &mut Vec<String>) {
    let mut at = String::new();
    let mut group: Vec<String> = Vec::new();
    let mut bytes = 0;
    let mut end = |at: &str, group: &mut Vec<String>| {
        if !group.is_empty() {
            let items = group.join(",");
            messages.push(format!("{{\"at\":{},\"items\":[{items}]}}", json!(at)));
            group.clear();
        }
    };
    for item in items {
        if item.at != at || bytes >= AT_ONCE {
            end(&at, &mut group);
            bytes = 0;
        }
        let text = item.value.to_string();
        bytes += text.len();
        group.push(text);
        at = item.at;
    }
    end(&at, &mut group);
}

/// Leaves the lists empty.
fn taken_out(plan: &mut Value) -> Vec<Item> {
    let declared = DECLARED.iter().flat_map(|of| {
        let each = ["added", "removed", "changed"];
        each.map(|how| format!("/diff/{of}/{how}"))
    });
    let first = LISTS.iter().map(|at| (*at).to_owned());
    let mut places: Vec<String> = first.chain(declared).collect();
    let invariants = plan.pointer("/proof/invariants").and_then(Value::as_array);
    for (number, invariant) in invariants.into_iter().flatten().enumerate() {
        let givens = invariant.get("givens").and_then(Value::as_array);
        let givens = givens.map_or(0, Vec::len);
        let own = std::iter::once(String::new());
        let todays = own.chain((0..givens).map(|given| format!("/givens/{given}")));
        for today in todays {
            let lists = ["by", "on", "because"];
            let at = format!("/proof/invariants/{number}{today}/today");
            places.extend(lists.map(|list| format!("{at}/{list}")));
        }
    }
    places.extend(LAST.map(str::to_owned));
    let mut items = Vec::new();
    for at in places {
        if let Some(Value::Array(list)) = plan.pointer_mut(&at) {
            let taken = std::mem::take(list).into_iter();
            items.extend(taken.map(|value| Item {
                at: at.clone(),
                value,
            }));
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::Finding;

    fn refuse(error: CursorError) -> Refusal {
        Refusal::Invalid(Finding::new(error.code(), error.to_string()))
    }

    fn plan(many: usize) -> Value {
        let accesses: Vec<Value> = (0..many).map(|number| json!({ "after": number })).collect();
        json!({
            "applicable": true, "version": "v", "problems": [], "reasons": [], "governed": [],
            "tests": [{"name": "one", "passed": true}, {"name": "two", "passed": false}],
            "diff": {
                "from": "a", "identities": {"added": ["x", "y"], "removed": [], "changed": []},
                "widened": accesses, "narrowed": [], "errors": ["e"],
            },
            "proof": {"invariants": [
                {"today": {"status": "broken", "by": [1, 2]}, "givens": [{"today": {"status": "open", "on": [3]}}]},
            ]},
            "running": null,
        })
    }

    fn asked(limit: u64, after: &str) -> Result<Vec<Value>, Refusal> {
        let wanted = Wanted {
            limit,
            after,
            version: &"ab".repeat(32),
            files: "files",
        };
        let parts = parts(plan(9), &wanted, refuse)?;
        let parsed = parts.iter().map(|one| serde_json::from_str(&one.json));
        Ok(parsed.collect::<Result<_, _>>().unwrap())
    }

    /// The items of a part, and how to go on.
    fn told(messages: &[Value]) -> (Vec<(String, Value)>, Option<String>) {
        let mut items = Vec::new();
        for message in messages {
            let at = message["at"].as_str().unwrap_or_default();
            let of_message = message["items"].as_array().into_iter().flatten();
            items.extend(of_message.map(|item| (at.to_owned(), item.clone())));
        }
        let end = &messages.last().unwrap()["end"];
        assert_eq!(end["shown"], items.len());
        (items, end["next"].as_str().map(str::to_owned))
    }

    #[test]
    fn parts_of_any_size_come_to_the_whole_and_each_says_how_much_that_is() {
        let whole = asked(0, "").unwrap();
        let (all, next) = told(&whole);
        assert_eq!(next, None);
        // Tests, accesses, names, breaches of the invariant and of its given, an error.
        assert_eq!(all.len(), 2 + 9 + 2 + 3 + 1);
        let head = &whole[0]["head"];
        assert_eq!(head["tests"], json!([]));
        assert_eq!(head["proof"]["invariants"][0]["today"]["by"], json!([]));
        assert_eq!(head["part"]["lists"]["/diff/widened"], 9);
        assert_eq!(head["part"]["failed_tests"], 1);
        for limit in [1, 2, 5, 100] {
            let mut got = Vec::new();
            let mut after = Some(String::new());
            while let Some(cursor) = after {
                let (items, next) = told(&asked(limit, &cursor).unwrap());
                got.extend(items);
                after = next;
            }
            assert_eq!(got, all, "{limit}");
        }
    }

    /// Put back where they were, the items make the plan that was cut.
    #[test]
    fn items_name_their_places() {
        let messages = asked(0, "").unwrap();
        let mut head = messages[0]["head"].clone();
        for (at, item) in told(&messages).0 {
            head.pointer_mut(&at)
                .and_then(Value::as_array_mut)
                .unwrap()
                .push(item);
        }
        head.as_object_mut().unwrap().remove("part");
        assert_eq!(head, plan(9));
    }

    #[test]
    fn a_cursor_goes_with_its_files_and_the_version_in_force() {
        let (_, next) = told(&asked(1, "").unwrap());
        let next = next.unwrap();
        for (version, files) in [("cd".repeat(32), "files"), ("ab".repeat(32), "others")] {
            let wanted = Wanted {
                limit: 1,
                after: &next,
                version: &version,
                files,
            };
            assert!(parts(plan(9), &wanted, refuse).is_err());
        }
        assert!(asked(1, "no cursor").is_err());
    }

    #[test]
    fn large_lists_are_many_messages() {
        let mut large = plan(0);
        let text = "x".repeat(1_000);
        large["diff"]["widened"] = json!(vec![text; 3_000]);
        let version = "ab".repeat(32);
        let wanted = Wanted {
            limit: 0,
            after: "",
            version: &version,
            files: "files",
        };
        let messages = parts(large, &wanted, refuse).unwrap();
        let longest = messages.iter().map(|one| one.json.len()).max();
        assert!(messages.len() > 10 && longest < Some(AT_ONCE + 2_000));
    }
}
