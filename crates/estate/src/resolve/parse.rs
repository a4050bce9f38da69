//! One TOML or JSON file to its declared shape, strictly.

use crate::problem::{Problem, column_of, line_of};
use crate::suggest::did_you_mean;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Nothing, and a problem, when the text does not fit.
pub(super) fn parse<T: DeserializeOwned>(
    file: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let toml = match as_toml(file, text) {
        Ok(toml) => toml,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    match toml::from_str(&toml) {
        Ok(declared) => Some(declared),
        Err(error) => {
            let start = error.span().map(|span| span.start);
            let line = start.map_or(0, |start| line_of(&toml, start));
            // The columns of JSON are not those of its TOML form.
            let written = start.filter(|_| !file.ends_with(".json"));
            let column = written.map_or(0, |start| column_of(&toml, start));
            let message = error.message().to_owned();
            let hint = suggestion(&message);
            let problem = Problem::new("ESTATE-DECLARATION", file, line, message);
            let mut problem = problem.column(column);
            problem.hint = hint;
            problems.push(problem);
            None
        }
    }
}

/// JSON is read through its TOML form, so that both have one meaning; TOML has no null.
fn as_toml<'a>(file: &str, text: &'a str) -> Result<Cow<'a, str>, Problem> {
    if !file.ends_with(".json") {
        return Ok(Cow::Borrowed(text));
    }
    let value: toml::Table = serde_json::from_str(text).map_err(|error| {
        let line = u32::try_from(error.line()).unwrap_or(0);
        Problem::new("ESTATE-DECLARATION", file, line, error.to_string())
    })?;
    toml::to_string(&value)
        .map(Cow::Owned)
        .map_err(|error| Problem::new("ESTATE-DECLARATION", file, 0, error.to_string()))
}

/// From serde's “unknown field `x`, expected one of `a`, `b`”: the nearest of those expected.
fn suggestion(message: &str) -> Option<String> {
    let (unknown, expected) = message.split_once(", expected ")?;
    let word = unknown.split('`').nth(1)?;
    did_you_mean(word, expected.split('`').skip(1).step_by(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::IdentitiesFile;

    fn problem(file: &str, text: &str) -> String {
        let mut problems = Vec::new();
        assert!(parse::<IdentitiesFile>(file, text, &mut problems).is_none());
        problems[0].to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_at_its_line_with_a_suggestion() {
        let text = "[[identity]]\npath = \"a/b\"\nkind = \"service\"\nonwer = \"x\"\n";
        expect_test::expect!["identities/a.toml:4:1: ESTATE-DECLARATION: unknown field `onwer`, expected one of `path`, `kind`, `owner`, `labels`, `groups`, `attributes`, `login`, `hint`, `dns_names`, `visible`"]
            .assert_eq(&problem("identities/a.toml", text));
    }

    #[test]
    fn json_means_what_toml_means() {
        let mut problems = Vec::new();
        let text = r#"{"identity":[{"path":"a/b","kind":"ai-agent","owner":"x"}]}"#;
        let parsed = parse::<IdentitiesFile>("identities/a.json", text, &mut problems).unwrap();
        assert_eq!(parsed.identities[0].path.get_ref(), "a/b");
        assert!(problem("identities/a.json", "{").contains("ESTATE-DECLARATION"));
    }
}
