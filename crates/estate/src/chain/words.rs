//! A scope in words, as delegation tokens, requests and records have it, and back.

use crate::action::Action;
use crate::model::Scope;
use crate::resource::ResourceRef;
use facts::Finding;

impl Scope {
    /// From names of actions such as `select` and of resources such as `Table::"shop/public/cards"`, or
    /// `shop/public/cards`. `None`: any.
    ///
    /// # Errors
    /// `DELEGATION-WORDS`.
    pub fn from_words(
        actions: Option<&[String]>,
        resources: Option<&[String]>,
    ) -> Result<Self, Finding> {
        let wrong = |word: &String, expected: &str| {
            let plain: String = word.chars().filter(|one| !one.is_control()).take(128).collect();
            Finding::new("DELEGATION-WORDS", "the scope of a delegation cannot be read")
                .expected(expected)
                .observed(plain)
        };
        let action = |word: &String| {
            let action = word.parse::<Action>().ok().filter(|action| action.is_use());
            action.ok_or_else(|| wrong(word, "uses of resources, such as select"))
        };
        let resource = |word: &String| {
            let read = word.parse::<ResourceRef>();
            read.map_err(|_| wrong(word, "resources, such as Table::\"shop/public/cards\""))
        };
        Ok(Self {
            actions: actions
                .map(|words| words.iter().map(action).collect())
                .transpose()?,
            resources: resources
                .map(|words| words.iter().map(resource).collect())
                .transpose()?,
        })
    }

    /// The same in words, each list in the order of its words.
    #[must_use]
    pub fn to_words(&self) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let sorted = |mut words: Vec<String>| {
            words.sort();
            words
        };
        let actions = self.actions.as_ref().map(|actions| {
            let words = actions.iter().map(ToString::to_string);
            sorted(words.collect())
        });
        let resources = self.resources.as_ref().map(|resources| {
            let words = resources.iter().map(ToString::to_string);
            sorted(words.collect())
        });
        (actions, resources)
    }
}
