//! A plan as GitHub-flavoured Markdown, for a comment on a pull request. Names come from whoever proposes the
//! change: nothing of them is markup.

use super::super::ask::{list, policy_name, residuals, text};
use super::{plain, problem_line, running, witnesses};
use serde_json::Value;
use std::fmt::Write as _;

/// What GitHub takes in one comment is 65,536 characters; the rest is for what comes around it.
const MOST_BYTES: usize = 60_000;
/// Lines of one list. What is left out is counted.
const MOST_LINES: usize = 200;

/// The document that `trilith estate plan DIR --json` prints, for people who review.
pub(crate) fn page(document: &Value) -> String {
    let mut page = String::new();
    let applicable = document.get("applicable").and_then(Value::as_bool) == Some(true);
    let flags = running::flags(document);
    let verdict = match (applicable, &flags) {
        (true, None) => "it can be applied".to_owned(),
        (true, Some(flags)) => format!("it can be applied by whoever means it: {}", code(flags)),
        (false, _) => "**it cannot be applied**".to_owned(),
    };
    line(&mut page, format_args!("### Estate plan: {verdict}\n"));
    for reason in list(document, "/reasons") {
        line(&mut page, format_args!("- {}", code(&plain(reason))));
    }
    let problems: Vec<String> = list(document, "/problems")
        .iter()
        .map(|problem| code(&problem_line(problem)))
        .collect();
    section(&mut page, "Problems", true, &problems);
    invariants(&mut page, list(document, "/proof/invariants"));
    let governed: Vec<String> = list(document, "/governed")
        .iter()
        .map(|change| {
            let what = format!("{} {}", text(change, "/kind"), text(change, "/of"));
            format!("{}: {}", code(&what), code(&text(change, "/why")))
        })
        .collect();
    section(&mut page, "What two authors have to sign", true, &governed);
    changes(&mut page, document);
    let sentences = witnesses::sentences(document);
    let sentences: Vec<String> = sentences.iter().map(|one| code(one)).collect();
    section(&mut page, "Over any data", true, &sentences);
    let failed: Vec<String> = list(document, "/tests")
        .iter()
        .filter(|test| test.get("passed").and_then(Value::as_bool) != Some(true))
        .map(|test| {
            let place = format!("{}:{}", text(test, "/file"), text(test, "/line"));
            let name = text(test, "/name");
            format!(
                "{} {}: {}",
                code(&place),
                code(&name),
                code(&text(test, "/failure"))
            )
        })
        .collect();
    section(&mut page, "Policy tests that fail", true, &failed);
    let evicted: Vec<String> = list(document, "/machines/evicted")
        .iter()
        .map(|machine| {
            let node = code(&text(machine, "/node"));
            format!("{node}: {}", code(&text(machine, "/finding/code")))
        })
        .collect();
    section(&mut page, "Machines that it evicts", true, &evicted);
    let sentences = running::sentences(document);
    let sentences: Vec<String> = sentences.iter().map(|one| code(one)).collect();
    section(&mut page, "What becomes of what runs", true, &sentences);
    replayed(&mut page, document.get("replayed").unwrap_or(&Value::Null));
    let version = text(document, "/version");
    if !version.is_empty() {
        line(&mut page, format_args!("\nVersion {}", code(&version)));
    }
    bounded(page)
}

/// Recorded accesses that would be decided otherwise, where the plan was asked about them.
fn replayed(page: &mut String, replayed: &Value) {
    let row = |one: &Value, what: &str| {
        let names = ["/identity", "/action", "/resource"].map(|name| text(one, name));
        let last = format!("{}:{}", text(one, "/ledger"), text(one, "/last/0"));
        let (count, last) = (text(one, "/count"), code(&last));
        format!(
            "{what}: {}, {count} times, last {last}",
            code(&names.join(" "))
        )
    };
    let changed = list(replayed, "/changed").iter().map(|one| {
        let denied = one.get("change").and_then(Value::as_str) == Some("denied");
        row(one, if denied { "denied" } else { "allowed" })
    });
    let unknown = list(replayed, "/not_replayed");
    let unknown = unknown.iter().map(|one| row(one, "not replayed"));
    let rows: Vec<String> = changed.chain(unknown).collect();
    let title = format!(
        "Accesses of the last {} days that would change",
        text(replayed, "/days")
    );
    section(page, &title, true, &rows);
}

fn invariants(page: &mut String, invariants: &[Value]) {
    if invariants.is_empty() {
        return;
    }
    line(page, format_args!("\n| invariant | for any data | today |"));
    line(page, format_args!("|---|---|---|"));
    let mut details = Vec::new();
    for report in invariants.iter().take(MOST_LINES) {
        let name = report
            .get("invariant")
            .map_or_else(String::new, policy_name);
        let any = text(report, "/result/status");
        let mark = match any.as_str() {
            "proved" => "✅ proved",
            "broken" => "❌ broken",
            _ => "❔ unknown",
        };
        let mut today = text(report, "/today/status");
        let givens = list(report, "/givens");
        let fails = |given: &&Value| text(given, "/today/status") != "holds";
        if let Some(given) = givens.iter().find(fails) {
            today.push_str("; what it takes for granted does not hold");
            details.push(format!("{}: {}", code(&name), code(&text(given, "/given"))));
        }
        line(page, format_args!("| {} | {mark} | {today} |", cell(&name)));
        if any == "broken" {
            let sentence = text(report, "/result/counterexample/text");
            details.push(format!("{}: {}", code(&name), code(&sentence)));
        } else if any != "proved" {
            let message = text(report, "/result/message");
            let message = format!("{}: {message}", text(report, "/result/code"));
            details.push(format!("{}: {}", code(&name), code(&message)));
        }
        for breach in list(report, "/today/by") {
            let breach = format!(
                "{} {} {}",
                text(breach, "/principal"),
                text(breach, "/action"),
                text(breach, "/resource")
            );
            details.push(format!("{}: today by {}", code(&name), code(&breach)));
        }
    }
    left_out(page, invariants.len());
    section(page, "What breaks them", true, &details);
}

fn changes(page: &mut String, document: &Value) {
    for (title, field, side, open) in [
        ("Newly possible", "/diff/widened", "after", true),
        (
            "No longer possible, or under another condition",
            "/diff/narrowed",
            "before",
            false,
        ),
    ] {
        let accesses: Vec<String> = list(document, field)
            .iter()
            .filter_map(|change| change.get(side))
            .map(access)
            .collect();
        section(page, title, open, &accesses);
    }
    let mut declared = Vec::new();
    for (what, field) in [
        ("setting", "settings"),
        ("identity", "identities"),
        ("resource", "resources"),
        ("reference", "references"),
        ("policy", "policies"),
        ("invariant", "invariants"),
        ("delegation", "delegations"),
    ] {
        for (mark, name) in [
            ("added", "added"),
            ("removed", "removed"),
            ("changed", "changed"),
        ] {
            for one in list(document, &format!("/diff/{field}/{name}")) {
                declared.push(format!("{mark} {what} {}", code(&plain(one))));
            }
        }
    }
    section(page, "Declarations", false, &declared);
    let errors: Vec<String> = list(document, "/diff/errors")
        .iter()
        .map(|error| code(&plain(error)))
        .collect();
    section(page, "Not compared", true, &errors);
}

fn access(access: &Value) -> String {
    let what = format!(
        "{} {} {}",
        text(access, "/identity"),
        text(access, "/action"),
        text(access, "/resource")
    );
    let mut because: Vec<String> = list(access, "/policies").iter().map(policy_name).collect();
    because.extend(residuals(access));
    let because: Vec<String> = because.iter().map(|one| code(one)).collect();
    if because.is_empty() {
        return code(&what);
    }
    format!("{}, because of {}", code(&what), because.join("; "))
}

/// A list under a title that unfolds; nothing if it is empty.
fn section(page: &mut String, title: &str, open: bool, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let open = if open { " open" } else { "" };
    let count = lines.len();
    line(
        page,
        format_args!("\n<details{open}><summary>{title} ({count})</summary>\n"),
    );
    for one in lines.iter().take(MOST_LINES) {
        line(page, format_args!("- {one}"));
    }
    left_out(page, count);
    line(page, format_args!("\n</details>"));
}

fn left_out(page: &mut String, count: usize) {
    if count > MOST_LINES {
        let more = count - MOST_LINES;
        line(
            page,
            format_args!(
                "\n{more} more are not shown here: `trilith estate plan DIR --json` has all."
            ),
        );
    }
}

fn line(page: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _written = writeln!(page, "{arguments}");
}

/// A code span, which shows its letters as they are: CommonMark section 6.1. Its fence is longer than any run
/// of backticks in it; line breaks and what turns the direction of text are shown as escapes.
fn code(text: &str) -> String {
    let text: String = text
        .chars()
        .flat_map(|letter| {
            let odd = letter.is_control()
                || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let shown: Vec<char> = if odd {
                letter.escape_unicode().collect()
            } else {
                vec![letter]
            };
            shown
        })
        .collect();
    let longest = text
        .split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let room = if text.starts_with('`') || text.ends_with('`') || text.is_empty() {
        " "
    } else {
        ""
    };
    format!("{fence}{room}{text}{room}{fence}")
}

/// A code span in a table, where a pipe ends the cell even within it: GFM section 4.10.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// The page, or what of it fits, cut at a line and said to be cut.
fn bounded(page: String) -> String {
    if page.len() <= MOST_BYTES {
        return page;
    }
    let mut kept = String::new();
    let mut open = 0_usize;
    for one in page.lines() {
        if kept.len() + one.len() > MOST_BYTES {
            break;
        }
        open += one.matches("<details").count();
        open = open.saturating_sub(one.matches("</details>").count());
        kept.push_str(one);
        kept.push('\n');
    }
    kept.push_str(&"\n</details>\n".repeat(open));
    kept.push_str(
        "\n**The plan goes on; this is its beginning: `trilith estate plan DIR --json` has all.**\n",
    );
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_plan_is_a_comment_on_a_pull_request() {
        let document = json!({
            "applicable": false,
            "reasons": ["policies/a.cedar:1 \"x\": broken"],
            "version": "abc",
            "proof": { "invariants": [
                { "invariant": { "id": "no AI agent writes", "file": "invariants/a.cedar", "line": 3 },
                  "result": { "status": "broken", "counterexample": { "text": "some AI agent could" } },
                  "today": { "status": "broken", "by": [
                    { "principal": "Identity::\"agents/helper\"", "action": "select",
                      "resource": { "kind": "table", "path": "shop/public/cards" } } ] } },
                { "invariant": { "id": "a | b", "file": "invariants/a.cedar", "line": 9 },
                  "result": { "status": "proved" }, "today": { "status": "holds", "requests": 3 },
                  "givens": [ { "given": "given { true }", "today": { "status": "broken", "by": [] } } ] },
            ] },
            "tests": [{ "passed": false, "file": "tests/a.toml", "line": 1, "name": "t", "failure": "expected allow" }],
            "diff": { "widened": [ { "after": {
                "identity": "agents/helper", "action": "select",
                "resource": { "kind": "table", "path": "shop/public/cards" },
                "policies": [{ "id": "p", "file": "policies/a.cedar", "line": 1,
                  "annotations": { "owner": "data `team`", "control": "SOC2-CC6.1" } }] } } ],
              "policies": { "added": ["p"], "removed": [], "changed": [] } },
        });
        expect![[r####"
            ### Estate plan: **it cannot be applied**

            - `policies/a.cedar:1 "x": broken`

            | invariant | for any data | today |
            |---|---|---|
            | `invariants/a.cedar:3 "no AI agent writes"` | ❌ broken | broken |
            | `invariants/a.cedar:9 "a \| b"` | ✅ proved | holds; what it takes for granted does not hold |

            <details open><summary>What breaks them (3)</summary>

            - `invariants/a.cedar:3 "no AI agent writes"`: `some AI agent could`
            - `invariants/a.cedar:3 "no AI agent writes"`: today by `Identity::"agents/helper" select shop/public/cards`
            - `invariants/a.cedar:9 "a | b"`: `given { true }`

            </details>

            <details open><summary>Newly possible (1)</summary>

            - `agents/helper select shop/public/cards`, because of ``policies/a.cedar:1 "p" (owner "data `team`"; control SOC2-CC6.1)``

            </details>

            <details><summary>Declarations (1)</summary>

            - added policy `p`

            </details>

            <details open><summary>Policy tests that fail (1)</summary>

            - `tests/a.toml:1` `t`: `expected allow`

            </details>

            Version `abc`
        "####]].assert_eq(&page(&document));
    }

    #[test]
    fn what_an_apply_has_to_have_seen_stands_at_the_top() {
        let nobody = json!({ "count": 0, "workloads": [] });
        let page = page(&json!({
            "applicable": true,
            "running": { "standing": 2, "revoked": 2, "identities": [
                { "identity": "payments/api", "revoked": 2, "loses": nobody, "gains": nobody } ] },
            "acknowledge": { "evict": 0, "revoke": 2 },
        }));
        let title = "### Estate plan: it can be applied by whoever means it: `--revoke 2`";
        assert!(page.starts_with(title), "{page}");
        assert!(
            page.contains("- `revokes 2 SVIDs of payments/api`"),
            "{page}"
        );
    }

    #[test]
    fn a_name_is_no_markup() {
        for (name, shown) in [
            ("a", "`a`"),
            ("a``b", "```a``b```"),
            ("`", "`` ` ``"),
            ("</details><img src=x>", "`</details><img src=x>`"),
            ("a\nb\u{202e}c", "`a\\u{a}b\\u{202e}c`"),
        ] {
            assert_eq!(code(name), shown);
        }
        assert_eq!(cell("a|b"), "`a\\|b`");
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_left_out() {
        let many: Vec<Value> = (0..5_000)
            .map(|number| {
                json!({ "after": { "identity": format!("{number}-{}", "x".repeat(300)),
                "action": "select", "resource": { "kind": "table", "path": "a/b/c" } } })
            })
            .collect();
        let page = page(&json!({ "applicable": true, "diff": { "widened": many } }));
        assert!(page.len() < 65_536, "{}", page.len());
        assert!(page.contains("Newly possible (5000)"));
        assert!(
            page.contains("The plan goes on"),
            "{}",
            page.lines().last().unwrap_or_default()
        );
        assert_eq!(
            page.matches("<details").count(),
            page.matches("</details>").count()
        );
    }
}
