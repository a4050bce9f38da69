//! The same policies and requests for Open Policy Agent, whose program `tests/peers/opa` evaluates them in process,
//! prepared once, as its library is meant to be used. What Rego can look up stands first in each rule.

use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rules as they are collected; each is the body of `permit` or `forbid`.
pub(crate) struct Rules(String);

impl Rules {
    pub(crate) fn new() -> Self {
        let head = "package bench\n\ndefault allow := false\n\nallow if {\n\tpermit\n\tnot forbid\n}\n\n\
                    default permit := false\n\ndefault forbid := false\n\n";
        Self(head.to_owned())
    }

    pub(crate) fn add(&mut self, effect: &str, body: &[String]) {
        self.0.push_str(effect);
        self.0.push_str(" if {\n");
        for line in body {
            self.0.push('\t');
            self.0.push_str(line);
            self.0.push('\n');
        }
        self.0.push_str("}\n\n");
    }
}

/// `input.NAME == "VALUE"`
pub(crate) fn is(name: &str, value: impl std::fmt::Display) -> String {
    format!("input.{name} == {}", json!(value.to_string()))
}

pub(crate) struct Measured {
    pub(crate) median: f64,
    pub(crate) tail: f64,
    pub(crate) allowed: Vec<bool>,
}

/// # Errors
/// Where Go is missing, or the program cannot be built or does not answer.
pub(crate) fn measure(rules: &Rules, requests: &[Value]) -> io::Result<Measured> {
    let program = build()?;
    let folder = std::env::temp_dir().join(format!("trilith-opa-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (policy, asked) = (folder.join("bench.rego"), folder.join("requests.json"));
    std::fs::write(&policy, &rules.0)?;
    std::fs::write(&asked, serde_json::to_vec(requests)?)?;
    let answered = Command::new(program).arg(&policy).arg(&asked).output();
    std::fs::remove_dir_all(&folder)?;
    let answered = answered?;
    if !answered.status.success() {
        let said = String::from_utf8_lossy(&answered.stderr);
        return Err(io::Error::other(said.into_owned()));
    }
    let answer: Value = serde_json::from_slice(&answered.stdout)?;
    let number = |name: &str| answer.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let allowed = answer.get("allowed").and_then(Value::as_array);
    Ok(Measured {
        median: number("p50_us"),
        tail: number("p99_us"),
        allowed: allowed
            .into_iter()
            .flatten()
            .map(|one| one.as_bool() == Some(true))
            .collect(),
    })
}

fn build() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let program = root.join("target/peers/opa");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(root.join("tests/peers/opa"))
        .status()?;
    if built.success() {
        return Ok(program);
    }
    Err(io::Error::other("go build of tests/peers/opa failed"))
}
