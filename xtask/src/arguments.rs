//! The words after the command. Not a general parser: flags, and options with a value.

use crate::shell::{Failure, Result};

pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn new(words: Vec<String>) -> Self {
        Self(words)
    }

    /// True for `-h` or `--help` before any `--`.
    pub(crate) fn asks_for_help(&self) -> bool {
        self.0
            .iter()
            .take_while(|word| *word != "--")
            .any(|word| word == "-h" || word == "--help")
    }

    /// Takes `--name` out, if it is there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() != before
    }

    /// Takes every `--name VALUE` and `--name=VALUE` out.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        let mut rest = Vec::new();
        let mut words = std::mem::take(&mut self.0).into_iter();
        while let Some(word) = words.next() {
            if word == name {
                let value = words
                    .next()
                    .ok_or_else(|| Failure::usage(format!("`{name}` needs a value")))?;
                values.push(value);
            } else if let Some(value) = word.strip_prefix(name).and_then(|w| w.strip_prefix('=')) {
                values.push(value.to_owned());
            } else {
                rest.push(word);
            }
        }
        self.0 = rest;
        Ok(values)
    }

    /// What is left, for a program that is called with it.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0
    }

    /// What is left where it is names; refuses an option that nobody took.
    pub(crate) fn words(self) -> Result<Vec<String>> {
        match self.0.iter().find(|word| word.starts_with('-')) {
            None => Ok(self.0),
            Some(word) => Err(Failure::usage(format!("`{word}` is not understood here"))),
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(Failure::usage(format!("`{word}` is not understood here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn words(line: &str) -> Arguments {
        Arguments::new(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn values_come_in_both_forms_and_leave_the_rest() {
        let mut arguments = words("--only a --quick --only=b tail");
        assert_eq!(arguments.values("--only").unwrap(), ["a", "b"]);
        assert!(arguments.flag("--quick"));
        assert_eq!(arguments.rest(), ["tail"]);
    }

    #[test]
    fn an_unknown_word_is_refused_by_name() {
        let refused = words("--fast").finish().unwrap_err();
        assert!(refused.to_string().contains("--fast"));
    }
}
