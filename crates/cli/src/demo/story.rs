//! The story on the terminal: one line a step, or one JSON object a step with `--json`.

use crate::output;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Prints steps as they end and remembers whether each did what it should.
pub(crate) struct Story {
    json: bool,
    started: Instant,
    failed: Vec<String>,
    /// How long it took, once there are no more steps.
    told: Option<Duration>,
    /// The verdict was printed.
    judged: bool,
    /// The demo's folder stays.
    keep: bool,
}

/// What a step observed: ordered fields for people and machines.
#[derive(Debug, Default)]
pub(crate) struct Detail(Map<String, Value>);

impl Detail {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
}

impl Story {
    pub(crate) fn new(json: bool, keep: bool) -> Self {
        Self {
            json,
            started: Instant::now(),
            failed: Vec::new(),
            told: None,
            judged: false,
            keep,
        }
    }

    /// A heading for people; nothing in JSON.
    pub(crate) fn chapter(&self, title: &str) {
        if !self.json {
            output::line(format_args!("\n{title}"));
        }
    }

    /// One step and what was observed. `told` is the sentence for people.
    pub(crate) fn step(&mut self, step: &str, ok: bool, told: &str, detail: &Detail) {
        if !ok {
            self.failed.push(step.to_owned());
        }
        if self.json {
            output::json(&json!({ "step": step, "ok": ok, "detail": detail.0 }));
            return;
        }
        let mark = if ok { "ok  " } else { "FAIL" };
        output::line(format_args!("  {mark} {told}"));
        let mut width = 0;
        let mut text = String::new();
        for (name, value) in &detail.0 {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if value.is_empty() {
                continue;
            }
            let item = format!("{name}={value}");
            if width > 0 && width + item.len() > 100 {
                output::line(format_args!("         {text}"));
                text.clear();
                width = 0;
            }
            if width > 0 {
                text.push_str("  ");
            }
            width += item.len() + 2;
            text.push_str(&item);
        }
        if !text.is_empty() {
            output::line(format_args!("         {text}"));
        }
    }

    /// There are no more steps.
    pub(crate) fn told(&mut self) {
        self.told = Some(self.started.elapsed());
    }

    /// The last line. True only if every step was told and did what it should.
    pub(crate) fn end(&mut self) -> bool {
        if !self.judged {
            return self.verdict();
        }
        if !self.json {
            output::line(format_args!("\nEnded; {}.", self.left()));
        }
        self.is_ok()
    }

    fn is_ok(&self) -> bool {
        self.told.is_some() && self.failed.is_empty()
    }

    fn left(&self) -> &'static str {
        if self.keep {
            "no process of the demo is left"
        } else {
            "nothing of the demo is left"
        }
    }

    /// Whether every step was told and did what it should: printed once, and returned.
    pub(crate) fn verdict(&mut self) -> bool {
        self.judged = true;
        let ok = self.is_ok();
        let took = self.told.unwrap_or_else(|| self.started.elapsed());
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        if self.json {
            output::json(&json!({
                "step": "done", "ok": ok,
                "detail": { "seconds": seconds, "failed": self.failed, "interrupted": self.told.is_none() && self.failed.is_empty() },
            }));
        } else if ok {
            output::line(format_args!(
                "\nEvery step did what it should, in {seconds} s."
            ));
        } else if self.failed.is_empty() {
            output::line(format_args!(
                "\nInterrupted after {seconds} s; {}.",
                self.left()
            ));
        } else {
            output::line(format_args!("\nFailed: {}.", self.failed.join(", ")));
        }
        ok
    }
}
