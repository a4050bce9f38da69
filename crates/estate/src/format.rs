//! One way to write a file of the estate. Policies and invariants are set by Cedar's own formatter,
//! statement by statement, so that what stands between them stays where its author put it; of TOML only
//! blank space is touched.
//!
//! INVARIANT: a statement means afterwards what it meant before, and has every comment that it had;
//! formatting again changes nothing. Each is checked on every statement, and one that fails stays as it is.

use crate::estate::on_a_deep_stack;
use crate::policy::each_statement;
use crate::problem::{Problem, line_of};
use crate::statements::{Clause, clauses, comments};
use cedar_policy::Policy;
use cedar_policy::ffi::{FormattingAnswer, FormattingCall};
use serde_json::json;

/// A file as it should be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    pub text: String,
    /// Statements that were left as they are, with why: formatting them would lose something.
    pub left: Vec<Problem>,
}

/// Those of `cedar format`, so that editors which run it and this agree.
const LINE_WIDTH: usize = 80;
const INDENT_WIDTH: usize = 2;
/// A formatter that moves a comment may move it once more before it rests.
const MOST_PASSES: usize = 4;

/// The text of `file` as it should be written. Of JSON, and of files that no part of an estate reads, as
/// it is.
///
/// # Errors
/// What keeps the file from being parsed, with file and line; whether it compiles is not looked at.
pub fn format(file: &str, text: &str) -> Result<Formatted, Vec<Problem>> {
    let as_it_is = |text: String| Formatted {
        text,
        left: Vec::new(),
    };
    let (folder, name) = file.split_once('/').unwrap_or(("", file));
    match (
        folder,
        name.rsplit_once('.').map(|(_, extension)| extension),
    ) {
        ("policies" | "invariants", Some("cedar")) => on_a_deep_stack(|| statements(file, text)),
        (_, Some("toml")) => toml(file, text).map(as_it_is),
        _ => Ok(as_it_is(text.to_owned())),
    }
}

/// A statement of a file, by its place.
struct Cut {
    start: usize,
    end: usize,
    effect: String,
    effect_offset: usize,
}

fn statements(file: &str, text: &str) -> Result<Formatted, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut cuts = Vec::new();
    each_statement(file, text, &mut problems, |statement, _| {
        cuts.push(Cut {
            start: statement.offset,
            end: statement.offset + statement.text.len(),
            effect: statement.effect.to_owned(),
            effect_offset: statement.effect_offset,
        });
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut written = String::with_capacity(text.len());
    let mut left = Vec::new();
    let mut after = 0;
    for cut in &cuts {
        gap(text.get(after..cut.start).unwrap_or_default(), &mut written);
        let line = line_of(text, cut.start);
        let statement = text.get(cut.start..cut.end).unwrap_or_default();
        match pretty(statement, cut, set) {
            Ok(pretty) => written.push_str(&pretty),
            Err(Kept::Unreadable(message)) => {
                problems.push(Problem::new("ESTATE-CEDAR-SYNTAX", file, line, message));
            }
            Err(Kept::Left(message)) => {
                let problem = Problem::new("ESTATE-FORMAT-LEFT", file, line, message);
                left.push(problem.hint("it stays as it is; move its comments between conditions"));
                written.push_str(statement);
            }
        }
        after = cut.end;
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    gap(text.get(after..).unwrap_or_default(), &mut written);
    Ok(Formatted {
        text: ended(written),
        left,
    })
}

/// Writes what stands between two statements: comments, each on its line, and one blank line where there
/// were some. A comment behind a statement stays behind it; whatever follows is a blank line apart.
fn gap(gap: &str, written: &mut String) {
    let begins = written.is_empty();
    let mut lines: Vec<&str> = gap.split('\n').map(str::trim).collect();
    // What stands before the next statement on its line.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let mut lines = lines.into_iter();
    if !begins {
        if let Some(behind) = lines.next().filter(|behind| !behind.is_empty()) {
            written.push(' ');
            written.push_str(behind);
        }
        written.push('\n');
    }
    let mut blank = !begins;
    for line in lines {
        if line.is_empty() {
            blank |= !written.is_empty();
            continue;
        }
        if std::mem::take(&mut blank) {
            written.push('\n');
        }
        written.push_str(line);
        written.push('\n');
    }
    if blank {
        written.push('\n');
    }
}

/// One line break at the end, and nothing at all of an empty file.
fn ended(mut text: String) -> String {
    let length = text.trim_end().len();
    text.truncate(length);
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[derive(Debug)]
enum Kept {
    Unreadable(String),
    Left(String),
}

/// One statement, set. `never` and `always` are set as `forbid` and `permit`, whose form is the same.
/// `set` is trusted with nothing but looks.
fn pretty(
    statement: &str,
    cut: &Cut,
    set: impl Fn(&str) -> Result<String, Kept>,
) -> Result<String, Kept> {
    let stands_for = match cut.effect.as_str() {
        "never" => "forbid",
        "always" => "permit",
        other => other,
    };
    let written = replaced(statement, cut.effect_offset, &cut.effect, stands_for);
    // A `given` is set as a `when`, an `except` as an `unless`: the order of clauses stays, and so tells which they are.
    let (cedar, own) = match cut.effect.as_str() {
        "never" | "always" => without_own(&written, cut.effect_offset),
        _ => (written, Vec::new()),
    };
    let meaning = meaning(&cedar)?;
    let mut passed = set(&cedar)?;
    let mut passes = 1;
    loop {
        let again = set(&passed)?;
        if again == passed {
            break;
        }
        passes += 1;
        if passes > MOST_PASSES {
            let message = "Cedar's formatter changes it each time anew";
            return Err(Kept::Left(message.to_owned()));
        }
        passed = again;
    }
    if self::meaning(&passed)? != meaning {
        let message = "Cedar's formatter would change what it means";
        return Err(Kept::Left(message.to_owned()));
    }
    let sorted = |text: &str| {
        let mut comments: Vec<String> = comments(text).iter().map(ToString::to_string).collect();
        comments.sort();
        comments
    };
    if sorted(&cedar) != sorted(&passed) {
        let message = "Cedar's formatter would lose a comment of it";
        return Err(Kept::Left(message.to_owned()));
    }
    let effect = crate::statements::statements("", &passed)
        .ok()
        .and_then(|found| Some(found.first()?.effect_offset));
    match effect {
        Some(at) => {
            let passed = with_own(passed, at, &own);
            Ok(replaced(&passed, at, stands_for, &cut.effect))
        }
        None => Err(Kept::Left("its effect is not found again".to_owned())),
    }
}

/// What Cedar does not know, and what it is set as.
const OWN_CLAUSES: [(&str, &str); 2] = [("given", "when"), ("except", "unless")];

/// The statement with each `given` as a `when` and each `except` as an `unless`, and which of its clauses were one.
fn without_own(statement: &str, effect_offset: usize) -> (String, Vec<Option<&'static str>>) {
    let clauses = clauses(statement, effect_offset);
    let mut cedar = statement.to_owned();
    let own = |clause: &Clause| {
        let mut known = OWN_CLAUSES.iter();
        known.find(|(keyword, _)| *keyword == clause.keyword)
    };
    for clause in clauses.iter().rev() {
        if let Some((_, stands_for)) = own(clause) {
            let keyword = clause.start..clause.start + clause.keyword.len();
            cedar.replace_range(keyword, stands_for);
        }
    }
    let owned = clauses.iter().map(|clause| Some(own(clause)?.0));
    (cedar, owned.collect())
}

fn with_own(mut statement: String, effect_offset: usize, own: &[Option<&str>]) -> String {
    let clauses = clauses(&statement, effect_offset);
    for (clause, own) in clauses.iter().zip(own).rev() {
        if let Some(own) = own {
            let keyword = clause.start..clause.start + clause.keyword.len();
            statement.replace_range(keyword, own);
        }
    }
    statement
}

fn replaced(text: &str, at: usize, word: &str, with: &str) -> String {
    let (before, rest) = text.split_at_checked(at).unwrap_or((text, ""));
    let after = rest.strip_prefix(word).unwrap_or(rest);
    format!("{before}{with}{after}")
}

/// Cedar's formatter, on one statement.
fn set(statement: &str) -> Result<String, Kept> {
    let call: FormattingCall = serde_json::from_value(json!({
        "policyText": statement,
        "lineWidth": LINE_WIDTH,
        "indentWidth": INDENT_WIDTH,
    }))
    .map_err(|error| Kept::Left(error.to_string()))?;
    match cedar_policy::ffi::format(call) {
        FormattingAnswer::Success { formatted_policy } => Ok(formatted_policy.trim().to_owned()),
        FormattingAnswer::Failure { errors } => {
            let first = errors.first().map(|error| error.message.clone());
            Err(Kept::Left(first.unwrap_or_default()))
        }
    }
}

/// What a statement says, annotations included, without how it is written.
fn meaning(statement: &str) -> Result<serde_json::Value, Kept> {
    let policy =
        Policy::parse(None, statement).map_err(|error| Kept::Unreadable(error.to_string()))?;
    policy
        .to_json()
        .map_err(|error| Kept::Left(error.to_string()))
}

/// No white space at the ends of lines, no two blank lines in a row, one line break at the end. A file to
/// which any of these means something, as within a text of several lines, stays as it is.
fn toml(file: &str, text: &str) -> Result<String, Vec<Problem>> {
    let parse = |text: &str| toml::from_str::<toml::Table>(text);
    let meant = parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = line_of(text, start);
        vec![Problem::new(
            "ESTATE-DECLARATION",
            file,
            line,
            error.message(),
        )]
    })?;
    let mut written = String::with_capacity(text.len());
    let mut blank = true;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() && blank {
            continue;
        }
        blank = line.is_empty();
        written.push_str(line);
        written.push('\n');
    }
    let written = ended(written);
    let same = parse(&written).is_ok_and(|table| table == meant);
    Ok(if same { written } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn formatted(file: &str, text: &str) -> String {
        let formatted = format(file, text).unwrap();
        assert!(formatted.left.is_empty(), "{:?}", formatted.left);
        let again = format(file, &formatted.text).unwrap();
        assert_eq!(again.text, formatted.text, "it is not at rest");
        formatted.text
    }

    #[test]
    fn what_stands_between_statements_stays_where_it_is() {
        let text = "\n\n// Of this file.\n\n\n// Of the first.\n@id(\"a\") permit(principal,action,resource); // behind\n// below\nforbid(principal,action,resource);\n\n\n\n// the end   \n\n";
        expect![[r#"
            // Of this file.

            // Of the first.
            @id("a")
            permit (principal, action, resource); // behind

            // below
            forbid (principal, action, resource);

            // the end
        "#]]
        .assert_eq(&formatted("policies/a.cedar", text));
    }

    fn kept(set: impl Fn(&str) -> String) -> String {
        let statement = "permit (principal, action, resource) // c\nwhen { true };";
        let cut = Cut {
            start: 0,
            end: statement.len(),
            effect: "permit".to_owned(),
            effect_offset: 0,
        };
        match pretty(statement, &cut, |text| Ok(set(text))) {
            Ok(pretty) => format!("formatted: {pretty}"),
            Err(Kept::Left(why) | Kept::Unreadable(why)) => why,
        }
    }

    #[test]
    fn a_formatter_that_loses_a_comment_is_not_followed() {
        let found = kept(|text| text.replace("// c", ""));
        assert_eq!(found, "Cedar's formatter would lose a comment of it");
    }

    #[test]
    fn a_formatter_that_changes_a_meaning_is_not_followed() {
        let found = kept(|text| text.replace("true", "false"));
        assert_eq!(found, "Cedar's formatter would change what it means");
    }

    #[test]
    fn a_formatter_that_never_rests_is_not_followed() {
        let found = kept(|text| format!("{text} "));
        assert_eq!(found, "Cedar's formatter changes it each time anew");
        assert!(kept(str::to_owned).starts_with("formatted: permit ("));
    }

    #[test]
    fn an_invariant_keeps_its_word() {
        let text = "@id(\"never say never\")never(principal,action,resource)when{principal==Identity::\"a\"&&true};always(principal,action,resource);";
        expect![[r#"
            @id("never say never")
            never (principal, action, resource)
            when { principal == Identity::"a" && true };

            always (principal, action, resource);
        "#]]
        .assert_eq(&formatted("invariants/a.cedar", text));
    }

    #[test]
    fn a_text_of_several_lines_is_not_touched() {
        let text = "a = \"\"\"x  \n\n\n\ny\"\"\"\n\n\n\nb = 1  \n";
        assert_eq!(formatted("resources/a.toml", text), text);
        let text = "\n# one  \n\n\n\na = 1  # two\n\n";
        assert_eq!(
            formatted("resources/a.toml", text),
            "# one\n\na = 1  # two\n"
        );
    }

    #[test]
    fn what_does_not_parse_is_an_error_at_its_line() {
        for (file, text, line) in [
            ("policies/a.cedar", "\npermit(principal, action)", 2),
            ("policies/a.cedar", "\n\npermit(principal, action);", 3),
            ("resources/a.toml", "a = 1\nb =\n", 2),
        ] {
            let problems = format(file, text).unwrap_err();
            assert_eq!((problems[0].file.as_str(), problems[0].line), (file, line));
        }
    }

    #[test]
    fn empty_files_and_others_stay() {
        assert_eq!(formatted("policies/a.cedar", ""), "");
        assert_eq!(formatted("policies/a.cedar", "// nothing"), "// nothing\n");
        assert_eq!(formatted("resources/a.json", "{ }"), "{ }");
        assert_eq!(formatted("README.md", "x  "), "x  ");
    }
}
